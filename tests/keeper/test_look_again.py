#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Devices that come after the start, go, or get another number: found at a reload, and once no session is open."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))
from daemonlib import *

GPU = "/sys/devices/platform/bus@0/17000000.gpu/devfreq/17000000.gpu"


def gpu(d):
    return d.status()["clock.gpu.devices"]


d = Daemon(start=False)
os.rename(d.sys + GPU, d.dir + "/gpu")
d.start()
ok(gpu(d) == "" and d.status()["clock.gpu.controllable"] == "0", "no GPU at the start", d.status())
os.rename(d.dir + "/gpu", d.sys + GPU)
d.process.send_signal(signal.SIGHUP)
ok(wait_for(lambda: gpu(d) == "17000000.gpu"), "one that appears is found at a reload", gpu(d))
ok(d.status()["clock.gpu.steps"] == "8", "with its table", d.status()["clock.gpu.steps"])
before = d.knobs()
c = d.client()
session = c.open()
c.request(session, 60, latency_ns)
# While the request runs, since clocks may move again in the gap after it; no client waits for one that comes down.
held = []
begun, _ = c.request(session, 60, lambda b: held.append(wait_for(lambda: d.read(GPU + "/max_freq") == b["gpu_hz"]))
                     or latency_ns(b))
ok(held == [True] and int(begun["gpu_hz"]) < 1020000000, "and its clock is set", (begun, d.read(GPU + "/max_freq")))
# it is removed while a session is open: requests are served, and it is forgotten after the last session
os.rename(d.sys + GPU, d.dir + "/gpu")
d.process.send_signal(signal.SIGHUP)
begun, ended = c.request(session, 60, latency_ns)
ok(begun["errno"] == ended["errno"] == "0", "a GPU that goes in a session: it is served on", (begun, ended))
c.close()
ok(wait_for(lambda: gpu(d) == ""), "and forgotten once no session is open", gpu(d))
for name, hz in (("max_freq", 1020000000), ("min_freq", 306000000)):  # a driver that comes back brings its defaults
    with open(d.dir + "/gpu/" + name, "w") as f:
        f.write(f"{hz}\n")
os.rename(d.dir + "/gpu", d.sys + GPU)
c = d.client()
session = c.open()
c.request(session, 60, latency_ns)
c.close()
ok(wait_for(lambda: gpu(d) == "17000000.gpu"), "found again at the end of the last session, without a reload", gpu(d))
ok(wait_for(lambda: any("net" in k or v == "net" for k, v in d.client().ask(op="models").items())),
   "the models are there as before", d.client().ask(op="models"))
ok(wait_for(lambda: d.restored(before)), "every knob as found", d.difference(before))
d.end()

# one that appears while only a profile runs
d = Daemon(start=False)
os.rename(d.sys + GPU, d.dir + "/gpu")
d.start()
c = d.client()
ok("profile" in c.ask(op="profile", model="net"), "a profile without a GPU")
os.rename(d.dir + "/gpu", d.sys + GPU)
d.process.send_signal(signal.SIGHUP)
wait_for(lambda: "configuration reloaded" in d.text())
time.sleep(0.5)  # the reload looks after 0.1 s
ok(gpu(d) == "", "a GPU that appears during it: not yet", gpu(d))
c.close()
ok(wait_for(lambda: gpu(d) == "17000000.gpu"), "once it has ended, it is found without a reload", gpu(d))
d.end()

d = Daemon("intel-laptop")
before = d.knobs()
card = d.sys + "/sys/devices/pci0000:00/0000:00:02.0/drm/card"
ok(gpu(d) == "0000:00:02.0", "a card is named by its address", gpu(d))
os.rename(card + "0", card + "1")
os.unlink(d.sys + "/sys/class/drm/card0")
os.symlink("../../devices/pci0000:00/0000:00:02.0/drm/card1", d.sys + "/sys/class/drm/card1")
d.process.send_signal(signal.SIGHUP)
ok(wait_for(lambda: d.text().count("operating points now") == 1), "another number: looked at again", d.text()[-400:])
c = d.client()
session = c.open()
c.request(session, 60, latency_ns)
c.request(session, 9, latency_ns)
ok(d.status()["clock.gpu.state"] == "ok", "the same card, set where it is now", d.status()["state_reason"])
c.close()
d.end()

