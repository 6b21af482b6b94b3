# SPDX-License-Identifier: MIT
"""Helpers of the CUDA tests: the engine under the stand-in driver, with and without the layer."""
import os, re, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../..")
for room in ("client", "opencl", "board"):
    sys.path.insert(0, os.path.join(HERE, "..", room))
RELEASE = os.path.abspath(os.environ.get("RELEASE_DIR", "build/release"))
ASAN = os.path.abspath(os.environ.get("BUILD_DIR", "build/asan"))
scratch = tempfile.mkdtemp(prefix="flamed-cuda-")


def script(name):
    return os.path.join(HERE, "scripts", name)


def wrapped():
    """The list of layers/cuda/names.h: exported name, name in cuGetProcAddress(), version, stream of each thread."""
    text = open(ROOT + "/layers/cuda/names.h").read()
    return [(a, b, int(v), p == "1") for a, b, v, p in re.findall(r"X\((\w+), (\w+), (\d+), ([01])\)", text)]


def preload(tree, *others):
    """Environment of a program that runs with a build tree's layer: a sanitizer's runtime has to come first."""
    libraries = []
    if tree == ASAN and tree != RELEASE:
        libraries.append(subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True,
                                        text=True).stdout.strip())
    return " ".join([*libraries, *others, tree + "/libflamed-cuda.so"])


class Run:
    """One run of the engine."""

    def __init__(self, name, *words, layer=True, tree=RELEASE, program="engine", **env):
        log = os.path.join(scratch, "calls")
        if os.path.exists(log):
            os.unlink(log)
        full = dict(os.environ, LD_LIBRARY_PATH=tree + "/tests/cuda", FLAMED_STANDIN_LOG=log,
                    FLAMED_SOCKET=scratch + "/absent",
                    ASAN_OPTIONS="detect_leaks=0")
        if layer:
            full.update(LD_PRELOAD=preload(tree), FLAMED_SUMMARY="2")
        full.update(env)
        done = subprocess.run([f"{tree}/tests/cuda/{program}", script(name) if "/" not in name else name, *words],
                              env=full, capture_output=True,
                              text=True, timeout=240)
        self.rc, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.truth = int((re.search(r"truth=(\d+)", self.err) or [0, 0])[1])
        self.found = int((re.search(r"inferences=(\d+)", self.err) or [0, 0])[1])
        rows = re.findall(r"(\w+) calls=(\d+) errors=(\d+)", open(log).read()) if os.path.exists(log) else []
        self.calls = {row[0]: int(row[1]) for row in rows}
        self.errors = {row[0]: int(row[2]) for row in rows if int(row[2])}

    def said(self):
        return [line for line in self.err.splitlines() if line.startswith("flamed-cuda:")]
