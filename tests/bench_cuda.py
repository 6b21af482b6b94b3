#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Overhead of the CUDA layer on a launch: runs of 400 launches against the stand-in driver, which only
checks and counts them, with and without the layer, in turns. The lower quartile of each run counts,
so that other load matters little."""
import os, statistics, subprocess, sys, tempfile, time
from lines import tied

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ.get("RELEASE_DIR", os.path.join(HERE, "../build/release")))
LAUNCHES, PAIRS = 400, 15


def quartile(env):
    words = [BUILD + "/tests/cuda/engine", HERE + "/cuda/scripts/overhead", "runs=300", "times"]
    err = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120).stderr
    times = sorted(int(line.split()[1]) for line in err.splitlines() if line.startswith("times:"))
    return times[len(times) // 4] / LAUNCHES


def main():
    with tempfile.TemporaryDirectory() as directory:
        open(directory + "/flamed.conf", "w").close()
        os.mkdir(directory + "/sys")
        flamed = tied(subprocess.Popen([BUILD + "/flamed", "--sysroot", directory, "--runtime-dir", directory + "/run",
                                        "--state-dir", directory + "/state", "--config",
                                        directory + "/flamed.conf"], stderr=subprocess.DEVNULL))
        time.sleep(1)
        plain = dict(os.environ, LD_LIBRARY_PATH=BUILD + "/tests/cuda")
        layered = dict(plain, LD_PRELOAD=BUILD + "/libflamed-cuda.so", FLAMED_DEADLINE_NS="100000000",
                       FLAMED_MODEL="bench",
                       FLAMED_SOCKET=directory + "/run/flamed.sock")
        added = []
        for i in range(PAIRS):
            first, second = (plain, layered) if i % 2 else (layered, plain)
            a, b = quartile(first), quartile(second)
            added.append(b - a if i % 2 else a - b)
        flamed.terminate()
        flamed.wait()
    print(f"cuda_launch_overhead={max(0.0, statistics.median(added)):.0f} ns")


main()
