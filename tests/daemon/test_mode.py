#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# The power mode changes while flamed runs: models of each mode are separate, and are used again when the
# mode returns.
import csv

from daemonlib import *

STATUS = "/var/lib/nvpmodel/status"


def slower(begun):
    return 3 * latency_ns(begun)


def learn(d, latency, requests=40, deadline_ms=60):
    """Requests of one connection. Returns the replies to open and to the last begin."""
    c = d.client()
    opened = c.ask(op="open", model="net", replay=1)
    for _ in range(requests):
        begun, _ = c.request(opened["session"], deadline_ms, latency)
    c.close()
    return opened, begun


def knows(opened, begun, latency):
    """The model of this mode is used: its prediction is nearer to this mode's latency than to the other's, three
    times as long. Deadlines are so tight that only measured points near the fastest meet them; predictions of other
    points may have large errors."""
    return opened["surface"] in ("learning", "ready") and \
        3 ** -0.5 < int(begun["predicted_ns"]) / latency(begun) < 3 ** 0.5


def rows(path):
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return [(int(r["cpu_hz"]), int(r["gpu_hz"]), int(r["latency_ns"])) for r in csv.DictReader(f)]


def ratios(path):
    """Measured latencies over the true ones of this mode."""
    return [ns / latency_ns({"cpu_hz": cpu, "gpu_hz": gpu}) for cpu, gpu, ns in rows(path)]


d = Daemon(config="[flamed]\nsave_interval = 1 s\n")
full, less = (os.path.join(d.state, "models", f"net@{mode}.csv") for mode in ("MAXN_SUPER", "25W"))
before = d.knobs()
ok(d.status()["board.power_mode"] == "MAXN_SUPER", "the power mode is known by its name",
   d.status()["board.power_mode"])
opened, _ = learn(d, latency_ns)
ok(opened["surface"] == "none", "nothing is known of the model", opened)
ok(wait_for(lambda: sum(1 for _ in rows(full)) > 1), "what is learned is saved under the mode's name",
   os.listdir(d.state + "/models"))

held = d.client()
session = held.open("steady", replay=1)
held.request(session, 60, latency_ns)
d.write(STATUS, "pmode:0001 fmode:quiet")
opened, _ = learn(d, slower)
ok(opened["surface"] == "none", "another mode: the model has to be learned for it", opened)
ok(d.status()["board.power_mode"] == "25W", "status names the mode", d.status()["board.power_mode"])
models = d.client().ask(op="models")
listed = sorted(models[f"model.{i}.mode"] for i in range(9) if models.get(f"model.{i}.name") == "net")
ok((models["mode"], listed) == ("25W", ["25W", "MAXN_SUPER"]), "models names it beside those of each model", models)
ok(wait_for(lambda: len(rows(less)) > 1), "saved apart", os.listdir(d.state + "/models"))
begun, ended = held.request(session, 60, latency_ns)
ok(begun["errno"] == ended["errno"] == "0", "a session opened before the change is served on", (begun, ended))
held.close()

# A session that is open while the mode changes, with a request in flight.
d.write(STATUS, "pmode:0002 fmode:quiet")
held = d.client()
session = held.open("open", replay=1)
for _ in range(40):
    held.request(session, 60, latency_ns)
begun = held.ask(op="begin", session=session, deadline_ns=60000000, wait=1)
d.write(STATUS, "pmode:0001 fmode:quiet")
held.ask(op="end", request=begun["request"], total_ns=int(slower(begun)), ack=1)
ok(d.status()["board.power_mode"] == "25W", "the mode is noticed at the next request's end",
   d.status()["board.power_mode"])
for _ in range(60):
    held.request(session, 60, slower)
held.close()
open_full, open_less = (os.path.join(d.state, "models", f"open@{mode}.csv") for mode in ("MAXN_SUPER", "25W"))
ok(wait_for(lambda: len(rows(open_less)) > 1), "an open session goes over to the new mode's model",
   os.listdir(d.state + "/models"))
ok(len(rows(open_full)) > 1 and all(0.99 < r < 1.01 for r in ratios(open_full)),
   "none of its requests in the new mode is in the old one's file", ratios(open_full))
ok(all(2.97 < r < 3.03 for r in ratios(open_less)), "nor the other way round", ratios(open_less))

