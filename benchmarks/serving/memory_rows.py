"""Rows of memory: the plan against what is measured, and what many requests leave behind."""
import argparse
import asyncio
import time

from serving.asking import complete, ids, under_way
from serving.load import Load, summary
from serving.server import Server, idle
from serving.texts import Lengths

GROWTH_CACHE_MB = 40


def planned(plan):
    """Bytes in use that are no file's."""
    return sum(kind["used"] for kind in plan["kinds"] if kind["kind"] != "weights")


def plan(given, note):
    """Eight requests that are read and answered together: [{model, context, planned, measured}] in bytes, the most of each at any time."""
    samples = []

    async def fill(server, context):
        measured = said = 0
        async with under_way(*(complete(server, ids(context - 64, "plan", number), 64) for number in range(8))) as running:
            while not all(task.done() for task in running):
                measured, said = max(measured, server.memory()), max(said, planned(await server.endpoint.get_json("/plan")))
                await asyncio.sleep(0.01)
        return measured, said

    for model, name, context in (("pocket", "pocket", 1024), ("pocket", "pocket", 4096), (given.shape, "shape", 512)):
        with Server(given.program, model, given.root, "--prefix-cache", 0, "--context-per-request", context) as server:
            measured, said = asyncio.run(fill(server, context))
        samples.append({"model": name, "context": context, "planned": said, "measured": measured})
        note("plan, {model}, 8 requests of {context}: {planned} planned, {measured} measured".format(**samples[-1]))
    return samples


KINDS = ({"stream": 1.0, "endpoint": "chat", "turns": 2}, {"stream": 0.0, "endpoint": "chat", "turns": 1},
         {"stream": 1.0, "endpoint": "completions", "turns": 1}, {"stream": 0.5, "endpoint": "completions", "turns": 1, "body": {"n": 2}},
         {"stream": 0.5, "endpoint": "chat", "turns": 1, "body": {"response_format": {"type": "json_object"}}},
         {"stream": 0.5, "endpoint": "chat", "turns": 1, "body": {"temperature": 9000}},  # refused
         {"stream": 0.5, "endpoint": "completions", "turns": 1, "body": {"logprobs": 5}})


def growth(given, note):
    """Rounds of mixed requests, a tenth of them left: [{round, requests, left, errors, memory, seconds}] as long as --growth-seconds allow. `memory`:
    RssAnon when all is still."""
    samples, sent = [], 0

    async def round_of(server, number):
        counts = {"requests": 0, "left": 0, "errors": {}, "answer_tokens": 0}
        for kind, changes in enumerate(KINDS):
            options = argparse.Namespace(**{**dict(model="", clients=8, rate=0, requests=40, prompt=Lengths("lognormal:30:0.8:400"),
                                                   answer=Lengths("uniform:1:24"), shared_prefix=0, cut_off=0.1, temperature=0.0, body={},
                                                   seed=f"{number}/{kind}", pid=None), **changes})
            load = Load(server.endpoint, options)
            await load.run()
            figures = summary(load.records, load.seconds)
            for name in ("requests", "left", "answer_tokens"):
                counts[name] += figures[name]
            for status, times in figures["errors"].items():
                counts["errors"][status] = counts["errors"].get(status, 0) + times
        await idle(server.endpoint)
        return counts

    async def largest_pass(server):
        """Working memory is taken when a pass first needs it: eight prompts at once fill the largest one."""
        async with under_way(*(complete(server, ids(400, "fill", number), 64) for number in range(8))) as running:
            await asyncio.gather(*running)

    with Server(given.program, "pocket", given.root, "--prefix-cache", f"{GROWTH_CACHE_MB}MB", "--context-per-request", 2048) as server:
        asyncio.run(largest_pass(server))
        begun, number = time.monotonic(), 0
        while time.monotonic() - begun < given.growth_seconds:
            counts = asyncio.run(round_of(server, number))
            sent += counts["requests"]
            samples.append({"round": number, **counts, "memory": server.memory(), "seconds": round(time.monotonic() - begun, 2)})
            note(f"growth, round {number}: {sent} requests, {samples[-1]['memory'] / 1e6:.1f} MB")
            number += 1
    return samples
