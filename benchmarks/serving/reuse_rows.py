"""Rows of what is not computed again, and of clients that leave."""
import asyncio
import time

from serving.answer import ask
from serving.asking import complete, decoding, ids, reading, seconds_of, spoken, under_way, until
from serving.server import Server, idle
from serving.texts import Texts, dice_of


async def chat(server, messages, most, **fields):
    body = {"messages": messages, "max_tokens": most, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}, **fields}
    record, said = await ask(server.endpoint, "/v1/chat/completions", body, time.monotonic())
    assert record["status"] == 200 and not record["error"], record["error"]
    return record, said


def computed(record):
    usage = record["usage"]
    return usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]


def second_turn(given, note):
    """A conversation of many tokens and its next turn, on the shape and on the bundled model:
    [{trial, model, first_s, second_s, first_tokens, second_tokens, computed, new}]. `new`: tokens of the second question."""
    samples = []

    async def hold(server, trial, name):
        texts, dice = Texts(server.endpoint), dice_of("second", trial)
        question = await texts.of(20, dice)
        messages = [{"role": "user", "content": await texts.of(given.long_prompt - 20, dice)}]
        fields = spoken() if name == "shape" else {}
        first, said = await chat(server, messages, 16, **fields)
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": question}]
        second, _ = await chat(server, messages, 4, **fields)
        return {"trial": trial, "model": name, "first_s": first["tokens"][0], "second_s": second["tokens"][0],
                "first_tokens": first["usage"]["prompt_tokens"], "second_tokens": second["usage"]["prompt_tokens"], "computed": computed(second),
                "new": await texts.count(question), "reuse": second["tqkv"].get("reuse")}

    for name, model in (("shape", given.shape), ("pocket", "pocket")):
        with Server(given.program, model, given.root, "--prefix-cache", "1500MB", "--context-per-request", 16384) as server:
            for trial in range(given.trials):
                samples.append(asyncio.run(hold(server, trial, name)))
                note("second turn, {model}, trial {trial}: {first_tokens} tokens {first_s:.2f} s, then {computed} computed ({new} new), {second_s:.3f} s"
                     .format(**samples[-1]))
    return samples


def shared_prompt(given, note):
    """16 conversations with one system message: one and then 15, and all 16 at once on a fresh server: [{case, system, computed, own}]. `own`:
    tokens of the 16 prompts behind the system message."""
    samples = []

    async def all_of(server, system, at_once):
        dice = dice_of("shared")
        texts = Texts(server.endpoint)
        messages = [[{"role": "system", "content": system}, {"role": "user", "content": await texts.of(20, dice)}] for _ in range(16)]
        first = [] if at_once else [await chat(server, messages.pop(0), 4)]
        records = first + list(await asyncio.gather(*(chat(server, one, 4) for one in messages)))
        usages = [record["usage"]["prompt_tokens"] for record, _ in records]
        metrics = await server.endpoint.metrics()
        return {"prompts": usages, "computed": metrics["tqkv_prompt_tokens_total"], "system": await texts.count(system)}

    async def system_of(server):
        return await Texts(server.endpoint).of(4096, dice_of("system"))

    for case in ("one, then fifteen", "sixteen at once"):
        with Server(given.program, "pocket", given.root, "--prefix-cache", "1000MB", "--context-per-request", 8192) as server:
            system = asyncio.run(system_of(server))
            found = asyncio.run(all_of(server, system, case == "sixteen at once"))
        own = sum(found["prompts"]) - 16 * found["system"]
        samples.append({"case": case, **found, "own": own, "times": (found["computed"] - own) / found["system"]})
        note("shared prompt, {case}: {computed:.0f} tokens computed, the system message {times:.2f} times".format(**samples[-1]))
    return samples


def gone(given, note):
    """A client leaves; until nothing is under way: [{trial, case, idle_s, step_s}]. `step_s`: what a step of that kind takes."""
    samples = []

    async def leave(server, case, trial):
        prompt = ids(64 if case != "prompt" else 16000, "gone", case, trial)
        waiting = case == "queued"
        async with under_way(*([complete(server, ids(64, "other"), 4000)] if waiting else [])):
            if waiting:
                await until(server, lambda metrics: decoding(metrics) == 1)
            rest = await server.endpoint.metrics()
            async with under_way(complete(server, prompt, 4000 if case != "prompt" else 1, stream=case != "whole")):
                wanted = {"prompt": lambda metrics: reading(metrics) == 1, "queued": lambda metrics: metrics['tqkv_requests{state="queued"}'] == 1}
                await until(server, wanted.get(case, lambda metrics: decoding(metrics) == 1), every=0.001)
                generated = await server.endpoint.metrics()
                await asyncio.sleep(0.05 + 0.01 * trial)
                left = time.monotonic()
            if waiting:
                end, _ = await until(server, lambda metrics: not metrics['tqkv_requests{state="queued"}'], every=0.001)
            else:
                end, _ = await idle(server.endpoint, every=0.001)
        await idle(server.endpoint)
        return {"trial": trial, "case": case, "idle_s": end - left}

    async def step_of(server, case):
        if case == "prompt":  # alone, a prompt is read in passes of 2,048
            return (await seconds_of(server, ids(4096, "step"), 1) - await seconds_of(server, ids(2048, "step"), 1))
        return (await seconds_of(server, ids(32, "step"), 201) - await seconds_of(server, ids(32, "step"), 1)) / 200

    for case in ("streaming", "whole", "prompt", "queued"):
        options = ("--prefix-cache", 0, "--context-per-request", 20000, "--parallel", 1 if case == "queued" else 8)
        with Server(given.program, "pocket", given.root, *options) as server:
            asyncio.run(step_of(server, case))
            for trial in range(given.trials):
                step = asyncio.run(step_of(server, case))
                samples.append({**asyncio.run(leave(server, case, trial)), "step_s": step})
                note("gone, {case}, trial {trial}: idle after {idle_s:.4f} s, a step takes {step_s:.4f} s".format(**samples[-1]))
    return samples
