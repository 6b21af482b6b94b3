#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Devices that are suspended, renumbered, or lose written values; two keepers on one sysroot; a
socket passed on."""
import array
import shutil
import signal

from keeper import *

MHZ = 10**6
APU = "/sys/devices/pci0000:00/0000:00:08.1/0000:c4:00.0/"
CARD = "/sys/devices/pci0000:00/0000:00:01.1/0000:03:00.0/"
I915 = "/sys/devices/pci0000:00/0000:00:02.0/drm/"
tap = Tap()


class Board:
    def __init__(self, name):
        self.path = tree(name)
        self.root, self.state = self.path + "/root", self.path + "/state"
        self.keeper = None

    def __enter__(self):
        return self

    def start(self, **kw):
        self.keeper = Keeper(self.root, self.state, **kw)
        return self.keeper

    def second_card(self, status):
        """A discrete card beside the APU."""
        os.makedirs(self.root + CARD + "power")
        os.makedirs(self.root + CARD + "drm/card1")
        write(self.root, CARD + "power/runtime_status", status)
        write(self.root, CARD + "power_dpm_force_performance_level", "auto")
        write(self.root, CARD + "pp_dpm_sclk", "0: 500Mhz *\n1: 1500Mhz\n2: 2500Mhz")
        write(self.root, CARD + "pp_dpm_mclk", "0: 96Mhz *\n1: 1000Mhz")
        os.symlink("../..", self.root + CARD + "drm/card1/device")
        os.symlink("../.." + CARD[4:] + "drm/card1", self.root + "/sys/class/drm/card1")

    def __exit__(self, *exc):
        if self.keeper and self.keeper.process.poll() is None:
            self.keeper.sock.close()
            self.keeper.process.wait(timeout=20)
        remove(self.path)


def stamps(root, folder):
    return {name: os.stat(root + folder + name).st_mtime_ns for name in os.listdir(root + folder)
            if os.path.isfile(root + folder + name)}


def notices_for(k, seconds):
    """Number of replies that come by themselves."""
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            k.receive(max(0.001, end - time.monotonic()))
            count += 1
        except TimeoutError:
            break
    return count


def suspended():
    for status in ("suspended", "suspending"):
        with Board("amd-apu") as b:
            b.second_card(status)
            before = stamps(b.root, CARD)
            k = b.start()
            reply = k.apply(0, 1100 * MHZ, 2000 * MHZ)
            tap.equal((reply.state[1:], stamps(b.root, CARD), read(b.root, APU + "power_dpm_force_performance_level")),
                      ((OK, OK), before, "manual"),
                      f"a card that is {status} is not touched, the other one is")
            k.close()
            tap.equal(stamps(b.root, CARD), before, "nor when all is given back")
    with Board("amd-apu") as b:  # both active, then one is suspended
        b.second_card("active")
        k = b.start()
        k.apply(0, 1100 * MHZ)
        tap.equal((read(b.root, CARD + "power_dpm_force_performance_level"), read(b.root, CARD + "pp_dpm_sclk")),
                  ("manual", "1"),
                  "two cards: both are set, each to its own level")
        write(b.root, CARD + "power/runtime_status", "suspended")
        before = stamps(b.root, CARD)
        k.apply(0, 2800 * MHZ)
        tap.equal((stamps(b.root, CARD), read(b.root, APU + "pp_dpm_sclk")), (before, "2"),
                  "one that falls asleep is left alone")
        k.release()
        tap.equal((stamps(b.root, CARD), read(b.root, APU + "power_dpm_force_performance_level")), (before, "auto"),
                  "also when clocks are released")
        write(b.root, CARD + "power/runtime_status", "active")
        tap.ok(wait_for(lambda: read(b.root, CARD + "power_dpm_force_performance_level") == "auto"),
               "it is given back once it wakes")
        tap.equal((k.close(), os.listdir(b.state)), (0, []), "and then nothing is owed")
    for name in ("falls asleep", "has no target any more"):
        with Board("amd-apu") as b:
            b.second_card("active")
            k = b.start()
            os.unlink(b.root + CARD + "pp_dpm_sclk")
            os.mkdir(b.root + CARD + "pp_dpm_sclk")
            state = k.apply(0, 1100 * MHZ, 2000 * MHZ).state[1]
            if name == "falls asleep":
                write(b.root, CARD + "power/runtime_status", "suspended")
            else:
                k.apply(0, 0, 2000 * MHZ)
            notices = notices_for(k, 1)
            tap.ok(state == DEGRADED and notices <= 20,
                   f"a card that is to be tried again and {name}: the keeper does not spin", (state, notices))


def suspended_intel():
    """xe resumes a card whose files are read: not even that is done."""
    with Board("intel-xe-laptop") as b:
        card = "/sys/devices/pci0000:00/0000:00:02.0/"
        files = [f"{b.root}{card}tile0/gt0/freq0/{name}" for name in os.listdir(b.root + card + "tile0/gt0/freq0")]
        os.makedirs(b.root + card + "power", exist_ok=True)
        for status, touched in (("suspended", False), ("active", True)):
            write(b.root, card + "power/runtime_status", status)
            for file in files:
                os.utime(file, ns=(0, 10**9))  # a read sets the time of access, also where that is done rarely
            k = b.start()
            reply = k.apply(0, 600 * MHZ)
            seen = any(os.stat(file).st_atime_ns or os.stat(file).st_mtime_ns != 10**9 for file in files)
            tap.equal((seen, reply.actual[1]), (touched, 600 * MHZ if touched else 0), f"xe: a card that is {status}")
            k.close()


def levels():
    with Board("amd-apu") as b:
        write(b.root, APU + "pp_dpm_sclk", "0: 500Mhz\n1: 0Mhz *\n2: 2210Mhz")
        k = b.start()
        for mhz, mask in ((2210, "2"), (500, "0"), (900, "2")):
            reply = k.apply(0, mhz * MHZ)
            tap.equal((reply.state[1], read(b.root, APU + "pp_dpm_sclk")), (OK, mask),
                      f"a middle that is no level: {mhz} MHz is mask {mask}")
    with Board("amd-apu") as b:
        write(b.root, APU + "pp_dpm_sclk", "0: 500Mhz\n1: 1340Mhz *\n2: 2210Mhz")
        k = b.start()
        tap.equal((k.apply(0, 1000 * MHZ).actual[1], read(b.root, APU + "pp_dpm_sclk")), (2210 * MHZ, "2"),
                  "nor is one that is what is now")


def lost_masks():
    with Board("amd-apu") as b:
        k = b.start()
        k.apply(0, 1100 * MHZ)
        time.sleep(1.2)
        tap.equal(read(b.root, APU + "pp_dpm_sclk"), "1", "a mask that stands is not written again")
        write(b.root, APU + "pp_dpm_sclk", "0: 800Mhz\n1: 1100Mhz *\n2: 2800Mhz")
        time.sleep(1.2)
        tap.ok("1100Mhz *" in read(b.root, APU + "pp_dpm_sclk"), "nor one that the driver follows")
        write(b.root, APU + "pp_dpm_sclk", "0: 800Mhz *\n1: 1100Mhz\n2: 2800Mhz")
        tap.ok(wait_for(lambda: read(b.root, APU + "pp_dpm_sclk") == "1"), "one that the driver lost is",
               read(b.root, APU + "pp_dpm_sclk"))
        os.makedirs(b.root + "/sys/power/suspend_stats")
        write(b.root, "/sys/power/suspend_stats/success", 0)
        time.sleep(1.2)
        write(b.root, APU + "pp_dpm_sclk", "0: 800Mhz\n1: 1100Mhz *\n2: 2800Mhz")
        write(b.root, "/sys/power/suspend_stats/success", 1)
        tap.ok(wait_for(lambda: read(b.root, APU + "pp_dpm_sclk") == "1"), "and all are after a suspend")


def reset_by_a_suspend():
    """Drivers that come back from a suspend with the values of their start: no other owner wrote those."""
    xe = "/sys/devices/pci0000:00/0000:00:02.0/tile0/gt0/freq0/"
    rps = I915 + "card0/gt/gt0/rps_"
    for name, target, files in (
            ("amd-apu", (0, 1100 * MHZ), [APU + "power_dpm_force_performance_level"]),
            ("intel-xe-laptop", (0, 600 * MHZ), [xe + "max_freq", xe + "min_freq"]),
            ("intel-laptop", (0, 400 * MHZ), [rps + x + "_freq_mhz" for x in ("max", "min", "boost")]),
            ("jetson-orin-nano", (806400000,), [CPU0 + "scaling_max_freq", CPU0 + "scaling_min_freq"]),
            ("jetson-orin-nano", (0, 510 * MHZ), [ORIN_GPU + "max_freq", ORIN_GPU + "min_freq"]),
            ("jetson-orin-nano", (0, 0, 665600000), [EMC + "mrq_rate_locked", EMC + "rate"])):
        with Board(name) as b:
            os.makedirs(b.root + "/sys/power/suspend_stats", exist_ok=True)
            write(b.root, "/sys/power/suspend_stats/success", 0)
            before = [read(b.root, file) for file in files]
            k = b.start()
            k.apply(*target)
            ours = [read(b.root, file) for file in files]
            tap.ok(all(was != now for was, now in zip(before, ours)), f"{name}: {len(files)} knobs are set",
                   (before, ours))
            for file, text in zip(files, before):
                write(b.root, file, text)
            write(b.root, "/sys/power/suspend_stats/success", 1)
            tap.ok(wait_for(lambda: [read(b.root, file) for file in files] == ours),
                   "originals that are in force again after a suspend: the target is written again",
                   [read(b.root, file) for file in files])
            for file, text in zip(files, before):
                write(b.root, file, text)
            write(b.root, "/sys/power/suspend_stats/success", 2)
            reply = k.apply(*target)
            tap.equal((FOREIGN in reply.state, [read(b.root, file) for file in files]), (False, ours),
                      "also by a target that comes before that is looked at")
            for file, text in zip(files, before):
                write(b.root, file, text)
            reply = k.apply(*target)
            tap.equal((FOREIGN in reply.state, [read(b.root, file) for file in files]), (True, before),
                      "without one they are another owner's")
            tap.equal((k.close(), [read(b.root, file) for file in files]), (0, before), "and all is as found")


def original_as_read_back():
    """The original read back right after a write, which may also be a value that another writer set back, is the
    driver's form of the value only until a suspend, which may have reset it."""
    boost = "gt0/rps_boost_freq_mhz"
    with Board("intel-laptop") as b:
        log = b.path + "/log"
        os.makedirs(b.root + "/sys/power/suspend_stats", exist_ok=True)
        write(b.root, "/sys/power/suspend_stats/success", 0)
        k = b.start(binary=os.path.join(RELEASE, "flamed-keeper"),
                    env={"LD_PRELOAD": os.path.join(BUILD, "tests/keeper/shim.so"), "SHIM_ROOT": b.root,
                         "SHIM_STATE": b.state, "SHIM_IGNORE": boost, "SHIM_LOG": log})

        def writes():
            k.apply(0, 400 * MHZ)
            return sum(boost in line for line in open(log))

        tap.equal((writes(), writes()), (1, 1), "the original as read back after a write: the value is written once")
        write(b.root, "/sys/power/suspend_stats/success", 1)
        tap.equal(writes(), 2, "and once more after a suspend")
        tap.equal(k.close(), 0, "and ends with 0")


