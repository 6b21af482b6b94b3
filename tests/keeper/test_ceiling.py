#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Limits held by the kernel, and the values restored: boost, bios_limit, cooling, other requests,
policies that are offline. A preloaded model replaces cpufreq: a file shows min(request, cap), an
offline policy answers EBUSY."""
import itertools
import re
import shutil
import threading

from keeper import *

MHZ = 10**6
GHZ = 10**9
CPU = "/sys/devices/system/cpu/"
NO_TURBO = CPU + "intel_pstate/no_turbo"
LAPTOP = 8
LOOKS_TAKEN = 10  # of keeper/restore.c: tries of a limit that accepts its original and still reads as ours
LOOKS_AWAY = 20   # at an offline policy; one that is waited for is looked at every 4 ms for 400 ms
tap = Tap()


class Board:
    def __init__(self, name, model=True, **kw):
        self.path = tree(name)
        self.root, self.state = self.path + "/root", self.path + "/state"
        self.kw, self.keeper = kw, None
        self.env = {"LD_PRELOAD": os.path.join(BUILD, "tests/keeper/shim.so"), "SHIM_ROOT": self.root,
                    "SHIM_STATE": self.state,
                    "SHIM_CPUFREQ": "1", "SHIM_LOG": self.path + "/log"} if model else {}

    def __enter__(self):
        return self

    def start(self, **kw):
        self.keeper = Keeper(self.root, self.state, binary=os.path.join(RELEASE, "flamed-keeper"), env=self.env,
                             **{**self.kw, **kw})
        return self.keeper

    def counted(self, word, call):
        """What a call returns, and the number of lines with that word that the shim logs meanwhile."""
        def lines():
            return open(self.path + "/log").read().count(word) if os.path.exists(self.path + "/log") else 0

        before = lines()
        return call(), lines() - before

    def request(self, policy, file="scaling_max_freq"):
        """The last request to the kernel."""
        text = ""
        while not text:  # between truncation and write
            text = read(self.root, f"{CPU}cpufreq/policy{policy}/{file}")
        return int(text)

    def shows(self, policy, file="scaling_max_freq"):
        """The value that its file shows."""
        folder = f"{self.root}{CPU}cpufreq/policy{policy}/"
        caps = [int(open(folder + cap).read()) for cap in ("cpuinfo_max_freq", "bios_limit", ".cap")
                if os.path.exists(folder + cap)]
        return min([self.request(policy, file), *caps])

    def every(self, file, value, policies=range(LAPTOP)):
        for policy in policies:
            write(self.root, f"{CPU}cpufreq/policy{policy}/{file}", value)

    def turbo(self, on, cap=2400000):
        os.makedirs(self.root + CPU + "intel_pstate", exist_ok=True)
        write(self.root, NO_TURBO, 0 if on else 1)
        self.every("cpuinfo_max_freq", 4700000 if on else cap)

    def offline(self, policy, off=True):
        path = f"{self.root}{CPU}cpufreq/policy{policy}/.offline"
        open(path, "w").close() if off else os.unlink(path)

    def cool(self, number, kind, state):
        folder = f"/sys/class/thermal/cooling_device{number}"
        os.makedirs(self.root + folder, exist_ok=True)
        write(self.root, folder + "/type", kind)
        write(self.root, folder + "/cur_state", state)

    def __exit__(self, *exc):
        if self.keeper:
            self.keeper.leave()
        remove(self.path)


def turbo_off_while_held():
    with Board("intel-laptop") as b:
        k = b.start()
        k.apply(1200 * MHZ)
        b.turbo(False)
        for mhz in (4700, 1200, 2400):
            reply = k.apply(mhz * MHZ)
            tap.ok(reply.state[0] == OK, f"turbo goes off in a session: {mhz} MHz is taken", reply.text)
        tap.equal(b.shows(3), 2400000, "what was asked for last is the hardware's own ceiling")
        reply = k.release()
        tap.equal((reply.op, reply.saved, os.listdir(b.state)), (RELEASED, 0, []),
                  "a write that reads back a ceiling counts as restored")
        status, tries = b.counted("_freq ", k.close)
        tap.ok((status, tries) == (0, 0), "and the keeper ends at once, with success", (status, tries, k.stderr()))
        b.turbo(True)
        tap.equal([b.shows(p) for p in range(LAPTOP)], [4700000] * LAPTOP, "turbo on again: every policy has all of it")


def turbo_on_while_held():
    with Board("intel-laptop") as b:
        b.turbo(False)
        k = b.start()
        k.apply(1200 * MHZ)
        b.turbo(True)
        reply = k.apply(2400 * MHZ)
        tap.equal((reply.state[0], [b.shows(p) for p in range(LAPTOP)]), (OK, [4700000] * LAPTOP),
                  "boost comes on in a session: the highest clock is no lower than without flamed")
        tap.equal((k.apply(2000 * MHZ).state[0], b.shows(0)), (OK, 2000000), "any other is that clock")
        k.apply(2400 * MHZ)
        b.turbo(False)
        reply = k.apply(2400 * MHZ)
        tap.equal((reply.state[0], b.shows(0), k.close()), (OK, 2400000, 0), "and off again")
        b.turbo(True)
        tap.equal([b.shows(p) for p in range(LAPTOP)], [4700000] * LAPTOP, "all of it is given back")


def turbo_off_before():
    for off in ("no_turbo", "cpuinfo alone"):
        with Board("intel-laptop") as b:
            b.turbo(False)
            if off != "no_turbo":
                os.unlink(b.root + NO_TURBO)
            k = b.start()
            k.apply(1200 * MHZ)
            tap.equal(b.shows(0), 1200000, f"turbo off before ({off}): the target is applied")
            k.release()
            tap.equal(b.shows(0), 2400000, "and given back")
            b.turbo(True)
            tap.equal([b.shows(p) for p in range(LAPTOP)], [4700000] * LAPTOP,
                      "turbo on later: a maximum that was no limit is no limit")
            k.apply(1200 * MHZ)
            k.process.kill()
            k.process.wait()
            b.turbo(False)
            b.start().close()
            b.turbo(True)
            tap.equal([b.shows(p) for p in range(LAPTOP)], [4700000] * LAPTOP, "nor after a kill, from the journal")
    with Board("intel-laptop") as b:  # a limit set by a user is a limit
        b.every("scaling_max_freq", 2000000)
        k = b.start()
        b.turbo(False)
        k.apply(1200 * MHZ)
        k.close()
        b.turbo(True)
        tap.equal([b.request(p) for p in range(LAPTOP)], [2000000] * LAPTOP,
                  "a limit below the ceiling is given back as it was found")
    with Board("intel-laptop", model=False) as b:  # no kernel behind it
        b.turbo(False)
        b.every("scaling_max_freq", 2400000)
        before = snapshot(b.root)
        k = b.start()
        k.apply(1200 * MHZ)
        tap.equal((k.close(), differences(before, snapshot(b.root))), (0, []),
                  "plain files hold the very text that was found")


def firmware():
    with Board("intel-laptop") as b:
        b.every("bios_limit", 3100000)
        k = b.start()
        k.apply(1200 * MHZ)
        k.release()
        tap.equal(b.shows(2), 3100000, "bios_limit: given back as far as the firmware lets")
        b.every("bios_limit", 4700000)
        tap.equal([b.shows(p) for p in range(LAPTOP)], [4700000] * LAPTOP, "and all of it once the firmware lets go")
        k.apply(4000 * MHZ)
        b.every("bios_limit", 1800000)
        reply = k.apply(3000 * MHZ)
        tap.equal((reply.state[0], reply.actual[0], reply.ceiling[0]), (OK, 1800 * MHZ, 1800 * MHZ),
                  "bios_limit that comes down is a ceiling and nobody's write")
        k.apply(1800 * MHZ)
        tap.equal(k.close(), 0, "bios_limit equal to our own last value: restored")
        b.every("bios_limit", 4700000)
        tap.equal([b.shows(p) for p in range(LAPTOP)], [4700000] * LAPTOP, "and nothing stays behind")


def other_requests():
    with Board("intel-laptop") as b:  # a driver's request that no file names
        k = b.start()
        k.apply(1200 * MHZ)
        b.every(".cap", 2000000)
        reply = k.apply(3000 * MHZ)
        tap.equal((reply.state[0], reply.actual[0], reply.ceiling[0]), (OK, 2 * GHZ, 2 * GHZ),
                  "another request in the kernel is a ceiling")
        b.every(".cap", 1500000)
        reply = k.apply(3000 * MHZ)
        tap.ok((reply.state[0], reply.actual[0]) == (OK, 1500 * MHZ), "one that comes further down is no foreign write",
               reply.text)
        b.every("scaling_max_freq", 1100000)
        reply = k.apply(3000 * MHZ)
        tap.equal((reply.state[0], b.request(0)), (FOREIGN, 1100000), "but a write below it is, and is left")
        k.close()
    for slow_us in (0, 60000):  # each write; those of all policies then take longer than the keeper's patience
        with Board("intel-laptop") as b:
            b.env["SHIM_SLOW_US"] = str(slow_us)
            k = b.start()
            k.apply(1200 * MHZ)
            b.every(".cap", 1700000)
            k.apply(1700 * MHZ)
            status, tries = b.counted("policy0/scaling_max_freq ", k.close)
            tap.ok(status == 0 and 1 <= tries <= LOOKS_TAKEN and os.listdir(b.state) == [],
                   f"a request equal to our own last value, writes of {slow_us} us: restored",
                   (status, tries, k.stderr()))
            b.every(".cap", 4700000)
            tap.equal([b.shows(p) for p in range(LAPTOP)], [4700000] * LAPTOP, "and nothing stays behind")


def offline():
    with Board("intel-laptop") as b:
        k = b.start()
        k.apply(1200 * MHZ)
        b.offline(5)
        reply = k.release()
        tap.equal([b.shows(p) for p in range(LAPTOP) if p != 5], [4700000] * 7,
                  "a policy goes offline: the others are given back")
        tap.equal(b.request(5), 1200000, "the offline one keeps ours")
        away = "policy5/scaling_max_freq read EBUSY"
        status, looks = b.counted(away, k.close)
        tap.ok(status == 0 and looks <= LOOKS_AWAY, "the keeper ends with success, and does not wait",
               (status, looks, k.stderr()))
        left = open(b.state + "/journal").read()
        tap.ok(left.count("save") == 2 and "policy5" in left, "the journal names the open knobs alone", left)
        k, looks = b.counted(away, b.start)
        tap.ok(k.hello is not None and looks <= LOOKS_AWAY, "the next keeper starts, and does not wait",
               (looks, k.stderr()))
        reply = k.apply(0, 300 * MHZ)
        tap.equal(reply.state[1], OK, "and serves")
        time.sleep(3)  # it looks again each second
        lines = [line for line in k.stderr().splitlines() if "policy5" in line]
        tap.ok(len(lines) <= 2, "what is offline is logged once for each knob", lines)
        b.offline(5, False)
        tap.ok(wait_for(lambda: b.shows(5) == 4700000), "the policy returns: given back, with no session on it",
               b.request(5))
        tap.ok(wait_for(lambda: b.request(5, "scaling_min_freq") == 400000), "its minimum too",
               b.request(5, "scaling_min_freq"))
        tap.equal((k.close(), os.listdir(b.state)), (0, []), "then nothing is owed")
    with Board("intel-laptop") as b:  # back while a target is in force: the original is restored, not the value found
        k = b.start()
        k.apply(1200 * MHZ)
        b.offline(5)
        k.process.kill()
        k.process.wait()
        k = b.start()
        k.apply(2000 * MHZ)
        b.offline(5, False)
        tap.equal(k.rescan().op, NOTICE, "a rescan")
        tap.ok(wait_for(lambda: b.shows(5) == 2000000), "a policy that returns follows the standing target",
               b.request(5))
        k.process.kill()
        k.process.wait()
        b.start().close()
        tap.equal(([b.shows(p) for p in range(LAPTOP)], os.listdir(b.state)), ([4700000] * LAPTOP, []),
                  "its original is the one of the first keeper, through two kills")
    with Board("intel-laptop") as b:  # all of them, and flamed --restore
        k = b.start()
        k.apply(1200 * MHZ)
        for policy in range(LAPTOP):
            b.offline(policy)
        k.close()
        run = subprocess.run([os.path.join(RELEASE, "flamed"), "--restore", "--sysroot", b.root, "--state-dir",
                              b.state], env={**os.environ, **b.env},
                             capture_output=True, text=True)
        tap.equal((run.returncode, os.path.exists(b.state + "/journal")), (0, True),
                  "flamed --restore leaves what is offline in the journal")
        for policy in range(LAPTOP):
            b.offline(policy, False)
        subprocess.run([os.path.join(RELEASE, "flamed"), "--restore", "--sysroot", b.root, "--state-dir", b.state],
                       env={**os.environ, **b.env},
                       capture_output=True)
        tap.equal(([b.shows(p) for p in range(LAPTOP)], os.listdir(b.state)), ([4700000] * LAPTOP, []),
                  "and restores it once it is back")


def offline_during_restore():
    """Between the read and the write of a knob."""
    for knob, how in itertools.product(("scaling_max_freq", "scaling_min_freq"), ("release", "close")):
        with Board("intel-laptop") as b:
            log, hold = b.path + "/log", f"{b.root}{CPU}cpufreq/policy5/.hold.{knob}"

            def logged(what):
                return re.search(f"policy5/{knob} {what}\n", open(log).read())

            def leave():
                if wait_for(lambda: logged("waits")):
                    b.offline(5)
                os.unlink(hold)

            k = b.start()
            k.apply(1200 * MHZ)
            open(hold, "w").close()
            thread = threading.Thread(target=leave)
            thread.start()
            status = k.close() if how == "close" else k.release().op
            thread.join()
            tap.ok(logged(r"\d+ EBUSY") and status == (0 if how == "close" else RELEASED),
                   f"{how}: a policy goes offline while its {knob} is written", (status, open(log).read()[-2000:]))
            tap.equal(({(b.shows(p), b.request(p, "scaling_min_freq")) for p in range(LAPTOP) if p != 5},
                       b.request(5, knob)),
                      ({(4700000, 400000)}, 1200000), "the others are given back, the offline one keeps ours")
            left = open(b.state + "/journal").read()
            tap.ok(f"policy5/{knob} " in left, "and is owed", left)
            k = b.start() if how == "close" else k
            b.offline(5, False)
            tap.ok(wait_for(lambda: (b.shows(5), b.request(5, "scaling_min_freq")) == (4700000, 400000)),
                   "it is given back when it returns", (b.shows(5), b.request(5, "scaling_min_freq")))
            tap.equal((k.close(), os.listdir(b.state)), (0, []), "then nothing is owed")


def no_journal_stops_it():
    for name, make in (("a folder", os.mkdir), ("a link", lambda p: os.symlink("/nonexistent", p)),
                       ("a FIFO", os.mkfifo)):
        with Board("jetson-orin-nano", model=False) as b:
            make(b.state + "/journal")
            k = b.start()
            reply = k.apply(GHZ) if k.hello else None
            tap.ok(reply and reply.state[0] == OK and read(b.root, CPU0 + "scaling_max_freq") == "1036800",
                   f"a journal that is {name}: the keeper starts and serves", k.stderr())
            tap.equal(k.close(), 0, "and ends well")
    with Board("rk3588") as b:  # no other keeper uses the journal
        gpu = "/sys/devices/platform/fb000000.gpu/devfreq/fb000000.gpu/"
        before = snapshot(b.root)
        k = b.start()
        k.apply(0, 400 * MHZ)
        k.process.kill()
        k.process.wait()
        open(b.root + gpu + ".busy", "w").close()
        k = b.start()
        tap.ok(k.hello and k.apply(1008 * MHZ).state[0] == OK,
               "a knob in it that answers EBUSY: the keeper starts and serves", k.stderr())
        time.sleep(3)
        lines = [line for line in k.stderr().splitlines() if "cannot be restored" in line]
        tap.ok(0 < len(lines) <= 2 * len(set(lines)), "which is logged at the start and at the first retry", lines)
        if k.hello:
            k.release()
        os.unlink(b.root + gpu + ".busy")
        tap.ok(wait_for(lambda: differences(before, snapshot(b.root)) == []),
               "and restores it once it is no longer busy", differences(before, snapshot(b.root)))
        tap.equal((k.close(), os.listdir(b.state)), (0, []), "then nothing is owed")


def other_coolers():
    with Board("rk3588", model=False) as b:  # an NPU that cools since before the start
        before = snapshot(b.root)
        b.cool(9, "devfreq-fdab0000.npu", 2)
        k = b.start()
        reply = k.apply(600 * MHZ, 400 * MHZ, 1068 * MHZ)
        tap.equal((reply.state, reply.actual[:2]), ((OK, OK, OK), (600 * MHZ, 400 * MHZ)),
                  "a cooling device of another unit holds nothing of ours")
        k.close()
        shutil.rmtree(b.root + "/sys/class/thermal/cooling_device9")
        tap.equal(differences(before, snapshot(b.root)), [], "and all is given back")
    with Board("rk3588", model=False) as b:  # its own, and held: the reason names it
        gpu = "/sys/devices/platform/fb000000.gpu/devfreq/fb000000.gpu/max_freq"
        highest = read(b.root, gpu)
        b.cool(9, "devfreq-fb000000.gpu", 2)
        write(b.root, gpu, 600000000)
        k = b.start()
        reply = k.apply(600 * MHZ, 400 * MHZ, 1068 * MHZ)
        tap.equal((reply.state, read(b.root, gpu)), ((OK, DEGRADED, OK), "600000000"),
                  "only the clock that is cooled waits")
        tap.ok("devfreq-fb000000.gpu" in reply.text and "cooling_device9" in reply.text,
               "and its cooling device is named", reply.text)
        b.cool(9, "devfreq-fb000000.gpu", 0)
        write(b.root, gpu, highest)
        tap.ok(wait_for(lambda: read(b.root, gpu) == "400000000"), "it is moved once that is over")
        tap.equal((k.close(), read(b.root, gpu)), (0, highest), "and given back")
    for kind, found in (("thermal-devfreq-0", None), ("gpu_cooling", None), ("gpu_cooling", "0")):
        with Board("rk3588", model=False) as b:  # they do not say whose, and the GPU shows all of its table
            gpu = "/sys/devices/platform/fb000000.gpu/devfreq/fb000000.gpu/"
            found = found or read(b.root, gpu + "max_freq")
            write(b.root, gpu + "max_freq", found)
            b.cool(9, kind, 2)
            k = b.start()
            tap.equal((k.apply(0, 400 * MHZ).state[1], read(b.root, gpu + "max_freq")), (OK, "400000000"),
                      f"{kind}: a maximum of {found} is unlimited, cooling or not")
            tap.equal((k.close(), read(b.root, gpu + "max_freq")), (0, found), "and is given back so")
    pci = "/sys/devices/pci0000:00/0000:00:02.0/"
    for name, gpu in (("intel-laptop", "drm/card0/gt/gt0/rps_max_freq_mhz"),
                      ("intel-laptop", "drm/card0/gt_max_freq_mhz"), ("intel-xe", "tile0/gt0/freq0/max_freq")):
        for lower in (False, True):
            with Board(name, model=False) as b:  # no table, but RP0
                if "gt/" not in gpu and name == "intel-laptop":
                    shutil.rmtree(b.root + pci + "drm/card0/gt")
                highest = read(b.root, pci + gpu)
                if lower:
                    write(b.root, pci + gpu, 800)
                b.cool(4, "gpu_cooling", 1)
                k = b.start()
                got = (k.apply(0, 500 * MHZ).state[1], read(b.root, pci + gpu))
                tap.equal((*got, k.close(), read(b.root, pci + gpu)),
                          (DEGRADED, "800", 0, "800") if lower else (OK, "500", 0, highest),
                          f"{gpu}: a maximum " + ("below RP0 may be cooling's" if lower else
                                                  "of RP0 is unlimited, cooling or not"))
    with Board("intel-laptop") as b:  # cooling is on, and a maximum shows all of the hardware
        b.cool(4, "Processor", 1)
        k = b.start()
        reply = k.apply(1200 * MHZ)
        tap.equal((reply.state[0], b.shows(0)), (OK, 1200000),
                  "a maximum equal to cpuinfo_max_freq is unlimited, cooling or not")
        tap.equal((k.close(), b.shows(0)), (0, 4700000), "and is given back so")
    with Board("rk3588", model=False) as b:  # comes up while we hold the clock
        b.cool(9, "devfreq-fdab0000.npu", 2)
        k = b.start()
        k.apply(1200 * MHZ)
        write(b.root, CPU4 + "scaling_max_freq", 408000)
        tap.equal(k.apply(1008 * MHZ).state[0], FOREIGN, "nor does it excuse a foreign write")
        k.close()


def boost():
    for listed in (True, False):
        with Board("rk3588") as b:
            policy = CPU + "cpufreq/policy4/"
            b.every("scaling_available_frequencies", "408000 1008000 1800000", (0, 4, 6))
            if listed:
                b.every("scaling_boost_frequencies", "1992000", (0, 4, 6))
            for file in ("cpuinfo_max_freq", "scaling_max_freq"):
                b.every(file, 1992000, (0, 4, 6))
            os.makedirs(b.root + CPU + "cpufreq", exist_ok=True)
            write(b.root, CPU + "cpufreq/boost", 1)
            k = b.start()
            reply = k.apply(9 * GHZ)
            tap.equal((reply.actual[0], b.shows(4), b.shows(4, "scaling_min_freq")), (1992 * MHZ, 1992000, 1992000),
                      f"as fast as may be is with boost, listed or not ({listed})")
            tap.equal(k.apply(1000 * MHZ).actual[0], 1008 * MHZ, "and steps below it are steps")
            tap.equal(k.apply(1801 * MHZ).actual[0], 1992 * MHZ, "a wish over the table's end is a boost step")
            tap.equal((k.close(), b.shows(4), read(b.root, policy + "scaling_min_freq")), (0, 1992000, "408000"),
                      "all restored")


for test in (turbo_off_while_held, turbo_on_while_held, turbo_off_before, firmware, other_requests, offline,
             offline_during_restore, no_journal_stops_it, other_coolers, boost):
    try:
        test()
    except (OSError, TimeoutError, AttributeError) as e:
        tap.ok(False, f"{test.__name__} came to its end", repr(e))
tap.done()
