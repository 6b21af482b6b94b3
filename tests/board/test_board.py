# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""flamed-board seen from outside: its files, and that it behaves as a kernel does."""
import os, re, signal, subprocess, sys, tempfile, time, shutil

sys.path.insert(0, os.path.dirname(__file__))
from boardlib import BUILD, Board, ok, skip, say, done

AGX_CPU = [115200 + 76800 * i for i in range(28)] + [2201600]
AGX_GPU = [306000000 + 102000000 * i for i in range(10)] + [1300500000]


def tree_agx():
    b = Board("agx-orin")
    ok(b.ready == "flamed-board: ready " + b.root, "readiness is announced", b.ready)
    ok(len(b.policies()) == 3, "three policies", b.policies())
    for p in b.policies():
        ok([int(w) for w in b.read(p + "/scaling_available_frequencies").split()] == AGX_CPU, f"CPU table of {p[-7:]}")
    ok(b.read(b.policies()[1] + "/related_cpus") == "4 5 6 7", "cpus of the second policy")
    ok(b.read("/sys/devices/system/cpu/cpu5/cpufreq/scaling_governor") == "schedutil",
       "cpuN/cpufreq leads to its policy")
    gpu = "/sys/class/devfreq/17000000.ga10b"
    ok(os.path.islink(b.path(gpu)) and not os.readlink(b.path(gpu)).startswith("/"), "class link is relative")
    ok(os.path.realpath(b.path(gpu)) == os.path.realpath(b.path("/sys/devices/17000000.ga10b/devfreq/17000000.ga10b")),
       "class link")
    ok([int(w) for w in b.read(gpu + "/available_frequencies").split()] == AGX_GPU, "GPU table")
    ok(b.read(gpu + "/governor") == "nvhost_podgov" and b.read(gpu + "/device/load").isdigit(), "GPU governor and load")
    ok([b.read(Board.EMC + "/" + n) for n in ("mrq_rate_locked", "min_rate", "max_rate", "rate")] ==
       ["0", "204000000", "3199000000", "3199000000"], "memory clock of the bpmp")
    ok(b.read("/sys/kernel/debug/bpmp/debug/emc/possible_rates") == "204000 665600 2133000 3199000 (kHz)", "its table")
    ok(b.read("/proc/device-tree/model") == "NVIDIA Jetson AGX Orin Developer Kit", "device-tree model")
    ok(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
                    b.read("/proc/sys/kernel/random/boot_id")) is not None, "boot id")
    ok([b.read(f"/sys/class/hwmon/hwmon1/in{i}_label") for i in (1, 2, 3)] == ["VDD_GPU_SOC", "VDD_CPU_CV",
                                                                               "VIN_SYS_5V0"],
       "rails by label")
    ok(b.read("/sys/class/hwmon/hwmon1/name") == "ina3221" and b.read("/sys/class/hwmon/hwmon0/name") == "pwmfan",
       "hwmon index is not 0")
    ok(not os.path.exists(b.path("/sys/class/hwmon/hwmon1/power1_input")), "no power*_input")
    zones = [b.read(f"/sys/class/thermal/thermal_zone{i}/type") for i in range(9)]
    ok(zones[0] == "CPU-therm" and zones[-1] == "tj-therm", "thermal zones", zones)
    boot = b.read("/proc/sys/kernel/random/boot_id")
    r = subprocess.run([BUILD + "/flamed-board", b.root, "--once"], capture_output=True, text=True)
    ok(r.returncode == 1 and "a board runs there" in r.stderr and b.read("/proc/sys/kernel/random/boot_id") == boot,
       "two boards do not share a directory", r.stderr)
    b.process.terminate()
    ok(b.process.wait(20) == 0, "SIGTERM ends it with status 0")
    rc = subprocess.run([BUILD + "/flamed-board", b.root, "--once"]).returncode
    ok(rc == 0 and b.read("/proc/sys/kernel/random/boot_id") != boot, "a new start is a new boot")
    b.close()