def reset_beside_one_that_fails():
    """A suspend that is noticed when a policy is tried again: the others are set again too."""
    with Board("jetson-orin-nano") as b:
        os.makedirs(b.root + "/sys/power/suspend_stats", exist_ok=True)
        write(b.root, "/sys/power/suspend_stats/success", 0)
        files = [CPU0 + "scaling_max_freq", CPU0 + "scaling_min_freq"]
        before = [read(b.root, file) for file in files]
        k = b.start()
        # a knob that cannot be read: its policy is tried again after 10, 20, 40 ms, before targets are checked
        os.rename(b.root + CPU4 + "scaling_max_freq", b.path + "/kept")
        os.mkdir(b.root + CPU4 + "scaling_max_freq")
        reply = k.apply(806400000)
        ours = [read(b.root, file) for file in files]
        tap.equal((reply.state[0], ours), (DEGRADED, ["806400"] * 2), "one policy fails, the other one is set")
        k.process.send_signal(signal.SIGSTOP)
        for file, text in zip(files, before):
            write(b.root, file, text)
        write(b.root, "/sys/power/suspend_stats/success", 1)
        time.sleep(0.7)
        k.process.send_signal(signal.SIGCONT)
        tap.ok(wait_for(lambda: [read(b.root, file) for file in files] == ours, 5),
               "originals that are in force again after a suspend are replaced",
               [read(b.root, file) for file in files])
        os.rmdir(b.root + CPU4 + "scaling_max_freq")
        os.rename(b.path + "/kept", b.root + CPU4 + "scaling_max_freq")
        reply = k.apply(806400000)
        tap.equal((reply.state[0], read(b.root, CPU4 + "scaling_max_freq")), (OK, "806400"),
                  "nobody else's write is seen")
        tap.equal((k.close(), [read(b.root, file) for file in files]), (0, before), "and all is as found")


