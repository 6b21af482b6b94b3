#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The keeper with foreign writers, refused writes, lost devices and other faults of its surroundings."""
import random
import signal

from keeper import *

GHZ, MHZ = 10**9, 10**6
tap = Tap()


class Board:
    """An Orin Nano tree and a keeper on it."""

    def __init__(self, name="jetson-orin-nano", **kw):
        self.path = tree(name)
        self.root, self.state = self.path + "/root", self.path + "/state"
        self.before = snapshot(self.root)
        self.kw = kw
        self.keeper = None

    def __enter__(self):
        return self

    def start(self, **kw):
        self.keeper = Keeper(self.root, self.state, **{**self.kw, **kw})
        return self.keeper

    def shim(self, **settings):
        env = {"LD_PRELOAD": os.path.join(BUILD, "tests/keeper/shim.so"), "SHIM_ROOT": self.root,
               "SHIM_STATE": self.state}
        env.update({"SHIM_" + k.upper(): str(v) for k, v in settings.items()})
        return {"env": env, "binary": os.path.join(RELEASE, "flamed-keeper")}

    def appears(self, folder, files):
        """A device of these files, all at once."""
        os.mkdir(self.path + "/new")
        for name, text in files.items():
            with open(self.path + "/new/" + name[len(folder):], "w") as f:
                f.write(text)
        os.rename(self.path + "/new", (self.root + folder).rstrip("/"))

    def diff(self):
        return differences(self.before, snapshot(self.root))

    def __exit__(self, *exc):
        if self.keeper:
            self.keeper.leave()
        remove(self.path)


def newest_target_wins():
    with Board() as b:
        k = b.start(**b.shim(slow_us=2000, log=b.path + "/log"))
        for mhz in range(200, 1700, 10):
            last = k.send(APPLY, mhz * MHZ)
        reply = k.answer(last)
        writes = open(b.path + "/log").read().count("scaling_max_freq")
        tap.equal(reply.actual[0], 1728000000, "newest of 150 queued targets is the one applied")
        tap.ok(writes <= 8, "overtaken targets are not written", f"{writes} writes of scaling_max_freq")
        tap.equal((k.close(), b.diff()), (0, []), "newest target: all restored")


def foreign_writer():
    with Board() as b:
        k = b.start()
        k.apply(GHZ, 510 * MHZ)
        write(b.root, CPU4 + "scaling_max_freq", 1344000)
        reply = k.apply(1200 * MHZ, 612 * MHZ)
        tap.equal(reply.state[0], FOREIGN, "a foreign write is noticed before the next write")
        tap.ok("scaling_max_freq" in reply.text and "1344000" in reply.text, "the foreign write is reported",
               reply.text)
        tap.equal(reply.actual[1], 612000000, "the other clock goes on")
        tap.equal((read(b.root, CPU0 + "scaling_max_freq"), read(b.root, CPU0 + "scaling_min_freq"),
                   read(b.root, CPU4 + "scaling_min_freq")), ("1728000", "729600", "729600"),
                  "the rest of the foreign clock is given back")
        reply = k.apply(400 * MHZ, 612 * MHZ)
        tap.equal((reply.state[0], read(b.root, CPU4 + "scaling_max_freq"), read(b.root, CPU0 + "scaling_max_freq")),
                  (FOREIGN, "1344000", "1728000"), "it is not fought over")
        k.release()
        reply = k.apply(GHZ)
        tap.equal((reply.state[0], reply.actual[0], read(b.root, CPU4 + "scaling_max_freq")),
                  (OK, 1036800000, "1036800"),
                  "after a release the clock is taken up again")
        tap.equal(k.close(), 0, "foreign writer: exit status 0")
        tap.equal(b.diff(), [f"{CPU4}scaling_max_freq: '1728000\\n' -> '1344000\\n'"],
                  "the foreign value is the new original, and is left")


