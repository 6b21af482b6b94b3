#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The proof: Debian's OpenCV DNN, unmodified, on PoCL, on a board whose clocks it feels. Two networks are profiled at
8 operating points by flamectl, 12 others are predicted and then measured; and each runs under three deadlines."""
import csv, io, json, math, os, random, re, shutil, subprocess, sys, tempfile, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../board"))
import boardlib
from boardlib import A_LITTLE, UNQUIET, done, judge, ok, say, skip

BIN = os.path.abspath(boardlib.RELEASE)
DNN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dnn.py")
PYTHON = "/usr/bin/python3"
ERROR_MAX = 5.0      # mean, percent
POWER_MAX = 1.05     # of the cheapest point that meets the deadline
MISSED_MAX = 0.01
GROSS_ERROR, GROSS_POWER, GROSS_MISSED = 3 * ERROR_MAX, 1.3, 0.1 # these fail on a machine that is a little unquiet, too
SEEN_FIRST = 5       # inferences that teach the layer where one ends
LEARNT_FROM = 30     # more that flamed may learn from
COUNTED = 100        # and those that count
WARM = 3             # of a measurement at fixed clocks
AGREED = 2           # requests near the deadline that two clocks may see on either side of it
TRIES = 2
RUNS = 4             # under a deadline, until the machine made none of the requests late
EXEC_SLOW, HOST_SLOW = 40, 80 # of the board; see slower_board()
SWEEP = 4


def slower_board():
    """The Orin Nano of board/, slower still, its GPU more so: launches and executions meet half way up
    the clocks, and what a shared machine adds stays small beside the board's times. Bounds have to
    allow for that, so that it would cost power."""
    text = open(BIN + "/boards/orin-nano.ini").read()
    path = tempfile.mktemp(prefix="flamed-proof-", suffix=".ini")
    with open(path, "w") as f:
        f.write(re.sub(r"(?m)^host_slow = .*", f"host_slow = {HOST_SLOW}",
                       re.sub(r"(?m)^exec_slow = .*", f"exec_slow = {EXEC_SLOW}", text)))
    return path


class Proof:
    def __init__(self):
        file = slower_board()
        self.board = boardlib.Board(file, BIN)
        os.unlink(file)
        self.page = self.board.page
        self.axes = [[int(self.page.table_hz[c][i]) for i in range(self.page.steps[c])] for c in range(3)]
        self.run_dir, self.state = self.board.dir + "/run", self.board.dir + "/state"
        self.conf = self.board.dir + "/flamed.conf"
        with open(self.conf, "w") as f:
            # use the 8 points; short runs
            f.write("[flamed]\nready_width = 0.03\ngain_min = 0.002\nmem_dwell = 300ms\n")
        self.env = dict(os.environ, FLAMED_BOARD=self.board.root, FLAMED_SOCKET=self.run_dir + "/flamed.sock",
                        FLAMED_OPENCL_LAYER=BIN + "/libflamed-opencl.so",
                        OPENCL_LAYERS=BIN + "/libflamed-board-opencl.so",
                        HOME=self.board.dir, POCL_CACHE_DIR=self.board.dir + "/pocl", ASAN_OPTIONS="detect_leaks=0")
        self.flamed = None
        self.late = 0        # percent by which the machine was late in the best try of the worst measurement
        self.originals = self.board.knobs()

    def words(self, kind, runs):
        """The program that runs `runs` inferences of a network."""
        return [PYTHON, DNN, kind, str(runs)]

    def without(self):
        """Environment without board and layer."""
        return dict(self.env, OPENCL_LAYERS="")

    def layered(self):
        """What puts the layer under a program that flamectl does not start."""
        return {"OPENCL_LAYERS": self.env["OPENCL_LAYERS"] + ":" + self.env["FLAMED_OPENCL_LAYER"]}

    def start(self):
        self.log = open(self.board.dir + "/flamed.log", "a")
        self.flamed = subprocess.Popen([BIN + "/flamed", "--sysroot", self.board.root, "--runtime-dir", self.run_dir,
                                        "--state-dir",
                                        self.state, "--config", self.conf], stderr=self.log)
        end = time.monotonic() + 10
        while time.monotonic() < end and self.ctl("models").returncode != 0:
            time.sleep(0.1)

    def stop(self):
        self.flamed.terminate()
        self.flamed.wait(20)
        self.log.close()
        self.flamed = None

    def close(self):
        if self.flamed:
            self.stop()
        self.page = None
        self.board.close()

    def ctl(self, *words, timeout=300):
        return subprocess.run([BIN + "/flamectl", *map(str, words)], env=self.env, capture_output=True, text=True,
                              timeout=timeout)

    def watch_power(self, stop, out):
        while not stop.wait(0.004):
            out.append((time.monotonic_ns(), self.page.power_uw))

    def run(self, words, **env):
        """Runs a program; returns it and its inferences as the board saw them."""
        stop, power, waits = threading.Event(), [], self.board.dir + "/waits.csv"
        watcher = threading.Thread(target=self.watch_power, args=(stop, power))
        watcher.start()
        done = subprocess.run(words, env=dict(self.env, FLAMED_BOARD_WAITS=waits, **env), capture_output=True,
                              text=True, timeout=300)
        stop.set()
        watcher.join()
        return done, Seen(rows_of(open(waits).read()), power)

    def measure(self, kind, point):
        """At a point, without flamed: median latency as the layer sees it, power, longest by the board's word."""
        self.board.pin(*point)
        tried, late = [], []
        for _ in range(TRIES):
            run, seen = self.run(self.words(kind, 12), **self.layered(), FLAMED_SUMMARY="2",
                                 FLAMED_SOCKET="/nonexistent")
            tried.append((int(re.search(r"median_ns=(\d+)", run.stderr)[1]), seen.power(WARM),
                          max(due for _, _, due in seen.inferences[WARM:])))
            late.append(seen.late_percent(WARM))
            if late[-1] <= UNQUIET:
                break
        self.late = max(self.late, min(late))
        return min(tried)


