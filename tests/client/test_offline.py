#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""flamectl plan and predict from the outside: protocol, limits on measured sets, bad input."""

import csv
import io
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tap  # noqa: E402

FLAMECTL = os.path.join(tap.BUILD, "flamectl")
DATA = os.path.join(tap.ROOT, "..", "shared", "data")
SETS = ["orin-nano/mobilenet", "orin-nano/proxy", "tx2/inceptionv3_400", "tx2/xception_600"]
HEADER = "phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n,sd_ns,max_ns,power_uw"
KEY = ("phase", "context", "cpu_hz", "gpu_hz", "mem_hz")


def run(*args, expect=0):
    done = subprocess.run([FLAMECTL, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)
    tap.equal(done.returncode, expect, f"exit status of {args}: {done.stderr}")
    return done.stdout, done.stderr


def key(row):
    return tuple(row.get(k) or "0" for k in KEY)


def write(path, rows, columns=HEADER.split(",")):
    with open(path, "w", newline="") as out:
        writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def made_up(where):
    """A board of 6 x 5 x 3 with a knee, and power."""
    rows = []
    for c in (500, 800, 1100, 1400, 1700, 2000):
        for g in (300, 500, 700, 900, 1100):
            for m in (800, 1600, 3200):
                ns = 4e5 + max(5e6 * 2000 / c, 3e6 * 1100 / g + 1e6 * 3200 / m)
                power = 2.5e6 + 2e6 * (c / 2000) ** 2.2 + 4e6 * (g / 1100) ** 2.5 * 5.4e6 / ns + 1e6 * m / 3200
                rows.append({"phase": "run", "context": "0", "cpu_hz": str(c * 10**6), "gpu_hz": str(g * 10**6),
                             "mem_hz": str(m * 10**6), "latency_ns": str(int(ns)), "n": "10",
                             "power_uw": str(int(power))})
    path = os.path.join(where, "board.csv")
    write(path, rows)
    return path, rows


def learn(path, budget, where, one_at_a_time):
    """Follow plan, which sees only the latencies of the points that it chose."""
    with open(path) as text:
        truth = {key(r): r for r in csv.DictReader(text)}
    grid, samples = os.path.join(where, "grid.csv"), os.path.join(where, "samples.csv")
    write(grid, [dict(zip(KEY, k)) for k in truth], KEY)
    asked = []
    while len(asked) < budget:
        more = ["--samples", samples] if asked else []
        step = 1 if one_at_a_time else budget
        out, _ = run("plan", "--points", grid, "--budget", str(step), *more)
        tap.equal(out.splitlines()[0], HEADER, "header")
        new = [key(r) for r in csv.DictReader(io.StringIO(out))]
        tap.equal(len(new), step, "points planned")
        for k in new:
            if k not in truth or k in asked:
                raise AssertionError(f"planned {k}, which is not of the grid or was measured already")
            asked.append(k)
        write(samples, [truth[k] for k in asked])
    return samples


def score(samples, points):
    out, err = run("predict", "--samples", samples, "--points", points, "--score")
    line = re.fullmatch(r"score: points=(\d+) mape=(\S+) p95=(\S+) max=(\S+) within10=(\S+) power_mape=(\S+)",
                        err.strip())
    if not line:
        raise AssertionError(f"score line: {err!r}")
    return list(csv.DictReader(io.StringIO(out))), [float(x) for x in line.groups()]


@tap.test
def measured_sets(where):
    if not os.path.isdir(DATA):
        raise tap.Skip("no ../shared/data")
    for one_at_a_time in (False, True):
        total = 0
        for name in SETS:
            path = os.path.join(DATA, name + ".csv")
            rows, numbers = score(learn(path, 8, where, one_at_a_time), path)
            tap.equal(len(rows), int(numbers[0]), "rows")
            total += numbers[1] / len(SETS)
        print(f"# | flamectl plan and predict, {'one at a time' if one_at_a_time else 'eight at once'}: mean error "
              f"{total:.2f} %")
        tap.within(total, 0, 2.3, "mean error over the sets")


@tap.test
def made_up_board(where):
    path, truth = made_up(where)
    for budget in (1, 2, 8):
        rows, numbers = score(learn(path, budget, where, False), path)
        tap.equal([key(r) for r in rows], [key(dict(r)) for r in truth], "rows come back in their order")
        for row, true in zip(rows, truth):
            tap.within(float(row["latency_ns"]), 1, float(row["bound_ns"]), "latency under its bound")
            if budget == 1:
                tap.within(float(true["latency_ns"]), 0, float(row["bound_ns"]), "truth under the bound of one sample")
    tap.within(numbers[1], 0, 3, "mean error")
    tap.within(numbers[5], 0, 4, "mean error of power")


@tap.test
def no_power_no_column(where):
    path, rows = made_up(where)
    samples = os.path.join(where, "s.csv")
    write(samples, [dict(r, power_uw="") for r in rows[:3]])
    got, numbers = score(samples, path)
    tap.equal({r["power_uw"] for r in got}, {""}, "power without a sensor")
    tap.equal(str(numbers[5]), "nan", "power_mape")


@tap.test
def plan_uses_latencies_and_what_is_on_order(where):
    path, rows = made_up(where)
    samples = os.path.join(where, "s.csv")
    write(samples, [dict(r, latency_ns="", n="") for r in rows[-2:]])
    out, _ = run("plan", "--points", path, "--budget", "300", "--samples", samples)
    planned = {key(r) for r in csv.DictReader(io.StringIO(out))}
    tap.equal(len(planned), len(rows) - 2, "all that is left")
    tap.equal(planned & {key(r) for r in rows[-2:]}, set(), "what is on order already")


@tap.test
def bad_input(where):
    bad = {"line 2: latency_ns: 'fast'": "cpu_hz,latency_ns\n1000000,fast\n",
           "line 3: latency_ns: 'nan'": "cpu_hz,latency_ns\n1000000,5\n1000000,nan\n",
           "line 2: latency_ns: '-7'": "cpu_hz,latency_ns\n1000000,-7\n",
           "line 2: latency_ns: 9000000000000 is out of range": "cpu_hz,latency_ns\n1000000,9000000000000\n",
           "column latency_ns is missing": "cpu_hz\n1000000\n",
           "line 2: 1 fields": "cpu_hz,latency_ns\n1000000\n"}
    path, _ = made_up(where)
    samples = os.path.join(where, "bad.csv")
    for message, text in bad.items():
        with open(samples, "w") as out:
            out.write(text)
        stdout, err = run("predict", "--samples", samples, "--points", path, expect=1)
        tap.contains(err, samples, message)
        tap.equal(stdout, "", "output of a failure")
    with open(samples, "w") as out:
        out.write("cpu_hz,latency_ns,colour\n1000000,5,red\n")
    tap.contains(run("predict", "--samples", samples, "--points", samples)[1], "colour")
    run("predict", "--samples", os.path.join(where, "none.csv"), "--points", path, expect=1)
    for args in (["plan"], ["plan", "--points", path], ["plan", "--points", path, "--budget", "0"],
                 ["plan", "--points", path, "--budget", "3x"], ["predict", "--points", path], ["predict", "--frob"]):
        run(*args, expect=2)


if __name__ == "__main__":
    tap.main()
