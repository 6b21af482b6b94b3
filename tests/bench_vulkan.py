#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Overhead of the Vulkan layer on a token of llama.cpp, with it and without in turns on the same machine, under the
real daemon. The lower quartile of each run counts, so that other load matters little."""
import os
import statistics
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
for room in ("daemon", "vulkan"):
    sys.path.insert(0, os.path.join(HERE, room))
from daemonlib import RELEASE, Daemon  # noqa: E402
import llamalib  # noqa: E402

PAIRS = 9
WARM = 5  # tokens that compile pipelines, and that the layer needs to detect inferences


def token_ms(folder, **layer):
    times = sorted(llamalib.Program(folder, "chat", "20 60", **layer).ms[WARM:])
    return times[len(times) // 4]


def main():
    why = llamalib.install()
    if why:
        print(f"vulkan_layer_overhead_percent: {why}", file=sys.stderr)
        return
    daemon = Daemon(build=RELEASE)
    layer = {
        "tree": RELEASE,
        "FLAMED_SOCKET": daemon.socket,
        "FLAMED_DEADLINE_NS": "200000000",
        "FLAMED_MODEL": "bench",
    }
    with tempfile.TemporaryDirectory() as folder:
        token_ms(folder)
        ratios, plain = [], []
        for i in range(PAIRS):
            pair = {}
            for layered in (i % 2 == 0, i % 2 == 1):
                pair[layered] = token_ms(folder, **(layer if layered else {}))
            ratios.append(pair[True] / pair[False])
            plain.append(pair[False])
    daemon.end()
    print(f"vulkan_layer_overhead_percent={max(0.0, (statistics.median(ratios) - 1) * 100):.2f} %")
    print(f"vulkan_token_ms={statistics.median(plain):.1f} ms")


main()
