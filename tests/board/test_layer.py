# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The board's OpenCL layer under an unmodified program: same results, the board's times,
its error measured."""
import os, re, subprocess, sys

sys.path.insert(0, os.path.dirname(__file__))
from boardlib import BUILD, RELEASE, Board, ok, skip, say, done

PROGRAM = BUILD + "/tests/board/cl_program"
LAYER = os.path.abspath(RELEASE + "/libflamed-board-opencl.so")
CHECKED = os.path.abspath(BUILD + "/libflamed-board-opencl.so")  # with ASan, as the program
KERNELS, ROUNDS = 10, 16


def run(*args, **env):
    # The program is built with ASan, whose leak check is not for the OpenCL implementation's own.
    r = subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, timeout=240,
                       env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0", **env})
    rounds = [float(x) for x in re.findall(r"round_ms=([\d.]+)", r.stdout)]
    profiled = [float(x) for x in re.findall(r"profiled_ms=(-?[\d.]+)", r.stdout)]
    result = re.search(r"result=(\w+)", r.stdout)
    return r.returncode, rounds, profiled, result and result.group(1), r.stderr


def median(values):
    return sorted(values)[len(values) // 2]


def times(b):
    """Times of the kernels of a round, and of the whole round, in ms, computed from the calibration file."""
    base = [dict(zip(("key", "host_runs", "exec_runs", "host_ns", "exec_ns"), line.split(","))) for line in
            b.read("/opencl-calibration.csv").split("\n")[1:]]
    host_slow, exec_slow, m = b.page.opencl
    ratio = [b.page.max_hz[c] / b.page.hz[c] for c in range(3)]
    stretch = (((1 - m) * ratio[1]) ** 3 + (m * ratio[2]) ** 3) ** (1 / 3) / ((1 - m) ** 3 + m ** 3) ** (1 / 3)
    kernels = sum(float(e["exec_ns"]) for e in base) * exec_slow * stretch / 1e6
    # Execution-bound: only the first launch, with the host's work between two rounds, comes on top.
    return kernels, kernels + max(float(e["host_ns"]) for e in base) * host_slow * ratio[0] / 1e6


def main():
    rc, plain, profiled, result, err = run(KERNELS, 3)
    if rc == 77:
        skip("the board's OpenCL layer", "no OpenCL device")
        return
    ok(rc == 0 and profiled[-1] > 0, "the program by itself", err)
    rc, _, _, same, err = run(KERNELS, 3, OPENCL_LAYERS=LAYER)
    ok(rc == 0 and same == result and err.count("nothing is slowed down") == 1,
       "without a board it runs unchanged, with one message", err)
    _, _, _, result, _ = run(KERNELS, ROUNDS)
    b = Board("agx-orin")
    env = {"FLAMED_BOARD": b.root, "OPENCL_LAYERS": LAYER}
    b.pin(2201600000, 1300500000, 3199000000)
    rc, _, profiled, same, err = run(KERNELS, ROUNDS, **env)
    ok(rc == 0 and same == result, "results are bit-identical", err)
    rc, _, profiled, same, err = run(KERNELS, ROUNDS, FLAMED_BOARD=b.root, OPENCL_LAYERS=CHECKED)
    ok(rc == 0 and same == result and min(profiled) > 0, "with ASan too", err)
    ok(os.path.exists(b.path("/opencl-calibration.csv")), "calibrated")
    ok(len(b.read("/opencl-calibration.csv").split("\n")) == KERNELS + 1, "every launch of the chain was told apart")
    errors = []
    for point in ((2201600000, 1300500000, 3199000000), (1190400000, 1300500000, 3199000000),
                  (2201600000, 510000000, 2133000000),
                  (883200000, 306000000, 204000000)):
        b.pin(*point)
        for order in ("in", "ooo"):
            rc, rounds, profiled, _, err = run(KERNELS, 5, order, **env)
            want, round_ms = times(b)
            name = f"{'/'.join(str(c // 1000000) for c in point)} MHz, {'out of' if order == 'ooo' else 'in'} order"
            ok(rc == 0 and all(abs(p / want - 1) < 0.01 for p in profiled),
               f"kernels profiled at the board's times, {name}", (profiled, want))
            ok(min(rounds[1:]) >= want * 0.999, f"and really waited for, {name}", (rounds, want))
            errors.append((median(rounds[1:]) / round_ms - 1) * 100)
    say(f"a round of {KERNELS} launches against what the board computed: {min(errors):.2f} to {max(errors):.2f} % "
        f"longer")
    ok(re.search(r"flamed-board-opencl: \d+ launches; ends reported late by \d+ us", err) is not None,
       "the layer prints its own error", err)
    say(err.strip().split("\n")[-1])
    waits = b.path("/waits.csv")
    rc, _, _, _, err = run(KERNELS, 12, "in", 1500, FLAMED_BOARD_WAITS=waits, **env)
    due = [int(line.split(",")[3]) / 1e6 for line in open(waits).read().split()[1:]]
    ok(rc == 0 and len(due) >= 10 and abs(median(due[0::2]) - median(due[1::2])) < 0.5,
       "a host that rested before its first launch is no faster for it",
       due)
    begin = b.page.busy_ns[1]
    run(KERNELS, 2, **env)
    ok(b.page.busy_ns[1] > begin, "the board sees the load")
    b.write("/opencl-calibration.csv", "key,host_runs\nx,y")
    rc, _, _, _, err = run(KERNELS, 2, **env)
    ok(rc == 0 and "calibrating again" in err, "a damaged calibration is reported and replaced", err)
    b.close()


main()
done()
