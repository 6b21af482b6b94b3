#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
# The time that a request waits for the clocks is not its latency. A measured total includes it, the total of a replay
# does not, even if by chance as much time passed. And a request does not wait for earlier questions of its connection.
import select

from daemonlib import *

TOOK_NS = 20 * 10 ** 6
ROUNDS, ROUNDS_MAX = 5, 100  # that count, and in all
PROMPT_NS = 100 * 10 ** 6


def begin_up(other, c, model, **kw):
    """The first request of a model, for which the clocks have to come up from the point of another
    client. Returns its id, the time of its begin and the time that it waited, ns."""
    session = other.open("low-" + model)
    for _ in range(12):
        low, _ = other.request(session, 200, latency_ns)
    session, at_ns = c.open(model, **kw), time.monotonic_ns()
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
replay, other, real, told = d.client(), d.client(), d.client(), d.client()

request, _, waited_ns = begin_up(replay, replay, "replayed")
learned_ns = end(d, replay, "replayed", request, waited_ns)
ok(learned_ns == waited_ns, "of a replay what it reported", (learned_ns, waited_ns))

request, at_ns, _ = begin_up(other, told, "told", replay=1)
total_ns = time.monotonic_ns() - at_ns
learned_ns = end(d, told, "told", request, total_ns)
ok(learned_ns == total_ns, "also of one that says so and has as much time pass", (learned_ns, total_ns))

request, at_ns, waited_ns = begin_up(other, real, "measured")
time.sleep(10 * waited_ns / 1e9)  # what passed before flamed had the begin is then no eighth: else it would be a replay
total_ns = time.monotonic_ns() - at_ns
learned_ns = end(d, real, "measured", request, total_ns)
ok(total_ns - waited_ns <= learned_ns < total_ns, "of a real client what it measured without the wait",
   (learned_ns, waited_ns, total_ns))

# After a question the next one of its connection waits 300 times as long as the first took (a surface: about half a
# second); a begin does not wait. The other connection asks at the same time, and its next question shows the wait,
# unless this test was so late that it may have been over.
other.request(other.open("asked"), 200, latency_ns)
asks, waits = d.client(), d.client()
session, early, rounds = asks.open("beside"), [], 0
while len(early) < ROUNDS and rounds < ROUNDS_MAX:
    rounds, asked_ns = rounds + 1, time.monotonic_ns()
    for c in (waits, asks):
        c.send(op="surface", model="asked")
    for c in (waits, asks):
        c.reply()
    waits.send(op="hello")
    begun = asks.ask(op="begin", session=session, deadline_ns=10 ** 9)
    waits_on = not select.select([waits.s], [], [], 0)[0]
    if waits_on or time.monotonic_ns() - asked_ns < PROMPT_NS:
        early.append(waits_on)
    waits.reply()
    asks.ask(op="end", request=begun["request"], total_ns=TOOK_NS, ack=1)
ok(early and all(early), "a request is served while a question in its place waits", (early, rounds))
d.end()
done()