def boost_of_i915():
    with Board("intel-laptop") as b:
        boost = I915 + "card0/gt/gt0/rps_boost_freq_mhz"
        k = b.start()
        k.apply(0, 400 * MHZ)
        tap.equal(read(b.root, boost), "400", "i915: boost does not exceed the pinned maximum")
        k.apply(0, 900 * MHZ)
        tap.equal(read(b.root, boost), "900", "and follows it")
        tap.equal((k.close(), read(b.root, boost)), (0, "1350"), "and is given back")


def renumber(b, old, new):
    os.rename(b.root + I915 + old, b.root + I915 + new)
    os.unlink(b.root + "/sys/class/drm/" + old)
    os.symlink("../../devices/pci0000:00/0000:00:02.0/drm/" + new, b.root + "/sys/class/drm/" + new)


def renumbered():
    with Board("intel-laptop") as b:
        highest = {name: read(b.root, I915 + "card0/gt/gt0/rps_%s_freq_mhz" % name) for name in ("min", "max", "boost")}
        k = b.start()
        k.apply(0, 400 * MHZ)
        renumber(b, "card0", "card1")
        k.rescan()
        tap.equal((k.apply(0, 600 * MHZ).state[1], read(b.root, I915 + "card1/gt/gt0/rps_max_freq_mhz")), (OK, "600"),
                  "a card with another number is the same card")
        k.process.kill()
        k.process.wait()
        renumber(b, "card1", "card7")
        tap.equal(b.start().close(), 0, "and again, before the journal is replayed")
        tap.equal({name: read(b.root, I915 + "card7/gt/gt0/rps_%s_freq_mhz" % name) for name in highest}, highest,
                  "all of it is given back")


