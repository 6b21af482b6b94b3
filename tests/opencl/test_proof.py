#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The proof: Debian's OpenCV DNN, unmodified, on PoCL, slowed down to the clocks of an emulated board. Two networks
are profiled at 8 operating points by flamectl, 12 others are predicted and then measured; and each runs under three
deadlines. Inferences that the machine delayed, as the board's layer measured, are left out, of flamed's as of those at
fixed clocks; runs are repeated until enough are left. Of several runs under a deadline, power is that of the one in
which the machine was latest the least, whatever the power is."""
import csv, io, json, math, os, random, re, shutil, statistics, subprocess, sys, tempfile, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../board"))
import boardlib
from boardlib import done, ok, say, skip, tied

BIN = os.path.abspath(boardlib.RELEASE)
DNN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dnn.py")
PYTHON = "/usr/bin/python3"
ERROR_MAX = 5.0      # mean, percent
POWER_MAX = 1.05     # of the cheapest point that meets the deadline
MISSED_MAX = 0.01
SEEN_FIRST = 5       # inferences that teach the layer where one ends
LEARNT_FROM = 30     # more that flamed may learn from
COUNTED = 100        # and those that count
WARM = 3             # of a measurement at fixed clocks
AGREED = 2           # requests near the deadline that two clocks may see on either side of it
LATE = 0.03          # of an inference's time by which the board was late: the machine was busy with something else
STILL = 1 + LATE     # a run with less room than this for the machine's delays is not repeated
MEASURED = 12        # inferences of a run at fixed clocks
LEAST = 6            # of those in all runs, that the machine must not delay,
CALM = 50            # and of those under a deadline,
AFTER = 2            # nor the ones right before each: flamed allows for their delay
RUNS = 4             # until enough are left,
SPARE = 6            # of those under all deadlines, beside one of each: on a busy machine each could take all of them
QUIET = 1.5          # percent by which the board was late while profiling; a run that is later is repeated
EXEC_SLOW, HOST_SLOW = 40, 80 # of the board; see slower_board()


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
            f.write("[flamed]\nready_width = 0.03\nmem_dwell = 300ms\n")
        self.env = dict(os.environ, FLAMED_BOARD=self.board.root, FLAMED_SOCKET=self.run_dir + "/flamed.sock",
                        FLAMED_OPENCL_LAYER=BIN + "/libflamed-opencl.so",
                        OPENCL_LAYERS=BIN + "/libflamed-board-opencl.so",
                        HOME=self.board.dir, POCL_CACHE_DIR=self.board.dir + "/pocl", ASAN_OPTIONS="detect_leaks=0")
        self.flamed = None
        self.spare = SPARE
        self.originals = self.board.knobs()

    def words(self, kind, runs):
        """The program that runs `runs` inferences of a network."""
        return [PYTHON, DNN, kind, str(runs)]

    def without(self):
        """Environment without board and layer."""
        return dict(self.env, OPENCL_LAYERS="")

    def layered(self):
        """The environment that loads the layer into a program that flamectl does not start."""
        return {"OPENCL_LAYERS": self.env["OPENCL_LAYERS"] + ":" + self.env["FLAMED_OPENCL_LAYER"]}

    def start(self):
        self.log = open(self.board.dir + "/flamed.log", "a")
        self.flamed = tied(subprocess.Popen([BIN + "/flamed", "--sysroot", self.board.root, "--runtime-dir",
                                             self.run_dir, "--state-dir", self.state, "--config", self.conf],
                                            stderr=self.log))
        end = time.monotonic() + 20
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

    def look(self, out):
        out.append((time.monotonic_ns(), self.page.power_uw, list(self.page.work_ns)))

    def watch_power(self, stop, out):
        while not stop.wait(0.004):
            self.look(out)

    def run(self, words, **env):
        """Runs a program; returns it and its inferences as the board saw them."""
        stop, power, waits = threading.Event(), [], self.board.dir + "/waits.csv"
        watcher = threading.Thread(target=self.watch_power, args=(stop, power))
        watcher.start()
        done = subprocess.run(words, env=dict(self.env, FLAMED_BOARD_WAITS=waits, **env), capture_output=True,
                              text=True, timeout=300)
        stop.set()
        watcher.join()
        self.look(power) # after the last end
        return done, Seen(rows_of(open(waits).read()), power)

    def measure(self, kind, point):
        """At a point, without flamed: median latency, power, longest latency of a machine that is never late, and the
        board's work for an inference; None if the machine delayed too many."""
        self.board.pin(*point)
        calm, power = [], []
        for _ in range(RUNS):
            _, seen = self.run(self.words(kind, MEASURED), **self.layered(), FLAMED_SOCKET="/nonexistent")
            calm += [seen.inferences[i] for i in seen.calm(WARM)]
            power += seen.power(seen.calm(WARM))
            if len(calm) >= LEAST:
                return (statistics.median(total for _, total, _ in calm), statistics.mean(power),
                        max(due for _, _, due in calm), seen.work(WARM))
        return None