def foreign_while_standing():
    with Board() as b:
        k = b.start()
        k.apply(GHZ, 510 * MHZ, 665 * MHZ)
        write(b.root, ORIN_GPU + "max_freq", 1020000000)
        begin = time.monotonic()
        notice = k.receive(20)
        tap.equal((notice.op, notice.state[1], read(b.root, ORIN_GPU + "max_freq"),
                   read(b.root, ORIN_GPU + "min_freq")),
                  (NOTICE, FOREIGN, "1020000000", "306000000"), "a foreign write is noticed while a target stands")
        tap.table(f"a foreign write on a standing target is reported after {time.monotonic() - begin:.1f} s")
        tap.equal(k.close(), 0, "foreign while standing: exit status 0")
        tap.equal(b.diff(), [], "foreign while standing: the rest is restored")
    with Board() as b:
        k = b.start()
        k.apply(GHZ, 510 * MHZ)
        before = os.stat(b.root + CPU0 + "scaling_max_freq").st_mtime_ns
        time.sleep(2.2)
        k.sock.setblocking(False)
        try:
            told = k.sock.recv(4096)
        except BlockingIOError:
            told = None
        tap.equal((told, os.stat(b.root + CPU0 + "scaling_max_freq").st_mtime_ns), (None, before),
                  "a target that stands is neither written again nor talked about")
        tap.equal(k.close(), 0, "standing target: exit status 0")


def other_methods():
    with Board() as b:
        boards = b.path + "/boards"
        os.mkdir(boards)
        with open(boards + "/x.ini", "w") as f:
            f.write("[board]\nmatch = *Orin*\n[cpu]\npath = /sys/devices/system/cpu/cpufreq/policy*\nmethod = "
                    "cpufreq-setspeed\n"
                    f"[gpu]\npath = {ORIN_GPU[:-1]}\nmethod = devfreq-userspace\n")
        os.mkdir(b.root + ORIN_GPU + "userspace")
        write(b.root, ORIN_GPU + "userspace/set_freq", "undefined")
        b.before = snapshot(b.root)
        k = b.start(boards=boards)
        reply = k.apply(GHZ, 510 * MHZ)
        tap.equal((reply.actual[:2], reply.state[:2], read(b.root, CPU4 + "scaling_governor"),
                   read(b.root, CPU4 + "scaling_setspeed"),
                   read(b.root, ORIN_GPU + "governor"), read(b.root, ORIN_GPU + "userspace/set_freq")),
                  ((1036800000, 510000000), (OK, OK), "userspace", "1036800", "userspace", "510000000"),
                  "setspeed and userspace, when a board file says so")
        tap.equal((read(b.root, CPU4 + "scaling_max_freq"), read(b.root, ORIN_GPU + "max_freq")),
                  ("1728000", "1020000000"),
                  "and then no limit is touched")
        write(b.root, CPU0 + "scaling_governor", "performance")
        tap.equal(k.apply(1200 * MHZ, 510 * MHZ).state[0], FOREIGN, "a governor that somebody chose is theirs")
        tap.equal(k.close(), 0, "other methods: exit status 0")
        tap.equal(b.diff(), [f"{CPU0}scaling_governor: 'schedutil\\n' -> 'performance\\n'"],
                  "other methods: the rest is restored")


def foreign_at_restore():
    with Board() as b:
        k = b.start()
        k.apply(GHZ, 510 * MHZ, 204 * MHZ)
        write(b.root, ORIN_GPU + "max_freq", 918000000)
        write(b.root, EMC + "rate", 3199000000)
        status = k.close()
        tap.equal(status, 0, "foreign values at the end: exit status 0")
        tap.equal(b.diff(), [f"{ORIN_GPU}max_freq: '1020000000\\n' -> '918000000\\n'",
                             f"{EMC}mrq_rate_locked: '0\\n' -> '1\\n'",
                             f"{EMC}rate: '2133000000\\n' -> '3199000000\\n'"],
                  "foreign values at the end are left, a foreign memory rate with its lock")
        tap.ok("changed by others" in k.stderr(), "they are reported", k.stderr())
    with Board() as b:
        k = b.start()
        k.apply(0, 0, 204 * MHZ)
        write(b.root, EMC + "rate", 665600000)
        k.close()
        tap.equal(b.diff(), [f"{EMC}rate: '2133000000\\n' -> '665600000\\n'"],
                  "a low foreign memory rate is not left locked")
        tap.equal(os.listdir(b.state), [], "no journal is left")


def cap_above_the_table():
    with Board() as b:
        write(b.root, "/sys/kernel/nvpmodel_clk_cap/emc", 4266000000)
        k = b.start()
        reply = k.apply(0, 0, 3199 * MHZ)
        tap.equal((reply.state[2], reply.actual[2], reply.ceiling[2], read(b.root, EMC + "rate")),
                  (OK, 3199 * MHZ, 0, "3199000000"), "a memory cap above the table is no rate")
        k.close()


