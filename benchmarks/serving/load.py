"""A load: clients that send requests, in conversations, closed or at a rate, and some that leave."""
import asyncio
import statistics
import time

from serving import process
from serving.answer import ask
from serving.texts import Texts, dice_of

MEMORY_EVERY_S = 0.25


class Load:
    """`given` has the options of benchmarks/serve."""

    def __init__(self, endpoint, given):
        self.endpoint, self.given = endpoint, given
        self.texts = Texts(endpoint)
        self.records, self.memory = [], []
        self.prefix = ""
        self.begun, self.seconds, self.processor_s = 0.0, 0.0, None

    async def run(self):
        given = self.given
        if given.shared_prefix:
            self.prefix = await self.texts.of(given.shared_prefix, dice_of(given.seed, "prefix"))
        conversations = [await self.plan(number) for number in range(-(-given.requests // given.turns))]
        self.begun = time.monotonic()
        before = process.processor_seconds(given.pid)
        watch = asyncio.create_task(self.watch())
        try:
            await asyncio.gather(*(self.at_rate(conversations) if given.rate else self.closed(conversations)))
        finally:
            watch.cancel()
        self.seconds = time.monotonic() - self.begun
        self.sample()
        after = process.processor_seconds(given.pid)
        self.processor_s = after - before if None not in (before, after) else None

    async def plan(self, number):
        """What a conversation asks: (text, most tokens of the answer, whether it streams, share of the usual time after which it leaves)."""
        given, turns = self.given, []
        for turn in range(min(given.turns, given.requests - number * given.turns)):
            dice = dice_of(given.seed, "conversation", number, turn)
            text = await self.texts.of(given.prompt.draw(dice), dice)
            leaves = dice.random() < given.cut_off
            turns.append((text, given.answer.draw(dice), dice.random() < given.stream, dice.random() if leaves else None, dice.randrange(1 << 31)))
        return turns

    def closed(self, conversations):
        left = iter(enumerate(conversations))

        async def client(number):
            for conversation, turns in left:
                await self.hold(number, conversation, turns)

        return [client(number) for number in range(self.given.clients)]

    def at_rate(self, conversations):
        dice, due = dice_of(self.given.seed, "arrivals"), 0.0

        async def arrive(number, turns, after):
            await asyncio.sleep(after)
            await self.hold(number, number, turns)

        for number, turns in enumerate(conversations):
            due += dice.expovariate(self.given.rate)
            yield arrive(number, turns, due)

    async def hold(self, client, conversation, turns):
        """A conversation, turn by turn. It ends with a turn that failed or was left."""
        messages = [{"role": "system", "content": self.prefix}] if self.prefix else []
        for turn, (text, most, stream, leaves, seed) in enumerate(turns):
            messages.append({"role": "user", "content": text})
            body = {"model": self.given.model, "max_tokens": most, "seed": seed, "temperature": self.given.temperature, **self.given.body}
            if self.given.endpoint == "chat":
                body["messages"] = messages
            else:
                body["prompt"] = "\n".join(message["content"] for message in messages)
            if stream:
                body.update(stream=True, stream_options={"include_usage": True})
            path = "/v1/chat/completions" if self.given.endpoint == "chat" else "/v1/completions"
            record, answer = await ask(self.endpoint, path, body, self.begun, leaves * self.usual() if leaves is not None else None)
            self.records.append({"client": client, "conversation": conversation, "turn": turn, "max_tokens": most, **record})
            if record["left"] or record["error"] or record["status"] != 200:
                return
            messages.append({"role": "assistant", "content": answer})

    def usual(self):
        """Seconds that a whole request takes, so far."""
        return statistics.median([one["seconds"] for one in self.records[-200:] if whole(one)] or [0.5])

    def sample(self):
        if (now := process.anonymous_bytes(self.given.pid)) is not None:
            self.memory.append([round(time.monotonic() - self.begun, 3), now])

    async def watch(self):
        while self.given.pid:
            self.sample()
            await asyncio.sleep(MEMORY_EVERY_S)


def whole(record):
    return record["status"] == 200 and not record["error"] and not record["left"]


def percentile(values, share):
    """Of a list that is not empty: type 7 of Hyndman and Fan."""
    values = sorted(values)
    place = share * (len(values) - 1)
    low = int(place)
    return values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (place - low)


def spread(values):
    """{"p50", "p99", "max", "count"}, or None of nothing."""
    return {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99), "max": max(values), "count": len(values)} if values else None


def gaps(record):
    """Seconds between the tokens of a stream, as they came."""
    return [later - earlier for earlier, later in zip(record["tokens"], record["tokens"][1:])]


def summary(records, seconds, memory=(), processor_s=None):
    """The figures of a load. A request that was left counts in `left` and its tokens that came, no more."""
    good = [one for one in records if whole(one)]
    usages = [one["usage"] or {} for one in good]
    answered = sum(usage.get("completion_tokens", 0) for usage in usages)
    prompt = sum(usage.get("prompt_tokens", 0) for usage in usages)
    reused = sum((usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0) for usage in usages)
    statuses = {}
    for one in records:
        if not whole(one) and not one["left"]:
            what = str(one["status"]) if one["status"] not in (None, 200) else one["error"] or "cut short"
            statuses[what] = statuses.get(what, 0) + 1
    bytes_seen = [one[1] for one in memory]
    return {"requests": len(records), "answered": len(good), "left": sum(one["left"] for one in records), "errors": statuses, "seconds": seconds,
            "requests_per_s": len(good) / seconds, "answer_tokens": answered, "answer_tokens_per_s": answered / seconds, "prompt_tokens": prompt,
            "prompt_tokens_per_s": prompt / seconds, "reused_tokens": reused,
            "first_token_s": spread([one["tokens"][0] for one in good if one["tokens"]]),
            "gap_s": spread([gap for one in good for gap in gaps(one)]), "request_s": spread([one["seconds"] for one in good]),
            "memory_bytes": {"first": bytes_seen[0], "last": bytes_seen[-1], "max": max(bytes_seen)} if bytes_seen else None,
            "processor_s": processor_s}


def table(figures):
    """Lines of text."""
    def seconds(name):
        found = figures[name]
        return f"p50 {found['p50'] * 1e3:.1f} ms, p99 {found['p99'] * 1e3:.1f} ms, max {found['max'] * 1e3:.1f} ms" if found else "none"

    rows = [("requests", f"{figures['requests']} in {figures['seconds']:.2f} s, {figures['requests_per_s']:.1f}/s answered"),
            ("answers", f"{figures['answer_tokens']} tokens, {figures['answer_tokens_per_s']:.1f} tok/s"),
            ("prompts", f"{figures['prompt_tokens']} tokens, {figures['prompt_tokens_per_s']:.1f} tok/s; {figures['reused_tokens']} of them reused"),
            ("first token", seconds("first_token_s")), ("between tokens", seconds("gap_s")), ("whole request", seconds("request_s")),
            ("left", str(figures["left"])),
            ("errors", ", ".join(f"{count} times {what}" for what, count in sorted(figures["errors"].items())) or "none")]
    if figures["memory_bytes"]:
        rows.append(("memory", "{first:.1f} MB, then {last:.1f} MB, most {max:.1f} MB".format(
            **{name: value / 1e6 for name, value in figures["memory_bytes"].items()})))
    if figures["processor_s"] is not None:
        rows.append(("processor", f"{figures['processor_s']:.2f} s, {figures['processor_s'] / figures['seconds']:.2f} cores"))
    return [f"{name:<15} {value}" for name, value in rows]