class Seen:
    """Inferences of a run as the board's own layer measured them: (end, what it took, what it would
    have taken on a machine that is never late), in ns, and the board's power meanwhile."""

    def __init__(self, rows, power):
        launches = max((int(row["launches"]) for row in rows), default=0)
        self.inferences = [(int(row["at_ns"]), int(row["total_ns"]), int(row["due_ns"])) for row in rows
                           if int(row["launches"]) == launches]
        self.samples = power

    def power(self, first):
        """Mean while those from number `first` on ran."""
        begin, end = self.inferences[first][0] - self.inferences[first][1], self.inferences[-1][0]
        kept = [uw for at, uw in self.samples if begin <= at <= end]
        return sum(kept) / max(len(kept), 1)

    def late_percent(self, first):
        kept = self.inferences[first:]
        return 100 * (sum(total for _, total, _ in kept) / sum(due for _, _, due in kept) - 1)


def waits_late(text):
    """Percent by which the board's waits were too long in the worst process, by the word of the board's own layer."""
    found = re.findall(r"waits ([\d.]+) % too long", text)
    return max(map(float, found)) if found else math.inf


def mhz(point):
    return "/".join(f"{hz / 1e6:.0f}" for hz in point)


def additive(samples, points):
    """a + e/fc + b/fg + c/fm, least squares on relative error: what adding up comes to."""
    import numpy as np
    row = lambda p: [1, 1e9 / p[0], 1e9 / p[1], 1e9 / p[2]]
    a = np.array([[x / s[1] for x in row(s[0])] for s in samples])
    w = np.linalg.lstsq(a, np.ones(len(samples)), rcond=None)[0]
    return [float(np.dot(row(p), w)) for p in points]


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def point_of(row):
    return tuple(int(row[c + "_hz"] or 0) for c in ("cpu", "gpu", "mem"))


