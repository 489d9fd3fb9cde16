"""Shared by the agreement scripts: runs `tqkv logits` and compares rows of logits. Needs numpy."""
import json, os, subprocess, sys, tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def read_safetensors(path):
    """{name: memory-mapped array} of a file with F32 tensors."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    out = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", entry
        out[name] = np.memmap(path, np.float32, "r", 8 + length + entry["data_offsets"][0], tuple(entry["shape"]))
    return out


class Runner:
    def __init__(self, program, model):
        self.program, self.model = program, model
        self.folder = tempfile.TemporaryDirectory()
        self.count = 0

    def logits(self, ids, *options, last=None):
        """Logits [rows, vocab] of `ids`; the file lives as long as the runner."""
        self.count += 1
        source = os.path.join(self.folder.name, "ids.json")
        target = os.path.join(self.folder.name, f"{self.count}.safetensors")
        with open(source, "w") as file:
            json.dump([int(i) for i in ids], file)
        command = [self.program, "logits", self.model, "--ids", source, "--output", target, *options]
        if last:
            command += ["--last", str(last)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"{' '.join(command)}: {run.stderr}")
        return read_safetensors(target)["logits"]

    def drop_files(self):
        for name in os.listdir(self.folder.name):
            os.remove(os.path.join(self.folder.name, name))

    def tokenize(self, text):
        run = subprocess.run([self.program, "tokenize", self.model, "--plain"], input=json.dumps(text) + "\n", capture_output=True, text=True, check=True)
        return json.loads(run.stdout)


def compare(reference, model):
    """KL(reference || model) in nats and whether the top token is the same, for each row."""
    kl, same = [], []
    for at in range(0, len(reference), 512):
        p, q = (np.asarray(x[at:at + 512], np.float64) for x in (reference, model))
        p = p - p.max(1, keepdims=True)
        q = q - q.max(1, keepdims=True)
        p -= np.log(np.exp(p).sum(1, keepdims=True))
        q -= np.log(np.exp(q).sum(1, keepdims=True))
        kl.append((np.exp(p) * (p - q)).sum(1))
        same.append(p.argmax(1) == q.argmax(1))
    return np.concatenate(kl), np.concatenate(same)


def row(name, kl, same):
    return f"| {name} | {len(kl)} | {kl.mean():.2e} | {np.median(kl):.2e} | {np.quantile(kl, 0.99):.2e} | {kl.max():.2e} | {100 * same.mean():.2f}% |"


HEADER = "| | rows | mean KL | median | p99 | maximum | same top |\n|---|---|---|---|---|---|---|"


def held_out(folder, count=150):
    """Texts of the documentation that the pocket model was not trained on: the last entries of docs.jsonl.xz."""
    import collections, lzma
    with lzma.open(os.path.join(folder, "docs.jsonl.xz"), "rt") as file:
        return [json.loads(line)["text"] for line in collections.deque(file, count)]
