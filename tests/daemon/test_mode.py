#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# The power mode changes while flamed runs: what was learned in one mode is kept
# apart from another's, and is there again when the mode returns.
import csv

from daemonlib import *

STATUS = "/var/lib/nvpmodel/status"


def slower(begun):
    return 3 * latency_ns(begun)


def learn(d, latency, requests=40, deadline_ms=60):
    """Requests of one connection; what open said, and the last begin."""
    c = d.client()
    opened = c.ask(op="open", model="net")
    for _ in range(requests):
        begun, _ = c.request(opened["session"], deadline_ms, latency)
    c.close()
    return opened, begun


def rows(path):
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return [(int(r["cpu_hz"]), int(r["gpu_hz"]), int(r["latency_ns"])) for r in csv.DictReader(f)]


def ratios(path):
    """Measured latencies over what the model of this mode really takes."""
    return [ns / latency_ns({"cpu_hz": cpu, "gpu_hz": gpu}) for cpu, gpu, ns in rows(path)]


d = Daemon(config="[flamed]\nsave_interval = 1 s\n")
full, less = (os.path.join(d.state, "models", f"net@{mode}.csv") for mode in ("MAXN_SUPER", "25W"))
before = d.knobs()
ok(d.status()["board.power_mode"] == "MAXN_SUPER", "the power mode is known by its name", d.status()["board.power_mode"])
opened, _ = learn(d, latency_ns)
ok(opened["surface"] == "none", "nothing is known of the model", opened)
ok(wait_for(lambda: sum(1 for _ in rows(full)) > 1), "what is learned is saved under the mode's name", os.listdir(d.state + "/models"))

held = d.client()
session = held.open("steady")
held.request(session, 60, latency_ns)
d.write(STATUS, "pmode:0001 fmode:quiet")
opened, _ = learn(d, slower)
ok(opened["surface"] == "none", "another mode: the model has to be learned anew", opened)
ok(d.status()["board.power_mode"] == "25W", "status names the mode", d.status()["board.power_mode"])
ok(wait_for(lambda: len(rows(less)) > 1), "saved apart", os.listdir(d.state + "/models"))
begun, ended = held.request(session, 60, latency_ns)
ok(begun["errno"] == ended["errno"] == "0", "a session opened before the change is served on", (begun, ended))
held.close()
ok(d.restored(before), "every knob as found", d.difference(before))
ok(all(0.99 < r < 1.01 for r in ratios(full)), "the first mode's file holds nothing of the second", ratios(full))
ok(all(2.97 < r < 3.03 for r in ratios(less)), "nor the second's of the first", ratios(less))

d.write(STATUS, "pmode:0002 fmode:quiet")
opened, begun = learn(d, latency_ns, requests=1)
ok(opened["surface"] in ("learning", "ready"), "the mode returns: what was learned is there", opened)
ok(0.7 < int(begun["predicted_ns"]) / latency_ns(begun) < 1.4, "and predicts as it did, not thrice as long", begun)
d.stop()

# Also across a restart, in the mode that is in force then.
d.write(STATUS, "pmode:0001 fmode:quiet")
d.start()
opened, begun = learn(d, slower, requests=1)
ok(opened["surface"] in ("learning", "ready") and 0.7 < int(begun["predicted_ns"]) / slower(begun) < 1.4, "after a restart it is the mode in force that counts", (opened, begun))
d.write(STATUS, "pmode:0002 fmode:quiet")
opened, begun = learn(d, latency_ns, requests=1)
ok(opened["surface"] in ("learning", "ready") and 0.7 < int(begun["predicted_ns"]) / latency_ns(begun) < 1.4, "and the other is there when its mode returns", (opened, begun))
ok(d.restored(before), "every knob as found", d.difference(before))
ok(d.end() == 0, "exit 0")
done()
