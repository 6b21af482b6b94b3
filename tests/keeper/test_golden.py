#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The ordered writes and fsyncs the keeper makes on sysfs trees of real machines, against
tests/trees/NAME.writes. With --update the golden files are written again: read the difference before
you commit it. With --add NAME that of one new tree."""
import glob
import os
import sys

from keeper import *

MHZ = 10**6
# low, high and between, for cpu, gpu, mem; 0: the machine has no such clock
TREES_AND_STEPS = {
    "jetson-orin-nano": [(115, 306, 204), (1728, 1020, 3199), (960, 612, 2133), (960, 612, 2133), (2000, 612, 0)],
    "jetson-agx-orin": [(115, 306, 204), (2201, 1300, 3199), (960, 612, 665), (960, 714, 665)],
    "jetson-tx2": [(345, 114, 40), (2035, 1300, 1866), (960, 624, 800), (1113, 522, 800)],
    "rk3588": [(408, 300, 528), (2400, 1000, 2112), (1700, 450, 1068), (1700, 300, 1068)],
    "intel-laptop": [(400, 100, 0), (4700, 1350, 0), (2000, 600, 0)],
    "intel-xe": [(400, 100, 0), (4500, 2250, 0), (2000, 1000, 0)],
    "snapdragon": [(300, 305, 0), (2841, 587, 0), (1300, 400, 0)],
    "amd-apu": [(400, 800, 1000), (5263, 2800, 2800), (2000, 1100, 2000), (2000, 1100, 2000), (2000, 1000, 0)],
    "raspberry-pi-4": [(600, 0, 0), (1800, 0, 0), (1200, 0, 0)],
    "rk3399": [(408, 200, 328), (1800, 800, 800), (1100, 450, 528), (1100, 297, 528)],
    "jetson-thor": [(648, 504, 665), (2601, 1575, 4266), (1500, 900, 2750), (1500, 702, 2750)],
    "jetson-orin-jp7": [(115, 306, 204), (1728, 1020, 3199), (960, 612, 2133), (960, 714, 665)],
    "raspberry-pi-5": [(1500, 0, 0), (2400, 0, 0), (1850, 0, 0)],
    "amd-apu-discrete": [(400, 200, 400), (4785, 2200, 2400), (2000, 1000, 1600), (2000, 1000, 800)],
    "amd-pstate-active": [(400, 200, 400), (4463, 1800, 1600), (2000, 700, 933)],
    "amd-pstate-passive": [(400, 200, 400), (4463, 1800, 1600), (2000, 700, 933)],
    "amd-pstate-guided": [(400, 200, 400), (4463, 1800, 1600), (1800, 700, 933)],
    "intel-xe-laptop": [(400, 100, 0), (4800, 1950, 0), (2000, 1000, 0)],
    "phone-adreno": [(307, 220, 0), (2995, 818, 0), (1300, 500, 0)],
    "nothing": [(1000, 1000, 1000)],
}
CROSSED = {"jetson-tx2", "snapdragon"}
# of a tree that has no line above: the lowest, the highest, and something between
STEPS = [(1, 1, 1), (99999, 99999, 99999), (1000, 600, 1000)]


def run(name):
    """(log, differences after, leftovers in the state directory, worst state, exit status)"""
    path = tree(name)
    root, state, log = path + "/root", path + "/state", path + "/log"
    before = snapshot(root)
    env = {"LD_PRELOAD": os.path.join(BUILD, "tests/keeper/shim.so"), "SHIM_ROOT": root, "SHIM_STATE": state,
           "SHIM_LOG": log, "SHIM_CROSSED": "1" if name in CROSSED else ""}
    if name not in CROSSED:
        del env["SHIM_CROSSED"]
    open(log, "w").close()
    k = Keeper(root, state, binary=os.path.join(RELEASE, "flamed-keeper"), env=env)
    worst = 0
    for cpu, gpu, mem in TREES_AND_STEPS.get(name, STEPS):
        with open(log, "a") as f:
            f.write(f"# apply cpu {cpu} MHz, gpu {gpu} MHz, mem {mem} MHz\n")
        reply = k.apply(cpu * MHZ, gpu * MHZ, mem * MHZ)
        worst = max([worst, *reply.state])
    with open(log, "a") as f:
        f.write("# flamed is gone\n")
    status = k.close()
    got = open(log).read()
    diff = differences(before, snapshot(root))
    left = os.listdir(state)
    remove(path)
    return got, diff, left, worst, status


tap = Tap()
every = list(TREES_AND_STEPS) + sorted({os.path.basename(p)[:-5]
                                        for p in glob.glob(TREES + "/*.tree")} - set(TREES_AND_STEPS))
added = sys.argv[2] if sys.argv[1:2] == ["--add"] else None
for name in [added] if added else every:
    got, diff, left, worst, status = run(name)
    golden = os.path.join(TREES, name + ".writes")
    if added or "--update" in sys.argv:
        open(golden, "w").write(got)
    want = open(golden).read() if os.path.exists(golden) else ""
    detail = "\n".join(f"got {a!r} want {b!r}" for a, b in zip(got.splitlines(), want.splitlines()) if a != b)
    tap.ok(got == want, f"{name}: the writes are those of the golden file", detail or got)
    tap.equal(diff, [], f"{name}: every file is as it was")
    tap.equal((left, worst, status), ([], OK, 0), f"{name}: no journal left, no knob refused, exit status 0")
    tap.ok("EINVAL" not in got, f"{name}: no limit ever crossed its partner", got)
tap.done()
