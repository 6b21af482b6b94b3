#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A keeper that hangs, for example in a write(2): flamed reports it, until the answer arrives. And a sensor with an
absurdly low reading is not taken for the board's power."""
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))
from daemonlib import *

d = Daemon()
c = d.client()
session = c.open()
c.request(session, 60, latency_ns)
keeper = int(d.status()["keeper.pid"])
ok(d.status()["state"] == "busy", "a keeper that answers: busy")
os.kill(keeper, signal.SIGSTOP)
try:
    # a deadline that only other clocks can meet: a move is asked for
    for deadline_ms in (200, 8.5, 200):
        c.send(op="begin", session=session, deadline_ns=int(deadline_ms * 1e6))
        begun = c.reply()
        c.ask(op="end", request=begun["request"], total_ns=int(latency_ns(begun)), ack=1)
    ok(wait_for(lambda: d.status()["state"] == "degraded", 8), "its answer is overdue: degraded", d.status())
    ok("keeper does not answer" in d.status()["state_reason"], "and why", d.status()["state_reason"])
finally:
    os.kill(keeper, signal.SIGCONT)
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
    d.write(zone + "energy_uj", str(joule * 700000))
    status = d.status()
    ok(int(status["power.uw"]) == 0 or int(status["power.uw"]) > 10**6,
       f"no absurd power is told ({status['power.uw']} uW)")
ok(status["power.sensor"] == "package-0" and int(status["power.uw"]) > 10**6, "the next sensor is used", status)
ok("amdgpu reads 0.012 W" in status["power.passed_over"], "and it is said why", status["power.passed_over"])
d.end()
done()
