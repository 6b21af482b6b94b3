#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""Clocks of a workstation's GPU, locked through NVML: only with a board file, reset to the default in all
cases, journalled, checked under load. Against a stand-in for the library."""
import signal

from keeper import *

MHZ = 10**6
tap = Tap()
STANDIN = os.path.join(RELEASE, "tests/keeper/nvml")
FILE = """[board]
name = workstation
match = *
[gpu]
path = /nvml/{bus}/graphics
method = nvml
frequencies = 210 MHz, 900 MHz, 1500 MHz, 1980 MHz
[mem]
path = /nvml/{bus}/memory
method = nvml
frequencies = 405 MHz, 2619 MHz
"""


class Board:
    """A machine with cpufreq and one NVIDIA GPU, and a keeper on it."""

    def __init__(self, bus="0000:01:00.0", file=True, library=STANDIN):
        self.path = tempfile.mkdtemp(prefix="flamed-nvml-")
        self.root, self.state, self.gpu, self.boards = (f"{self.path}/{name}" for name in ("root", "state", "gpu",
                                                                                           "boards"))
        for name in (self.root + "/sys", self.root + "/proc/device-tree", self.state, self.gpu, self.boards):
            os.makedirs(name)
        with open(self.root + "/proc/device-tree/model", "w") as f:
            f.write("workstation\0")
        if file:
            with open(self.boards + "/workstation.ini", "w") as f:
                f.write(FILE.format(bus=bus))
        self.library, self.keepers = library, []

    def __enter__(self):
        return self

    def keeper(self):
        env = {"STANDIN_NVML": self.gpu, "LD_LIBRARY_PATH": self.library}
        self.keepers.append(Keeper(self.root, self.state, boards=self.boards, env=env))
        return self.keepers[-1]

    def set(self, name, value):
        with open(f"{self.gpu}/{name}", "w") as f:
            f.write(str(value) + "\n")

    def get(self, name):
        try:
            return open(f"{self.gpu}/{name}").read().strip()
        except FileNotFoundError:
            return "default"

    def locks(self):
        return self.get("graphics_lock"), self.get("memory_lock")

    def calls(self, name):
        return self.get("calls").split("\n").count(name)

    def journal(self):
        return open(self.state + "/journal").read() if os.path.exists(self.state + "/journal") else ""

    def __exit__(self, *exc):
        for k in self.keepers:
            if k.process.poll() is None:
                k.process.kill()
            k.process.wait()
        remove(self.path)


def locked_and_reset():
    with Board() as b:
        k = b.keeper()
        reply = k.apply(gpu=1000 * MHZ, mem=2000 * MHZ)
        tap.equal((b.locks(), reply.actual[1:], reply.state[1:]), (("1500 1500", "2619 2619"), (1500 * MHZ,
                                                                                                2619 * MHZ), (OK,
                                                                                                              OK)),
                  "both clocks are locked to entries of the board file")
        tap.ok("/nvml/0000:01:00.0/graphics/lock =default" in b.journal(), "the journal says what is promised",
               b.journal())
        reply = k.apply(gpu=1980 * MHZ, mem=2619 * MHZ)
        tap.equal((b.locks()[0], reply.actual[1]), ("1980 1980", 1980 * MHZ), "up at once")
        k.release()
        tap.equal((b.locks(), b.journal()), (("default", "default"), ""), "released: reset to the default")
        k.apply(gpu=900 * MHZ)
        tap.equal((k.close(), b.locks()), (0, ("default", "default")), "flamed is gone: the same")


def never_by_itself():
    with Board(file=False) as b:
        k = b.keeper()
        reply = k.apply(gpu=1000 * MHZ)
        tap.equal((b.get("calls"), reply.actual[1]), ("default", 0), "without a board file NVML is not even loaded")
        tap.equal(k.close(), 0, "without a board file: exit status")


def dwell():
    with Board() as b:
        b.set("delay_us", 100000)
        k = b.keeper()
        k.apply(gpu=1980 * MHZ)
        begin = time.monotonic()
        reply = k.apply(gpu=900 * MHZ)
        tap.equal((b.locks()[0], reply.actual[1]), ("1980 1980", 1980 * MHZ),
                  "down again at once: not while it has paid for nothing")
        k.apply(gpu=1500 * MHZ)
        k.send(APPLY, gpu=900 * MHZ)
        tap.ok(wait_for(lambda: b.locks()[0] == "900 900", 30), "later it comes down by itself", b.locks())
        tap.ok(time.monotonic() - begin > 20 * 0.1 - 0.2, "after twenty times what the change took",
               time.monotonic() - begin)
        tap.equal((k.close(), b.locks()[0]), (0, "default"), "dwell: reset")


def under_load():
    with Board() as b:
        k = b.keeper()
        k.apply(gpu=1500 * MHZ)
        b.set("graphics_clock", 1200)
        b.set("reasons", "0x4")
        b.set("busy", 90)
        notice = k.receive()
        tap.equal((notice.op, notice.ceiling[1], notice.state[1]), (NOTICE, 1200 * MHZ, OK),
                  "held down under load: a ceiling")
        tap.ok("1200 MHz" in notice.text and "power cap" in notice.text, "with NVML's reason", notice.text)
        b.set("reasons", "0x100")
        b.set("graphics_clock", 300)
        notice = k.receive()
        tap.ok(notice.ceiling[1] == 300 * MHZ and "does not name" in notice.text, "or without one", notice.text)
        b.set("busy", 0)
        tap.equal(k.receive().ceiling[1], 0, "idle, a low clock says nothing")
        tap.equal((k.close(), b.locks()[0]), (0, "default"), "under load: reset")


def untold():
    for query in ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetClockInfo",
                  "nvmlDeviceGetCurrentClocksThrottleReasons"):
        with Board() as b:
            b.set("busy", 100)
            k = b.keeper()
            k.apply(gpu=900 * MHZ)
            b.set("fault", query + " 3")
            looks = b.calls(query) + 3
            tap.ok(wait_for(lambda: b.calls(query) >= looks), f"a GPU without {query}: looked at", b.get("calls"))
            tap.equal((b.locks()[0], b.calls("nvmlDeviceResetGpuLockedClocks")), ("900 900", 0),
                      f"a GPU without {query}: its lock stays")
            tap.equal((k.close(), b.locks()[0]), (0, "default"), f"a GPU without {query}: reset")


def foreign_reset():
    with Board() as b:
        k = b.keeper()
        k.apply(gpu=900 * MHZ)
        b.set("graphics_lock", "1980 1980")
        b.set("busy", 100)
        while True:
            notice = k.receive()
            if notice.state[1] == FOREIGN:
                break
        tap.ok("1980" in notice.text and "900" in notice.text, "somebody else's lock shows under load", notice.text)
        tap.equal(b.locks()[0], "1980 1980", "and is left")
        b.set("busy", 0)
        k.release()
        tap.equal(b.locks()[0], "1980 1980", "also by a release")
        reply = k.apply(gpu=900 * MHZ)
        tap.equal((reply.state[1], b.locks()[0]), (OK, "900 900"), "after which the clock is taken up again")
        tap.equal((k.close(), b.locks()[0]), (0, "default"), "foreign: reset what is ours")


def killed():
    with Board() as b:
        k = b.keeper()
        k.apply(gpu=900 * MHZ, mem=405 * MHZ)
        k.process.send_signal(signal.SIGKILL)
        k.process.wait()
        tap.equal(b.locks(), ("900 900", "405 405"), "a keeper that is killed leaves its locks")
        b.set("fault", "nvmlDeviceResetGpuLockedClocks 999")
        k = b.keeper()
        tap.equal((b.locks(), b.journal() != ""), (("900 900", "default"), True),
                  "what cannot be reset stays in the journal")
        os.unlink(b.gpu + "/fault")
        tap.ok(wait_for(lambda: b.locks()[0] == "default" and not b.journal()), "and is reset later", b.locks())
        tap.equal(k.close(), 0, "killed: exit status of the next keeper")
        k = b.keeper()
        k.apply(gpu=900 * MHZ)
        k.process.send_signal(signal.SIGKILL)
        k.process.wait()
        done = subprocess.run([os.path.join(BUILD, "flamed"), "--restore", "--sysroot", b.root, "--state-dir", b.state],
                              env=dict(os.environ, STANDIN_NVML=b.gpu, LD_LIBRARY_PATH=STANDIN), capture_output=True,
                              text=True)
        tap.equal((done.returncode, b.locks()[0]), (0, "default"), "flamed --restore does it, too")


def faults():
    cases = [("no permission", "nvmlDeviceSetGpuLockedClocks 4", "Operation not permitted", DEGRADED),
             ("not supported", "nvmlDeviceSetGpuLockedClocks 3", "Operation not supported", DEGRADED),
             ("an argument it refuses", "nvmlDeviceSetGpuLockedClocks 2", "Invalid argument", DEGRADED),
             ("a GPU that is lost", "nvmlDeviceGetHandleByPciBusId_v2 15", "No such device", LOST),
             ("no driver", "nvmlInit_v2 9", "Input/output error", DEGRADED)]
    for name, fault, said, state in cases:
        with Board() as b:
            b.set("fault", fault)
            k = b.keeper()
            reply = k.apply(gpu=900 * MHZ)
            tap.ok(reply.state[1] == state and said in reply.text, f"{name}: said", (reply.state, reply.text))
            os.unlink(b.gpu + "/fault")
            tap.ok(wait_for(lambda: b.locks()[0] == "900 900"), f"{name}: tried again", b.locks())
            tap.equal((k.close(), b.locks()[0], b.journal()), (0, "default", ""), f"{name}: nothing is owed")
    with Board() as b:
        b.set("fault", "nvmlDeviceSetGpuLockedClocks 4")
        k = b.keeper()
        k.apply(gpu=900 * MHZ)
        tap.equal((k.close(), b.journal()), (0, ""), "never locked: nothing to reset")
    with Board() as b:
        k = b.keeper()
        k.apply(gpu=900 * MHZ)
        b.set("fault", "nvmlDeviceGetHandleByPciBusId_v2 15")
        reply = k.apply(gpu=1500 * MHZ)
        tap.equal(reply.state[1], LOST, "lost while it is locked")
        tap.equal((k.close(), b.journal()), (0, ""), "its lock is gone with it")
    with Board(bus="0000:02:00.0") as b:
        k = b.keeper()
        reply = k.apply(gpu=900 * MHZ)
        tap.ok(reply.state[1] == LOST and "0000:02:00.0" in reply.text, "a board file that names another GPU",
               reply.text)
        tap.equal(k.close(), 0, "another GPU: exit status")
    for library, why in (("/nonexistent", "no library"), (None, "a library that is too old")):
        with Board() as b:
            if library is None:
                with open(b.path + "/old.c", "w") as f:
                    f.write("int nvmlInit_v2(void) { return 0; }\n")
                os.mkdir(b.path + "/old")
                subprocess.run(["gcc", "-shared", "-fPIC", "-o", b.path + "/old/libnvidia-ml.so.1",
                                b.path + "/old.c"], check=True)
            b.library = library or b.path + "/old"
            k = b.keeper()
            reply = k.apply(gpu=900 * MHZ)
            tap.ok(reply.state[1] == DEGRADED and "shared library" in reply.text, f"{why}: said", (reply.state,
                                                                                                   reply.text))
            tap.equal((k.close(), b.journal()), (0, ""), f"{why}: nothing is owed")


for part in (locked_and_reset, never_by_itself, dwell, under_load, untold, foreign_reset, killed, faults):
    part()
tap.done()