def ceilings():
    with Board() as b:
        k = b.start(**b.shim(ceiling="policy4/scaling_max_freq:1190400"))
        reply = k.apply(1500 * MHZ)
        tap.equal((reply.state[0], read(b.root, CPU4 + "scaling_min_freq")), (OK, "1190400"),
                  "a max that reads lower is a ceiling, and the min stays below it")
        tap.equal(k.close(), 0, "ceiling: exit status 0")
    with Board("jetson-agx-orin") as b:
        k = b.start()
        tap.equal((k.hello.ceiling, k.hello.mem_hz),
                  ((1497600000, 816000000, 2133000000), [204000000, 665600000, 2133000000, 3199000000]),
                  "ceilings of the power mode, and the hidden memory table, are in the first message")
        reply = k.apply(2201 * MHZ, 1300 * MHZ, 3199 * MHZ)
        tap.equal((reply.actual, reply.ceiling), ((1497600000, 816000000, 2133000000),) * 2,
                  "ceilings of the power mode are respected and told")
        tap.equal((k.close(), b.diff()), (0, []), "power mode: all restored")
    with Board() as b:  # cooling begins while pinned: the kernel shows its own limit
        k = b.start()
        k.apply(1500 * MHZ)
        write(b.root, "/sys/class/thermal/cooling_device1/cur_state", 5)
        for policy in (CPU0, CPU4):
            write(b.root, policy + "scaling_max_freq", 1036800)
            write(b.root, policy + "scaling_min_freq", 1036800)
        reply = k.apply(1200 * MHZ)
        tap.ok(reply.state[0] != FOREIGN, "a thermal ceiling is nobody's write", reply.text)
        write(b.root, "/sys/class/thermal/cooling_device1/cur_state", 0)
        tap.equal((k.close(), b.diff()), (0, []), "thermal ceiling: all restored")
    with Board() as b:  # cooling when the session begins: the value read is not the original
        k = b.start()
        write(b.root, "/sys/class/thermal/cooling_device1/cur_state", 5)
        write(b.root, CPU0 + "scaling_max_freq", 1036800)
        k.apply(960 * MHZ)
        write(b.root, "/sys/class/thermal/cooling_device1/cur_state", 0)
        tap.equal((k.close(), b.diff()), (0, []), "a ceiling of the moment is not left behind as the original")


    with Board() as b:  # cooling since before the keeper looked: hands off until it ends
        write(b.root, "/sys/class/thermal/cooling_device1/cur_state", 5)
        write(b.root, CPU0 + "scaling_max_freq", 1036800)
        k = b.start()
        reply = k.apply(960 * MHZ)
        tap.equal((reply.state[0], read(b.root, CPU0 + "scaling_max_freq"), read(b.root, CPU4 + "scaling_max_freq")),
                  (DEGRADED, "1036800", "960000"),
                  "a limit held down since before the keeper came is not taken for an original, one that shows all is")
        write(b.root, "/sys/class/thermal/cooling_device1/cur_state", 0)
        write(b.root, CPU0 + "scaling_max_freq", 1728000)
        tap.ok(wait_for(lambda: read(b.root, CPU0 + "scaling_max_freq") == "960000"), "and is moved once it is over")
        tap.equal((k.close(), b.diff()), (0, []), "and given back as they were")


def taken_late():
    """From Linux 5.3 a limit reads as before until a work item has run: that is no refusal, and no ceiling."""
    with Board() as b:
        k = b.start(**b.shim(late="scaling_max_freq:5000"))
        k.apply(400 * MHZ, 306 * MHZ, 665 * MHZ)
        for mhz in (1500, 960, 1700):
            reply = k.apply(mhz * MHZ, 306 * MHZ, 665 * MHZ)
            want = min(int(f) * 1000 for f in read(b.root, CPU0 + "scaling_available_frequencies").split()
                       if int(f) >= mhz * 1000)
            tap.equal((reply.state[0], reply.actual[0], reply.ceiling[0]), (OK, want, 0),
                      f"a limit in force 5 ms later: {mhz} MHz")
        tap.equal((k.close(), b.diff()), (0, []), "a limit in force later: all restored")