def tree_others():
    b = Board("orin-nano")
    ok(len(b.policies()) == 2 and b.gpu().endswith("17000000.gpu"), "Orin Nano: two policies, JetPack 6 GPU name")
    ok("/devices/platform/bus@0/17000000.gpu/devfreq" in os.path.realpath(b.path(b.gpu())),
       "Orin Nano: the GPU under platform/bus@0")
    ok(b.read(b.policies()[0] + "/cpuinfo_max_freq") == "1728000", "Orin Nano: 1728 MHz")
    ok(b.read("/sys/class/hwmon/hwmon1/in1_label") == "VDD_IN", "Orin Nano: board input rail")
    b.process.send_signal(signal.SIGINT)
    ok(b.process.wait(20) == 0, "SIGINT ends it with status 0")
    b.close()
    b = Board("rk3588")
    ok([b.read(p + "/cpuinfo_max_freq") for p in b.policies()] == ["1800000", "2400000", "2400000"],
       "RK3588: two tables")
    ok(b.read(b.policies()[0] + "/scaling_available_frequencies") == "408000 600000 816000 1008000 1200000 1416000 "
                                                                     "1608000 1800000",
       "RK3588: the small cores' table")
    table = [int(w) for w in b.read(b.gpu() + "/available_frequencies").split()]
    ok(table == sorted(table, reverse=True) and table[0] == 1000000000, "RK3588: descending table")
    ok(b.read("/sys/class/devfreq/dmc/available_frequencies") == "528000000 1068000000 1560000000 2112000000",
       "RK3588: dmc")
    ok(not os.path.exists(b.path("/sys/class/hwmon/hwmon1")), "RK3588: no power sensor")
    b.close()


def kernel_rules():
    b = Board("agx-orin")
    p, g = b.policies()[0], b.gpu()
    b.write(p + "/scaling_min_freq", 9999999)
    ok(b.reads(p + "/scaling_min_freq", 2201600), "a minimum beyond the hardware is clamped")
    b.write(p + "/scaling_max_freq", 806400)
    ok(b.reads(p + "/scaling_max_freq", 806400) and b.reads(p + "/scaling_min_freq", 806400),
       "crossed limits: the maximum wins")
    ok(b.wait(lambda: b.read(p + "/scaling_cur_freq") == "806400"), "the clock follows")
    b.write(p + "/scaling_max_freq", 2201600)
    ok(b.reads(p + "/scaling_min_freq", 2201600), "the crossed request comes back with its room")
    b.write(p + "/scaling_min_freq", 900000)
    b.write(p + "/scaling_max_freq", 950000)
    ok(b.wait(lambda: b.read(p + "/scaling_cur_freq") == "883200"), "between table entries: the one below the maximum")
    b.write(p + "/scaling_setspeed", 1000000)
    ok(b.reads(p + "/scaling_setspeed", "<unsupported>"), "setspeed needs the userspace governor")
    b.write(p + "/scaling_governor", "nonsense")
    ok(b.reads(p + "/scaling_governor", "schedutil"), "an unknown governor is refused")
    rejected = b.page.rejected
    b.write(g + "/max_freq", "50x")
    ok(b.reads(g + "/max_freq", 1300500000) and b.wait(lambda: b.page.rejected == rejected + 1),
       "trailing bytes are refused, and counted")
    b.write(g + "/max_freq", 0)
    ok(b.reads(g + "/max_freq", 1300500000), "0 is no limit")
    emptied(b, g + "/max_freq")
    ok(not os.path.exists(b.path(g + "/userspace")), "no userspace folder before the governor")
    b.write(g + "/governor", "userspace")
    ok(b.wait(lambda: os.path.exists(b.path(g + "/userspace/set_freq"))),
       "userspace/set_freq appears with the governor")
    b.write(g + "/userspace/set_freq", 600000000)
    ok(b.wait(lambda: b.read(g + "/cur_freq") == "612000000"), "and sets the clock, rounded to the table")
    b.write(g + "/governor", "nvhost_podgov")
    ok(b.wait(lambda: not os.path.exists(b.path(g + "/userspace"))), "and goes with it")
    e = Board.EMC
    b.write(e + "/rate", 204000000)
    ok(b.reads(e + "/rate", 3199000000), "an unlocked memory rate does not take")
    b.write(e + "/mrq_rate_locked", 1)
    b.write(e + "/rate", 700000000)
    ok(b.reads(e + "/rate", 2133000000), "a memory rate rounds up")
    b.write(e + "/rate", 4000000000)
    ok(b.reads(e + "/rate", 2133000000), "above the table it is ignored")
    b.write(e + "/mrq_rate_locked", 0)
    ok(b.reads(e + "/rate", 3199000000), "unlocked it goes back to the power mode's")
    b.close()


