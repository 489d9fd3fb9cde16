"""The program, started for a test, and requests to it without any client."""
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

checks = 0


def same(found, expected, what):
    global checks
    checks += 1
    if found != expected:
        sys.exit(f'{what}: found {found!r}, expected {expected!r}')


def true(found, what):
    global checks
    checks += 1
    if not found:
        sys.exit(f'{what}: {found!r}')


def done(what):
    print(f'{what}: {checks} checks')


class Running:
    """`tqkv serve MODEL --port 0 OPTIONS`. Standard error goes to a file, so that a full pipe stops nothing."""

    def __init__(self, tqkv, model, *options):
        self.errors = tempfile.TemporaryFile('w+')
        self.process = subprocess.Popen([str(tqkv), 'serve', str(model), '--port', '0', *map(str, options)],
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True)
        line = self.process.stdout.readline()
        found = re.match(r'http://127\.0\.0\.1:(\d+) serves ', line)
        if not found:
            self.process.wait()
            sys.exit(f'the server does not start: {line!r} {self.log()!r}')
        self.port = int(found.group(1))
        self.address = f'http://127.0.0.1:{self.port}'

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def log(self):
        # Written by another process: read without moving its place in the file.
        return os.pread(self.errors.fileno(), 10_000_000, 0).decode()

    def waits_for(self, condition, what, seconds=30):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                sys.exit(f'{what}: did not come in {seconds} s; the server said {self.log()!r}')
            time.sleep(0.01)

    def stop(self, number=signal.SIGTERM, seconds=40):
        """Exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def ask(self, path, body=None, headers=None, timeout=120):
        """(status, JSON or text)."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=timeout)
        try:
            text = None if body is None else json.dumps(body)
            connection.request('GET' if body is None else 'POST', path, text,
                               {'Content-Type': 'application/json', **(headers or {})})
            answer = connection.getresponse()
            content = answer.read().decode()
            kind = answer.getheader('Content-Type', '')
            return answer.status, json.loads(content) if kind.startswith('application/json') else content
        finally:
            connection.close()

    def open_stream(self, path, body):
        """A response of which the headers are read."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=120)
        connection.request('POST', path, json.dumps({**body, 'stream': True}), {'Content-Type': 'application/json'})
        answer = connection.getresponse()
        answer.connection = connection  # lives as long
        return answer