def gone_for_good():
    """A policy that goes and stays away is missed by the session that it belonged to, not by those to come."""
    with Board("jetson-orin-nano") as b:
        k = b.start()
        k.apply(806400000)
        os.rename(b.root + CPU4, b.path + "/policy4")
        reply = k.apply(1036800000)
        tap.equal((reply.state[0], "policy4" in reply.text), (LOST, True), "a policy goes in a session: it is missed")
        tap.equal(k.release().state[0], OK, "once the clocks are released it is not")
        reply = k.apply(806400000)
        tap.equal((reply.state[0], read(b.root, CPU0 + "scaling_max_freq")), (OK, "806400"),
                  "the next session does without")
        shutil.copytree(b.path + "/policy4", b.root + CPU4)
        write(b.root, CPU4 + "scaling_min_freq", 729600)
        write(b.root, CPU4 + "scaling_max_freq", 1728000)
        tap.ok(wait_for(lambda: read(b.root, CPU4 + "scaling_max_freq") == "806400"), "and takes it in once it is back")
        tap.equal((k.close(), read(b.root, CPU4 + "scaling_max_freq"), read(b.root, CPU4 + "scaling_min_freq")),
                  (0, "1728000", "729600"), "it is given back")


def one_owner():
    with Board("jetson-orin-nano") as b:
        k = b.start()
        k.apply(1000 * MHZ)
        os.mkdir(b.path + "/other")
        second = Keeper(b.root, b.path + "/other", hello=False)
        status = second.process.wait(timeout=30)
        said = second.stderr()
        tap.equal(status, 1, "a second keeper on the same sysroot ends")
        tap.ok(f"process {k.process.pid}" in said and "flamed-keeper" in said and b.root in said,
               "and says who holds it", said)
        tap.equal((read(b.root, CPU0 + "scaling_max_freq"), os.listdir(b.path + "/other")), ("1036800", []),
                  "nothing was written by it")
        k.close()
        again = Keeper(b.root, b.path + "/other")
        tap.equal((again.apply(1000 * MHZ).state[0], again.close()), (OK, 0),
                  "once the first is gone, the other serves")


