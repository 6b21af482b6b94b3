#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# What a request waited for the clocks is not what it ran, and is in a total that was measured; not in one that a replay reports, even
# where by chance as much time passed. And a request does not wait for what its connection asked before.
import csv

from daemonlib import *

SLEPT_NS = 20 * 10 ** 6


def learned_ns(d, model):
    path = glob.glob(f"{d.state}/models/{model}*.csv")
    rows = list(csv.DictReader(open(path[0]))) if path else []
    return int(rows[0]["latency_ns"]) if len(rows) == 1 else None


def moved(c, model):
    """The first request of a model, for which every clock has to go up. Returns (its id, when it was asked, ns)."""
    low, fresh = c.open("low-" + model), None
    for _ in range(12):
        begun, _ = c.request(low, 200, latency_ns)
    fresh, at_ns = c.open(model), time.monotonic_ns()
    up = c.ask(op="begin", session=fresh, deadline_ns=10 ** 9, wait=1)
    ok(int(up["settle_ns"]) > 0 and int(up["gpu_hz"]) > int(begun["gpu_hz"]), f"{model}: the clocks go up first", (begun, up))
    return up["request"], at_ns


d = Daemon(config="[flamed]\nsave_interval = 1 s\n")
replay, real = d.client(), d.client()

request, at_ns = moved(replay, "replayed")
waited_ns = time.monotonic_ns() - at_ns
replay.ask(op="end", request=request, total_ns=waited_ns, ack=1)
replay.close()
ok(wait_for(lambda: learned_ns(d, "replayed")), "a replay's model is saved", os.listdir(d.state + "/models"))
ok(learned_ns(d, "replayed") == waited_ns, "it is what was reported", (learned_ns(d, "replayed"), waited_ns))

other = d.client()
session = other.open("down")
for _ in range(12):
    other.request(session, 200, latency_ns)
session, at_ns = real.open("measured"), time.monotonic_ns()
request = real.ask(op="begin", session=session, deadline_ns=10 ** 9, wait=1)["request"]
waited_ns = time.monotonic_ns() - at_ns
time.sleep(SLEPT_NS / 1e9)
total_ns = time.monotonic_ns() - at_ns
real.ask(op="end", request=request, total_ns=total_ns, ack=1)
real.close()
ok(wait_for(lambda: learned_ns(d, "measured")), "a real one's model is saved", os.listdir(d.state + "/models"))
ok(total_ns - waited_ns <= learned_ns(d, "measured") < total_ns, "it is without the wait", (learned_ns(d, "measured"), waited_ns, total_ns))

# What was asked is answered in turn, a flood of it ever more slowly (test_load); a request is not held up by it. Waiting out the
# question takes 300 times as long as the question.
shares = []
for n in range(5):
    asks = d.client()
    at_ns = time.monotonic_ns()
    session = asks.open(f"beside-{n}")
    opened_ns = time.monotonic_ns()
    asks.ask(op="begin", session=session, deadline_ns=10 ** 9)
    shares.append((time.monotonic_ns() - opened_ns) / (opened_ns - at_ns))
    asks.close()
ok(min(shares) < 20, "beside other sessions, the first request after open does not wait", shares)
d.end()
done()
