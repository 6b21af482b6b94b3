#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# What a request waited for the clocks is not what it ran, and is in a total that was measured; not in
# one that a replay reports, even
# where by chance as much time passed. And a request does not wait for what its connection asked before.
from daemonlib import *

SLEPT_NS = 20 * 10 ** 6


def begin_up(other, c, model):
    """The first request of a model, for which the clocks have to come up from where another client's
    left them. Returns its id, when it was asked for and how long it waited, ns."""
    session = other.open("low-" + model)
    for _ in range(12):
        low, _ = other.request(session, 200, latency_ns)
    session, at_ns = c.open(model), time.monotonic_ns()
    up = c.ask(op="begin", session=session, deadline_ns=10 ** 9, wait=1)
    waited_ns = time.monotonic_ns() - at_ns
    ok(int(up["settle_ns"]) > 0 and int(up["gpu_hz"]) > int(low["gpu_hz"]), f"{model}: the clocks go up first",
       (low, up))
    return up["request"], at_ns, waited_ns


def end(d, c, model, request, total_ns):
    """Returns the latency learned from that."""
    c.ask(op="end", request=request, total_ns=total_ns, ack=1)
    c.close()
    ok(wait_for(lambda: d.learned(model)), f"{model}: what was learned is saved", os.listdir(d.state + "/models"))
    return int(d.learned(model)["latency_ns"])


d = Daemon(config="[flamed]\nsave_interval = 1 s\n")
replay, other, real = d.client(), d.client(), d.client()

request, _, waited_ns = begin_up(replay, replay, "replayed")
learned_ns = end(d, replay, "replayed", request, waited_ns)
ok(learned_ns == waited_ns, "of a replay what it reported", (learned_ns, waited_ns))

request, at_ns, waited_ns = begin_up(other, real, "measured")
time.sleep(SLEPT_NS / 1e9)
total_ns = time.monotonic_ns() - at_ns
learned_ns = end(d, real, "measured", request, total_ns)
ok(total_ns - waited_ns <= learned_ns < total_ns, "of a real client what it measured without the wait",
   (learned_ns, waited_ns, total_ns))

# What was asked is answered in turn, a flood of it ever more slowly (test_load); a request is not
# held up by it. Waiting out the
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