def passed_on():
    """flamed hands its end of the socket to an accomplice, and dies."""
    with Board("jetson-orin-nano") as b:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pid = os.fork()
        if pid == 0:
            k = Keeper(b.root, b.state)
            k.apply(1000 * MHZ)
            there.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [k.sock.fileno()]))])
            there.recv(1)
            os._exit(0)
        there.close()
        _, ancillary, _, _ = here.recvmsg(1, socket.CMSG_SPACE(4))
        kept = array.array("i", ancillary[0][2])[0]
        held = read(b.root, CPU0 + "scaling_max_freq")
        here.send(b"x")
        os.waitpid(pid, 0)
        tap.equal(held, "1036800", "the clocks are held")
        tap.ok(wait_for(lambda: read(b.root, CPU0 + "scaling_max_freq") == "1728000" and os.listdir(b.state) == []),
               "all is given back when flamed dies, whoever has its socket", read(b.root, CPU0 + "scaling_max_freq"))
        os.close(kept)
        here.close()


def write_times():
    """Times to move a clock up and down, measured separately."""
    names = struct.Struct("=6QI")
    with Board("jetson-orin-nano") as b:
        k = b.start()

        def apply(mhz):
            serial = k.send(APPLY, mhz * MHZ)
            while True:
                data = k.sock.recv(REPLY.size + names.size + 64)
                reply = Reply(data[:REPLY.size], [])
                if reply.serial == serial and reply.op == APPLIED:
                    return reply, names.unpack(data[REPLY.size:REPLY.size + names.size])
        apply(1000)
        reply, times = apply(1500)
        tap.ok(times[0] > 0 and times[0] <= reply.write_ns[0] and times[3] == 0, "a move up counts as one",
               (reply.write_ns, times))
        reply, times = apply(400)
        tap.ok(times[0] == 0 and 0 < times[3] <= reply.write_ns[0], "a move down too", (reply.write_ns, times))
        reply, times = apply(400)
        tap.ok(times[0] == 0 and times[3] == 0, "staying is neither", (reply.write_ns, times))


for test in (suspended, suspended_intel, levels, lost_masks, reset_by_a_suspend, original_as_read_back,
             reset_beside_one_that_fails, boost_of_i915, renumbered, gone_for_good, one_owner, passed_on, write_times):
    try:
        test()
    except (OSError, TimeoutError, AttributeError) as e:
        tap.ok(False, f"{test.__name__} came to its end", repr(e))
tap.done()
