#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Overhead of the OpenCL layer: an engine of 400 kernels with and without it under a deadline, in
turns on the same machine. The lower quartile of each run counts, so that what else the machine does
matters little."""
import os, statistics, subprocess, sys, tempfile, time
from lines import tied

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("RELEASE_DIR", os.path.join(HERE, "../build/release"))
ENGINE, PAIRS = BUILD + "/tests/opencl/engine", 41


def quartile(env):
    words = [ENGINE, "kernels=400", "runs=40", "size=16384", "times"]
    err = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120).stderr
    times = sorted(int(t) for line in err.splitlines() if line.startswith("times:") for t in line.split()[1:])
    return times[len(times) // 4]


def main():
    if not os.path.exists("/etc/OpenCL/vendors") or not os.path.exists(ENGINE):
        print("layer_overhead_percent: no OpenCL, or `make test-programs` not made", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as directory:
        conf = directory + "/flamed.conf"
        open(conf, "w").close()
        os.mkdir(directory + "/sys")
        flamed = tied(subprocess.Popen([BUILD + "/flamed", "--sysroot", directory, "--runtime-dir", directory + "/run",
                                        "--state-dir", directory + "/state", "--config", conf],
                                       stderr=subprocess.DEVNULL))
        time.sleep(1)
        plain = dict(os.environ)
        layered = dict(plain, OPENCL_LAYERS=os.path.abspath(BUILD + "/libflamed-opencl.so"),
                       FLAMED_DEADLINE_NS="100000000",
                       FLAMED_MODEL="bench", FLAMED_SOCKET=directory + "/run/flamed.sock")
        quartile(plain)
        ratios = []
        for i in range(PAIRS):
            first, second = (plain, layered) if i % 2 else (layered, plain)
            a, b = quartile(first), quartile(second)
            ratios.append(b / a if i % 2 else a / b)
        flamed.terminate()
        flamed.wait()
    print(f"layer_overhead_percent={max(0.0, (statistics.median(ratios) - 1) * 100):.2f} %")


main()