def knob_ignored():
    with Board() as b:
        k = b.start(**b.shim(ignore="17000000.gpu/max_freq"))
        reply = k.apply(0, 510 * MHZ)
        tap.equal(reply.state[1], REFUSED, "a max that does not take the value is refused")
        tap.ok("max_freq" in reply.text, "and named", reply.text)
        tap.equal((k.close(), b.diff()), (0, []), "refused: all restored")
    with Board() as b:
        k = b.start(**b.shim(ignore="emc/rate"))
        reply = k.apply(0, 0, 3199 * MHZ)
        tap.equal((reply.state[2], read(b.root, EMC + "mrq_rate_locked")), (REFUSED, "0"),
                  "a memory rate that is not taken is not left locked")
        tap.equal((k.close(), b.diff()), (0, []), "memory refused: all restored")


def hotplug():
    with Board() as b:
        k = b.start()
        k.apply(GHZ)
        os.rename(b.root + CPU4, b.path + "/gone")
        reply = k.apply(1200 * MHZ)
        tap.equal((reply.state[0], read(b.root, CPU0 + "scaling_max_freq")), (LOST, "1267200"),
                  "a policy that disappears is lost, the other one goes on")
        remove(b.path + "/gone")
        b.appears(CPU4, {name: text for name, text in b.before.items() if name.startswith(CPU4)})
        tap.ok(wait_for(lambda: read(b.root, CPU4 + "scaling_max_freq") == "1267200"), "it comes back and is set again")
        tap.equal((k.close(), b.diff()), (0, []), "hotplug: all restored")
    with Board() as b:  # removed and back between two targets, with other defaults
        k = b.start()
        k.apply(GHZ)
        os.rename(b.root + CPU4, b.path + "/gone")
        b.appears(CPU4, {name: "1651200\n" if name.endswith("scaling_max_freq") else text
                         for name, text in b.before.items() if name.startswith(CPU4)})
        reply = k.apply(1200 * MHZ)
        tap.equal((reply.state[0], read(b.root, CPU4 + "scaling_max_freq")), (OK, "1267200"),
                  "a policy that was created again is no foreign write")
        k.process.kill()
        k.process.wait()
        again = b.start()
        again.close()
        tap.equal(b.diff(), [f"{CPU4}scaling_max_freq: '1728000\\n' -> '1651200\\n'"],
                  "its new default is its original, in the journal too")
    with Board() as b:
        k = b.start()
        k.apply(GHZ, 510 * MHZ)
        remove(b.root + CPU4)
        remove(b.root + ORIN_GPU)
        tap.equal(k.close(), 0, "knobs that are gone at the end are no failure")
    with Board() as b:
        gpu = {n: t for n, t in b.before.items() if n.startswith(ORIN_GPU)}
        remove(b.root + ORIN_GPU)
        k = b.start()
        k.apply(0, 510 * MHZ)
        b.appears(ORIN_GPU, gpu)
        reply = k.rescan()
        tap.equal((reply.op, read(b.root, ORIN_GPU + "max_freq")), (NOTICE, "510000000"),
                  "a device that is there at a rescan is set to the standing target")
        tap.equal((k.close(), b.diff()), (0, []), "rescan: all restored")


def journals():
    good = None
    with Board() as b:
        k = b.start()
        k.apply(GHZ, 510 * MHZ, 204 * MHZ)
        k.process.kill()
        k.process.wait()
        journal = b.state + "/journal"
        good = open(journal).read()
        held = snapshot(b.root)

        def replay(text, name, want_diff, want_left):
            for path, value in held.items():
                if read(b.root, path) != value.strip():
                    with open(b.root + path, "w") as f:
                        f.write(value)
            for left in os.listdir(b.state):
                os.unlink(b.state + "/" + left)
            with open(journal, "wb") as f:
                f.write(text if isinstance(text, bytes) else text.encode())
            keeper = b.start()
            status = keeper.close()
            tap.equal((status, bool(b.diff()), sorted(os.listdir(b.state))), (0, want_diff, want_left), name)
            return keeper.stderr()

        replay(good, "a journal left behind is replayed", False, [])
        replay(good + "held 3 =11", "a torn last line is passed over", False, [])
        said = replay(good.replace("boot 6f", "boot 7f"), "a journal of another boot is dropped", True, [])
        tap.ok("from an earlier boot" in said, "and the log says so", said)
        lines = good.splitlines(keepends=True)
        lines.insert(len(lines) - 2, "\0\xff\0rubbish\n")
        said = replay("".join(lines), "a damaged journal is replayed as far as it makes sense, and set aside", False,
                      ["journal.damaged"])
        tap.ok(":" in said and "not a journal line" in said, "and the log has its line number", said)
        replay("", "an empty journal is removed", True, [])
        replay(os.urandom(3000), "a journal of random bytes is set aside", True, ["journal.damaged"])
        replay("x" * 400000, "a journal too large to be one is set aside", True, ["journal.damaged"])
        evil = good.replace("save 0 " + CPU0 + "scaling_max_freq", "save 0 /sys/kernel/uevent_helper")
        os.makedirs(b.root + "/sys/kernel", exist_ok=True)
        write(b.root, "/sys/kernel/uevent_helper", "mine")
        replay(evil, "a journal naming a file that is no knob", True, ["journal.damaged"])
        tap.equal(read(b.root, "/sys/kernel/uevent_helper"), "mine", "does not reach that file")


