#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""A keeper that hangs, for example in a write(2): flamed reports it, until the answer arrives. And a sensor with an
implausibly low reading is not used as the board's power."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))
from daemonlib import *

LOOSE_MS, TIGHT_MS = 200, 8.5  # the tight deadline can only be met by other clocks, so that they have to move


def request(deadline_ms):
    """The clocks that are wished for it."""
    c.send(op="begin", session=session, deadline_ns=int(deadline_ms * 1e6))
    begun = c.reply()
    c.ask(op="end", request=begun["request"], total_ns=int(latency_ns(begun)), ack=1)
    return [begun["cpu_hz"], begun["gpu_hz"]]


def reported():
    """The clocks that are reported for every request since the last call."""
    tally = c.ask(op="tally", tag="hung", trace=1)
    return [v.split(":")[4:6] for k, v in tally.items() if k.startswith("trace.") and k != "trace.skipped"]


def read_clocks():
    status = d.status()
    return [status[f"clock.{clock}.cur_hz"] for clock in ("cpu", "gpu")]


d = Daemon()
c = d.client()
reported()
session = c.open(tag="hung")
c.request(session, 60, latency_ns)
for _ in range(3):
    c.request(session, LOOSE_MS, latency_ns)
held, cur_hz = reported()[-1], read_clocks()
keeper = int(d.status()["keeper.pid"])
ok(d.status()["state"] == "busy", "a keeper that answers: busy")
os.kill(keeper, signal.SIGSTOP)
try:
    wished = [request(deadline_ms) for deadline_ms in (LOOSE_MS, TIGHT_MS, LOOSE_MS, TIGHT_MS)]
    ok(wait_for(lambda: d.status()["state"] == "degraded"), "its answer is overdue: degraded", d.status())
    ok("keeper does not answer" in d.status()["state_reason"], "and why", d.status()["state_reason"])
    wished.append(request(TIGHT_MS))
    said = reported()
    ok(wished[-1] != held and said == [held] * len(wished) and read_clocks() == cur_hz,
       "the clocks that were last read are reported, not the wished ones", (held, wished, said))
finally:
    os.kill(keeper, signal.SIGCONT)
begun, _ = c.request(session, TIGHT_MS, latency_ns)
wished, said = [begun["cpu_hz"], begun["gpu_hz"]], reported()[-1]
ok(said == wished != held, "which are reported once they are set", (held, wished, said))
ok(wait_for(lambda: d.status()["state"] != "degraded"), "it answers again: no longer", d.status()["state_reason"])
c.close()
d.end()

d = Daemon("amd-apu", start=False)
hwmon = "/sys/devices/pci0000:00/0000:00:08.1/0000:c4:00.0/hwmon/hwmon2/power1_average"
d.write(hwmon, "12000")
zone = "/sys/class/powercap/intel-rapl:0/"
os.makedirs(d.sys + zone)
d.write(zone + "name", "package-0")
d.write(zone + "max_energy_range_uj", "262143328850")
d.write(zone + "energy_uj", "0")
d.start()
for joule in range(1, 12):
    time.sleep(0.02)
    d.write(zone + "energy_uj", str(joule * 7000000))
    status = d.status()
    ok(int(status["power.uw"]) == 0 or int(status["power.uw"]) > 10**6,
       f"no absurd power is reported ({status['power.uw']} uW)")
ok(status["power.sensor"] == "package-0" and int(status["power.uw"]) > 10**6, "the next sensor is used", status)
ok("amdgpu reads 0.012 W" in status["power.passed_over"], "and status gives the reason", status["power.passed_over"])
d.end()
done()
