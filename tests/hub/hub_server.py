#!/usr/bin/env python3
"""A small hub on loopback for the tests of src/hub: the hub itself is 127.0.0.1, its data host is localhost.

hub_server.py SCENARIO LOG: serves what the JSON file SCENARIO says and appends one JSON line a request to LOG before it
answers. Prints its port, and then "held" whenever a rule holds a transfer. A line "release" on standard input lets held
transfers go on; the end of standard input ends the server.

SCENARIO = {
  "repositories": {"org/name": {"folder": path of the files, "revisions": {"main": commit, …}}},
  "moved": {"old/name": "org/name"},
  "tls": {"certificate": PEM file, "key": PEM file}: both hosts speak https,
  "resolve_cache": true: small files are served by another path of the hub, where the resolve path redirects to,
  "data_scheme": of the links to the data host, when another than that of the hub,
  "large": bytes from which a file is large: named by sha256 and served by the data host,
  "rules": [{"on": "list" | "head" | "resolve" | "data", "path": end of the path, "skip": N, "times": N, "do": {…}}]
}
The first rule that fits a request and has tries left changes the answer. Its "do" may have
  status, headers, body   answer this instead
  add                     headers that are added to or replace those of the true answer
  cut                     close the connection after so many bytes of the body
  hold                    say "held" after so many bytes and wait
  first, last, total      another Content-Range than what is sent
  whole                   answer 200 with the whole file whatever range was asked for
  flip                    change the byte at this offset of the file
  more                    send so many bytes more than the file has
"""
import hashlib, json, os, select, ssl, sys, threading, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

scenario = json.load(open(sys.argv[1]))
log = open(sys.argv[2], "a", buffering=1)
lock = threading.Lock()
released = threading.Event()
large = scenario.get("large", 1 << 62)
tls = scenario.get("tls")
data_scheme = scenario.get("data_scheme", "https" if tls else "http")
block = 4096


def say(line):
    with lock:
        print(line, flush=True)


def rule_for(kind, path):
    with lock:
        for rule in scenario.get("rules", []):
            if rule["on"] != kind or not path.endswith(rule.get("path", "")):
                continue
            if rule.get("skip", 0) > 0:
                rule["skip"] -= 1
                continue
            if rule.get("times", 1 << 30) <= 0:
                continue
            rule["times"] = rule.get("times", 1 << 30) - 1
            return rule["do"]
    return {}


