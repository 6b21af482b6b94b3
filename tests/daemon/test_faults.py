#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# flamed without memory at each allocation in turn, without descriptors, and with
# a state directory that takes no file: it says so, goes on, and leaves nothing behind.
import concurrent.futures
import glob
import os
import resource
import subprocess

from daemonlib import *

SHIM = os.path.join(BUILD, "tests/keeper/shim.so")
EACH = 60       # allocations at the start that are failed one by one; of the later ones, every STRIDEth
STRIDE = int(os.environ.get("FAULTS_STRIDE", "9"))
# glibc ends the process by itself where its name service or its loader finds no memory.
LIBC = ("nss_database.c", "thread-local data: ABORT")


def exercise(d):
    """Everything a client does, once. Returns the replies that are no good: an errno other than 0 and ENOMEM."""
    bad = []

    def ask(**kw):
        r = c.ask(**kw)
        if r["errno"] not in ("0", "12"):
            bad.append((kw, r))
        return r
    try:
        c = d.client()
        session = ask(op="open", model="net").get("session")
        for i in range(6 if session else 0):
            begun = ask(op="begin", session=session, deadline_ns=30000000, wait=1)
            if "request" in begun:
                ask(op="end", request=begun["request"], total_ns=9000000 + i * 1000, layers="1000:20000,2000:30000:s", ack=1)
        point = ask(op="profile", model="other", budget=2)
        if "profile" in point:
            ask(op="sample", profile=point["profile"], latency_ns=9000000, n=5, sd_ns=0)
            ask(op="close", profile=point["profile"])
        for query in ("status", "models", "explain"):
            if session or query != "explain":
                ask(op=query)
        if session:
            ask(op="surface", model="net")
        c.close()
    except (Closed, OSError):
        pass  # a connection that no memory is left for is closed
    return bad


def starved(position, count_file=None):
    """One failed allocation. Returns what went wrong, and how many allocations there were."""
    d = Daemon(build=RELEASE, start=False)
    counted = os.path.join(d.dir, "count")
    before = d.knobs()
    d.env = {"LD_PRELOAD": SHIM, "SHIM_ROOT": d.sys, "SHIM_STATE": d.state, "SHIM_COUNT": counted}
    if position:
        d.env["SHIM_FAIL"] = f"alloc:{position}:1:12"
    wrong = []
    try:
        d.start()
        wrong += exercise(d)
        exercise(d)  # where there were fewer allocations than last time, the failure is spent here
        c = d.client()
        begun, ended = c.request(c.open("after"), 60, latency_ns)
        if (begun["errno"], ended["errno"]) != ("0", "0"):
            wrong.append(("not healed", begun, ended))
        c.close()
    except (Closed, OSError, KeyError) as e:
        # Too early to serve: it has said so and ended.
        if d.process.poll() is None or d.process.returncode == 0:
            wrong.append((repr(e), d.process.poll()))
    status = d.stop()
    if status not in (0, 1) and not any(word in d.text() for word in LIBC):
        wrong.append(f"exit status {status}")
    if not d.restored(before, 5):
        wrong.append(d.difference(before))
    calls = 0
    if os.path.exists(counted):
        with open(counted) as f:
            calls = max([int(line.split()[1]) for line in f if line.startswith("alloc")] or [0])
    if wrong:
        wrong.append(d.text()[-400:])
    d.end()
    return wrong, calls


def memory():
    wrong, calls = starved(0)
    ok(not wrong and calls > EACH, f"with all its memory nothing goes wrong ({calls} allocations)", wrong)
    positions = [p for p in range(1, calls * 2 // 3) if p <= EACH or p % STRIDE == 0]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        bad = [(p, w) for p, (w, _) in zip(positions, pool.map(starved, positions)) if w]
    ok(not bad, f"one allocation fails, at each of {len(positions)} places: it ends with status 1 or goes on, and is healed", bad[:5])


def descriptors():
    d = Daemon(build=RELEASE, start=False)
    d.wrapper = ["prlimit", "--nofile=48:48"]
    d.start()
    before = d.knobs()
    c = d.client()
    session = c.open()
    crowd = [d.client() for _ in range(100)]
    ok(wait_for(lambda: "no connection can be taken" in d.text()), "out of descriptors: it says so", d.text()[-400:])
    begun, ended = c.request(session, 50, latency_ns)
    ok(begun["errno"] == "0" and ended["errno"] == "0", "who is connected is served", (begun, ended))
    used = [int(x) for x in open(f"/proc/{d.process.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]]
    time.sleep(1)
    now = [int(x) for x in open(f"/proc/{d.process.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]]
    ok(sum(now) - sum(used) < 20, "and it does not spin", (used, now))
    for other in crowd:
        other.close()
    ok(d.client().ask(op="hello")["errno"] == "0", "those who waited are served when others end")
    c.close()
    ok(d.restored(before), "every knob as found", d.difference(before))
    ok(d.end() == 0, "exit 0")


def state():
    d = Daemon(start=False)
    os.mkdir(d.state)
    models = os.path.join(d.state, "models")
    with open(models, "w"):
        pass  # a file where the directory should be: nothing can be saved
    d.start()
    before = d.knobs()
    c = d.client()
    s = c.open()
    for _ in range(10):
        begun, ended = c.request(s, 50, latency_ns)
    ok(begun["errno"] == "0" and ended["errno"] == "0", "nothing can be saved: requests are served", begun)
    c.close()
    ok(wait_for(lambda: "cannot be saved" in d.text()), "and the log names the file", d.text()[-400:])
    ok(d.restored(before), "every knob as found", d.difference(before))
    os.unlink(models)
    c = d.client()
    c.request(c.open(), 50, latency_ns)
    c.close()
    ok(os.path.exists(d.state), "the state directory is there", d.text()[-300:])
    ok(wait_for(lambda: glob.glob(models + "/net*.csv")), "the next save succeeds, and nothing learned is lost", os.listdir(d.state))
    ok(d.end() == 0, "exit 0")


for test in (descriptors, state, memory):
    test()
done()