class Seen:
    """Inferences of a run as the board's own layer measured them: (end, latency, latency on a
    machine without delays), in ns, and the board's power meanwhile."""

    def __init__(self, rows, power):
        launches = max((int(row["launches"]) for row in rows), default=0)
        self.inferences = [(int(row["at_ns"]), int(row["total_ns"]), int(row["due_ns"])) for row in rows
                           if int(row["launches"]) == launches]
        self.samples = power

    def calm(self, first, after=0):
        """Numbers, from `first` on, of those that the machine did not delay, nor the `after` before them."""
        late = [total > due * (1 + LATE) for _, total, due in self.inferences]
        return [i for i in range(first, len(late)) if not any(late[max(i - after, 0):i + 1])]

    def power(self, numbers):
        """Readings while these ran."""
        ran = [self.inferences[i] for i in numbers]
        return [uw for end, total, _ in ran for at, uw, _ in self.samples if end - total <= at <= end]

    def work(self, first):
        """The board's work for an inference, by clock: from the end of number `first` to the last. What the next one
        has done by the first sample is left out."""
        at = [next(work for at, _, work in self.samples if at >= self.inferences[i][0]) for i in (first, -1)]
        return [(b - a) / (len(self.inferences) - 1 - first) for a, b in zip(*at)]


def waits_late(text):
    """Percent by which the board's waits were too long in the worst process, as measured by the board's own layer."""
    found = re.findall(r"waits ([\d.]+) % too long", text)
    return max(map(float, found)) if found else math.inf


def mhz(point):
    return "/".join(f"{hz / 1e6:.0f}" for hz in point)


def additive(samples, points):
    """a + e/fc + b/fg + c/fm, least squares on relative error: the additive model."""
    import numpy as np
    row = lambda p: [1, 1e9 / p[0], 1e9 / p[1], 1e9 / p[2]]
    a = np.array([[x / s[1] for x in row(s[0])] for s in samples])
    w = np.linalg.lstsq(a, np.ones(len(samples)), rcond=None)[0]
    return [float(np.dot(row(p), w)) for p in points]


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def point_of(row):
    return tuple(int(row[c + "_hz"] or 0) for c in ("cpu", "gpu", "mem"))


def profile(proof, kind):
    """Repeated if the machine was late; the layer takes the median of the inferences at a point."""
    for _ in range(RUNS):
        for name in os.listdir(proof.state + "/models") if os.path.isdir(proof.state + "/models") else ():
            if name.startswith(kind):
                os.unlink(f"{proof.state}/models/{name}")
        proof.start()
        r = proof.ctl("profile", kind, "--budget", "8", "--", *proof.words(kind, 600))
        proof.stop()
        if waits_late(r.stderr) <= QUIET:
            break
    return r