def emptied(b, knob):
    """open(2) empties the file before the write, and is no write of its own."""
    whole, rejected = b.read(knob), b.page.rejected
    first = os.open(b.path(knob), os.O_WRONLY)
    fd = os.open(b.path(knob), os.O_WRONLY | os.O_TRUNC)
    os.close(first)
    time.sleep(0.2) # the board has seen that it was closed
    ok(b.page.rejected == rejected, "a file that is open and still empty is no write", b.page.rejected - rejected)
    os.write(fd, b"50x\n")
    os.close(fd)
    ok(b.wait(lambda: b.page.rejected > rejected) and b.reads(knob, whole), "what is written then is")
    os.close(os.open(b.path(knob), os.O_WRONLY | os.O_TRUNC))
    ok(b.reads(knob, whole), "emptied and left so, it shows its value again")
    ok(b.page.rejected == rejected + 1, "and one write was refused in all", b.page.rejected - rejected)


def old_kernel():
    with tempfile.TemporaryDirectory() as dir:
        text = open("board/orin-nano.ini").read().replace("crossed = clamp", "crossed = reject")
        with open(dir + "/old.ini", "w") as f:
            f.write(text)
        b = Board(dir + "/old.ini")
        g = b.gpu()
        b.write(g + "/max_freq", 510000000)
        b.wait(lambda: b.read(g + "/cur_freq") == "306000000")
        rejected = b.page.rejected
        b.write(g + "/min_freq", 714000000)
        ok(b.reads(g + "/min_freq", 306000000), "an old kernel refuses crossed limits")
        ok(b.wait(lambda: b.page.rejected == rejected + 1), "and the refusal is counted")
        b.write(g + "/max_freq", 714000000)
        b.write(g + "/min_freq", 714000000)
        ok(b.wait(lambda: b.page.hz[1] == 714000000) and b.page.rejected == rejected + 1, "in the right order it takes")
        b.close()


def settle():
    b = Board("agx-orin")
    b.pin(1190400000, 510000000, 2133000000)
    held = b.write(Board.EMC + "/rate", 665600000)
    early, at = b.page.hz[2], time.monotonic()
    ok(b.wait(lambda: b.page.hz[2] == 665600000), "the new memory clock comes into effect")
    begin = time.monotonic()
    held_gpu = b.write(b.gpu() + "/min_freq", 408000000) + b.write(b.gpu() + "/max_freq", 408000000)
    early = b.page.hz[1]
    soon = time.monotonic() - begin < b.page.settle_ns[1] / 1e9
    ok(not soon or early == 510000000, "the GPU still runs at the old clock before its settle time is over")
    ok(b.wait(lambda: b.page.hz[1] == 408000000), "and then at the new one")
    took = time.monotonic() - begin
    ok(took >= b.page.settle_ns[1] / 1e9, "not before the settle time", took)
    if held < 0.001:
        skip("a writer is held up", "this file system knows no leases")
    else:
        ok(held >= 0.0045 and held_gpu >= 0.005, "a writer is held up for its share of the write time",
           (held, held_gpu))
    say(f"held up: memory {held * 1e3:.2f} ms, GPU {held_gpu * 1e3:.2f} ms; GPU in effect after {took * 1e3:.2f} ms")
    b.close()


def sensor_w(b):
    return sum(int(b.read(f"/sys/class/hwmon/hwmon1/in{i}_input"))
               * int(b.read(f"/sys/class/hwmon/hwmon1/curr{i}_input"))
               for i in (1, 2, 3)) / 1e6


