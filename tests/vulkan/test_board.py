#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""llama.cpp, unmodified, slowed down to the clocks of an emulated board: one surface over clocks and context from ten
points of them, and three rates of tokens under flamed. Tokens that the machine delayed, as the board's layer measured,
are left out, of flamed's as of those at fixed clocks; runs are repeated until enough are left."""
import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for room in ("../opencl", "../board"):
    sys.path.insert(0, os.path.join(HERE, room))
sys.path.insert(0, HERE)
import boardlib  # noqa: E402
from boardlib import RELEASE, Power, done, ok, say, skip, tied  # noqa: E402
import fakeflamed  # noqa: E402
import llamalib  # noqa: E402

EXEC_SLOW = 4  # of the board: delays of a token by this machine stay small beside the board's own time
LATE = 0.03  # of a token's time by which the board's layer was late: the machine was busy with something else
ERROR_MAX = 5.0  # mean, percent
STEADY = 4  # tokens measured of each (clocks, context) point, after one on which the clocks move
LEAST = 2  # of them that the machine must not delay
RUNS = 4  # until enough tokens are left,
SPARE = 4  # of those at all rates, beside one of each: on a busy machine each could take all of them
PROMPTS = (20, 40, 50, 60, 70)  # turns of a conversation: contexts of some 40 to 450 tokens
LOCKS = 6  # tokens of a process that may pass before the layer has detected inferences,
CALIBRATES = (
    10  # and of each turn, at the first of the clocks, for the board's calibration on this machine
)
# Operating points of the board, and at which of the contexts (by turn) each is profiled; the others are predicted.
CLOCKS = (
    ((2201600000, 1300500000, 3199000000), (0, 4)),
    ((2201600000, 306000000, 3199000000), (1, 3)),
    ((2201600000, 816000000, 2133000000), (0, 2)),
    ((883200000, 510000000, 2133000000), (1, 4)),
    ((883200000, 1300500000, 3199000000), (2, 3)),
)
RATES = (1.3, 1.9, 2.8)  # periods, over the time of a token at the highest clocks
LEARNT = 30  # tokens that flamed may learn from,
COUNTED = 200  # and those that count, within the first block of context
CALM = 100  # of those, in all runs of a rate, that the machine must not delay,
AFTER = 2  # nor the tokens right before each: flamed makes up for their delay
LATE_MAX = 0.01
POWER_MAX = 1.05
SWEEP = 16  # points of a run at fixed clocks, so that contexts are those of the streams
scratch = tempfile.mkdtemp(prefix="flamed-llama-board-")


class Driver(fakeflamed.Server):
    """A flamed that goes through its list of clocks, a few tokens at each, in every turn of the conversation."""

    def __init__(self, path, board, clocks, calibrates=CALIBRATES):
        super().__init__(path)
        self.board, self.clocks, self.calibrates = board, clocks, calibrates
        self.turn, self.place, self.tokens, self.now = 0, -calibrates, [], None
        self.before, self.work = [], []  # of the board's clocks; of each token
        board.pin(*clocks[0])

    def reply(self, keys):
        if keys.get("op") == "begin":
            prompt = keys.get("phase") == "prefill"
            self.turn += prompt
            at, nth = divmod(self.place, STEADY + 1)
            self.place = -self.calibrates if prompt else self.place + 1
            if prompt:
                self.board.pin(*self.clocks[0])
            elif nth == 0 and 0 <= at < len(self.clocks):
                self.board.pin(*self.clocks[at])
            self.now = (
                (self.turn, at, int(keys["context"]), time.monotonic_ns())
                if not prompt and nth > 0 and 0 <= at < len(self.clocks)
                else None
            )
            self.before = list(self.board.page.work_ns)
        elif keys.get("op") == "end" and self.now and "total_ns" in keys:
            self.tokens.append((*self.now, time.monotonic_ns(), int(keys["total_ns"])))
            self.work.append([after - before for before, after in zip(self.before, self.board.page.work_ns)])
            self.now = None
        return super().reply(keys)


def slower_board():
    """The AGX Orin of board/, slower still."""
    path = os.path.join(scratch, "board.ini")
    with open(os.path.join(RELEASE, "boards/agx-orin.ini"), encoding="utf-8") as file, open(
        path, "w", encoding="utf-8"
    ) as out:
        out.write(re.sub(r"(?m)^exec_slow = .*", f"exec_slow = {EXEC_SLOW}", file.read()))
    return boardlib.Board(path, RELEASE)


