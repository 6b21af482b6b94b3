#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""llama.cpp, unmodified, on a board whose clocks it feels: one surface over clocks and context from ten points of
them; with --rates, three rates of tokens under flamed instead, which takes minutes. Where the machine was late by the
word of the board's layer, tokens are left out for all alike."""
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
from boardlib import A_LITTLE, RELEASE, Power, done, judge, ok, say, skip  # noqa: E402
import fakeflamed  # noqa: E402
import llamalib  # noqa: E402

EXEC_SLOW = 4  # of the board: what this machine adds to a token stays small beside what the board takes
LATE = 0.03  # of a token's time by which the board's layer was late: the machine was busy with something else
ERROR_MAX = 5.0  # mean, percent
GROSS_ERROR = 15.0  # fails on a machine that is a little unquiet, too
STEADY = 4  # tokens measured of each (clocks, context) point, after one on which the clocks move
LEAST = 2  # of them that the machine has to let be
PROMPTS = (20, 40, 50, 60, 70)  # turns of a conversation: contexts of some 40 to 450 tokens
LOCKS = 6  # tokens of a process that may pass before the layer has found out what it sees,
CALIBRATES = (
    10  # and of each turn, at the first of the clocks, for the board to find out what they cost on this machine
)
# Operating points of the board, and at which of the contexts (by turn) each is profiled; the others are predicted.
CLOCKS = (
    ((2201600000, 1300500000, 3199000000), (0, 4)),
    ((2201600000, 306000000, 3199000000), (1, 3)),
    ((2201600000, 816000000, 2133000000), (0, 2)),
    ((883200000, 510000000, 2133000000), (1, 4)),
    ((883200000, 1300500000, 3199000000), (2, 3)),
)
RATES = (1.3, 1.9, 2.8)  # periods, over what a token takes at the highest clocks
LEARNT = 30  # tokens that flamed may learn from,
COUNTED = 60  # and those that count
LATE_MAX, GROSS_LATE = 0.01, 0.1
POWER_MAX, GROSS_POWER = 1.05, 1.3
SWEEP = 3  # points for each rate that may do it for less, measured
scratch = tempfile.mkdtemp(prefix="flamed-llama-board-")


class Driver(fakeflamed.Server):
    """A flamed that goes through its list of clocks, a few tokens at each, in every turn of the conversation."""

    def __init__(self, path, board, clocks, calibrates=CALIBRATES):
        super().__init__(path)
        self.board, self.clocks, self.calibrates = board, clocks, calibrates
        self.turn, self.place, self.tokens, self.now = 0, -calibrates, [], None
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
        elif keys.get("op") == "end" and self.now and "total_ns" in keys:
            self.tokens.append((*self.now, time.monotonic_ns(), int(keys["total_ns"])))
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
    """Relative excess of the waits in this time, as the board's layer reports it."""
    kept = [(total, due) for at, total, due in waits if begin_ns <= at <= end_ns]
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