def power():
    b = Board("agx-orin")
    watts = {}
    for name, point in {"low": (115200000, 306000000, 204000000), "high": (2201600000, 1300500000, 3199000000)}.items():
        b.pin(*point)
        want = b.page.base_w + sum(b.page.idle_w[c][list(b.page.table_hz[c]).index(point[c])] for c in range(3))
        ok(b.wait(lambda: abs(b.page.power_uw / 1e6 - want) < 0.001), f"idle power at {name} clocks is the model's",
           (b.page.power_uw, want))
        time.sleep(0.25)
        seen = []
        for _ in range(8):
            time.sleep(0.11)
            seen.append(sensor_w(b))
        watts[name] = sum(seen) / len(seen)
        ok(abs(watts[name] - want) < 0.02 * want, f"the sensor says so too at {name} clocks", (watts, want))
        ok(len(set(seen)) > 1, "with noise", seen)
    before = b.page.energy_uj
    b.page.busy_ns[1] += 200000000
    b.page.work_ns[1] += 200000000
    want = 0.2 * b.page.busy_w[1][b.page.steps[1] - 1] * 1e6
    now = b.page.now_ns
    b.wait(lambda: b.page.now_ns > now + 600000000)
    idle = b.page.base_w + sum(b.page.idle_w[c][b.page.steps[c] - 1] for c in range(3))
    after, now = b.page.energy_uj, b.page.now_ns
    b.wait(lambda: b.page.now_ns > now + 400000000)
    e0, t0 = after, now
    rest = (b.page.energy_uj - e0) - idle * (b.page.now_ns - t0) / 1e3
    ok(abs(rest) < 0.02 * want + 50000, "an idle board spends idle energy", rest)
    ok(after > before, "energy only grows")
    say(f"idle board power: {watts['low']:.2f} W at the lowest clocks, {watts['high']:.2f} W at the highest")
    temperature = int(b.read("/sys/class/thermal/thermal_zone8/temp"))
    ok(25000 < temperature < 60000, "temperature is plausible", temperature)
    b.close()


def heat():
    with tempfile.TemporaryDirectory() as dir:
        text = open("board/agx-orin.ini").read()
        text = re.sub(r"heat_s = \d+", "heat_s = 0.2", re.sub(r"throttle_c = \d+", "throttle_c = 42", text))
        with open(dir + "/hot.ini", "w") as f:
            f.write(text)
        b = Board(dir + "/hot.ini")
        p = b.policies()[0]
        b.write(p + "/scaling_governor", "performance")
        for q in b.policies()[1:]:
            b.write(q + "/scaling_governor", "performance")
        b.write(b.gpu() + "/governor", "performance")
        top = 2201600
        # an open file delays the board's update, perhaps until the next value
        readers = [subprocess.Popen(["sh", "-c", 'while read x <"$0"; do :; done', b.path(p + "/scaling_max_freq")])
                   for _ in range(2)]
        b.page.busy_ns[1] += 2500000000
        b.page.work_ns[1] += 2500000000
        ok(b.wait(lambda: int(b.read(p + "/scaling_max_freq")) < top), "too hot: the maximum reads lower")
        ok(b.wait(lambda: int(b.read(p + "/scaling_cur_freq")) < top), "and the clock follows")
        ok(b.wait(lambda: int(b.read(p + "/scaling_max_freq")) == top, 60), "cool again: it comes back")
        for r in readers:
            r.kill()
            r.wait()
        b.close()


def governors():
    b = Board("agx-orin")
    p, g = b.policies()[0], b.gpu()
    ok(b.wait(lambda: list(b.page.hz)[:2] == [115200000, 306000000]), "idle: the governors go to the lowest clocks")
    stop, at = time.monotonic() + 20, time.monotonic_ns()
    while time.monotonic() < stop and (b.page.hz[0] < 2201600000 or b.page.hz[1] < 1300500000):
        time.sleep(0.02)
        passed, at = time.monotonic_ns() - at, time.monotonic_ns()
        b.page.busy_ns[0] += passed
        b.page.busy_ns[1] += passed
    ok(b.page.hz[0] == 2201600000, "schedutil: one busy core takes its policy to the top", b.page.hz[0])
    ok(b.page.hz[1] == 1300500000, "nvhost_podgov: a busy GPU goes to the top", b.page.hz[1])
    ok(b.read(b.policies()[1] + "/scaling_cur_freq") == "115200", "an idle policy stays down")
    ok(b.page.hz[2] == 3199000000, "the memory clock follows no load")
    ok(b.wait(lambda: list(b.page.hz)[:2] == [115200000, 306000000]), "and down again")
    b.pin(1190400000, 510000000, 2133000000)
    for _ in range(10):
        b.page.busy_ns[0] += 20000000
        b.page.busy_ns[1] += 20000000
        time.sleep(0.02)
    ok(list(b.page.hz) == [1190400000, 510000000, 2133000000], "pinned clocks do not follow the load")
    b.close()


