"""Rows of speed: streams together, one stream, the first token, gaps while a prompt is read."""
import asyncio
import json
import os
import subprocess
import tempfile
import time

from serving.asking import body, complete, decoding, ids, seconds_of, spoken, under_way, until
from serving.answer import ask
from serving.load import gaps, percentile
from serving.server import Server, idle
from serving.wire import Refusal

STREAMS = (1, 2, 4, 8, 16)


def rotated(values, by):
    by %= len(values)
    return [*values[by:], *values[:by]]


def together(given, note):
    """Tokens per second of N answers that decode in one step: [{trial, streams, tps, steps}]."""
    steps, samples = given.steps, []

    async def rate(server, trial, streams):
        prompts = [ids(32, "together", trial, number) for number in range(streams)]
        async with under_way(*(complete(server, prompt, 40 * steps) for prompt in prompts)):
            await until(server, lambda metrics: decoding(metrics) == streams)
            start, before = await changed(server)
            _, now = await until(server, lambda metrics: metrics["tqkv_steps_total"] >= before["tqkv_steps_total"] + steps)
            end, after = await changed(server)
            assert decoding(after) == streams
        await idle(server.endpoint)
        tokens = after["tqkv_generated_tokens_total"] - before["tqkv_generated_tokens_total"]
        return {"trial": trial, "streams": streams, "tps": tokens / (end - start), "tokens_a_step":
                tokens / (after["tqkv_steps_total"] - before["tqkv_steps_total"]), "steps": after["tqkv_steps_total"] - before["tqkv_steps_total"]}

    with Server(given.program, given.deep, given.root, "--parallel", STREAMS[-1], "--prefix-cache", 0, "--context-per-request", 4096) as server:
        asyncio.run(rate(server, -1, 1))
        for trial in range(given.trials):
            for streams in rotated(STREAMS, trial):
                samples.append(asyncio.run(rate(server, trial, streams)))
                note("together, trial {trial}: {streams} streams {tps:.1f} tok/s".format(**samples[-1]))
    return samples


async def changed(server):
    """(time, metrics) at the end of the step under way."""
    first = await server.endpoint.metrics()
    return await until(server, lambda metrics: metrics["tqkv_steps_total"] > first["tqkv_steps_total"], every=0.002)


def one_stream(given, note):
    """Decode of `tqkv benchmark` and of the server, taking turns: [{trial, server_tps, benchmark_tps}]. The server's is what a longer answer takes
    beyond one of a single token, seen by the client."""
    more, samples = 128, []
    with Server(given.program, given.shape, given.root, "--prefix-cache", 0, "--context-per-request", 1024) as server:
        asyncio.run(seconds_of(server, ids(32, "warm"), more))
        for trial in range(given.trials):
            def ask_server():
                prompt = ids(32, "one", trial)
                short = asyncio.run(seconds_of(server, prompt, 1))
                return more / (asyncio.run(seconds_of(server, prompt, 1 + more)) - short)

            turns = {"server_tps": ask_server, "benchmark_tps": lambda: benchmark(given, more)}
            samples.append({"trial": trial, **{name: turns[name]() for name in rotated(list(turns), trial)}})
            note("one stream, trial {trial}: server {server_tps:.1f}, benchmark {benchmark_tps:.1f} tok/s".format(**samples[-1]))
    return samples


def benchmark(given, tokens):
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "out.json")
        result = subprocess.run([given.program, "benchmark", given.shape, "--backend", "default", "--prompt-tokens", "32", "--generation-tokens",
                                 str(tokens + 1), "--trials", "1", "--output", output], capture_output=True, text=True)
        if result.returncode != 0:
            raise Refusal(f"tqkv benchmark: {result.stderr.strip()}")
        with open(output) as file:
            return json.load(file)["runs"][0]["trials"][0]["generation_tps"]


def first_token(given, note):
    """A prompt of 20 tokens, nothing else to do, on a server with --parallel 8 and on one with 1, taking turns: [{trial, eight_s, one_s}]."""
    samples, each = [], 20
    options = ("--prefix-cache", 0, "--context-per-request", 1024)
    with Server(given.program, "pocket", given.root, *options, "--parallel", 8) as eight, \
            Server(given.program, "pocket", given.root, *options, "--parallel", 1) as one:
        for trial in range(-1, given.trials):
            taken = {"eight_s": [], "one_s": []}
            for number in range(each):
                prompt = ids(20, "first", trial, number)
                for name, server in rotated([("eight_s", eight), ("one_s", one)], number):
                    taken[name].append(asyncio.run(complete(server, prompt, 2, stream=True, **spoken()))["tokens"][0])
            if trial >= 0:
                samples.append({"trial": trial, **{name: percentile(times, 0.5) for name, times in taken.items()}, "all": taken})
                note("first token, trial {trial}: --parallel 8 {eight_s:.4f} s, 1 {one_s:.4f} s".format(**samples[-1]))
    return samples


def gap(given, note):
    """A stream while a long prompt is read, for two sizes of pieces: [{trial, piece, prompt, piece_s, alone_s, beside_s, gaps}]. `piece_s`: a prompt
    of one piece and nothing else, to its first token."""
    samples = []

    async def trial_of(server, trial, piece):
        prompt = ids(given.long_prompt, "gap", trial, piece)
        times = [await seconds_of(server, ids(piece, "piece", trial, number), 1) for number in range(3)]
        alone = await seconds_of(server, prompt, 1)
        told, begun = [], time.monotonic()

        async def stream():
            record, _ = await ask(Heard(server.endpoint, told), "/v1/completions", body(ids(32, "stream", trial), 6000, stream=True, **spoken()), begun)
            raise AssertionError(f"the stream ended: {record['error']}")

        async with under_way(stream()):
            while len(told) < 20:
                await asyncio.sleep(0.01)
            start = time.monotonic()
            beside = await seconds_of(server, prompt, 1)
            end = time.monotonic()
        await idle(server.endpoint)
        before = [at for at in told if at < start][-1:]
        record = {"tokens": before + [at for at in told if start <= at <= end]}
        return {"trial": trial, "piece": piece, "prompt": len(prompt), "piece_s": percentile(times, 0.5), "alone_s": alone, "beside_s": beside,
                "gaps": [round(one, 5) for one in gaps(record)]}

    with Server(given.program, given.shape, given.root, "--prefix-cache", 0, "--context-per-request", 16384) as usual, \
            Server(given.program, given.shape, given.root, "--prefix-cache", 0, "--context-per-request", 16384, "--piece", 64) as small:
        for trial in range(given.trials):
            for piece, server in rotated([(256, usual), (64, small)], trial):
                samples.append(asyncio.run(trial_of(server, trial, piece)))
                last = samples[-1]
                note(f"gap, trial {trial}, pieces of {piece}: piece {last['piece_s']:.3f} s, p99 {percentile(last['gaps'], 0.99):.3f} s, prompt alone "
                     f"{last['alone_s']:.1f} s, beside {last['beside_s']:.1f} s")
    return samples


class Heard:
    """An endpoint that also tells of each event while the answer is under way."""

    def __init__(self, endpoint, told):
        self.endpoint, self.told = endpoint, told

    async def ask(self, method, path, value, on_line):
        def heard(line, now):
            if b'"text":"' in line and b'"text":""' not in line:
                self.told.append(now)
            on_line(line, now)

        return await self.endpoint.ask(method, path, value, heard)