def converse(board, words, **env):
    waits = os.path.join(scratch, "waits.csv")
    run = llamalib.Program(
        scratch,
        "chat",
        words,
        tree=RELEASE,
        FLAMED_MODEL="llm",
        FLAMED_BOARD=board.root,
        FLAMED_BOARD_WAITS=waits,
        VK_INSTANCE_LAYERS="VK_LAYER_FLAMED_board",
        FLAMED_TIMESTAMPS="off",
        **env,
    )
    with open(waits, encoding="utf-8") as file:
        return run, [(int(row["at_ns"]), int(row["total_ns"]), int(row["due_ns"])) for row in csv.DictReader(file)]


def lateness(waits, begin_ns, end_ns):
    """Relative excess of the waits that ended in this time, as the board's layer reports it."""
    kept = [(total, due) for at, total, due in waits if begin_ns < at <= end_ns]
    return sum(total for total, _ in kept) / max(sum(due for _, due in kept), 1) - 1


def points_of(tokens, waits):
    """{(turn, clocks): (context, ns, tokens left out)} where the machine let enough of the tokens be."""
    out = {}
    for turn, clocks in sorted({token[:2] for token in tokens}):
        cell = [token[2:] for token in tokens if token[:2] == (turn, clocks)]
        calm = [token for token in cell if lateness(waits, token[1], token[2]) <= LATE]
        if len(calm) >= LEAST:
            out[turn, clocks] = (
                round(statistics.mean(token[0] for token in calm)),
                statistics.median(token[3] for token in calm),
                len(cell) - len(calm),
            )
    return out


