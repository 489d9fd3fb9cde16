"""One request to an OpenAI endpoint and what became of it, as a record."""
import asyncio
import json
import time


def pieces_of(chunk):
    """The texts of an event of a stream, in either protocol; thinking counts."""
    for choice in chunk.get("choices", []):
        delta = choice.get("delta") or {}
        yield choice.get("text") or delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or ""


def text_of(whole):
    for choice in whole.get("choices", []):
        message = choice.get("message") or {}
        yield choice.get("text") or message.get("content") or ""


async def ask(endpoint, path, body, begun, leave_after=None):
    """The record of a request, and its text. Times are seconds: `sent` since `begun`, the others since it was sent. `leave_after`: the client
    leaves so many seconds later, whatever has come."""
    record = {"sent": time.monotonic() - begun, "stream": bool(body.get("stream")), "status": None, "tokens": [], "usage": None, "tqkv": None,
              "error": None, "left": False}
    start, said = time.monotonic(), []

    def event(line, now):
        if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
            return
        chunk = json.loads(line[5:])
        if chunk.get("error"):
            record["error"] = chunk["error"].get("message", "") if isinstance(chunk["error"], dict) else str(chunk["error"])
        if text := "".join(pieces_of(chunk)):
            said.append(text)
            record["tokens"].append(round(now - start, 6))
        take_figures(record, chunk)

    async def whole():
        record["status"], answer = await endpoint.ask("POST", path, body, event if record["stream"] else None)
        if record["status"] == 200 and record["stream"]:
            return
        try:
            answer = json.loads(answer)
        except ValueError:
            answer = {}
        take_figures(record, answer)
        said.extend(text_of(answer))
        if record["status"] != 200:
            error = answer.get("error", "")
            record["error"] = error.get("message", "") if isinstance(error, dict) else str(error)

    try:
        await asyncio.wait_for(whole(), leave_after)
    except (asyncio.TimeoutError, TimeoutError):
        record["left"] = True
    except (OSError, EOFError, ValueError) as error:
        record["error"] = f"{type(error).__name__}: {error}"
    record["seconds"] = round(time.monotonic() - start, 6)
    return record, "".join(said)


def take_figures(record, answer):
    for name in ("usage", "tqkv"):
        if answer.get(name):
            record[name] = answer[name]
