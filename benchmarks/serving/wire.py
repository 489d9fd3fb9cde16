"""HTTP/1.1 over asyncio streams: one connection a request, bodies whole or as events, with the time of each."""
import asyncio
import json
import ssl
import time
import urllib.parse


class Refusal(Exception):
    """What the user can mend: a line, without a trace."""


class Endpoint:
    """Where requests go: "http://host:port[/path]", or a unix socket."""

    def __init__(self, url=None, unix=None, key=None):
        self.unix, self.key = unix, key
        parts = urllib.parse.urlsplit(url or "http://localhost")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Refusal(f"{url}: an address looks like http://127.0.0.1:8080")
        self.host, self.secure = parts.hostname, parts.scheme == "https"
        self.port = parts.port or (443 if self.secure else 80)
        self.base = parts.path.rstrip("/").removesuffix("/v1")

    async def open(self):
        if self.unix:
            return await asyncio.open_unix_connection(self.unix, limit=1 << 24)
        return await asyncio.open_connection(self.host, self.port, limit=1 << 24, ssl=ssl.create_default_context() if self.secure else None)

    def head(self, method, path, body):
        host = self.host if not self.unix else "localhost"
        lines = [f"{method} {self.base}{path} HTTP/1.1", f"Host: {host}" + (f":{self.port}" if not self.unix else ""), "Connection: close"]
        if self.key:
            lines.append(f"Authorization: Bearer {self.key}")
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def ask(self, method, path, value=None, on_line=None):
        """(status, body). `on_line` takes each line of a body of events as it comes, and the time; the body is then empty."""
        body = json.dumps(value).encode() if value is not None else None
        reader, writer = await self.open()
        try:
            writer.write(self.head(method, path, body) + (body or b""))
            await writer.drain()
            status, headers = await read_head(reader)
            if on_line and status == 200 and headers.get("content-type", "").startswith("text/event-stream"):
                rest = b""
                async for piece in pieces(reader, headers):
                    now = time.monotonic()
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        on_line(line.rstrip(b"\r"), now)
                return status, b""
            return status, b"".join([piece async for piece in pieces(reader, headers)])
        finally:
            writer.close()

    async def get_json(self, path):
        """The JSON of a path, or None where there is none."""
        try:
            status, body = await self.ask("GET", path)
            return json.loads(body) if status == 200 else None
        except ValueError:
            return None

    async def metrics(self):
        """{name: value} as Prometheus reads it; labels are part of the name."""
        status, body = await self.ask("GET", "/metrics")
        if status != 200:
            raise Refusal(f"/metrics: status {status}")
        pairs = (line.rpartition(" ")[::2] for line in body.decode().splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


async def read_head(reader):
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise ConnectionError(f"no HTTP answer: {lines[0][:60]}")
    return int(parts[1]), {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}


async def pieces(reader, headers):
    """The body, as it comes."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        return
    left = int(headers["content-length"]) if "content-length" in headers else None
    while left is None or left > 0:
        piece = await reader.read(1 << 16 if left is None else min(left, 1 << 16))
        if not piece:
            if left:
                raise ConnectionError(f"the connection ended {left} bytes before its body")
            return
        left = left - len(piece) if left is not None else None
        yield piece