def journal_unwritable():
    for error, name in ((28, "ENOSPC"), (30, "EROFS"), (5, "EIO")):
        for call in ("open", "fsync", "write"):
            with Board() as b:
                count = b.path + "/count"
                k = b.start(**b.shim(count=count))
                k.close()
                before = int([line for line in open(count) if line.startswith(call)][0].split()[1])
                k = b.start(**b.shim(fail=f"{call}:{before + (2 if call == 'read' else 1)}:100000:{error}"))
                reply = k.apply(GHZ, 510 * MHZ)
                broken = (reply.journal_error == -error if call != "open" else
                          reply.journal_error < 0 or any(reply.error))
                tap.ok(broken and b.diff() == [], f"{call} of the journal answers {name}: nothing is written",
                       f"{vars(reply)}")
                k.close()
    with Board() as b:
        k = b.start()
        os.rmdir(b.state)
        reply = k.apply(GHZ)
        tap.ok(reply.journal_error == -2 and b.diff() == [], "no state directory: nothing is written, says the reply",
               f"{reply.journal_error} {reply.text}")
        os.mkdir(b.state)
        tap.ok(wait_for(lambda: read(b.root, CPU0 + "scaling_max_freq") == "1036800"),
               "once it is there again the target is applied")
        tap.equal((k.close(), b.diff()), (0, []), "journal back: all restored")


def long_session():
    with Board() as b:
        k = b.start()
        rng = random.Random(7)
        largest = 0
        for _ in range(1500):
            k.apply(rng.randrange(115, 1728) * MHZ, rng.randrange(306, 1020) * MHZ)
            largest = max(largest, os.path.getsize(b.state + "/journal"))
        tap.ok(largest < 70000, "the journal does not grow without bound", largest)
        k.process.kill()
        k.process.wait()
        b.start().close()
        tap.equal((b.diff(), os.listdir(b.state)), ([], []), "and is replayed after it was rewritten many times")


def signals_and_messages():
    with Board() as b:
        k = b.start()
        k.apply(GHZ, 510 * MHZ, 204 * MHZ)
        k.process.send_signal(signal.SIGTERM)
        tap.equal((k.process.wait(timeout=20), b.diff(), os.listdir(b.state)), (0, [], []),
                  "SIGTERM restores and exits 0")
    with Board() as b:
        k = b.start()
        k.sock.send(b"")
        tap.equal(k.process.wait(timeout=20), 0, "an empty message is an end")
    with Board() as b:
        k = b.start()
        for junk in (b"x", os.urandom(40), os.urandom(4000), REQUEST.pack(MAGIC, 77, 1, 0, 0, 0),
                     REQUEST.pack(MAGIC + 1, APPLY, 1, 1, 1, 1)):
            k.sock.send(junk)
        tap.equal(b.diff(), [], "rubbish writes nothing")
        reply = k.apply(2**64 - 1, 1, 2**63)
        tap.equal(reply.actual, (1728000000, 306000000, 3199000000), "absurd targets are clamped to the hardware range")
        tap.equal((k.close(), b.diff()), (0, []), "rubbish: all restored")
    with Board() as b:
        k = b.start()
        k.apply(GHZ)
        second = subprocess.run([os.path.join(BUILD, "flamed-keeper"), "--fd", "0", "--sysroot", b.root, "--state-dir",
                                 b.state],
                                stdin=subprocess.DEVNULL, capture_output=True)
        tap.equal(second.returncode, 2, "a descriptor that is no socket is refused")
        tap.equal(read(b.root, CPU0 + "scaling_max_freq"), "1036800", "the first keeper is not disturbed")
        reply = k.release()
        tap.equal((reply.op, reply.saved, b.diff(), os.listdir(b.state)), (RELEASED, 0, [], []),
                  "a release gives all back")
        write(b.root, ORIN_GPU + "max_freq", 918000000)
        k.apply(GHZ)
        tap.equal(k.release().ceiling[1], 918000000, "and tells the ceilings that others hold by then")
        write(b.root, ORIN_GPU + "max_freq", 1020000000)