def write_rows(name, rows):
    path = os.path.join(scratch, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write("phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns\n" + "\n".join(rows) + "\n")
    return path


def profile(board):
    """The tokens of a conversation that goes through the clocks in every turn, and the board's waits."""
    each = CALIBRATES + len(CLOCKS) * (STEADY + 1) + 2
    words = " ".join(f"{prompt} {each + (LOCKS if i == 0 else 0)}" for i, prompt in enumerate(PROMPTS))
    with Driver(os.path.join(scratch, "driver.sock"), board, [clocks for clocks, _ in CLOCKS]) as flamed:
        run, waits = converse(board, words, FLAMED_SOCKET=flamed.path, FLAMED_DEADLINE_NS="10000000000")
        flamed.settle()
    wanted = len(CLOCKS) * len(PROMPTS) * STEADY
    ok(
        run.rc == 0 and 0.95 * wanted <= len(flamed.tokens) <= wanted,
        "all tokens wanted are measured, but for those that compile",
        f"{len(flamed.tokens)} of {wanted}; {run.err[-2000:]}",
    )
    return flamed.tokens, waits


def one_surface(board):
    """Ten (clocks, context) points profiled, fifteen others predicted from them."""
    tokens, waits, points = [], [], {}
    for _ in range(RUNS):
        more = profile(board)
        tokens, waits = tokens + more[0], waits + more[1]
        points = points_of(tokens, waits)
        if len(points) == len(CLOCKS) * len(PROMPTS):
            break
    rows = {True: [], False: []}
    for (turn, clocks), (context, ns, _) in points.items():
        hz, profiled = CLOCKS[clocks]
        rows[turn in profiled].append(f"decode,{context},{hz[0]},{hz[1]},{hz[2]},{ns:.0f}")
    said = subprocess.run(
        [
            RELEASE + "/flamectl",
            "predict",
            "--samples",
            write_rows("samples.csv", rows[True]),
            "--points",
            write_rows("points.csv", rows[False]),
            "--score",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    score = re.search(r"score: points=(\d+) mape=([\d.]+) p95=([\d.]+) max=([\d.]+)", said.stderr)
    error = float(score.group(2)) if score else float("inf")
    say(
        f"llama.cpp on an emulated board: {len(rows[True])} (clocks, context) points profiled, {len(rows[False])} "
        f"predicted: mean error {error:.1f} %, largest {score.group(4) if score else '?'} %; "
        f"{sum(left_out for _, _, left_out in points.values())} of {len(tokens)} tokens left out, as the machine was "
        "late by the board's word"
    )
    name = f"of 15 (clocks, context) points, predicted from 10 others, the mean error is {ERROR_MAX:g} % at most"
    if len(points) < len(CLOCKS) * len(PROMPTS):
        skip(name, f"the machine delayed nearly all tokens at {len(CLOCKS) * len(PROMPTS) - len(points)} of them")
        return
    ok(
        len(rows[True]) == 10 and len(rows[False]) == 15 and error <= ERROR_MAX,
        name,
        f"{error:.1f} % of {len(rows[False])} points from {len(rows[True])}; {said.stderr[-500:]}",
    )


class Flamed:
    """flamed on the board."""

    def __init__(self, board):
        self.board, self.run_dir, self.state = board, os.path.join(scratch, "run"), os.path.join(scratch, "state")
        conf = os.path.join(scratch, "flamed.conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.write("[flamed]\nmem_dwell = 300ms\n")  # short runs
        with open(os.path.join(scratch, "flamed.log"), "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [
                    RELEASE + "/flamed",
                    "--sysroot",
                    board.root,
                    "--runtime-dir",
                    self.run_dir,
                    "--state-dir",
                    self.state,
                    "--config",
                    conf,
                ],
                stderr=log,
            )
        tied(self.process)
        self.socket = self.run_dir + "/flamed.sock"
        board.wait(lambda: os.path.exists(self.socket))

    def end(self):
        self.process.terminate()
        self.process.wait(20)


class Stream:
    """A conversation at a rate, as the program saw it: tokens late after the first ones, in all and by decision (they
    would have been late on a machine that is never late, too), and the power of those that the machine let be."""

    def __init__(self, flamed, period_ns):
        command = (
            RELEASE + "/flamectl",
            "--json",
            "--socket",
            flamed.socket,
            "run",
            "--model",
            "llm",
            "--rate",
            f"{1e9 / period_ns:.3f}/s",
            "--",
        )
        with Power(flamed.board) as power:
            run, waits = converse(flamed.board, f"20 {LOCKS + LEARNT + COUNTED}", wrap=command)
        self.run, ns = run, [ms * 1e6 for ms in run.ms]
        tally = json.loads("{" + run.err.split("{", 1)[1].rsplit("}", 1)[0] + "}") if "{" in run.err else {}
        self.requests = int(tally.get("requests", 0))
        self.whole = run.rc == 0 and len(waits) > 0 and LEARNT + COUNTED <= self.requests < len(ns)
        self.late = self.decided = 0
        self.power = []  # of each token that the machine let be
        if not self.whole:
            return
        end_ns = waits[-1][0]
        ends = [end_ns - sum(ns[len(ns) - self.requests + k + 1 :]) for k in range(-1, self.requests)]  # from the start
        ends = [min((at for at, _, _ in waits), key=lambda at, end=end: abs(at - end)) for end in ends]
        self.lateness = lateness(waits, ends[0], ends[-1])
        calm = [lateness(waits, begin, end) <= LATE for begin, end in zip(ends, ends[1:])]
        for k in range(self.requests - COUNTED, self.requests):
            at_ns, due_ns = ends[k + 1], ends[0] + (k + 1) * period_ns
            machine_ns = sum(total - due for at, total, due in waits if ends[0] < at <= at_ns)
            self.late += at_ns > due_ns
            self.decided += at_ns - machine_ns > due_ns
            if all(calm[k - AFTER : k + 1]):
                self.power.append(power.mean(ends[k], at_ns))


class Rate:
    """Conversations at a rate, until the machine let enough tokens be, or the spare ones are used up."""

    spare = SPARE

    def __init__(self, flamed, period_ns):
        self.streams = [Stream(flamed, period_ns)]
        while self.streams[-1].whole and self.calm() < CALM and len(self.streams) < RUNS and Rate.spare:
            Rate.spare -= 1
            self.streams.append(Stream(flamed, period_ns))

    def calm(self):
        return sum(len(stream.power) for stream in self.streams)

    def power(self):
        return statistics.mean(uw for stream in self.streams for uw in stream.power)

    def room(self):
        """The ratio by which this machine's delays make a token longer in the mean, which is what counts where slack
        is banked: flamed cannot tell them from the model's own."""
        return 1 + statistics.mean(stream.lateness for stream in self.streams)


def at_fixed(board, clocks, calibrates=0):
    """{clocks: (ns of a token, power)} at fixed clocks, of points where the machine let enough tokens be; and the mean
    of the board's work for a token, by clock."""
    with Driver(os.path.join(scratch, "sweep.sock"), board, clocks, calibrates) as driver, Power(board) as power:
        _, waits = converse(
            board,
            f"20 {LOCKS + calibrates + len(clocks) * (STEADY + 1) + 2}",
            FLAMED_SOCKET=driver.path,
            FLAMED_DEADLINE_NS="10000000000",
        )
        driver.settle()
    out = {}
    for (_, at), (_, ns, _) in points_of(driver.tokens, waits).items():
        mine = [token for token in driver.tokens if token[1] == at and lateness(waits, token[3], token[4]) <= LATE]
        out[clocks[at]] = (ns, statistics.mean(power.mean(token[3], token[4]) for token in mine))
    return out, [statistics.mean(ns) for ns in zip(*driver.work)]


def three_rates(board, top_ns, work):
    """Under flamed at three rates: tokens in time, for the power of the cheapest point that is fast enough."""
    flamed = Flamed(board)
    try:
        rates = {factor * top_ns: Rate(flamed, factor * top_ns) for factor in RATES}
    finally:
        flamed.end()
    for period_ns, rate in rates.items():
        last = rate.streams[-1]
        ok(
            last.whole,
            f"{1e9 / period_ns:.1f} tokens a second: each is a request",
            f"{last.requests} requests; {last.run.err[-1500:]}",
        )
        if not last.whole:
            return
    for period_ns, rate in list(rates.items()):
        if rate.calm() < CALM or rate.room() > POWER_MAX:
            skip(
                f"{1e9 / period_ns:.1f} tokens a second: late and power",
                f"the machine delayed all but {rate.calm()} tokens of {len(rate.streams)} conversations, "
                f"which took {rate.room():.3f} x the board's time",
            )
            del rates[period_ns]

    def measure(points):
        out = {}
        for i in range(0, len(points), SWEEP):
            # at the highest clocks first: what compiles is as slow as the host
            out.update(at_fixed(board, [tuple(board.page.max_hz), *points[i : i + SWEEP]])[0])
        return out

    # of the point, too: the same room is left for this machine's delays
    due_ns = {period_ns: period_ns / rate.room() for period_ns, rate in rates.items()}
    measured, left = boardlib.points_for_less(
        board.page, work, {due_ns[period_ns]: rate.power() / POWER_MAX for period_ns, rate in rates.items()}, measure
    )
    for period_ns, rate in rates.items():
        name = f"{1e9 / period_ns:.1f} tokens a second"
        late, decided = (sum(getattr(stream, word) for stream in rate.streams) for word in ("late", "decided"))
        counted = COUNTED * len(rate.streams)
        least = min([rate.power(), *(uw for ns, uw in measured.values() if ns <= due_ns[period_ns])])
        ratio = rate.power() / least
        say(
            f"llama.cpp at {name}: {late} of {counted} late after the first {LEARNT}, {late - decided} of them because "
            f"this machine was; {rate.power() / 1e6:.2f} W over {rate.calm()} tokens, "
            f"with room for {rate.room():.3f} x the board's time, "
            + (f"{ratio:.3f} x the cheapest measured" if ratio != 1 else "no point measured keeps it for less")
        )
        ok(
            decided <= LATE_MAX * counted,
            f"{name}: at most {100 * LATE_MAX:g} % late, those apart that this machine delayed by the board's word",
            f"{late} late, {decided} by decision",
        )
        ok(
            ratio <= POWER_MAX and not left,
            f"{name}: power <= {POWER_MAX:g} of the cheapest point that keeps the rate, flamed's estimate unasked",
            f"{ratio:.3f}; not measured: {left}",
        )
    say(
        f"{len(measured)} points measured; every other that could do it for less than 1/{POWER_MAX:g} is slower or "
        "dearer than one of these"
    )


def main():
    why = llamalib.install()
    if why:
        skip("llama.cpp on a board that is felt", why)
        return
    board = slower_board()
    before = board.knobs()
    try:
        one_surface(board)
        top = tuple(board.page.max_hz)
        for _ in range(RUNS):
            seen, work_ns = at_fixed(board, [top] * 4, CALIBRATES)
            if seen:
                break
        board.put_back(before)
        if not seen:
            skip("three rates", "the machine delayed nearly all tokens at the highest clocks")
        else:
            three_rates(board, seen[top][0], boardlib.Work(board.page, work_ns))
    finally:
        board.close()


try:
    main()
finally:
    shutil.rmtree(scratch, ignore_errors=True)
done()