# a card that sleeps at the start, and wakes by itself, without a uevent: found after a session, also by the keeper
d = Daemon("intel-xe-laptop", start=False)
card = "/sys/devices/pci0000:00/0000:00:02.0/"
d.write(card + "power/runtime_status", "suspended")
d.start()
ok(gpu(d) == "", "a card that sleeps at the start is not known", gpu(d))
d.write(card + "power/runtime_status", "active")
c = d.client()
c.open()
c.close()
ok(wait_for(lambda: gpu(d) == "0000:00:02.0"), "once it is awake, the end of a session finds it", gpu(d))
knob = card + "tile0/gt0/freq0/max_freq"
c = d.client()
session = c.open()
for _ in range(5):
    c.request(session, 60, latency_ns)
held = []
begun, _ = c.request(session, 60, lambda b: held.append(wait_for(
    lambda: d.read(knob) == str(int(b["gpu_hz"]) // 10 ** 6))) or latency_ns(b))
ok(held == [True] and int(begun["gpu_hz"]) < 1950000000, "and the keeper sets it", (begun, d.read(knob)))
c.close()
ok(wait_for(lambda: d.read(knob) == "1950"), "and gives it back", d.read(knob))


def samples(model):
    models = d.client().ask(op="models")
    return next((int(models[k[:-4] + "samples"]) for k in models if k.endswith(".name") and models[k] == model), 0)


d.write(card + "power/runtime_status", "suspended")
c = d.client()
c.request(c.open("beside"), 60, latency_ns)
ok(samples("beside") == 1, "a request beside a card that sleeps is learned", d.client().ask(op="models"))
begun = c.ask(op="begin", session=c.open("waker"), deadline_ns=60 * 10 ** 6, wait=1)
keeper = d.keeper_pid()
os.kill(keeper, signal.SIGSTOP)  # it would set the clock within a second
d.write(card + "power/runtime_status", "active")
c.ask(op="end", request=begun["request"], total_ns=int(latency_ns(begun)), ack=1)
os.kill(keeper, signal.SIGCONT)
ok(samples("waker") == 0, "one that wakes it, and so runs at a clock that nobody set, is not",
   d.client().ask(op="models"))
c.close()

# sensors that only root may read: the keeper opens them, also those that come after the start
d = Daemon("intel-laptop", start=False)
rapl = d.sys + "/sys/class/powercap/intel-rapl:0"
os.rename(rapl, d.dir + "/rapl")
d.start()
battery = d.status()["power.sensor"]
os.rename(d.dir + "/rapl", rapl)
d.process.send_signal(signal.SIGHUP)
ok(wait_for(lambda: d.status()["power.sensor"] != battery), "a sensor of root's that appears is used",
   (battery, d.status()["power.sensor"]))
other = d.status()["power.sensor"]
shutil.rmtree(d.sys + "/sys/class/power_supply/BAT0")
os.unlink(rapl)
d.process.send_signal(signal.SIGHUP)
ok(wait_for(lambda: d.status()["power.sensor"] not in (battery, other)), "and forgotten when it goes",
   d.status()["power.sensor"])
c = d.client()
session = c.open()
ok(c.request(session, 60, latency_ns)[1]["errno"] == "0", "requests are served on")
c.close()
d.end()

# a board whose only sensor comes after the start: models learn power from then on
d = Daemon("intel-laptop", start=False)
rapl, battery = d.sys + "/sys/class/powercap/intel-rapl:0", d.sys + "/sys/class/power_supply/BAT0"
os.unlink(rapl) if os.path.islink(rapl) else shutil.rmtree(rapl)
os.rename(battery, d.dir + "/battery")
d.start()
ok(d.status()["power.sensor"] == "", "no sensor at the start", d.status()["power.sensor"])
os.rename(d.dir + "/battery", battery)
d.process.send_signal(signal.SIGHUP)
ok(wait_for(lambda: d.status()["power.sensor"] != ""), "one that appears is shown", d.status()["power.why_not"])
c = d.client()
session = c.open()
for _ in range(30):
    c.request(session, 60, latency_ns)
known = c.ask(op="surface", model="net")["power_known"]
ok(known == "1", "and models learn from it", known)
c.close()
d.end()
done()