def predict_and_measure(proof, kind):
    r = profile(proof, kind)
    ok(r.returncode == 0, f"{kind}: profiled by flamectl in the background of nothing but its command",
       r.stdout[-600:] + r.stderr[-600:])
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
    late = waits_late(r.stderr)
    ok(math.isfinite(late), f"{kind}: the board's layer reports how late the machine was", r.stderr[-600:])
    seen = {p: proof.measure(kind, p) for p in points}
    proof.board.put_back(proof.originals)
    unmeasured = [mhz(p) for p in points if not seen[p]]
    if unmeasured:
        skip(f"{kind}: 12 others measured", f"the machine delayed nearly all inferences at {unmeasured}")
        return path, layers
    measured = {p: seen[p][0] for p in points}
    error = [abs(predicted[p] / measured[p] - 1) * 100 for p in points]
    other = [abs(a / measured[p] - 1) * 100 for a, p in zip(plain, points)]
    say(f"{kind}: {len(samples)} points profiled, 12 others predicted: mean error {sum(error) / 12:.2f} %, worst "
        f"{max(error):.1f} %; "
        f"adding up: {sum(other) / 12:.1f} %, worst {max(other):.1f} %; waits while profiling {late:.1f} % too long")
    detail = [f"{mhz(p)} MHz: measured {measured[p] / 1e6:.2f} ms, predicted {predicted[p] / 1e6:.2f} ms"
              for p in points]
    ok(sum(error) / 12 <= ERROR_MAX, f"{kind}: mean error <= {ERROR_MAX:g} %", "; ".join(detail))
    ok(sum(error) < sum(other), f"{kind}: better than adding up", f"{error} {other}")
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
    """Of the inferences that count: power of those that the machine let be, how many there are, how many were missed,
    and missed by decision (on a machine that is never late they would have been missed as well)."""

    def __init__(self, seen, deadline_ns):
        counted = seen.inferences[-COUNTED:]
        self.missed, self.decided = (sum(pair[i] > deadline_ns for pair in counted) for i in (1, 2))
        calm = seen.calm(len(seen.inferences) - COUNTED, AFTER)
        self.calm, self.readings = len(calm), seen.power(calm)
        self.lateness = [total / due for _, total, due in seen.inferences[SEEN_FIRST:]]

    @property
    def power(self):
        return statistics.mean(self.readings)

    def room(self):
        """The ratio by which flamed has to allow for this machine's delays, which it cannot tell from the model's
        own."""
        return boardlib.upper(self.lateness)


def under_deadline(proof, kind, deadline_ns, plain):
    """Run under a deadline; repeated from the same state of flamed if the machine disturbed it. The tally of the run
    that it disturbed least, None if too few inferences of each are left."""
    before, name = proof.board.dir + "/state.before", f"{kind}: deadline {deadline_ns / 1e6:.0f} ms"
    shutil.copytree(proof.state, before)
    runs = []
    while not runs or (len(runs) < RUNS and proof.spare
                       and not any(run.calm >= CALM and run.room() <= STILL for run in runs)):
        proof.spare -= bool(runs)
        shutil.rmtree(proof.state)
        shutil.copytree(before, proof.state)
        proof.start()
        runs.append(run_once(proof, kind, deadline_ns, plain))
        proof.stop()
    shutil.rmtree(before)
    missed, decided = (sum(getattr(run, word) for run in runs) for word in ("missed", "decided"))
    ok(decided <= MISSED_MAX * COUNTED * len(runs),
       f"{name}: misses <= 1 % after {LEARNT_FROM}, those apart in which the machine was late by the board's word",
       f"{missed} missed of {len(runs) * COUNTED}, {decided} by decision")
    return min((run for run in runs if run.calm >= CALM), key=Tally.room, default=None)