# A profile that runs while the mode changes: the measurement around the change belongs to neither.
d.write(STATUS, "pmode:0002 fmode:quiet")
prof = d.client()
point = prof.ask(op="profile", model="measured", budget=6)
for i in range(12):
    if i == 3:
        d.write(STATUS, "pmode:0001 fmode:quiet")
    if "cpu_hz" not in point:
        break
    took = (latency_ns if i < 3 else slower)(point)
    point = prof.ask(op="sample", profile=point["profile"], latency_ns=int(took), n=5)
prof.close()
measured = [os.path.join(d.state, "models", f"measured@{mode}.csv") for mode in ("MAXN_SUPER", "25W")]
ok(wait_for(lambda: len(rows(measured[1])) == 6),
   "a profile that runs goes over to the new mode's model, with its whole budget", rows(measured[1]))
ok(wait_for(lambda: len(rows(measured[0])) > 1) and all(0.99 < r < 1.01 for r in ratios(measured[0])),
   "the old one's has what was measured in it", ratios(measured[0]))
ok(all(2.97 < r < 3.03 for r in ratios(measured[1])), "and nothing of either is in the other's", ratios(measured[1]))
ok(d.restored(before), "every knob as found", d.difference(before))
ok(all(0.99 < r < 1.01 for r in ratios(full)), "the first mode's file holds nothing of the second", ratios(full))
ok(all(2.97 < r < 3.03 for r in ratios(less)), "nor the second's of the first", ratios(less))

d.write(STATUS, "pmode:0002 fmode:quiet")
opened, begun = learn(d, latency_ns, requests=1, deadline_ms=11)
ok(opened["surface"] in ("learning", "ready"), "the mode returns: what was learned is there", opened)
ok(knows(opened, begun, latency_ns), "and predicts as it did, not thrice as long", (begun, latency_ns(begun)))
d.stop()

# The file is replaced, removed, and created again.
mode = lambda: d.status()["board.power_mode"]
d.start()
d.write(STATUS + ".new", "pmode:0001 fmode:quiet")
os.replace(d.sys + STATUS + ".new", d.sys + STATUS)
ok(mode() == "25W", "a file in place of the mode's counts at once", mode())
os.unlink(d.sys + STATUS)
ok(mode() not in ("25W", "MAXN_SUPER"), "without it the mode is not known", mode())
d.write(STATUS, "pmode:0002 fmode:quiet")
ok(wait_for(lambda: mode() == "MAXN_SUPER"), "and known again soon after it is back", mode())
d.stop()

# Also across a restart, in the mode that is in force then.
d.write(STATUS, "pmode:0001 fmode:quiet")
d.start()
opened, begun = learn(d, slower, requests=1, deadline_ms=33)
ok(knows(opened, begun, slower), "after a restart it is the mode in force that counts", (opened, begun))
d.write(STATUS, "pmode:0002 fmode:quiet")
opened, begun = learn(d, latency_ns, requests=1, deadline_ms=11)
ok(knows(opened, begun, latency_ns), "and the other is there when its mode returns", (opened, begun))
ok(d.restored(before), "every knob as found", d.difference(before))
kept = open(full).read()
ok(d.end() == 0, "exit 0")

# Modes of which only the last of 90 characters differs; version 0.1 named the file of both by the first 47.
d = Daemon(start=False)
long = [89 * "m" + letter for letter in "ab"]
with open(d.sys + "/etc/nvpmodel.conf", "w") as f:
    f.write("".join(f"< POWER_MODEL ID={i} NAME={name} >\n" for i, name in enumerate(long + [96 * "m"])))
os.makedirs(d.state + "/models")
for tail in (".csv", "@1001.csv"):
    with open(f"{d.state}/models/net@{long[0][:47]}{tail}", "w") as f:
        f.write(kept)
d.write(STATUS, "pmode:0000 fmode:quiet")
d.start()
opened, begun = learn(d, latency_ns, requests=1, deadline_ms=11)
ok(mode() == long[0] and knows(opened, begun, latency_ns), "a file of version 0.1 is found by a mode of a long name",
   (mode(), opened, begun))
d.write(STATUS, "pmode:0001 fmode:quiet")
opened, _ = learn(d, slower)
ok(mode() == long[1] and opened["surface"] == "none", "another mode with the same beginning has its own", opened)
d.write(STATUS, "pmode:0002 fmode:quiet")
ok(mode() == "nvpmodel-2", "one whose name is too long is named by its number", mode())
d.stop()
saved = sorted(name for name in os.listdir(d.state + "/models") if name.endswith(".csv"))
ok(saved == sorted(f"net@{name}.csv" for name in long + [long[0] + "@1001"]),
   "each of them has files of its whole name, also those of other users", saved)
d.end()
done()
