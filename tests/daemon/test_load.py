#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# Many connections and sessions at once, memory over a long run, and a client
# beside others that flood, stall or send rubbish.
import subprocess

from daemonlib import *

LOAD = os.path.join(RELEASE, "tests/daemon/load")
PAIRS = 1000000  # of begin and end
BATCHES = 8
ROUNDS = 7
TRIES = 4
KINDS = {"hello": "floods with hello", "status": "floods with status", "surface": "floods with surface", "begin": "runs requests without a pause",
         "rubbish": "sends rubbish", "half": "connects, sends half a message and goes", "deaf": "floods and never reads"}


def first():
    """What is measured is flamed, not who gets the processor."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    except PermissionError:
        pass


def load(*args):
    p = subprocess.run([LOAD, *map(str, args)], capture_output=True, text=True, preexec_fn=first)
    words = dict(w.split("=") for w in p.stdout.split())
    return p.returncode, words, p.stderr


def proc(pid, key):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith(key)).split()[1])


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def many():
    d = Daemon(build=RELEASE)
    os.setpriority(os.PRIO_PROCESS, d.process.pid, -20) if os.geteuid() == 0 else None
    before, size, wrong, rate, detail, gone = d.knobs(), [], 0, 0, "", True
    start = cpu_s(d.process.pid)
    for _ in range(BATCHES):
        rc, words, err = load("pairs", d.socket, 1000, 256, PAIRS // BATCHES)
        wrong += rc
        detail += err
        rate = max(rate, float(words.get("a_second", 0)))
        # Else those of one batch are still being closed while the next comes: then there are twice as many.
        gone = wait_for(lambda: d.status()["connections"] == "1") and gone
        size.append(proc(d.process.pid, "VmRSS:"))
    used = cpu_s(d.process.pid) - start
    ok(wrong == 0, f"1,000 connections, 256 sessions, {PAIRS} times begin and end: every reply is there and is its own", detail)
    ok(gone, "connections that ended are gone")
    ok(size[-1] - size[BATCHES // 2] <= 512, "memory is flat once the models are learned", size)
    print(f"# | begin and end: {rate:.0f} a second here, {PAIRS / used:.0f} a second of flamed's processor; resident {size} kB after each {PAIRS // BATCHES}")
    ok(d.restored(before), "every knob as found", d.difference(before))
    d.end()


def beside():
    d = Daemon(build=RELEASE)
    os.setpriority(os.PRIO_PROCESS, d.process.pid, -20) if os.geteuid() == 0 else None
    for kind, what in KINDS.items():
        before, best, rc = proc(d.process.pid, "VmRSS:"), None, 0
        for _ in range(TRIES):
            rc, words, err = load("flood", d.socket, kind, ROUNDS)
            if rc == 0 and (best is None or float(words["ratio"]) < float(best["ratio"])):
                best = words
            if best and float(best["ratio"]) <= 2:
                break
        ok(rc == 0 and float(best["ratio"]) <= 2, f"a client that {what} does not double another's 99th percentile", (best, err))
        print(f"# | 99th percentile of begin beside a client that {what}: {best['flooded_us']} us, alone {best['alone_us']} us")
        ok(proc(d.process.pid, "VmRSS:") - before < 4096, "nor does it grow the daemon", proc(d.process.pid, "VmRSS:") - before)
    d.end()


for test in (many, beside):
    test()
done()