def one_surface(board):
    """Ten (clocks, context) points profiled, fifteen others predicted from them."""
    each = CALIBRATES + len(CLOCKS) * (STEADY + 1) + 2
    words = " ".join(f"{prompt} {each + (LOCKS if i == 0 else 0)}" for i, prompt in enumerate(PROMPTS))
    with Driver(os.path.join(scratch, "driver.sock"), board, [clocks for clocks, _ in CLOCKS]) as flamed:
        run, waits = converse(board, words, FLAMED_SOCKET=flamed.path, FLAMED_DEADLINE_NS="10000000000")
        flamed.settle()
        tokens = flamed.tokens
    points = points_of(tokens, waits)
    left_out = sum(1 for token in tokens if lateness(waits, token[3], token[4]) > LATE)
    rows = {True: [], False: []}
    for (turn, clocks), (context, ns, _) in points.items():
        hz, profiled = CLOCKS[clocks]
        rows[turn in profiled].append(f"decode,{context},{hz[0]},{hz[1]},{hz[2]},{ns:.0f}")
    whole = len(rows[True]) == 10 and len(rows[False]) == 15
    # Fewer points are not what the name says: a run without them fails, or is skipped if the machine was late.
    late = max(100 * lateness(waits, 0, waits[-1][0]), A_LITTLE if not whole and left_out else 0)
    name = f"of 15 (clocks, context) points, predicted from 10 others, the mean error is {ERROR_MAX:g} % at most"
    wanted = len(CLOCKS) * len(PROMPTS) * STEADY
    ok(
        run.rc == 0 and 0.95 * wanted <= len(tokens) <= wanted,
        "all tokens wanted are measured, but for those that compile",
        f"{len(tokens)} of {wanted}; {run.err[-2000:]}",
    )
    if len(rows[True]) < 5 or not rows[False]:
        skip(
            name,
            f"the machine was busy with something else: {left_out} of {len(tokens)} tokens late by the board's word",
        )
        return
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
        f"predicted: mean error {error:.1f} %, largest {score.group(4) if score else '?'} %; {left_out} of "
        f"{len(tokens)} tokens left out, as the machine was late by the board's word"
    )
    judge(
        whole and error <= ERROR_MAX,
        error > GROSS_ERROR,
        late,
        name,
        f"{error:.1f} % of {len(rows[False])} points from {len(rows[True])}",
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
        self.socket = self.run_dir + "/flamed.sock"
        board.wait(lambda: os.path.exists(self.socket))

    def end(self):
        self.process.terminate()
        self.process.wait(20)


class Stream:
    """A conversation at a rate, as the program saw it: tokens late after the first ones, in all and by decision (they
    would have been late on a machine that is never late, too); the power of those that count, and whether the machine
    let flamed be."""

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
        self.late = self.decided = 0
        if not self.requests or not waits or len(ns) <= self.requests:
            return
        end_ns = waits[-1][0]
        start_ns = end_ns - sum(ns[-self.requests :])
        for k in range(self.requests - COUNTED, self.requests):
            at_ns, due_ns = end_ns - sum(ns[len(ns) - self.requests + k + 1 :]), start_ns + (k + 1) * period_ns
            machine_ns = sum(total - due for at, total, due in waits if start_ns < at <= at_ns)
            self.late += at_ns > due_ns
            self.decided += at_ns - machine_ns > due_ns
        self.machine_late = max(100 * lateness(waits, start_ns, end_ns), A_LITTLE if self.late != self.decided else 0)
        self.power = power.mean(end_ns - sum(ns[-COUNTED:]), end_ns)


def surface(board, state, context):
    """Latency and power that flamed's samples predict at every point of the board."""
    samples = next(
        os.path.join(state, "models", name)
        for name in sorted(os.listdir(state + "/models"))
        if name.startswith("llm") and not name.endswith(".layers.csv")
    )
    axes = [[int(board.page.table_hz[c][i]) for i in range(board.page.steps[c])] for c in range(3)]
    points = write_rows(
        "grid.csv", [f"decode,{context},{c},{g},{m}," for c in axes[0] for g in axes[1] for m in axes[2]]
    )
    said = subprocess.run(
        [RELEASE + "/flamectl", "predict", "--samples", samples, "--points", points],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return [
        (
            tuple(int(row[c + "_hz"]) for c in ("cpu", "gpu", "mem")),
            float(row["latency_ns"]),
            float(row["power_uw"] or 0),
        )
        for row in csv.DictReader(said.stdout.splitlines())
    ]


def sweep(board, clocks, calibrates=0):
    """{clocks: (ns of a token, power)} at fixed clocks, of points where the machine let enough tokens be."""
    if not clocks:
        return {}
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
        mine = [token for token in driver.tokens if token[1] == at]
        out[clocks[at]] = (ns, statistics.mean(power.mean(token[3], token[4]) for token in mine))
    return out


def three_rates(board, top_ns):
    """Under flamed at three rates: tokens in time, for the power of the cheapest point that is fast enough."""
    flamed = Flamed(board)
    try:
        streams = {factor * top_ns: Stream(flamed, factor * top_ns) for factor in RATES}
    finally:
        flamed.end()
    for period_ns, stream in streams.items():
        ok(
            stream.run.rc == 0 and stream.requests >= LEARNT + COUNTED,
            f"{1e9 / period_ns:.1f} tokens a second: each of them is a request",
            stream.run.err[-1500:],
        )
        if stream.requests < LEARNT + COUNTED:
            return
    grid = surface(board, flamed.state, 90)
    hopeful = {}
    for period_ns, stream in streams.items():
        cheaper = sorted(
            (g for g in grid if g[2] < stream.power / POWER_MAX and g[1] < 1.05 * period_ns),
            key=lambda g: g[1] / period_ns + g[2] / stream.power,
        )
        hopeful[period_ns] = [g[0] for g in cheaper[:SWEEP]]
    measured = sweep(board, sorted({clocks for some in hopeful.values() for clocks in some}))
    for period_ns, stream in streams.items():
        name = f"{1e9 / period_ns:.1f} tokens a second"
        enough = [
            measured[clocks][1]
            for clocks in hopeful[period_ns]
            if clocks in measured and measured[clocks][0] <= period_ns
        ]
        ratio = stream.power / min([stream.power, *enough])
        say(
            f"llama.cpp at {name}: {stream.late} of {COUNTED} late after the first {stream.requests - COUNTED}, "
            f"{stream.late - stream.decided} of them because this machine was; {stream.power / 1e6:.2f} W, "
            f"{ratio:.3f} x the cheapest of a sweep ({len(hopeful[period_ns])} cheaper candidates measured)"
        )
        judge(
            stream.decided <= LATE_MAX * COUNTED,
            stream.decided > GROSS_LATE * COUNTED,
            stream.machine_late,
            f"{name}: at most {100 * LATE_MAX:g} % late",
            f"{stream.late} late, {stream.decided} by decision",
        )
        judge(
            ratio <= POWER_MAX,
            ratio > GROSS_POWER,
            max(stream.machine_late, 0 if all(clocks in measured for clocks in hopeful[period_ns]) else A_LITTLE),
            f"{name}: power <= {POWER_MAX:g} of the cheapest of a sweep",
            f"{ratio:.3f}",
        )


def main():
    why = llamalib.install()
    if why:
        skip("llama.cpp on a board that is felt", why)
        return
    board = slower_board()
    before = board.knobs()
    try:
        if "--rates" in sys.argv:
            top = tuple(board.page.max_hz)
            seen = sweep(board, [top] * 4, CALIBRATES)
            board.put_back(before)
            if seen:
                three_rates(board, seen[top][0])
            else:
                skip("three rates", "the machine was busy with something else at the highest clocks")
        else:
            one_surface(board)
    finally:
        board.close()


try:
    main()
finally:
    shutil.rmtree(scratch, ignore_errors=True)
done()
