# SPDX-License-Identifier: MIT
"""Helpers of the board tests: TAP, a running board, its page, its knobs."""
import ctypes, glob, itertools, mmap, os, shutil, signal, subprocess, sys, tempfile, threading, time

BUILD = os.environ.get("BUILD_DIR", "build/asan")
RELEASE = os.environ.get("RELEASE_DIR", "build/release")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lines import done, ok, skip, tied  # noqa: E402, F401

ROUNDS = 16     # in which points are looked for that do it for less,
STEPS = 12      # of each clock, at most


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
    """struct board_page of board/page.h."""
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
        self.process = tied(subprocess.Popen([build + "/flamed-board", self.root, "--board", board],
                                             stdout=subprocess.PIPE, text=True))
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
        status = self.process.wait(20)
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


def upper(values):
    """Of these, the one at flamed's own quantile (QUANTILE_DEFAULT)."""
    return sorted(values)[min(int(len(values) * 0.98), len(values) - 1)]


def at_most(a, b):
    """Is each clock of point a at most that of point b?"""
    return all(x <= y for x, y in zip(a, b))


class Work:
    """Needs of one inference of a program that a layer of the board slows down, by the board's own account of the work
    that it did at the highest clocks; bounds that follow from them by the board's own model (board/cost.c, power.h)."""

    def __init__(self, page, work_ns):
        self.page, self.work_ns, mem = page, list(work_ns), page.opencl[2]
        self.gpu_ns = self.work_ns[2] * (1 - mem) / mem # without what waits for memory

    def paces(self, point):
        """Least times of the host's launches and of all executions. No program's inference takes longer where both are
        shorter: the board takes the memory's share of every execution to be the same."""
        cpu, gpu, mem = (top / hz for top, hz in zip(self.page.max_hz, point))
        return self.work_ns[0] * cpu, ((self.gpu_ns * gpu) ** 3 + (self.work_ns[2] * mem) ** 3) ** (1 / 3)

    def least_uw(self, point, period_ns):
        """Power of one that takes the whole period, which is the least of all that keep it."""
        watts, page = self.page.base_w, self.page
        for c, ns in enumerate((self.work_ns[0], self.gpu_ns, self.work_ns[2])):
            step = list(page.table_hz[c][:page.steps[c]]).index(point[c])
            watts += page.idle_w[c][step] + page.busy_w[c][step] * ns * page.max_hz[c] / point[c] / period_ns
        return 1e6 * watts


def thinned(clocks):
    """At most STEPS of them, evenly spaced, with the lowest and the highest."""
    n = min(len(clocks), STEPS)
    return sorted({clocks[round(i * (len(clocks) - 1) / max(n - 1, 1))] for i in range(n)})


def points_for_less(page, work, wanted, measure):
    """Look for points that keep a period for less than a power, without any estimate of flamed's: `wanted` is
    {period_ns: uw}, measure(points) returns {point: (ns, uw)} of those that could be measured. A point that is too slow
    rules out those of no faster pace, and one in time all above it, which need more power. Measured first are points
    that rule out many either way. Ends when every point is ruled out or measured. Returns {point: (ns, uw)}, and the
    points that are left after ROUNDS calls of measure()."""
    pace = {point: work.paces(point) for point in
            itertools.product(*(thinned(list(page.table_hz[c][:page.steps[c]])) for c in range(3)))}
    could = {period: [point for point in pace if max(pace[point]) <= period and work.least_uw(point, period) < uw]
             for period, uw in wanted.items()}
    measured = {}

    def slower(a, b):
        return at_most(pace[b], pace[a])

    def middle(points):
        """Of these, some none of which can rule out another."""
        chosen = []
        for point in sorted(points, key=lambda point: -min(sum(slower(other, point) for other in points),
                                                           sum(at_most(point, other) for other in points))):
            if not any(slower(point, other) or slower(other, point) or at_most(point, other) or at_most(other, point)
                       for other in chosen):
                chosen.append(point)
        return chosen

    for _ in range(ROUNDS):
        for period in could:
            slow = [point for point, (ns, _) in measured.items() if ns > period]
            fast = [point for point, (ns, _) in measured.items() if ns <= period]
            least = min([wanted[period], *(measured[point][1] for point in fast)])
            could[period] = [point for point in could[period] if work.least_uw(point, period) < least
                             and not any(slower(point, other) for other in slow)
                             and not any(at_most(other, point) for other in fast)]
        if not any(could.values()):
            break
        measured.update(measure(sorted({point for points in could.values() for point in middle(points)})))
    return measured, sorted({point for points in could.values() for point in points})


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
