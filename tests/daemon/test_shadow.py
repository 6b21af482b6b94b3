#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
# Shadow mode: the test acts as the kernel's governors and the board. flamed may read everything and write nothing. Its
# estimated savings and misses are compared with the board's behaviour at the points that it chose.
import ctypes
import json
import math
import random
import re
import shutil
import statistics
import struct

from daemonlib import *

# modified, attributes, written, moved, made, deleted
CHANGED = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
CPU = [729600, 883200, 1036800, 1190400, 1344000, 1574400, 1728000]       # kHz, used by the governors
GPU = [510, 612, 714, 816, 918, 1020]                                     # MHz
REQUESTS, DEADLINE_MS, NOISE, IDLE_W = 1200, 22, 0.01, 3
WEEK_FPS = 30
RATIO = 2  # of CPU time, in shadow to governed
MORE_WOKEN = 3  # times a request, as the clocks are read every 20 ms
LEARNED, MOST_RESIDENT = 300, 10e6
MOST_DISK, SAMPLES_MAX = 10e6, 8192  # bytes; rows kept of one model: common/limits.h
MOST_INSTRUCTIONS = 0.01 * 1e9 / WEEK_FPS  # of a request: 1 % of a core that executes 10^9 a second
draw = random.Random(17)


class Watch:
    """Every change below a directory, by inotify(7)."""

    def __init__(self, root):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.dirs = {self.libc.inotify_add_watch(self.fd, path.encode(), CHANGED): path for path, _,
                     _ in os.walk(root)}

    def changed(self):
        found = set()
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                return found
            while data:
                watch, _, _, size = struct.unpack_from("iIII", data)
                found.add(os.path.join(self.dirs.get(watch, "?"), data[16:16 + size].rstrip(b"\0").decode()))
                data = data[16 + size:]


