"""llama.cpp: built from the source that the package llama-cpp-python carries, and driven through its llama-bench."""
import glob
import json
import os
import shutil
import subprocess
import sys
import tarfile

from comparison import children
from comparison.children import Refusal

PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
BUILD_BYTES = 600 << 20  # sources and one build, with room
OPTIONS = {"native": ["-DGGML_NATIVE=ON"],
           "avx2": ["-DGGML_NATIVE=OFF", "-DGGML_SSE42=ON", "-DGGML_AVX=ON", "-DGGML_AVX2=ON", "-DGGML_BMI2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON",
                    "-DGGML_AVX512=OFF"]}
CACHES = ("f16", "q8_0", "q4_0")


def bench_path(work, kind):
    return os.path.join(work, "build" if kind == "native" else f"build-{kind}", "bin", "llama-bench")


def build(work, kind, note):
    """The llama-bench of one kind; builds it (minutes) where it is missing."""
    program = bench_path(work, kind)
    if os.path.exists(program):
        return program
    for tools, what in ((("cmake",), "cmake"), (("c++", "g++", "clang++"), "a C++ compiler"), (("cc", "gcc", "clang"), "a C compiler")):
        if not any(shutil.which(tool) for tool in tools):
            raise Refusal(f"{what} is missing: it builds llama.cpp; install it (Debian: apt install cmake g++ ninja-build)")
    sources = source(work, note)
    folder = os.path.dirname(os.path.dirname(program))
    note(f"building llama.cpp ({kind}) in {folder}: some minutes")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    logged(["cmake", "-S", sources, "-B", folder, *generator, "-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF",
            "-DLLAMA_BUILD_SERVER=OFF", *OPTIONS[kind]], os.path.join(work, f"configure-{kind}.log"))
    logged(["cmake", "--build", folder, "--target", "llama-bench", "-j", str(children.cores())], os.path.join(work, f"build-{kind}.log"))
    return program


def source(work, note):
    folder = os.path.join(work, f"{PACKAGE.replace('-', '_')}-{VERSION}")
    inner = os.path.join(folder, "vendor", "llama.cpp")
    if not os.path.isdir(inner):
        note(f"fetching {PACKAGE} {VERSION}")
        logged([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE, "--dest", work, f"{PACKAGE}=={VERSION}"],
               os.path.join(work, "download.log"))
        archives = glob.glob(os.path.join(work, f"llama_cpp_python-{VERSION}*.tar.gz"))
        if not archives:
            raise Refusal(f"pip brought no source archive of {PACKAGE} {VERSION} to {work}")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(work, filter="data") if hasattr(tarfile, "data_filter") else archive.extractall(work)
    return inner


def logged(command, log):
    with open(log, "w") as file:
        result = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
    if result.returncode != 0:
        raise Refusal(f"{os.path.basename(command[0])} failed while making llama.cpp; {log} says why")


def library_path(program):
    folder = os.path.dirname(program)
    return {"LD_LIBRARY_PATH": folder, "DYLD_LIBRARY_PATH": folder}


def describe(program):
    """{"version", "system"}: what llama-bench and the library say of themselves."""
    try:
        version = subprocess.run([program, "--version"], capture_output=True, text=True, env={**os.environ, **library_path(program)})
        text = " ".join((version.stdout + version.stderr).split())
    except OSError as error:
        raise Refusal(f"{program} does not start: {error.strerror}")
    ask = "import ctypes, sys; f = ctypes.CDLL(sys.argv[1]).llama_print_system_info; f.restype = ctypes.c_char_p; print(f().decode())"
    library = next(iter(sorted(glob.glob(os.path.join(os.path.dirname(program), "libllama.*")))), "")
    system = subprocess.run([sys.executable, "-c", ask, library], capture_output=True, text=True, env={**os.environ, **library_path(program)})
    return {"version": text, "system": " ".join(system.stdout.split())}


def arguments(setting):
    return ["-fa", setting["flash"], "-lm", setting["load"], "--repack", str(setting["repack"]), "-ub", str(setting["ubatch"])]


def bench(program, model, threads, setting, prompts=(), generation=0, depths=(0,), cache="f16"):
    """([sample], usage) of one llama-bench process, one repetition of each test after its own warm-up."""
    command = [program, "-m", model, "-t", str(threads), "-r", "1", "-o", "json", *arguments(setting), "-ctk", cache, "-ctv", cache,
               "-p", ",".join(map(str, prompts)) or "0", "-n", str(generation), "-d", ",".join(map(str, depths))]
    out, usage = children.run(command, library_path(program))
    return [sample_of(test) for test in tests_of(out)], usage


def tests_of(out):
    try:
        return json.loads(out)
    except ValueError:
        raise Refusal("llama-bench printed no JSON: this version is not " + VERSION)


def sample_of(test):
    tps = test["samples_ts"][0]
    return {"cache": test["type_k"], "prompt": test["n_prompt"], "generation": test["n_gen"], "depth": test["n_depth"],
            "prompt_tps": tps if test["n_prompt"] else None, "generation_tps": tps if test["n_gen"] else None, "samples_ns": test["samples_ns"],
            "setting": setting_of(test)}


def setting_of(test):
    flash = test["flash_attn"]
    return {"flash": {True: "on", False: "off", 1: "on", 0: "off"}.get(flash, str(flash)), "load": str(test["load_mode"]),
            "repack": int(test.get("repack", 1)), "ubatch": test["n_ubatch"]}


def sweep(program, model, threads, generation, prompts, attention_depth, mapped, note):
    """Every setting once, untimed for the table: [sample]. The depth is tried for an f16 cache with flash attention on and off."""
    grid = ["-fa", "on,off", "-lm", "none,mmap" if mapped else "none", "--repack", "1,0", "-ub", "512,2048"]
    note("sweep over the settings of llama.cpp")
    out, _ = children.run([program, "-m", model, "-t", str(threads), "-r", "1", "-o", "json", *grid, "-p", ",".join(map(str, prompts)) or "0",
                           "-n", str(generation)], library_path(program))
    samples = [sample_of(test) for test in tests_of(out)]
    if attention_depth:
        fastest = best(samples, "decode")
        for flash in ("on", "off"):
            note(f"sweep at depth {attention_depth}, flash attention {flash}")
            samples += bench(program, model, threads, {**fastest, "flash": flash}, generation=generation, depths=(attention_depth,))[0]
    return samples


def best(samples, test, feasible=lambda setting: True):
    """The setting with the most tokens a second in `test`: "decode", "prompt_N" or "decode_at_depth"."""
    def figure(sample):
        if test.startswith("prompt_"):
            return sample["prompt_tps"] if sample["prompt"] == int(test[7:]) and not sample["depth"] else None
        return sample["generation_tps"] if bool(sample["depth"]) == (test == "decode_at_depth") else None

    measured = [(figure(sample), index) for index, sample in enumerate(samples) if figure(sample) is not None and feasible(sample["setting"])]
    if not measured:
        raise Refusal(f"the sweep has no setting for {test} that fits this machine")
    return samples[max(measured)[1]]["setting"]