def run_once(proof, kind, deadline_ns, plain):
    words = [BIN + "/flamectl", "--json", "run", "--model", kind, "--deadline", f"{deadline_ns}ns", "--"]
    r, seen = proof.run(words + proof.words(kind, SEEN_FIRST + LEARNT_FROM + COUNTED))
    tally = json.loads("{" + r.stderr.split("{", 1)[1].rsplit("}", 1)[0] + "}") if "{" in r.stderr else {}
    name = f"{kind}: deadline {deadline_ns / 1e6:.0f} ms"
    ok(r.stdout == plain.stdout, f"{name}: outputs bit-identical", f"{r.stdout} {plain.stdout} {r.stderr[-500:]}")
    requests, told = int(tally.get("requests", 0)), int(tally.get("missed", 10 ** 6))
    over = sum(total > deadline_ns for _, total, _ in seen.inferences[-requests:])
    counts = Tally(seen, deadline_ns)
    ok(requests >= LEARNT_FROM + COUNTED and abs(over - told) <= AGREED,
       f"{name}: every inference was a request, and flamed saw what the board saw",
       f"{requests} requests, missed {told} by flamed's count, {over} by the board's")
    say(f"{name}: {counts.missed} of {COUNTED} missed, {counts.missed - counts.decided} of them because this machine "
        f"was late; flamed's own count "
        f"with the first {requests - COUNTED}: {told}")
    return counts


def points_measured(proof, kind, points):
    seen = {point: proof.measure(kind, point) for point in points}
    return {point: (got[2], got[1]) for point, got in seen.items() if got}


def deadlines(proof, kind, path, layers):
    fastest = min(g[1] for g in surface(proof, path, layers))
    plain = subprocess.run(proof.words(kind, SEEN_FIRST + LEARNT_FROM + COUNTED), env=proof.without(),
                           capture_output=True, text=True)
    top = proof.measure(kind, tuple(axis[-1] for axis in proof.axes))
    proof.board.put_back(proof.originals)
    if not top:
        skip(f"{kind}: three deadlines", "the machine delayed nearly all inferences at the highest clocks")
        return
    results = {deadline_ns: under_deadline(proof, kind, deadline_ns, plain)
               for deadline_ns in (int(fastest * factor) for factor in (1.6, 2.5, 4.5))}
    for deadline_ns, tally in list(results.items()):
        if not tally or tally.room() > POWER_MAX:
            skip(f"{kind}: deadline {deadline_ns / 1e6:.0f} ms: power",
                 "in each run the machine " + (f"was late by more than the {POWER_MAX - 1:.0%} in question"
                                               if tally else "delayed most inferences"))
            del results[deadline_ns]
    # of the point, too: the same room is left for this machine's delays
    due_ns = {deadline_ns: deadline_ns / tally.room() for deadline_ns, tally in results.items()}
    measured, left = boardlib.points_for_less(
        proof.page, boardlib.Work(proof.page, top[3]),
        {due_ns[deadline_ns]: tally.power / POWER_MAX for deadline_ns, tally in results.items()},
        lambda points: points_measured(proof, kind, points))
    proof.board.put_back(proof.originals)
    for deadline_ns, tally in results.items():
        name = f"{kind}: deadline {deadline_ns / 1e6:.0f} ms"
        less = [(uw, point) for point, (ns, uw) in measured.items() if ns <= due_ns[deadline_ns] and uw < tally.power]
        best = min(less, default=None)
        say(f"{name}: {tally.power / 1e6:.2f} W over {tally.calm} inferences, with room for {tally.room():.3f} x the "
            f"board's time; "
            + (f"{tally.power / best[0]:.3f} x {mhz(best[1])} MHz" if best else "no point measured meets it for less"))
        ok(not left and (not best or tally.power / best[0] <= POWER_MAX),
           f"{name}: power <= {POWER_MAX:g} of every point that meets it, flamed's estimate unasked",
           f"{tally.power}, {best}; not measured: {left}")
        ok(0 < tally.power < top[1], f"{name}: less power than at full clocks", f"{tally.power} {top[1]}")
    say(f"{kind}: {len(measured)} points measured; every other that could do it for less than 1/{POWER_MAX:g} is "
        f"slower or dearer than one of these")


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
