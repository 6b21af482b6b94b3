# SPDX-License-Identifier: MIT
"""Helpers of the board tests: TAP, a running board, its page, its knobs."""
import ctypes, glob, mmap, os, shutil, signal, subprocess, sys, tempfile, threading, time

BUILD = os.environ.get("BUILD_DIR", "build/asan")
RELEASE = os.environ.get("RELEASE_DIR", "build/release")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lines import done, ok, skip  # noqa: E402, F401

# Percent by which the board's waits were too long, by the word of its own layer: the machine was busy with other work.
UNQUIET = 1.5   # a limit that is missed says nothing of flamed
A_LITTLE = 2.0  # said of a run in which the machine made a request late, however still it was else
ROUGH = 5.0     # nothing of the board can be measured any more


def judge(right, gross, late, name, note):
    """A limit that is not reached is a failure on a machine that held still: one that was late by no more than UNQUIET
    percent. On one that did not, the board was not there to be measured: a counted skip with its figures. A gross error
    is more than a little lateness explains."""
    if right or late <= UNQUIET or (gross and late <= ROUGH):
        ok(right, name, note)
    else:
        skip(name, f"the machine was busy with something else, and late by {late:.1f} %: {note}")


def say(text):
    print("# | " + text, flush=True)


class Model(ctypes.Structure):
    _fields_ = [("layers", ctypes.c_uint32)] + [(n, ctypes.c_double) for n in (
        "launch_cycles", "launch_us", "gpu_cycles", "mem_cycles", "exec_us", "gpu_cycles_per_token",
        "mem_cycles_per_token")]


U3 = ctypes.c_uint64 * 3
T3 = (ctypes.c_uint64 * 64) * 3
D3 = (ctypes.c_double * 64) * 3


class Page(ctypes.Structure):
    """struct page of board/page.h."""
    _fields_ = [("magic", ctypes.c_uint32), ("size", ctypes.c_uint32), ("max_hz", U3), ("min_hz", U3),
                ("settle_ns", U3),
                ("workload", Model * 2), ("steps", U3), ("table_hz", T3), ("idle_w", D3), ("busy_w", D3),
                ("base_w", ctypes.c_double), ("opencl", ctypes.c_double * 3),
                ("hz", U3), ("account", ctypes.c_uint64), ("now_ns", ctypes.c_uint64), ("power_uw", ctypes.c_uint64),
                ("energy_uj", ctypes.c_uint64), ("rejected", ctypes.c_uint64), ("moves", U3), ("busy_ns", U3),
                ("work_ns", U3)]


class Board:
    """A running flamed-board in a directory of its own."""

    def __init__(self, board="agx-orin", build=BUILD):
        self.dir = tempfile.mkdtemp(prefix="flamed-test-")
        self.root = self.dir + "/b"
        self.process = subprocess.Popen([build + "/flamed-board", self.root, "--board", board], stdout=subprocess.PIPE,
                                        text=True)
        self.ready = self.process.stdout.readline().strip()
        self.file = open(self.root + "/board.page", "r+b")
        self.map = mmap.mmap(self.file.fileno(), 0)
        self.page = Page.from_buffer(self.map)

    def path(self, name):
        return self.root + name

    def read(self, name):
        with open(self.path(name)) as f:
            return f.read().strip("\n\0")

    def write(self, name, value):
        """Returns the seconds that the write blocked."""
        begin = time.monotonic()
        with open(self.path(name), "w") as f:
            f.write(f"{value}\n")
        return time.monotonic() - begin

    def wait(self, condition, seconds=20.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.002)
        return bool(condition())

    def reads(self, name, value):
        return self.wait(lambda: self.read(name) == str(value))

    def policies(self):
        return sorted(p[len(self.root):] for p in glob.glob(self.root + "/sys/devices/system/cpu/cpufreq/policy*"))

    def gpu(self):
        return [p[len(self.root):] for p in glob.glob(self.root + "/sys/class/devfreq/*gpu*") +
                glob.glob(self.root + "/sys/class/devfreq/*ga10b")][0]

    EMC = "/sys/kernel/debug/bpmp/debug/clk/emc"

    def pin(self, cpu_hz, gpu_hz, mem_hz):
        """As a daemon would: up by max then min, down by min then max, then wait for the clocks."""
        for dir, low, high, value in [(p, "scaling_min_freq", "scaling_max_freq", cpu_hz // 1000)
                                      for p in self.policies()] + \
                [(self.gpu(), "min_freq", "max_freq", gpu_hz)]:
            for name in (high, low) if int(self.read(f"{dir}/{low}")) < value else (low, high):
                self.write(f"{dir}/{name}", value)
        self.write(self.EMC + "/mrq_rate_locked", 1)
        self.write(self.EMC + "/rate", mem_hz)
        return self.wait(lambda: list(self.page.hz) == [cpu_hz, gpu_hz, mem_hz])

    def knobs(self):
        """The files that pin() writes, and their contents."""
        names = [f"{p}/{n}" for p in self.policies() for n in ("scaling_max_freq", "scaling_min_freq")]
        names += [f"{self.gpu()}/max_freq", f"{self.gpu()}/min_freq", self.EMC + "/rate", self.EMC + "/mrq_rate_locked"]
        return {name: self.read(name) for name in names}

    def put_back(self, knobs):
        """Twice: limits must not cross on the way."""
        for _ in range(2):
            for name, value in knobs.items():
                self.write(name, value)

    def close(self):
        del self.page
        self.map.close()
        self.file.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(10)
        self.process.stdout.close()
        shutil.rmtree(self.dir)
        return status


class Power:
    """Samples of the board's power."""

    def __init__(self, board):
        self.board, self.samples, self.stop = board, [], threading.Event()
        self.watcher = threading.Thread(target=self.watch)

    def __enter__(self):
        self.watcher.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.watcher.join()

    def watch(self):
        while not self.stop.wait(0.005):
            self.samples.append((time.monotonic_ns(), self.board.page.power_uw))

    def mean(self, begin_ns, end_ns):
        kept = [uw for at, uw in self.samples if begin_ns <= at <= end_ns]
        return sum(kept) / max(len(kept), 1)


def workload(board, *args, build=RELEASE, env=None):
    """Run flamed-workload; returns (rows, summary) as dictionaries."""
    text = subprocess.run([build + "/flamed-workload", board.root, *args], check=True, capture_output=True, text=True,
                          env={**os.environ, **(env or {})}).stdout
    rows, summary = [], {}
    for line in text.splitlines():
        head, _, queue = line.partition(" queue=")
        row = dict(word.split("=", 1) for word in head.split() if "=" in word)
        if line.startswith("summary"):
            summary = {**row, "queue": queue}
        else:
            rows.append(row)
    return rows, summary