class File:
    def __init__(self, folder, path):
        with open(os.path.join(folder, path), "rb") as stream:
            self.data = stream.read()
        self.large = len(self.data) >= large
        self.sha256 = hashlib.sha256(self.data).hexdigest()
        self.git = hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()
        self.etag = self.sha256 if self.large else self.git


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def note(self, kind, path, **more):
        with lock:
            log.write(json.dumps({"kind": kind, "path": path, "method": self.command, "host": self.headers.get("Host", ""),
                                  "target": self.path, "range": self.headers.get("Range", ""),
                                  "token": self.headers.get("Authorization", ""),
                                  "encoding": self.headers.get("Accept-Encoding", ""), **more}) + "\n")

    def answer(self, status, headers, body=b"", action={}):
        headers = {**headers, **action.get("add", {})}
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.send_body(body, action)

    def send_body(self, body, action):
        at = 0
        stops = sorted({min(action[key], len(body)) for key in ("cut", "hold") if key in action} | {len(body)})
        for stop in stops:
            while at < stop:
                self.wfile.write(body[at:min(at + block, stop)])
                at = min(at + block, stop)
            self.wfile.flush()
            if action.get("hold") == at:
                say("held")
                while not released.is_set() and not select.select([self.connection], [], [], 0.01)[0]:
                    pass
                if not released.is_set():  # the client went away
                    self.close_connection = True
                    return
            if action.get("cut") == at:
                self.close_connection = True
                return

    def refuse(self, status, code, message=""):
        headers = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self.answer(status, headers, b"{}")

    def do_HEAD(self):
        self.serve()

    def do_GET(self):
        self.serve()

    def serve(self):
        try:
            self.route()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def route(self):
        url = urllib.parse.urlsplit(self.path)  # through a proxy a whole address comes
        parts = [urllib.parse.unquote(part) for part in url.path.split("/")[1:]]
        if parts[:2] == ["api", "resolve-cache"]:
            return self.resolve(parts[3] + "/" + parts[4], parts[5], "/".join(parts[6:]), cached=True)
        if parts[0] == "api":
            return (self.tree if parts[4] == "tree" else self.list_files)(parts[2] + "/" + parts[3], parts[5])
        if parts[0] == "data":
            return self.data(parts)
        self.resolve(parts[0] + "/" + parts[1], parts[3], "/".join(parts[4:]))

    def changed(self, kind, path, **more):
        """Takes the rule for this request; answers by itself where it gives a status."""
        action = rule_for(kind, path)
        self.note(kind, path, rule=action, **more)
        if "status" not in action:
            return action, False
        self.answer(action["status"], action.get("headers", {}), action.get("body", "").encode(), action)
        return action, True

    def repository(self, name, revision):
        moved = scenario.get("moved", {}).get(name)
        if moved:
            self.answer(307, {"Location": self.path.replace(name, moved)})
            return None
        repository = scenario["repositories"].get(name)
        if repository is None:
            self.refuse(401 if not self.headers.get("Authorization") else 404, "RepoNotFound")
            return None
        known = repository["revisions"]
        commit = known.get(revision, revision if revision in known.values() else None)
        if commit is None:
            self.refuse(404, "RevisionNotFound")
            return None
        return repository, commit

    def list_files(self, name, revision):
        action, done = self.changed("list", name)
        if done:
            return
        found = self.repository(name, revision)
        if not found:
            return
        repository, commit = found
        siblings = []
        for path in sorted(os.listdir(repository["folder"])):
            file = File(repository["folder"], path)
            entry = {"rfilename": path, "size": len(file.data), "blobId": file.git}
            if file.large:
                entry["lfs"] = {"sha256": file.sha256, "size": len(file.data), "pointerSize": 130}
            siblings.append(entry)
        listing = {"id": name, "sha": commit, "siblings": siblings + action.get("siblings", [])}
        self.answer(200, {"Content-Type": "application/json"}, json.dumps({**listing, **action.get("listing", {})}).encode(), action)

    def tree(self, name, revision):
        """The other listing, which huggingface_hub asks for."""
        found = self.repository(name, revision)
        if not found:
            return
        folder = found[0]["folder"]
        entries = []
        for path in sorted(os.listdir(folder)):
            file = File(folder, path)
            entry = {"type": "file", "path": path, "size": len(file.data), "oid": file.git}
            if file.large:
                entry["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": 130}
            entries.append(entry)
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(entries).encode())

    def resolve(self, name, revision, path, cached=False):
        action, done = self.changed("head" if self.command == "HEAD" else "resolve", path)
        if done:
            return
        found = self.repository(name, revision)
        if not found:
            return
        repository, commit = found
        if not os.path.isfile(os.path.join(repository["folder"], path)):
            return self.refuse(404, "EntryNotFound")
        file = File(repository["folder"], path)
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not file.large and scenario.get("resolve_cache") and not cached:
            headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data)),
                        "Location": f"/api/resolve-cache/models/{name}/{commit}/{urllib.parse.quote(path)}"}
            return self.answer(307, headers, b"Temporary Redirect", action)
        if not file.large:
            headers["ETag"] = f'W/"{file.etag}"' if path == "generation_config.json" else f'"{file.etag}"'
            if self.command == "HEAD":
                return self.answer(200, {**headers, "Content-Length": str(len(file.data))}, action=action)
            return self.send_file(file, headers, action)
        headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data)), "X-Xet-Hash": "0" * 64,
                    "ETag": '"of-the-redirect"'}
        link = f"{data_scheme}://localhost:{self.server.server_port}/data/{name}/{urllib.parse.quote(path)}?signature=x"
        self.answer(302, {**headers, "Location": link}, b"Found. Redirecting", action)

    def data(self, parts):
        path = "/".join(parts[3:])
        action, done = self.changed("data", path)
        if done:
            return
        repository = scenario["repositories"][parts[1] + "/" + parts[2]]
        self.send_file(File(repository["folder"], path), {"ETag": '"of-the-data-host"'}, action)

    def send_file(self, file, headers, action):
        data = bytearray(file.data)
        if "flip" in action:
            data[action["flip"]] ^= 1
        size = len(data)
        data += b"x" * action.get("more", 0)
        wanted = self.headers.get("Range", "")
        if not wanted or action.get("whole"):
            return self.answer(200, headers, bytes(data), action)
        first = int(wanted.removeprefix("bytes=").rstrip("-"))
        if first >= size:
            return self.answer(416, {"Content-Range": f"bytes */{size}"}, b"", action)
        place = f"bytes {action.get('first', first)}-{action.get('last', len(data) - 1)}/{action.get('total', size)}"
        self.answer(206, {**headers, "Content-Range": place}, bytes(data[first:]), action)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError)):  # clients are killed all the time
            super().handle_error(request, client_address)


server = Server(("127.0.0.1", 0), Handler)
if tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls["certificate"], tls["key"])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=server.serve_forever, daemon=True).start()
say(server.server_port)
for line in sys.stdin:
    if line.strip() == "release":
        released.set()
os._exit(0)
