"""tqkv: its checkpoint of the true shape, and one interleaved turn of `tqkv benchmark`."""
import glob
import json
import os
import subprocess
import tempfile

from comparison import children
from comparison.children import Refusal


def inspect(program, model):
    try:
        result = subprocess.run([program, "inspect", model, "--json"], capture_output=True, text=True)
    except OSError as error:
        raise Refusal(f"{program} does not start ({error.strerror}); build it, or name it with --program")
    if result.returncode != 0:
        raise Refusal(f"tqkv inspect: {result.stderr.strip()}")
    return json.loads(result.stdout)


def make_checkpoint(root, config, folder, layers, note):
    """A checkpoint with random weights in `folder`, made by tools/make-checkpoint where it is missing."""
    if os.path.exists(os.path.join(folder, "config.json")):
        return
    note(f"writing a checkpoint of {layers} layers to {folder}")
    result = subprocess.run([os.path.join(root, "tools", "make-checkpoint"), config, folder, "--layers", str(layers)], capture_output=True, text=True)
    if result.returncode != 0:
        raise Refusal(f"tools/make-checkpoint: {(result.stderr.strip().splitlines() or ['no message'])[-1]}")


def shards(folder):
    return sorted(glob.glob(os.path.join(folder, "*.safetensors")))


def benchmark(program, model, threads, backends, prompts, generation, depths=(0,), trials=1, isa=None):
    """([sample], usage, document) of one process. Its own warm-up of full length comes before the trials."""
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "out.json")
        command = [program, "benchmark", model, "--threads", str(threads), "--backend", ",".join(backends), "--prompt-tokens",
                   ",".join(map(str, prompts)), "--generation-tokens", str(generation), "--depth", ",".join(map(str, depths)), "--trials",
                   str(trials), "--output", output, *(["--isa", isa] if isa else [])]
        _, usage = children.run(command)
        with open(output) as file:
            document = json.load(file)
    return samples_of(document), usage, document


def samples_of(document):
    samples = []
    for row in document["runs"]:
        for index, trial in enumerate(row["trials"]):
            samples.append({"cache": row["backend"], "format": row["format"], "prompt": row["prompt_tokens"], "generation": row["generation_tokens"],
                            "depth": row["depth"], "trial": index,
                            **{key: value for key, value in trial.items() if key not in ("cache", "order")}, "order_in_round": trial["order"]})
    return samples