class Governors:
    """The kernel's governors, sped up: they choose clocks, and the sensor shows the power of these."""

    def __init__(self, d):
        self.d, self.point = d, None
        labels = glob.glob(d.sys + "/sys/devices/**/in1_label", recursive=True)
        rail = [f for f in labels if open(f).read().strip() == "VDD_IN"][0]
        self.current = rail[len(d.sys):].replace("in1_label", "curr1_input")
        d.write(self.current.replace("curr1", "in1"), 5000)
        self.cpu = [f"/sys/devices/system/cpu/cpufreq/policy{n}/scaling_cur_freq" for n in (0, 4)]
        self.gpu = "/sys/devices/platform/bus@0/17000000.gpu/devfreq/17000000.gpu/cur_freq"
        self.own = {d.sys + f for f in (*self.cpu, self.gpu, self.current)}

    def choose(self):
        cpu, gpu = draw.choice(CPU) * 1000, draw.choice(GPU) * 1000000
        for f in self.cpu:
            self.d.write(f, cpu // 1000)
        self.d.write(self.gpu, gpu)
        self.show(cpu, gpu)

    def show(self, cpu, gpu):
        self.d.write(self.current, round(power_w(cpu, gpu) * 1000 / 5))
        self.point = (cpu, gpu)


def time_s(cpu, gpu):
    return latency_ns({"cpu_hz": cpu, "gpu_hz": gpu}) * 1e-9


def power_w(cpu, gpu):
    return IDLE_W + 2.2 * (cpu / 1.728e9) ** 2.5 + 6.5 * (gpu / 1.02e9) ** 2.5


def contents(root, without):
    found = {}
    for path, _, files in os.walk(root):
        for f in files:
            f = os.path.join(path, f)
            if f not in without and not os.path.islink(f):
                found[f] = (os.stat(f).st_mtime_ns, open(f, "rb").read())
    return found


def savings(d):
    """The account as JSON and as text."""
    flamectl = [os.path.join(BUILD, "flamectl"), "--socket", d.socket]
    out, text = (subprocess.run(flamectl + words, capture_output=True, text=True).stdout
                 for words in (["--json", "savings"], ["savings", "net"]))
    return json.loads(out), text


def descendants(pid):
    found = []
    for child in open(f"/proc/{pid}/task/{pid}/children").read().split():
        found += [open(f"/proc/{child}/comm").read().strip()] + descendants(child)
    return found


def run(c, session, governors, requests):
    """Run `requests` requests: their time and power, and those at the points that flamed names."""
    sums = dict(missed=0, energy=0.0, would_miss=0, would=0.0)
    for _ in range(requests):
        governors.choose()
        noise = math.exp(draw.gauss(0, NOISE))
        begun = c.ask(op="begin", session=session, deadline_ns=DEADLINE_MS * 10 ** 6, wait=1)
        if begun.get("shadow") != "1":
            raise SystemExit(f"not ok - a begin that is not in shadow: {begun}")
        took = time_s(*governors.point) * noise
        c.ask(op="end", request=begun["request"], total_ns=int(took * 1e9), ack=1)
        there = (int(begun["cpu_hz"]), int(begun["gpu_hz"]))
        # it would have waited for the clocks that come up
        would = time_s(*there) * noise + int(begun["settle_ns"]) * 1e-9
        sums["missed"] += took > DEADLINE_MS / 1000
        sums["would_miss"] += would > DEADLINE_MS / 1000
        # the shorter of the two idles for the rest
        sums["energy"] += power_w(*governors.point) * took + IDLE_W * max(would - took, 0)
        sums["would"] += power_w(*there) * would + IDLE_W * max(took - would, 0)
    return sums


# 1. Nothing is written, and replies are true.
SENSOR = "[clocks]\nmem = leave\n[power]\nsample_interval = 1 ms\n"
d = Daemon(config="[flamed]\nmode = shadow\nsave_interval = 1 s\n" + SENSOR, start=False)
governors = Governors(d)
before = contents(d.sys, governors.own)
watch = Watch(d.sys)
d.start()
ok(d.status()["state"] == "shadow" and d.status()["keeper.pid"] == "0",
   "status says shadow, and there is no keeper", d.status())
ok("flamed-keeper" not in descendants(d.process.pid), "no process of flamed's is a keeper", descendants(d.process.pid))
c = d.client()
ok(c.ask(op="profile", model="net", budget=4)["errno"] == "95", "a profile, which would move the clocks, is refused")
session = c.open("net")
warm = run(c, session, governors, REQUESTS // 4)
first = savings(d)[0]["model"][0]
truth = run(c, session, governors, REQUESTS)
told, text = savings(d)
m = {k: v - first[k] if isinstance(v, (int, float)) else v for k, v in told["model"][0].items()}
for line in text.splitlines():
    print("# | " + line)
print(f"# | true of the last {REQUESTS}: saved {100 * (1 - truth['would'] / truth['energy']):.1f} %, "
      f"missed {truth['missed']}, "
      f"flamed would have missed {truth['would_miss']}")
ok(m["requests"] == REQUESTS and m["judged"] == REQUESTS, "every request is judged", m)
ok(m["missed"] == truth["missed"], "what the governors missed is counted to the last", (m["missed"], truth["missed"]))
ok(abs(m["energy_j"] / truth["energy"] - 1) < 0.05, "their energy within a twentieth",
   (m["energy_j"], truth["energy"]))
ok(m["would_low_j"] <= truth["would"] <= m["would_high_j"], "flamed's energy lies in the interval told",
   (m["would_low_j"], truth["would"], m["would_high_j"]))
said, is_so = 1 - m["would_j"] / m["energy_j"], 1 - truth["would"] / truth["energy"]
ok(abs(said - is_so) < 0.05, "the estimated saving is the true one within 5 points", (said, is_so))
ok(m["would_miss_low"] <= truth["would_miss"] <= m["would_miss_high"], "so do its misses", (m, truth["would_miss"]))
ok(is_so > 0.1 and m["would_high_j"] < m["energy_j"],
   "there was energy to be saved, and the estimate is distinct from none", (is_so, m))
ok("schedutil" in text and "nvhost_podgov" in text, "the kernel's governors are named", text)
c.close()
ok(wait_for(lambda: glob.glob(d.state + "/models/net*.savings")), "the account is on disk",
   os.listdir(d.state + "/models"))
d.stop()
account = b"".join(open(f, "rb").read() for f in glob.glob(d.state + "/models/net*.savings"))
ok(account.endswith(b"\n\n") and account.index(b"\n\n") == len(account) - 2, "and nothing beside it in the file",
   account)
d.start()
again = savings(d)[0]["model"][0]
ok(again["requests"] == told["model"][0]["requests"] and again["would_j"] == told["model"][0]["would_j"],
   "and goes on after a restart", again)
for path in glob.glob(d.state + "/models/net*.savings"):
    open(path, "w").write("requests=many\n\n")
d.stop()
d.start()
ok("requests: not a number" in d.text() and not savings(d)[0].get("model"),
   "a damaged account is named and set aside", d.text()[-500:])
d.stop()
written = watch.changed() - governors.own
ok(not written, "no file of the board was written, made, renamed or touched", sorted(written))
ok(contents(d.sys, governors.own) == before, "every one of them is what it was, to its time stamp")
d.write("/sys/devices/platform/bus@0/17000000.gpu/devfreq/17000000.gpu/min_freq", 306000000)
ok(any(f.endswith("/min_freq") for f in watch.changed()), "and the watch would have seen it")
d.end()

# 2. One program in shadow beside a daemon that governs others.
d = Daemon(config=SENSOR)
governors = Governors(d)
before = d.knobs()
c = d.client()
ok(c.ask(op="tally", tag="quiet", shadow=1)["errno"] == "0", "a tag in shadow")
session = c.ask(op="open", model="net", tag="quiet", deadline_ns=DEADLINE_MS * 10 ** 6)["session"]
run(c, session, governors, 60)
ok(d.knobs() == before and not d.journal(), "its requests write nothing")
tally = c.ask(op="tally", tag="quiet")
ok(tally["shadow.requests"] == "60" and float(tally["shadow.judged"]) >= 50, "its tally has the account", tally)
other = d.client()
governed = other.open("busy")
begun = other.ask(op="begin", session=governed, deadline_ns=DEADLINE_MS * 10 ** 6, wait=1)
ok("shadow" not in begun and d.knobs() != before, "another session governs as ever", begun)
run(c, session, governors, 5)
now = c.ask(op="tally", tag="quiet")
ok(now["shadow.requests"] == "65" and now["shadow.judged"] == tally["shadow.judged"],
   "while the clocks are flamed's, nothing is judged", now)
other.ask(op="end", request=begun["request"], ack=1)
other.close()
ok(wait_for(lambda: d.knobs() == before),
   "when it closes they are the kernel's again, though the one in shadow stays", d.knobs())
c.close()
d.end()

# 3. The cost of a week in shadow mode: instructions, which other load does not change; CPU time of real requests,
# compared with a daemon that governs; and bytes on disk.
CLOCKS = "[clocks]\nmem = leave\n"
MODES = {"shadow": "[flamed]\nmode = shadow\n" + CLOCKS, "govern": CLOCKS}
PERIOD_S, SLOWER = 1 / WEEK_FPS, 1.8  # a model for which a request takes most of a period: 26 ms in the mean
BLOCKS, BLOCK = 15, 10


def week_request(c, session, governors, real):
    """At the governors' clocks or, if flamed governs, at its own. `real`: its time passes. It is reported in any case,
    as other load would lengthen it."""
    governors.choose()
    begun = c.ask(op="begin", session=session, deadline_ns=int(PERIOD_S * 1e9))
    if "shadow" not in begun:
        governors.show(int(begun["cpu_hz"]), int(begun["gpu_hz"]))
    took = SLOWER * time_s(*governors.point) * math.exp(draw.gauss(0, NOISE))
    time.sleep(took if real else 0)
    c.ask(op="end", request=begun["request"], total_ns=int(took * 1e9), ack=1)
    time.sleep(max(PERIOD_S - took, 0) if real else 0)


def learned(d, governors):
    """A session of a model that is known, as for most of a week. Its connection has reported no time that did not
    pass, with which flamed would not plan readings of power."""
    c = d.client()
    session = c.open("net")
    for _ in range(LEARNED):
        week_request(c, session, governors, False)
    c.close()
    c = d.client()
    return c, c.open("net"), governors


def instructions(requests):
    """Those that flamed executes from the last open of a session to its end, of a model that it knows, a request."""
    d = Daemon(config=MODES["shadow"], build=RELEASE, start=False)
    counted = os.path.join(d.dir, "counted")
    d.wrapper = ["valgrind", "--tool=callgrind", "--zero-before=session_open", "--callgrind-out-file=" + counted,
                 "--log-file=" + counted + ".log"]
    draw.seed(3)
    governors = Governors(d)
    d.start()
    session = learned(d, governors)
    for _ in range(requests):
        week_request(*session, True)
    d.stop()
    with open(counted) as f:
        total = int(re.search(r"\ntotals: (\d+)", f.read())[1])
    d.end()
    return total / requests


if shutil.which("valgrind"):
    each = instructions(100)
    print(f"# | {each / 1000:.0f} thousand instructions a request; 1 % of a core that executes 10^9 a second are "
          f"{MOST_INSTRUCTIONS / 1000:.0f} thousand at {WEEK_FPS} a second")
    ok(each < MOST_INSTRUCTIONS, "less than 1 % of a core", each)
else:
    skip("less than 1 % of a core", "no valgrind to count instructions")
daemons = {mode: Daemon(config=text, build=RELEASE) for mode, text in MODES.items()}
sessions = {mode: learned(d, Governors(d)) for mode, d in daemons.items()}


def used(d):
    """CPU time of flamed in us, and how often it was woken."""
    with open(f"/proc/{d.process.pid}/schedstat") as f:
        ns = int(f.read().split()[0])
    with open(f"/proc/{d.process.pid}/status") as f:
        return ns / 1000, int(re.search(r"\nvoluntary_ctxt_switches:\s*(\d+)", f.read())[1])


def block(mode):
    """CPU time and wake-ups of a request."""
    before = used(daemons[mode])
    for _ in range(BLOCK):
        week_request(*sessions[mode], True)
    return [(now - then) / BLOCK for now, then in zip(used(daemons[mode]), before)]


# By turns, and the lower quartile, as other load only adds to both.
blocks = {mode: [] for mode in MODES}
for _ in range(BLOCKS):
    for mode in MODES:
        blocks[mode].append(block(mode))
(shadow_us, shadow_woken), (govern_us, govern_woken) = ([statistics.quantiles(x)[0] for x in zip(*blocks[mode])]
                                                       for mode in ("shadow", "govern"))
print(f"# | CPU time of a request: {shadow_us:.0f} us in shadow, {govern_us:.0f} us governed; woken "
      f"{shadow_woken:.1f} and {govern_woken:.1f} times; in shadow {100 * shadow_us * WEEK_FPS / 1e6:.2f} % of a core "
      f"at {WEEK_FPS} a second")
# The share of a core is the machine's as much as flamed's, and printed only; the ratio holds on any.
ok(shadow_us < RATIO * govern_us, f"at most {RATIO} times what a governed request costs", (shadow_us, govern_us))
ok(shadow_woken < govern_woken + MORE_WOKEN, f"and flamed is woken at most {MORE_WOKEN} times more",
   (shadow_woken, govern_woken))
d, (c, _, governors) = daemons["shadow"], sessions["shadow"]
c.close()


def held(d):
    """(bytes on disk, rows of the model, bytes resident); stops the daemon."""
    resident = int([x for x in open(f"/proc/{d.process.pid}/status") if x.startswith("VmRSS")][0].split()[1]) * 1024
    d.stop()
    size = sum(os.path.getsize(os.path.join(p, f)) for p, _, files in os.walk(d.state) for f in files)
    return size, len(open(glob.glob(d.state + "/models/net*.csv")[0]).readlines()) - 1, resident


few = held(d)
ok(few[1], "it has learned from the governors' clocks", os.listdir(d.state + "/models"))
d.start()
c = d.client()
requests = LEARNED + BLOCKS * BLOCK
session = c.open("net")
for _ in range(3 * requests):
    week_request(c, session, governors, False)
c.close()
many = held(d)
print(f"# | bytes on disk, rows, bytes resident: {few} after {requests} requests, {many} after {4 * requests}")
ok(many[1] <= len(CPU) * len(GPU) and many[0] <= 1.05 * few[0],
   "one row a point: four times the requests take no more of the disk", (few, many))
most = many[0] / many[1] * SAMPLES_MAX
print(f"# | {most / 1e6:.2f} MB on disk of a model with all the rows that are kept")
ok(most < MOST_DISK, f"so that a model takes less than {MOST_DISK / 1e6:.0f} MB of it", most)
ok(max(few[2], many[2]) < MOST_RESIDENT, f"less than {MOST_RESIDENT / 1e6:.0f} MB resident", (few, many))
for d in daemons.values():
    d.end()
done()
