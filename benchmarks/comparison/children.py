"""Child processes with their page faults, the memory of this machine, and files brought into the page cache."""
import ctypes
import mmap
import os
import platform
import subprocess
import sys
import tempfile
import time


class Refusal(Exception):
    """What is missing and what to do, in one line."""


def run(command, environment=None):
    """(standard output, {"wall_s", "major_faults", "minor_faults"}). Raises Refusal where the command fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        try:
            child = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **(environment or {})})
        except OSError as error:
            raise Refusal(f"{command[0]} does not start: {error.strerror}")
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - start
        out.seek(0)
        err.seek(0)
        if child.returncode != 0:
            last = err.read().decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            raise Refusal(f"{os.path.basename(command[0])} ended with {child.returncode}: {last[0]}")
        return out.read().decode(), {"wall_s": wall, "major_faults": usage.ru_majflt, "minor_faults": usage.ru_minflt}


def warm(paths):
    """Reads files twice, so that a program that maps them finds them in memory and the system counts them as used."""
    buffer = bytearray(16 << 20)
    for path in [*paths, *paths]:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


class Held:
    """Keeps files in memory while a program maps them, as memory of its own would stay; `bytes` says how much is held.

    Where memory may not be locked (its limit is `ulimit -l`) or less than 2 GiB would be left, nothing is held.
    """

    def __init__(self, paths):
        self.maps, self.bytes = [], 0
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
        libc.munmap.argtypes = libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.libc = libc
        if sum(os.path.getsize(path) for path in paths) + (2 << 30) > memory_bytes():
            return
        for path in paths:
            size = os.path.getsize(path)
            file = os.open(path, os.O_RDONLY)
            address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
            os.close(file)
            if address == ctypes.c_void_p(-1).value:
                continue
            if libc.mlock(address, size) == 0:
                self.maps.append((address, size))
                self.bytes += size
            else:
                libc.munmap(address, size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for address, size in self.maps:
            self.libc.munmap(address, size)


def drop(paths):
    """Tells the system that files need not stay in memory."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def program_files(program):
    """A program and the libraries that it loads, so that its own pages cause no major fault; the program alone where ldd is missing."""
    folder = os.path.dirname(program)
    try:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": folder}).stdout
    except OSError:
        return [program]
    words = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    return [program, *(word for word in words if os.path.exists(word))]


def memory_bytes():
    """Memory of the machine, or of the container that this process runs in."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                total = min(total, int(file.read()))
        except (OSError, ValueError):
            pass
    return total


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def processor():
    """Name, and on x86 family and model, which tell apart what names do not."""
    found = {}
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                key, _, value = line.partition(":")
                found.setdefault(key.strip(), value.strip())
    except OSError:
        if sys.platform == "darwin":
            found["model name"] = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True).stdout.strip()
    name = found.get("model name") or found.get("Model") or platform.processor() or platform.machine()
    if "cpu family" in found:
        name += f" (family {found['cpu family']}, model {found['model']})"
    return name
