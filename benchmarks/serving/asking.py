"""What the rows of serve-figures ask for: prompts of ids, whose length is exact, and answers that do not end early."""
import asyncio
import contextlib
import time

from serving.answer import ask
from serving.texts import dice_of

TEXT_IDS = range(300, 7900)  # of the bundled tokenizer: each has a text and is no mark of a turn


def ids(count, *purpose):
    dice = dice_of(*purpose)
    return [dice.choice(TEXT_IDS) for _ in range(count)]


def body(prompt, most, stream=False, **fields):
    """`prompt`: ids. Without an end of its own the answer has `most` tokens."""
    return {"prompt": prompt, "max_tokens": most, "ignore_eos": True, "temperature": 0, "seed": 1, "stream": stream,
            **({"stream_options": {"include_usage": True}} if stream else {}), **fields}


def spoken(count=64):
    """Fields that hold an answer to ids with a text, evenly: random weights would choose others, of which no event tells."""
    return {"temperature": 1, "top_k": count, "top_p": 1, "logit_bias": {str(one): 100 for one in ids(count, "spoken")}}


async def complete(server, *given, leave_after=None, **fields):
    record, _ = await ask(server.endpoint, "/v1/completions", body(*given, **fields), time.monotonic(), leave_after)
    if record["error"] or (record["status"] != 200 and not record["left"]):
        raise ConnectionError(f"status {record['status']}: {record['error']}")
    return record


async def seconds_of(server, *given, **fields):
    return (await complete(server, *given, **fields))["seconds"]


async def until(server, reached, seconds=120, every=0.005):
    """(time, metrics) when `reached` first holds of the metrics."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        metrics = await server.endpoint.metrics()
        if reached(metrics):
            return time.monotonic(), metrics
        await asyncio.sleep(every)
    raise TimeoutError(f"not reached in {seconds} s; the server says {metrics}")


@contextlib.asynccontextmanager
async def under_way(*coroutines):
    """Runs them while the block runs, and ends them with it."""
    tasks = [asyncio.create_task(one) for one in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def decoding(metrics):
    return metrics['tqkv_requests{state="decoding"}']


def reading(metrics):
    return metrics['tqkv_requests{state="reading"}']
