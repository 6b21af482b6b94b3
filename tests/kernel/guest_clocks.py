# SPDX-License-Identifier: MIT
# Requests over the socket move the real clocks: looked up in the kernel's own files.
import glob
import os
import time

from guest_lib import *

LEARNT, COUNTED, LATE_MAX = 30, 100, 0.01 # requests that flamed may learn from, that count, and may be late


def table(path, scale):
    return sorted(int(x) * scale for x in read(path).split())


def moves():
    before = knobs()
    client = Client()
    session = client.open()
    begun = client.begin(session, 1000)
    cpu, gpu = clocks()
    ok(cpu == {(int(begun["cpu_hz"]),) * 2}, "every CPU policy is pinned at the clock the reply names", (cpu, begun))
    ok(gpu == (int(begun["gpu_hz"]),) * 2, "the GPU is pinned at the clock the reply names", (gpu, begun))
    ok(wait_for(lambda: int(read(GPU + "/cur_freq")) == int(begun["gpu_hz"])), "and the device runs at it",
       read(GPU + "/cur_freq"))
    client.end(begun, latency_ns(2e9, 1.02e9))
    seen, late = set(), []
    for i in range(LEARNT + COUNTED):
        deadline_ms = 400 if i % 2 else 130
        begun, took = request(client, session, deadline_ms)
        seen.add((begun["cpu_hz"], begun["gpu_hz"]))
        if took > deadline_ms * 1e6:
            late.append(i)
    ok(len(seen) > 2, "tight and loose deadlines move the clocks up and down: limits cross both ways", seen)
    ok(sum(i >= LEARNT for i in late) <= LATE_MAX * COUNTED,
       f"at most {100 * LATE_MAX:g} % of {COUNTED} requests late after the first {LEARNT}", late)
    # Loose and tight deadlines alternated; their end has to be learned.
    for _ in range(200):
        request(client, session, 400)
        cpu, gpu = clocks()
        if max(c[1] for c in cpu) < 2000000000 and gpu[1] < 1020000000:
            break
    ok(max(c[1] for c in cpu) < 2000000000 and gpu[1] < 1020000000, "a loose deadline brings both clocks down",
       (cpu, gpu))
    ok(int(read(PARAMS + "/writes")) > 2, "the driver was really asked to change its clock", read(PARAMS + "/writes"))
    client.close()
    ok(restored(before), "the last session closed: every knob as found", difference(before))


def refused():
    before = knobs()
    client, session = busy_client()
    write(PARAMS + "/refuse_errno", 22)
    begun = client.begin(session, 120)
    ok(begun.get("errno") == "0", "a request is served while the driver refuses its clock", begun)
    client.end(begun, 120e6)
    write(PARAMS + "/refuse_errno", 0)
    for _ in range(4):
        begun, _ = request(client, session, 120)
    ok(clocks()[1] == (int(begun["gpu_hz"]),) * 2, "the next success heals it", (clocks(), begun))
    client.close()
    ok(restored(before), "after a refusing driver: every knob as found", difference(before))


def governors():
    for governor in ("performance", "powersave", "userspace"):
        for p in glob.glob(CPU + "/policy*"):
            write(p + "/scaling_governor", governor)
        before = knobs()
        client = Client()
        begun = client.begin(client.open(), 400)
        cpu, _ = clocks()
        ok(cpu == {(int(begun["cpu_hz"]),) * 2}, f"pinned under the governor {governor}", (cpu, begun))
        client.close()
        ok(restored(before), f"and handed back with the governor {governor}", difference(before))
    for p in glob.glob(CPU + "/policy*"):
        write(p + "/scaling_governor", "schedutil")


def ceiling():
    before = knobs()
    run("modprobe flamed_test_ceiling khz=1200000")
    ok(read(CPU + "/policy0/scaling_max_freq") == "1200000", "somebody else holds a ceiling", knobs())
    client = Client()
    session = client.open("capped-net")
    for _ in range(3):
        begun = client.begin(session, 110)
        client.end(begun, 120e6)
    ok(begun["cpu_hz"] == "1200000000", "it is respected, however tight the deadline", begun)
    ok(client.ask(op="status")["clock.cpu.ceiling_hz"] == "1200000000", "and status shows it")
    run("rmmod flamed_test_ceiling")
    client.close()
    ok(restored(before), "after the ceiling is gone: every knob as found", difference(before))


def hotplug():
    before = knobs()
    client, session = busy_client()
    write("/sys/devices/system/cpu/cpu1/online", 0)
    begun = client.begin(session, 130)
    ok(begun.get("errno") == "0", "served with a policy gone", begun)
    client.end(begun, 90e6)
    write("/sys/devices/system/cpu/cpu1/online", 1)
    wait_for(lambda: os.path.exists(CPU + "/policy1/scaling_max_freq"))
    pinned = False
    for _ in range(10):
        begun, _ = request(client, session, 130 if _ % 2 else 400)
        pinned = pinned or int(read(CPU + "/policy1/scaling_max_freq")) * 1000 == int(begun["cpu_hz"]) < 2000000000
        time.sleep(0.2)
    ok(pinned, "a policy that comes back is taken again", (begun, clocks()))
    client.close()
    ok(restored(before), "after hotplug: every knob as found", difference(before))


def module_gone():
    before = knobs()
    client, session = busy_client()
    rc, out = run("rmmod flamed_test_gpu")
    ok(rc == 0, "the GPU module goes under load", out)
    begun = client.begin(session, 300)
    ok(begun.get("errno") == "0", "a request is served without the GPU's knobs", begun)
    client.end(begun, 200e6)
    run("modprobe flamed_test_gpu")
    wait_for(lambda: os.path.exists(GPU + "/max_freq"))
    pinned = False
    for i in range(10):
        begun, _ = request(client, session, 130 if i % 2 else 400)
        pinned = pinned or clocks()[1] == (int(begun["gpu_hz"]),) * 2
        time.sleep(0.2)
    ok(pinned, "the GPU is taken again when its module returns", (begun, clocks()))
    client.close()
    ok(restored(before), "after the module's return: every knob as found", difference(before))


def foreign():
    before = knobs()
    client, session = busy_client()
    path = CPU + "/policy0/scaling_max_freq"
    write(path, 1600000)
    write(CPU + "/policy0/scaling_min_freq", 800000)
    for _ in range(4):
        request(client, session, 130)
    shown = client.ask(op="status")
    ok("foreign" in (shown.get("clock.cpu.state"), shown.get("clock.cpu.owner")), "a foreign write is reported", shown)
    ok(read(path) == "1600000", "and not fought", read(path))
    client.close()
    wait_for(lambda: not os.path.exists(JOURNAL))
    ok(read(path) == "1600000", "and left at release", read(path))
    ok(clocks()[1] == (int(before[GPU + "/min_freq"]), int(before[GPU + "/max_freq"])), "while the GPU is handed back",
       clocks())
    write(CPU + "/policy0/scaling_min_freq", 400000)
    write(path, 2000000)


def run_all():
    for test in (moves, refused, governors, ceiling, hotplug, module_gone, foreign):
        test()