def written_over():
    """The event of a new write is handled before the device's value replaces it."""
    b = Board("rk3588")
    low, high = b.gpu() + "/min_freq", b.gpu() + "/max_freq"
    bad = []
    for i in range(100):
        # a maximum that crosses the minimum pushes it, and the minimum is shown again just when its
        # next writer waits for it
        for name, value in ((high, 1000000000), (low, 900000000), (high, 400000000), (low, 300000000)):
            b.write(name, value)
        b.write(high, 1000000000)
        if not b.wait(lambda: (b.read(low), b.read(high)) == ("300000000", "1000000000")):
            bad.append((i, b.read(low), b.read(high)))
            break
    ok(not bad, "what was written last stands, 100 times while the limits push each other", bad)
    b.close()


def up_and_down():
    with tempfile.TemporaryDirectory() as dir:
        text = re.sub(r"settle_us = 1500\b", "settle_up_us = 60000\nsettle_down_us = 1000",
                      open("board/rk3588.ini").read())
        with open(dir + "/slow.ini", "w") as f:
            f.write(text)
        b = Board(dir + "/slow.ini")
        took = {}  # the last of two writes begins half of the settle time before the clock moves
        for word, pin in (("down", 300000000), ("up", 900000000), ("down", 400000000)):
            begin = time.monotonic()
            for name in ("max_freq", "min_freq") if word == "up" else ("min_freq", "max_freq"):
                b.write(f"{b.gpu()}/{name}", pin)
            b.wait(lambda: b.page.hz[1] == pin)
            took[word] = time.monotonic() - begin
        ok(took["up"] >= 0.03, "a move up takes as long as the board file says", took)
        b.close()


def wrong_use():
    dir = tempfile.mkdtemp()
    try:
        def run(*args):
            r = subprocess.run([BUILD + "/flamed-board", *args], capture_output=True, text=True, timeout=20)
            return r.returncode, r.stderr

        os.makedirs(dir + "/real/sys")
        rc, text = run(dir + "/real", "--once")
        ok(rc == 1 and "refusing" in text and os.listdir(dir + "/real/sys") == [], "somebody else's sys is left alone",
           text)
        ok(run()[0] == 2, "no directory is a usage error")
        ok(run(dir + "/x", "--board", "no-such-board")[0] == 2, "a board that is not there")
        base = open("board/agx-orin.ini").read()
        for name, change, want in (
                ("an unknown key", ("[power]\n", "[power]\nwats = 3\n"), r":\d+: no such key: wats"),
                ("a bad number", ("base_w = 2.30", "base_w = nan"), r":\d+: base_w = nan"),
                ("a bad table", ("306..1224/102", "306..x/102"), r":\d+: mhz = "),
                ("an unknown section", ("[thermal]", "[thermals]"), r":\d+: \[thermals\]: no such section"),
                ("a rail without a voltage", ("mv = 5000\n", ""), r"a rail without mv"),
                ("no host policy", ("host = yes", "host = no"), r"host = yes"),
                ("a file outside the tree", ("/proc/version", "/proc/../etc/x"), r":\d+: /proc/\.\./etc/x")):
            assert change[0] in base
            with open(dir + "/bad.ini", "w") as f:
                f.write(base.replace(*change))
            rc, text = run(dir + "/y", "--board", dir + "/bad.ini")
            ok(rc == 2 and re.search(want, text) and not os.path.exists(dir + "/y"), "board file: " + name, text)
    finally:
        shutil.rmtree(dir)


for test in (tree_agx, tree_others, kernel_rules, old_kernel, settle, power, heat, governors, written_over, up_and_down,
             wrong_use):
    test()
done()
