#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Layers and contexts through the socket: profiles, surfaces, explanations, and the state after a restart."""
import csv
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from daemonlib import Daemon, done, ok, wait_for  # noqa: E402

LAYERS = [(20e3 + 3e3 * (i % 5), 8e3, 15e3 + 6e3 * (i % 7), 10e3 * (i % 3), i % 40 == 39) for i in range(80)]
CPU, GPU, MEM = 1.728e9, 1.02e9, 3.199e9


def clocks(reply):
    return [int(reply[k]) or full for k, full in (("cpu_hz", CPU), ("gpu_hz", GPU), ("mem_hz", MEM))]


def timeline(at, context=0):
    """Total and layers as (launch, execution, sync), ns: an independent implementation of the joint timeline."""
    cpu, end, rows = 0.0, 0.0, []
    for scaled, fixed, core, memory, sync in LAYERS:
        launch = scaled * CPU / at[0] + fixed
        execution = 3e3 + ((core * GPU / at[1]) ** 3 + (memory * MEM / at[2]) ** 3) ** (1 / 3) * (1 + context / 2000)
        cpu += launch
        end = max(end, cpu + 6e3) + execution
        cpu = end if sync else cpu
        rows.append((launch, execution, sync))
    return end + 50e3, rows


def profile(client, budget, layers, **kw):
    points = []
    reply = client.ask(op="profile", budget=budget, **kw)
    while reply.get("done") != "1":
        if reply["errno"] != "0":
            return points, reply
        context = int(reply["context"])
        points.append((clocks(reply), context))
        total, rows = timeline(clocks(reply), context)
        more = {"layers": ",".join(f"{c:.0f}:{g:.0f}{':s' if s else ''}" for c, g, s in rows)} if layers else {}
        if layers and len(points) % 2:  # the others have no source
            more["layer_source"] = "events"
        reply = client.ask(op="sample", profile=reply["profile"], latency_ns=int(total), n=10, sd_ns=int(total * 0.004),
                           **more)
    return points, reply


def cells(client, **kw):
    """Every cell of a surface: (clocks, latency, bound, regime, bubble)."""
    reply = client.ask(op="surface", **kw)
    axes = [[int(x) for x in reply[k].split(",")] for k in ("cpu_hz", "gpu_hz", "mem_hz")]
    out = []
    for i, cpu in enumerate(axes[0]):
        for j, gpu in enumerate(axes[1]):
            for mem, cell in zip(axes[2], reply[f"row.{i}.{j}"].split(",")):
                f = cell.split(":")
                at = [v or full for v, full in zip((cpu, gpu, mem), (CPU, GPU, MEM))]
                out.append((at, float(f[0]), float(f[1]), int(f[5]), float(f[6])))
    return reply, out


def mean_error(surface, context=0):
    errors = [abs(latency / timeline(at, context)[0] - 1) for at, latency, *_ in surface]
    return 100 * sum(errors) / len(errors)


d = Daemon("jetson-orin-nano")
c = d.client()
points, last = profile(c, 8, True, model="layered")
ok(2 <= len(points) <= 8 and last["errno"] == "0", "a profile with layers ends within its budget", last)
reply, surface = cells(c, model="layered")
error = mean_error(surface)
print(f"# | {len(points)} points with layers over the socket: mean error {error:.2f} % over {len(surface)} points")
ok(error < 2, "the surface is within 2 %", error)
regimes = {regime for *_, regime, _ in surface}
ok(regimes <= {1, 2, 3} and len(regimes) >= 2, "every point has a regime", regimes)
ok(all(0 <= bubble < latency for _, latency, _, _, bubble in surface) and any(bubble > 0 for *_, bubble in surface),
   "bubbles")
slow = min(surface, key=lambda s: (s[0][0], -s[0][1], -s[0][2]))
ok(slow[3] == 1, "at the lowest CPU clock the launches decide", slow)

session = c.open("layered")
truth = lambda begun: timeline(clocks(begun))[0]  # noqa: E731
begun, ended = c.request(session, 100, truth)
ok(begun["feasible"] == "1" and ended["missed"] == "0", "a request on it", (begun, ended))
r = c.ask(op="explain", session=session)
total, rows = timeline(clocks(begun))
idle_ns = total - sum(execution for _, execution, _ in rows)
ok(r["regime"] == "launch-bound" and abs(int(r["bubble_ns"]) / idle_ns - 1) < 0.05,
   "explain names regime and bubble", (r, idle_ns))

points, last = profile(c, 12, False, model="words", phase="decode")
contexts = {context for _, context in points}
ok(len(points) <= 12 and len(contexts) >= 2 and max(contexts) <= 4096, "a decode profile chooses its contexts", points)
errors = [mean_error(cells(c, model="words", phase="decode", context=n)[1], n) for n in (1, 300, 1000, 3000)]
print(f"# | {len(points)} points of a decode over the socket: mean error {sum(errors) / 4:.2f} % "
      f"at contexts 1 to 3,000")
ok(sum(errors) / 4 < 3, "decode within 3 %", errors)
points, last = profile(c, 2, False, model="one", phase="decode", context=700)
ok(points and {context for _, context in points} == {700}, "a client may insist on its context", points)

session, missed = c.open("words"), 0
for n in range(100, 700, 3):
    _, ended = c.request(session, 60, lambda begun: timeline(clocks(begun), n)[0], phase="decode", context=n)
    missed += ended["missed"] == "1"
ok(missed <= 4, "a growing decode keeps its deadlines", missed)

c.close()
d.process.terminate()
d.process.wait(20)
ok(any(f.startswith("layered") and f.endswith(".layers.csv") for f in os.listdir(os.path.join(d.state, "models"))),
   "layers are stored", os.listdir(d.state))
models = os.path.join(d.state, "models")
stored = next(f for f in os.listdir(models) if f.startswith("layered") and f.endswith(".layers.csv"))
with open(os.path.join(models, stored)) as f:
    rows = list(csv.DictReader(f))
ok({row["source"] for row in rows} == {"events", ""}, "with the source that some came with",
   {row["source"] for row in rows})
d.start()
ok(wait_for(d.up), "up again")
c = d.client()
_, again = cells(c, model="layered")
ok(abs(mean_error(again) - error) < 0.5 and {s[3] for s in again} == regimes, "and the surface is back",
   mean_error(again))
c.close()
d.end()
done()
