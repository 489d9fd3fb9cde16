"""A `tqkv serve` of our own, on a free port, ended with the block that began it."""
import asyncio
import os
import signal
import subprocess
import tempfile
import time

from serving.process import anonymous_bytes, processor_seconds
from serving.wire import Endpoint, Refusal

START_S, STOP_S = 120, 60


class Server:
    def __init__(self, program, model, root, *options, key=None, unix=None):
        self.command = [program, "serve", model, "--quiet", *map(str, options), *([] if unix else ["--port", "0"])]
        self.environment = {"TQKV_MODELS_DIR": os.path.join(root, "models"), **os.environ}
        self.key, self.unix, self.url = key, unix, None

    def __enter__(self):
        self.said = tempfile.TemporaryFile("w+")
        try:
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.said, text=True, env=self.environment)
        except OSError as error:
            raise Refusal(f"{self.command[0]} does not start ({error.strerror}): build it, or name it with --program")
        line = self.process.stdout.readline()  # comes when the model is loaded
        if " serves " not in line:
            self.process.wait(START_S)
            self.said.seek(0)
            raise Refusal(f"{' '.join(self.command)}: {self.said.read().strip()}")
        self.url = None if self.unix else line.split(" ")[0]
        self.endpoint = Endpoint(self.url, self.unix, self.key)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.said.close()

    @property
    def pid(self):
        return self.process.pid

    def memory(self):
        return anonymous_bytes(self.pid)

    def processor_s(self):
        return processor_seconds(self.pid)

    def metrics(self):
        return asyncio.run(self.endpoint.metrics())

    def wait_until_idle(self, seconds=30):
        asyncio.run(idle(self.endpoint, seconds))


STATES = ("queued", "reading", "decoding", "paused")


def busy(metrics):
    return sum(metrics[f'tqkv_requests{{state="{state}"}}'] for state in STATES)


async def idle(endpoint, seconds=30, every=0.002):
    """Waits until nothing is under way, and returns the time when that was seen and the metrics."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        metrics = await endpoint.metrics()
        if not busy(metrics) and not metrics["tqkv_promised_bytes"]:
            return time.monotonic(), metrics
        await asyncio.sleep(every)
    raise Refusal(f"the server was not idle after {seconds} s")