def predict_and_measure(proof, kind):
    proof.start()
    r = proof.ctl("profile", kind, "--budget", "8", "--", *proof.words(kind, 600))
    ok(r.returncode == 0, f"{kind}: profiled by flamectl in the background of nothing but its command",
       r.stdout[-600:] + r.stderr[-600:])
    proof.stop()
    files = sorted(f for f in os.listdir(proof.state + "/models") if f.startswith(kind)
                   and not f.endswith(".layers.csv"))
    path = f"{proof.state}/models/{files[0]}" if files else "/nonexistent"
    samples = [(point_of(row), float(row["latency_ns"])) for row in rows_of(open(path).read())]
    layers = path[:-4] + ".layers.csv"
    ok(1 <= len({s[0] for s in samples}) <= 8, f"{kind}: at no more than 8 operating points", samples)
    pick, points = random.Random(kind), set()
    while len(points) < 12:
        point = tuple(pick.choice(axis) for axis in proof.axes)
        if point not in {s[0] for s in samples}:
            points.add(point)
    points = sorted(points)
    wanted = proof.board.dir + "/points.csv"
    with open(wanted, "w") as f:
        f.write("cpu_hz,gpu_hz,mem_hz\n" + "".join(f"{p[0]},{p[1]},{p[2]}\n" for p in points))
    answer = proof.ctl("predict", "--samples", path, "--points", wanted, "--layers", layers)
    predicted = {point_of(row): float(row["latency_ns"]) for row in rows_of(answer.stdout)}
    ok(len(predicted) == 12, f"{kind}: 12 others predicted before they are measured", answer.stderr)
    plain = additive(samples, points)
    proof.board.pin(*[axis[-1] for axis in proof.axes])
    proof.late = waits_late(r.stderr)
    measured = {p: proof.measure(kind, p)[0] for p in points}
    proof.board.put_back(proof.originals)
    error = [abs(predicted[p] / measured[p] - 1) * 100 for p in points]
    other = [abs(a / measured[p] - 1) * 100 for a, p in zip(plain, points)]
    say(f"{kind}: {len(samples)} points profiled, 12 others predicted: mean error {sum(error) / 12:.2f} %, worst "
        f"{max(error):.1f} %; "
        f"adding up: {sum(other) / 12:.1f} %, worst {max(other):.1f} %")
    detail = [f"{mhz(p)} MHz: measured {measured[p] / 1e6:.2f} ms, predicted {predicted[p] / 1e6:.2f} ms"
              for p in points]
    judge(sum(error) / 12 <= ERROR_MAX, sum(error) / 12 > GROSS_ERROR, proof.late,
          f"{kind}: mean error <= {ERROR_MAX:g} %", "; ".join(detail))
    judge(sum(error) < sum(other), True, proof.late, f"{kind}: better than adding up", f"{error} {other}")
    return path, layers


def surface(proof, path, layers):
    """Predicted latency and power of every point of the grid."""
    everywhere = proof.board.dir + "/grid.csv"
    with open(everywhere, "w") as f:
        f.write("cpu_hz,gpu_hz,mem_hz\n" + "".join(f"{c},{g},{m}\n" for c in proof.axes[0] for g in proof.axes[1]
                                                   for m in proof.axes[2]))
    r = proof.ctl("predict", "--samples", path, "--points", everywhere, "--layers", layers)
    return [(point_of(row), float(row["latency_ns"]), float(row["power_uw"] or 0)) for row in rows_of(r.stdout)]


class Tally:
    """Of the inferences that count: power, how many were missed, and missed by decision (on a machine that is never
    late they would have been missed as well); percent by which the machine was late in these, and from the first
    request on: at least a little where it made one miss."""

    def __init__(self, seen, deadline_ns):
        counted, requests = seen.inferences[-COUNTED:], seen.inferences[SEEN_FIRST:]
        self.power = seen.power(len(seen.inferences) - COUNTED)
        self.missed, self.decided = (sum(pair[i] > deadline_ns for pair in counted) for i in (1, 2))
        blamed = any(total > deadline_ns >= due for _, total, due in requests)
        self.late = max(seen.late_percent(-COUNTED), A_LITTLE if self.missed != self.decided else 0)
        self.late_ever = max(seen.late_percent(SEEN_FIRST), A_LITTLE if blamed else 0)


def under_deadline(proof, kind, deadline_ns, plain):
    """Run under a deadline; again, from what flamed knew before, where the machine disturbed it."""
    before = proof.board.dir + "/state.before"
    shutil.copytree(proof.state, before)
    for _ in range(RUNS):
        shutil.rmtree(proof.state)
        shutil.copytree(before, proof.state)
        proof.start()
        tally = run_once(proof, kind, deadline_ns, plain)
        proof.stop()
        if tally.late_ever <= UNQUIET:
            break
    shutil.rmtree(before)
    judge(tally.decided <= MISSED_MAX * COUNTED, tally.decided > GROSS_MISSED * COUNTED, tally.late,
          f"{kind}: deadline {deadline_ns / 1e6:.0f} ms: misses <= 1 % after {LEARNT_FROM}, those apart in which the "
          f"machine was late by the board's word",
          f"{tally.missed} missed of {COUNTED}, {tally.decided} by decision")
    return tally


