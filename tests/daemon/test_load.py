#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
# Many connections and sessions at once, memory over a long run, and a client
# beside others that flood, stall or send invalid messages.
import subprocess

from daemonlib import *

LOAD = os.path.join(RELEASE, "tests/daemon/load")
PAIRS = 100000  # of begin and end: some 40 s
ROUNDS = 15
KINDS = {"hello": "floods with hello", "status": "floods with status", "surface": "floods with surface",
         "begin": "runs requests without a pause",
         "rubbish": "sends rubbish", "half": "connects, sends half a message and goes",
         "deaf": "floods and never reads"}


def start(*args):
    return subprocess.Popen([LOAD, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=real_time)


def load(*args):
    p = start(*args)
    out, err = p.communicate()
    return p.returncode, dict(w.split("=") for w in out.split()), err


def proc(pid, key):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith(key)).split()[1])


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def many():
    d = Daemon(build=RELEASE)
    real_time(d.process.pid)
    before, size = d.knobs(), []
    begin = cpu_s(d.process.pid)
    p = start("pairs", d.socket, 1000, 256, PAIRS)
    while p.poll() is None:
        time.sleep(0.2)
        size.append((proc(d.process.pid, "VmData:"), proc(d.process.pid, "VmRSS:")))
    used = cpu_s(d.process.pid) - begin
    out, err = p.communicate()
    words = dict(w.split("=") for w in out.split())
    ok(p.returncode == 0, f"1,000 connections, 256 sessions, {PAIRS} times begin and end: every reply is there and is "
                          f"its own", err)
    # Only the memory of requests is freed meanwhile, so a leak per request shows. At the end the connections
    # without a session say hello, which allocates their buffers.
    del size[-(len(size) // 10 + 3):]
    early, late = size[len(size) // 5], max(size[len(size) // 2:])
    ok(len(size) > 10 and late[0] - early[0] <= 256, "memory is flat", size)
    ok(max(resident for _, resident in size[len(size) // 2:]) - early[1] <= 512, "and so is what is resident", size)
    print(f"# | begin and end: {float(words.get('a_second', 0)):.0f} a second here, {PAIRS / used:.0f} a second of "
          f"flamed's processor; "
          f"memory {early[0]} kB, resident {early[1]} kB after a fifth of them, {size[-1][0]} and {size[-1][1]} kB at "
          f"the end")
    ok(d.restored(before), "every knob as found", d.difference(before))
    d.end()


def beside():
    # Processes are pinned, as their placement changes a round trip tenfold. The client shares flamed's core,
    # where a round trip is shortest and the other client has most effect, unless both run requests: each then
    # waits for one message of the other there, as it must.
    cpus = sorted(os.sched_getaffinity(0))
    d = Daemon(build=RELEASE)
    os.sched_setaffinity(d.process.pid, cpus[:1])
    real_time(d.process.pid)
    for kind, what in KINDS.items():
        before = proc(d.process.pid, "VmRSS:")
        rc, words, err = load("flood", d.socket, kind, ROUNDS, cpus[-1] if kind == "begin" else cpus[0], cpus[-1])
        ok(rc == 0 and float(words["ratio"]) <= 2,
           f"what flamed does for a client that {what} does not double another's 99th percentile", (words, err))
        print(f"# | 99th percentile of begin beside a client that {what}: {words.get('flooded_us')} us, alone "
              f"{words.get('alone_us')} us, {words.get('more_us')} us more of flamed's processor: ratio "
              f"{words.get('ratio')}")
        ok(proc(d.process.pid, "VmRSS:") - before < 4096, "nor does it grow the daemon",
           proc(d.process.pid, "VmRSS:") - before)
    d.end()


for test in (many, beside):
    test()
done()
