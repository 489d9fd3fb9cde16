"""scikit-build-core's wheels with the shared libraries of this system inside, so that they carry the tag manylinux of its C library."""
import glob
import os
import subprocess
import sys
import tempfile

from scikit_build_core.build import *  # noqa: F403: the hooks of a build backend
from scikit_build_core.build import build_wheel as build_plain_wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    if sys.platform != "linux":
        return build_plain_wheel(wheel_directory, config_settings, metadata_directory)
    with tempfile.TemporaryDirectory() as folder:
        plain = build_plain_wheel(folder, config_settings, metadata_directory)
        repaired = os.path.join(folder, "repaired")
        run = subprocess.run([sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", repaired, os.path.join(folder, plain)], capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"auditwheel: {run.stderr.strip() or run.stdout.strip()}")
        (wheel,) = glob.glob(os.path.join(repaired, "*.whl"))
        name = os.path.basename(wheel)
        with open(wheel, "rb") as source, open(os.path.join(wheel_directory, name), "wb") as target:
            target.write(source.read())
        return name
