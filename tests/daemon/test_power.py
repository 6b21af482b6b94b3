#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
# A sensor shows instantaneous power, which varies during an inference: the mean over all of it is learned. A
# replay in which no time passes has a single reading.
from daemonlib import *

REQUESTS, HALF_S = 40, 0.015


def sensor(d):
    rails = [f for f in glob.glob(d.sys + "/sys/devices/**/hwmon/hwmon*/in*_label", recursive=True)
             if open(f).read().strip() == "VDD_IN"]
    return rails[0][len(d.sys):].replace("/in1_label", "")


def draw(d, watts):
    d.write(where + "/in1_input", 5000)
    d.write(where + "/curr1_input", int(watts * 1000 / 5))


def learned_w(d, model):
    row = d.learned(model)
    return int(row["power_uw"] or 0) / 1e6 if row else None


CONFIG = "[clocks]\ncpu = leave\ngpu = leave\nmem = leave\n[power]\nsample_interval = 1 ms\n"
d = Daemon(config=CONFIG)
where = sensor(d)
draw(d, 3)
c = d.client()
session = c.open("pulsed")
for _ in range(REQUESTS):
    draw(d, 12)
    request = c.ask(op="begin", session=session, deadline_ns=10 ** 9)["request"]
    time.sleep(HALF_S)
    draw(d, 6)
    time.sleep(HALF_S)
    c.ask(op="end", request=request, ack=1)
    draw(d, 3)
replayed = c.open("replayed")
for _ in range(REQUESTS):
    draw(d, 3)
    request = c.ask(op="begin", session=replayed, deadline_ns=10 ** 10)["request"]
    draw(d, 9)
    c.ask(op="end", request=request, total_ns=2 * 10 ** 9, ack=1)
c.close()
d.stop()
ok(learned_w(d, "pulsed") and learned_w(d, "replayed"), "both models are saved", os.listdir(d.state + "/models"))
watts = learned_w(d, "pulsed")
print(f"# | 12 W in the first half of each request, 6 W in the second: learned {watts:.2f} W")
ok(7.5 < watts < 10.5, "the mean over whole requests, not the power at one end of them", watts)
watts = learned_w(d, "replayed")
ok(watts == 9, "of a replay the power when it was reported", watts)
d.end()

# a sensor that reads the same under load and in the pauses, which nobody asks for in op=status
d = Daemon(config=CONFIG + "[flamed]\nrelease_after = 50 ms\n")
draw(d, 9)
c = d.client()
session = c.open("steady")
end = time.monotonic() + 20
while "with and without load" not in d.text() and time.monotonic() < end:
    request = c.ask(op="begin", session=session, deadline_ns=10 ** 10)["request"]
    c.ask(op="end", request=request, total_ns=2 * 10 ** 9, ack=1)
    time.sleep(0.2)
status = d.status()
ok("reads 9.000 W with and without load" in status["power.passed_over"] and status["power.sensor"] != "VDD_IN",
   "a sensor that does not move between idle and load yields to the next",
   (status["power.sensor"], status["power.passed_over"]))
c.close()
d.end()
done()