def run_once(proof, kind, deadline_ns, plain):
    words = [BIN + "/flamectl", "--json", "run", "--model", kind, "--deadline", f"{deadline_ns}ns", "--"]
    r, seen = proof.run(words + proof.words(kind, SEEN_FIRST + LEARNT_FROM + COUNTED))
    tally = json.loads("{" + r.stderr.split("{", 1)[1].rsplit("}", 1)[0] + "}") if "{" in r.stderr else {}
    name = f"{kind}: deadline {deadline_ns / 1e6:.0f} ms"
    ok(r.stdout == plain.stdout, f"{name}: outputs bit-identical", f"{r.stdout} {plain.stdout} {r.stderr[-500:]}")
    requests, told = int(tally.get("requests", 0)), int(tally.get("missed", 10 ** 6))
    over = sum(total > deadline_ns for _, total, _ in seen.inferences[-requests:])
    counts = Tally(seen, deadline_ns)
    judge(requests >= LEARNT_FROM + COUNTED and abs(over - told) <= AGREED, False, counts.late_ever,
          f"{name}: every inference was a request, and flamed saw what the board saw",
          f"{requests} requests, missed {told} by flamed's count, {over} by the board's")
    say(f"{name}: {counts.missed} of {COUNTED} missed, {counts.missed - counts.decided} of them because this machine "
        f"was late; flamed's own count "
        f"with the first {requests - COUNTED}: {told}")
    return counts


def cheapest(proof, kind, deadline_ns, power, grid):
    """Look for a point that meets the deadline for less: those thought cheaper by more than allowed,
    likeliest first."""
    hopeful = sorted((g for g in grid if g[2] < power / POWER_MAX and g[1] < deadline_ns * 1.10),
                     key=lambda g: g[1] / deadline_ns + g[2] / power)
    best = None
    for point, _, _ in hopeful[:SWEEP]:
        _, watts, longest = proof.measure(kind, point)
        if longest <= deadline_ns and (best is None or watts < best[1]):
            best = (point, watts)
    return best, min(len(hopeful), SWEEP)


def deadlines(proof, kind, path, layers):
    grid = surface(proof, path, layers)
    fastest = min(g[1] for g in grid)
    plain = subprocess.run(proof.words(kind, SEEN_FIRST + LEARNT_FROM + COUNTED), env=proof.without(),
                           capture_output=True, text=True)
    top_uw = proof.measure(kind, tuple(axis[-1] for axis in proof.axes))[1]
    proof.board.put_back(proof.originals)
    results = [(int(fastest * factor), under_deadline(proof, kind, int(fastest * factor), plain))
               for factor in (1.6, 2.5, 4.5)]
    for deadline_ns, tally in results:
        power = tally.power
        proof.late = tally.late_ever
        best, tried = cheapest(proof, kind, deadline_ns, power, grid)
        proof.board.put_back(proof.originals)
        ratio = power / min(power, best[1]) if best else 1
        say(f"{kind}: deadline {deadline_ns / 1e6:.1f} ms: {power / 1e6:.2f} W, {ratio:.3f} x the cheapest of a sweep "
            f"({tried} cheaper candidates "
            f"measured{', ' + mhz(best[0]) if best else ''})")
        judge(ratio <= POWER_MAX, ratio > GROSS_POWER, proof.late,
              f"{kind}: deadline {deadline_ns / 1e6:.0f} ms: power <= {POWER_MAX:g} of the cheapest of a sweep",
              f"{ratio:.3f}")
        ok(0 < power < top_uw, f"{kind}: deadline {deadline_ns / 1e6:.0f} ms: less power than at full clocks",
           f"{power} {top_uw}")


def main():
    have = subprocess.run([PYTHON, DNN, "vgg", "1"], capture_output=True, text=True)
    if have.returncode != 0:
        skip("the proof", "no OpenCV with OpenCL: " + (have.stderr.strip().splitlines() or ["?"])[-1])
        done()
        return
    proof = Proof()
    for kind in ("mobilenet", "vgg"):
        plain = subprocess.run(proof.words(kind, 30), env=proof.without(), capture_output=True, text=True)
        proof.board.pin(*[axis[-1] for axis in proof.axes])
        calibrated, _ = proof.run(proof.words(kind, 30))
        proof.board.put_back(proof.originals)
        ok(plain.stdout and plain.stdout == calibrated.stdout, f"{kind}: outputs bit-identical on the board",
           calibrated.stderr[-800:])
        path, layers = predict_and_measure(proof, kind)
        deadlines(proof, kind, path, layers)
    proof.close()
    done()


if __name__ == "__main__":
    main()