def links():
    with Board() as b:
        outside = b.path + "/outside"
        os.makedirs(outside)
        for name in ("scaling_max_freq", "scaling_min_freq"):
            with open(outside + "/" + name, "w") as f:
                f.write("1728000\n")
        k = b.start()
        k.apply(GHZ)
        os.rename(b.root + CPU4, b.path + "/kept")
        os.symlink(outside, b.root + CPU4[:-1])
        reply = k.apply(1200 * MHZ)
        tap.equal([open(outside + "/" + n).read() for n in sorted(os.listdir(outside))], ["1728000\n", "1728000\n"],
                  "a folder that became a link out of the sysroot is not followed")
        tap.ok(reply.state[0] in (LOST, DEGRADED), "and is reported", vars(reply))
        k.close()
        tap.equal([open(outside + "/" + n).read() for n in sorted(os.listdir(outside))], ["1728000\n", "1728000\n"],
                  "nor at the restore")


def sensors():
    with Board("intel-laptop") as b:
        k = b.start()
        tap.equal((k.hello.sensor_count, list(k.hello.rails), len(k.hello.fds)), (1, [0], 1),
                  "a root-only energy counter is opened and handed over")
        tap.equal(os.pread(k.hello.fds[0], 64, 0), b"262143000000\n", "and can be read")
        os.close(k.hello.fds[0])
        rapl = b.root + "/sys/devices/virtual/powercap/intel-rapl/intel-rapl:0/energy_uj"
        os.unlink(rapl)
        with open(rapl, "w") as f:  # the module is loaded again
            f.write("4711\n")
        os.chmod(rapl, 0o400)
        again = k.answer(k.send(SENSORS))
        tap.equal((again.op, list(again.rails), len(again.fds)), (HELLO, [0], 1), "so is that of a reloaded module")
        tap.equal(os.pread(again.fds[0], 64, 0), b"4711\n", "as it is now")
        os.close(again.fds[0])
    with Board("nothing") as b:
        k = b.start()
        reply = k.apply(GHZ, GHZ, GHZ)
        tap.equal((reply.actual, reply.error, reply.saved, b.diff()), ((0, 0, 0), (0, 0, 0), 0, []),
                  "a machine with nothing: the target is taken, nothing is touched")


def restore_time():
    if os.access("/dev/shm", os.W_OK):
        tempfile.tempdir = "/dev/shm"  # other programs may keep the disk busy
    took_ms, ran_ms = [], []
    for name in ("jetson-agx-orin", "intel-laptop"):
        for _ in range(15):
            with Board(name, binary=os.path.join(RELEASE, "flamed-keeper")) as b:
                k = b.start()
                k.apply(GHZ, 500 * MHZ, 700 * MHZ)
                undisturbed = real_time(k.process.pid)
                begin, ran_before_ms = time.monotonic(), run_ms(k.process.pid)
                k.sock.close()
                status, all_ms = reaped_ms(k.process.pid)
                took_ms.append((time.monotonic() - begin) * 1000)
                ran_ms.append(all_ms - ran_before_ms)
                k.process.returncode = status
                if status or b.diff():
                    tap.ok(False, "restore time: all restored", b.diff())
    within_50_ms(tap, "end of file to every knob restored and the keeper gone", took_ms, ran_ms, undisturbed)


for test in (newest_target_wins, foreign_writer, foreign_while_standing, other_methods, foreign_at_restore,
             cap_above_the_table, ceilings,
             taken_late, knob_ignored, hotplug, journals,
             journal_unwritable, long_session, signals_and_messages, links, sensors, restore_time):
    try:
        test()
    except (OSError, TimeoutError, AttributeError) as e:
        tap.ok(False, f"{test.__name__} came to its end", repr(e))
tap.done()
