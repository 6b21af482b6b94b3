# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The workload on a board: its latency follows the clocks in the tree, launch-bound, execution-bound and in between."""
import os, re, signal, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(__file__))
from boardlib import RELEASE, Board, ok, say, done, workload

POINTS = [(2201600000, 1300500000, 3199000000), (2201600000, 306000000, 665600000), (883200000, 1300500000, 3199000000),
          (1497600000, 408000000, 204000000)]


def weights(model, n):
    """The shapes of board/cost.c, written down a second time."""
    if model == "decode":
        return [4 if i + 1 == n else 1 for i in range(n)], [3 if i + 1 == n else 1 for i in range(n)]
    gpu = [(2.2 if i % 6 == 2 else 0.8) * (1.5 - i / n) for i in range(n)]
    mem = [(2.0 if i % 6 == 5 else 0.8) * (0.5 + i / n) for i in range(n)]
    return gpu, mem


def timeline_ms(page, model, context, cpu, gpu, mem):
    m = page.workload[0 if model == "cnn" else 1]
    n = m.layers
    wg, wm = weights(model, n)
    wl = [0.7 + 0.2 * (i % 4) for i in range(n)]
    launch = end = 0.0
    for i in range(n):
        p = (m.gpu_cycles * wg[i] / sum(wg) + m.gpu_cycles_per_token * context / n) / gpu
        q = (m.mem_cycles * wm[i] / sum(wm) + m.mem_cycles_per_token * context / n) / mem
        launch += m.launch_cycles * wl[i] / sum(wl) / cpu + m.launch_us / 1e6 / n
        end = max(launch, end) + m.exec_us / 1e6 + (p ** 3 + q ** 3) ** (1 / 3)
    return end * 1e3


def follows(b, kind, *extra):
    worst, late = 0, []
    for point in POINTS:
        ok(b.pin(*point), f"clocks {point[0] / 1e6:.0f} {point[1] / 1e6:.0f} {point[2] / 1e6:.0f} MHz")
        for model, context in (("cnn", 0), ("decode", 1500)):
            rows, s = workload(b, "--model", model, "--requests", "5", "--context", f"{context}:{context}", *extra)
            want = timeline_ms(b.page, model, context, *point)
            # By the board's clock: delays by this machine are reported separately, as late_ns.
            got = sorted(int(r["latency_ns"]) / 1e6 for r in rows)[2]
            error = abs(got / want - 1)
            worst = max(worst, error)
            late.append(int(s["late_p50_ns"]) / 1e3)
            ok(error < 0.01, f"{model} takes {want:.2f} ms there ({kind})", (got, want))
    say(f"{kind}: worst error of the board's time {worst * 100:.2f} %; this machine reported ends late by "
        f"{min(late):.0f} to {max(late):.0f} us")
    return s


def grows(b):
    b.pin(*POINTS[0])
    rows, _ = workload(b, "--model", "decode", "--requests", "6", "--context", "0:4000")
    t = [int(r["latency_ns"]) for r in rows]
    ok([int(r["context"]) for r in rows] == [0, 800, 1600, 2400, 3200, 4000],
       "the context grows from request to request")
    ok(all(a < c for a, c in zip(t, t[1:])), "and so does the time of a token", t)


def mid_flight(b):
    b.pin(*POINTS[0])
    fast, _ = workload(b, "--requests", "1")
    process = subprocess.Popen([RELEASE + "/flamed-workload", b.root, "--requests", "1"], stdout=subprocess.PIPE,
                               text=True)
    b.wait(lambda: b.page.busy_ns[1] > seen(b))
    b.pin(883200000, 306000000, 665600000)
    out = process.communicate(timeout=30)[0]
    t = int(re.search(r"latency_ns=(\d+)", out).group(1))
    ok(t > int(fast[0]["latency_ns"]), "clocks that change during an inference change what is left of it", (t, fast))


def seen(b, start={}):
    return start.setdefault(id(b), b.page.busy_ns[1])


def optimum(b):
    out = subprocess.run([RELEASE + "/flamed-workload", b.root, "--deadline", "100ms", "--optimum"],
                         capture_output=True, text=True).stdout
    rows = [dict(w.split("=") for w in line.split()[1:]) for line in out.splitlines()]
    ok(len(rows) == 12 and rows[0]["points"] == "1276", "the search covers 1,276 points", out)
    power = [int(r["power_uw"]) for r in rows]
    ok(power == sorted(power) and all(float(r["latency_ns"]) <= 1e8 for r in rows),
       "cheapest first, none over the deadline")
    c = [int(rows[0][k + "_hz"]) for k in ("cpu", "gpu", "mem")]
    ok(abs(timeline_ms(b.page, "cnn", 0, *c) - float(rows[0]["latency_ns"]) / 1e6) < 0.001, "by the board's timeline")
    b.pin(*c)
    idle_uw = b.page.power_uw
    _, s = workload(b, "--requests", "8", "--deadline", "100ms")
    # If this machine detects an end late, the board idles for that time.
    measured_uw, busy_ns = float(s["power_uw"]), int(s["requests"]) * float(s["mean_ns"])
    elapsed_ns = int(s["requests"]) * float(s["energy_uj"]) / measured_uw * 1e9
    expected_uw = (power[0] * busy_ns + idle_uw * (elapsed_ns - busy_ns)) / elapsed_ns
    ok(abs(measured_uw / expected_uw - 1) < 0.05, "the board spends there what the search said", (s, power[0], idle_uw))
    say(f"power at the cheapest point of a 100 ms deadline: searched {power[0] / 1e6:.3f} W, with "
        f"{100 * (1 - busy_ns / elapsed_ns):.1f} % idle "
        f"{expected_uw / 1e6:.3f} W, measured {measured_uw / 1e6:.3f} W")


def interrupted(b):
    process = subprocess.Popen([RELEASE + "/flamed-workload", b.root, "--requests", "1000"], stdout=subprocess.PIPE,
                               text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=30)[0]
    ok(process.returncode == 0 and "summary requests=" in out, "Ctrl-C ends it with its summary")


def wrong_use(b):
    def rc(*args):
        return subprocess.run([RELEASE + "/flamed-workload", *args], capture_output=True, timeout=30).returncode
    ok(rc("/nonexistent") == 1, "no board there")
    ok(rc() == 2 and rc(b.root, "--model", "x") == 2 and rc(b.root, "--requests", "0") == 2
       and rc(b.root, "--context", "5:1") == 2,
       "wrong options")
    ok(rc(b.root, "--deadline", "9ms", "--socket", b.dir + "/none") == 1, "no daemon behind the socket")


def main():
    b = Board("agx-orin")
    s = follows(b, "OpenCL")
    if s["queue"].startswith("OpenCL"):
        say("the kernels ran on " + s["queue"])
    with tempfile.TemporaryDirectory() as none:
        _, s = workload(b, "--requests", "2", env={"OCL_ICD_VENDORS": none})
        ok(s["queue"] == "two threads and a queue (no OpenCL device)", "without an ICD: " + s["queue"])
    follows(b, "threads", "--threads")
    grows(b)
    seen(b)
    mid_flight(b)
    optimum(b)
    interrupted(b)
    wrong_use(b)
    b.close()


main()
done()
