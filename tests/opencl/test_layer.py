#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The OpenCL layer under programs with the habits of real ones: same outputs, the
inferences found, no event lost, no effect when anything goes wrong."""
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path[:0] = [os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "..")]
import fakeflamed  # noqa: E402
from lines import done, ok, skip  # noqa: E402

BUILD = os.environ.get("RELEASE_DIR", "build/release")
ASAN = os.environ.get("BUILD_DIR", "build/asan")
AMPLE_NS = "5000000000"  # a deadline that does not pass before its request is sent, even on a busy machine
OPEN_WAIT_NS = 300000000 # of layers/core/session.c
VALGRIND = shutil.which("valgrind")
scratch = tempfile.mkdtemp(prefix="flamed-layer-")


class Run:
    """One run of the engine. below: words for the layer beneath flamed's."""

    def __init__(self, words, layer=True, below=None, tree=BUILD, wrap=(), **env):
        full = dict(os.environ, POCL_CACHE_DIR=os.path.join(scratch, "pocl"))
        layers = []
        if below is not None:
            layers.append(f"{tree}/tests/opencl/libbelow.so")
            full["BELOW"] = below
        if layer:
            layers.append(f"{tree}/libflamed-opencl.so")
        if layers:
            full["OPENCL_LAYERS"] = ":".join(os.path.abspath(path) for path in layers)
        full.setdefault("FLAMED_SOCKET", os.path.join(scratch, "absent"))
        # Drivers keep memory to the end of the process; leaks of the layer are counted by the layer below.
        full["ASAN_OPTIONS"] = "detect_leaks=0"
        full.update(env)
        done = subprocess.run([*wrap, f"{tree}/tests/opencl/engine", *words.split()], env=full, capture_output=True,
                              text=True,
                              timeout=900)
        self.rc, self.out, self.err = done.returncode, done.stdout, done.stderr

    def said(self):
        return [line for line in self.err.splitlines() if line.startswith("flamed-opencl:")]


def trace_of(words, below=None, **env):
    path = os.path.join(scratch, "trace.csv")
    if os.path.exists(path):
        os.unlink(path)
    run = Run(words, below=below, FLAMED_TRACE=path, **env)
    rows = list(csv.DictReader(open(path))) if os.path.exists(path) else []
    return run, rows


def inferences(rows):
    reps = {}
    for row in rows:
        reps.setdefault(int(row["rep"]), []).append(row)
    return reps


def same_results():
    for words in ("", "with-properties", "profiling with-properties check", "finish", "map", "async", "events check",
                  "early",
                  "waits events", "out-of-order check", "callback", "callback-enqueue", "queues=3", "threads=4",
                  "threads=3 events map",
                  "tune", "decode", "shapes", "fail", "no-wait", "check with-properties", "poll", "poll-marker",
                  "notify threads=3", "glance",
                  "ahead", "flush", "copies check", "map-write map"):
        plain = Run(words, layer=False)
        traced = Run(words, FLAMED_TRACE=os.path.join(scratch, "same.csv"))
        ok(plain.rc == traced.rc == 0 and plain.out == traced.out, f"same results with the layer: {words or 'plain'}",
           f"{plain.rc} {traced.rc} {plain.out}{traced.out}{traced.err}")


def boundaries():
    for words, kernels, runs, found in (("runs=20 kernels=30", 30, 20, 17), ("runs=20 kernels=9 finish", 9, 20, 17),
                                        ("runs=20 kernels=9 async", 9, 20, 17), ("runs=20 kernels=9 map", 9, 20, 17),
                                        ("runs=20 kernels=9 tune", 9, 20, 17), ("runs=20 kernels=6 waits", 6, 20, 17),
                                        ("runs=20 kernels=6 queues=2", 6, 20, 17),
                                        ("runs=23 kernels=9 glance", 9, 23, 20),
                                        ("runs=23 kernels=9 flush", 9, 23, 20),
                                        ("runs=23 kernels=9 copies", 12, 23, 20),
                                        ("runs=23 kernels=9 map-write map", 9, 23, 20),
                                        ("runs=23 kernels=30 callback slow", 30, 23, 20),
                                        ("runs=23 kernels=60 odd slow", 60, 23, 20)):
        run, rows = trace_of(words)
        reps = inferences(rows)
        sizes = {len(rows) for rows in reps.values()}
        ok(found - 1 <= len(reps) <= found + 1 and sizes == {kernels}, f"inferences found: {words}",
           f"{len(reps)} {sizes} {run.err}")
    for words in ("poll", "poll-marker", "notify"):  # a run may be over before the first query
        run, rows = trace_of(f"runs=60 kernels=9 size=65536 {words}")
        sizes = {len(rows) for rows in inferences(rows).values()}
        ok(len(inferences(rows)) >= 20 and sizes == {9} and not run.said(),
           f"inferences found where nothing blocks: {words}",
           f"{len(inferences(rows))} {sizes} {run.err}")
        ok(all([row["sync"] for row in rows] == ["0"] * 8 + ["1"] for rows in inferences(rows).values()),
           f"and how each is waited for: {words}")
    run, rows = trace_of("runs=20 kernels=9 left")
    reps = list(inferences(rows).values())
    ok(len(reps) == 17 and {"".join(row["sync"] for row in rep) for rep in reps} == {"000000001"},
       "a wait for a queue whose thread has ended does not wait for the thread that has its place", f"{reps} {run.err}")
    run, rows = trace_of("runs=40 kernels=9 size=65536 ahead")
    ok(run.rc == 0 and not rows, "a program that goes on before it asks shows no boundary", f"{len(rows)} {run.err}")
    run, rows = trace_of("runs=20 kernels=10 no-wait", FLAMED_BOUNDARY="count:10")
    reps = inferences(rows)
    ok(run.rc == 0 and len(reps) >= 3, "a program that never waits, with FLAMED_BOUNDARY=count",
       f"{len(reps)} {run.err}")
    run, rows = trace_of("runs=20 kernels=12", FLAMED_BOUNDARY="kernel:fold")
    ok({len(rows) for rows in inferences(rows).values()} == {3}, "FLAMED_BOUNDARY=kernel closes at the kernel", run.err)
    for words, rule in (("waits", "read"), ("waits finish", "finish")):
        run, rows = trace_of(f"runs=20 kernels=6 {words}", FLAMED_BOUNDARY=rule)
        ok({len(rows) for rows in inferences(rows).values()} == {6} and len(inferences(rows)) == 17,
           f"FLAMED_BOUNDARY={rule} closes at nothing else", run.err)
    run, rows = trace_of("runs=24 kernels=8 decode")
    sizes = [len(rows) for rows in inferences(rows).values()]
    ok(8 in sizes and run.said() == [], "prefill then decode are told apart", f"{sizes} {run.err}")
    run, rows = trace_of("runs=60 kernels=4 shapes size=1024")
    ok(run.rc == 0 and len(run.said()) == 1 and "FLAMED_BOUNDARY" in run.err,
       "ever changing sequences: off with one line", run.err)


def rows_are_right():
    run, rows = trace_of("runs=12 kernels=9 size=65536")
    first = next(iter(inferences(rows).values()), [])
    names = [row["kernel"] for row in first]
    ok(names == ["scale", "blend", "fold"] * 3, "kernels by name, in launch order", names)
    ok(all(int(row["gpu_ns"]) > 1000 for row in first), "execution times are there")
    ok(all(int(row["call_ns"]) <= int(row["cpu_ns"]) for row in first), "launch calls are part of the host time")
    ok([row["sync"] for row in first] == ["0"] * 8 + ["1"], "the host waits after the last one only")
    run, rows = trace_of("runs=12 kernels=4 flush", below="slowflush")
    ok(rows and all(int(row["call_ns"]) > 3e6 for row in rows), "a flush counts for the launch before it", rows[:4])
    ok(sum(int(row["cpu_ns"]) - int(row["call_ns"]) > 3e6 for row in rows) * 4 <= len(rows), "and not for the next",
       rows[:8])
    run, rows = trace_of("runs=12 kernels=6 waits")
    ok(all(row["sync"] == "1" for row in rows) and rows, "a wait after every launch is seen")


def events_balance():
    for words in ("", "events check", "early", "poll", "notify", "out-of-order", "threads=3", "decode",
                  "shapes runs=30", "kernels=5000 runs=4", "tune",
                  "callback", "no-wait"):
        for faults in ("", "notimes", "noretain"):
            run = Run(words, below=faults, FLAMED_TRACE=os.path.join(scratch, "t.csv"))
            m = re.search(r"made=(\d+) retained=(\d+) released=(\d+)", run.err)
            made, retained, released = map(int, m.groups()) if m else (1, 0, 0)
            # Inferences still open at the end of the program hold theirs.
            ok(run.rc == 0 and made + retained == released,
               f"no event is lost: {words or 'plain'}, driver {faults or 'whole'}",
               f"{made}+{retained} made, {released} released: {run.err}")
            if faults and words not in ("events check", "early"):
                break


def devices():
    plain = Run("", layer=False)
    run = Run("check", below="noprofile", FLAMED_TRACE=os.path.join(scratch, "np.csv"), FLAMED_SUMMARY="2")
    ok(run.rc == 0 and run.out == plain.out and "inferences=9" in run.err,
       "a device without profiling: timed end to end", run.err)
    run = Run("check", FLAMED_MODEL="net")
    ok(run.rc == 0 and run.out == plain.out and len(run.said()) == 1 and "FLAMED_DEADLINE_NS" in run.err,
       "a model, but no deadline: one line that names what to set", run.err)
    empty = os.path.join(scratch, "no-icd")
    os.mkdir(empty)
    run = Run("", OCL_ICD_VENDORS=empty, FLAMED_DEADLINE_NS="1000000")
    ok(run.rc == 4 and "no OpenCL platform: -1001" in run.err, "no ICD: the program hears what the loader says",
       f"{run.rc} {run.err}")
    two = os.path.join(scratch, "two-icds")
    os.mkdir(two)
    shutil.copy("/etc/OpenCL/vendors/pocl.icd", two)
    with open(f"{two}/empty.icd", "w") as icd:
        icd.write(os.path.abspath(f"{BUILD}/tests/opencl/libemptyicd.so") + "\n")
    run, rows = trace_of("runs=20 kernels=5", OCL_ICD_VENDORS=two)
    ok(run.rc == 0 and len(inferences(rows)) == 17, "two ICDs, one without devices", run.err)


def session_with_flamed():
    with fakeflamed.Server(os.path.join(scratch, "f.sock")) as flamed:
        env = dict(FLAMED_SOCKET=flamed.path, FLAMED_DEADLINE_NS=AMPLE_NS, FLAMED_MODEL="net", FLAMED_SUMMARY="2")
        plain = Run("runs=40 gap=2000 size=262144", layer=False)
        run = Run("runs=40 gap=2000 size=262144", **env)
        ends = flamed.of("end")
        ok(run.out == plain.out and run.rc == 0, "same results under a deadline", run.err)
        ok([m["model"] for m in flamed.of("open")] == ["net"], "one session, under the user's name", flamed.log)
        ok(len(flamed.of("begin")) == 37 and len(ends) == 37, "every inference is a begin and an end",
           f"{len(flamed.of('begin'))} {len(ends)} {run.err}")
        ok(all(int(m.get("total_ns", 0)) > 0 for m in ends), "each says how long it took")
        layered = [m for m in ends if "layers" in m]
        ok(8 <= len(layered) <= 12 and all(m["layers"].count(",") == 23 and m["layers"].endswith(":s")
                                           for m in layered),
           "layers are sent at first and then now and then", f"{len(layered)}")
        ok("inferences=37 missed=" in run.err and "model=net" in run.err and "1000000000:500000000:0:" in run.err,
           "the summary says what was done", run.err)
        flamed.clear()
        Run("runs=30 gap=2000 decode kernels=8", **env)
        models = {m["model"] for m in flamed.of("open")}
        ok("net" in models and len(models) == 2, "another shape has a session of its own", models)
        flamed.clear()
        del env["FLAMED_MODEL"]
        Run("gap=2000 runs=8", **env)
        Run("gap=2000 runs=8 tune", **env)
        Run("gap=2000 runs=8 kernels=25", **env)
        names = [m["model"] for m in flamed.of("open")]
        ok(len(names) == 3 and names[0] == names[1] != names[2] and names[0].startswith("opencl-"),
           "without a name the sequence names the model", names)
        flamed.clear()
        runs = [subprocess.Popen([f"{BUILD}/tests/opencl/engine", "runs=30", "gap=2000", "size=65536"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 env=dict(os.environ, OPENCL_LAYERS=os.path.abspath(f"{BUILD}/libflamed-opencl.so"),
                                          FLAMED_MODEL="same", **env)) for _ in range(2)]
        codes = [run.wait(60) for run in runs]
        ok(codes == [0, 0] and len(flamed.of("open")) == 2 and len(flamed.of("end")) == 54,
           "two programs under one model name",
           f"{codes} {len(flamed.of('open'))} {len(flamed.of('end'))}")


def endings():
    with fakeflamed.Server(os.path.join(scratch, "e.sock")) as flamed:
        env = dict(FLAMED_SOCKET=flamed.path, FLAMED_DEADLINE_NS=AMPLE_NS, FLAMED_MODEL="net")
        run = Run("runs=30 gap=2000 kill", **env)
        ok(run.rc == -signal.SIGKILL and flamed.wait_closed(), "killed in the middle: the session ends with it",
           flamed.open_count())
        plain = Run("runs=30 gap=4000 fork", layer=False)
        flamed.clear()
        run = Run("runs=30 gap=4000 fork", **env)
        ok(run.rc == 0 and run.out == plain.out and len(flamed.of("end")) == 27 and len(flamed.of("open")) == 1,
           "a fork has no part in its parent's session", f"{run.rc} {len(flamed.of('end'))} {run.err}")
        flamed.clear()
        run = Run("runs=30 gap=4000 exec", **env)
        begins, ends = ([m["session" if op == "begin" else "request"] for m in flamed.of(op)]
                        for op in ("begin", "end"))
        # An end waits for the answer to its begin, and exec waits for neither: the last one of each
        # program may be lost.
        ok(run.rc == 0 and [begins.count(s) for s in sorted(set(begins))] == [27, 27] and len(flamed.of("open")) == 2
           and 52 <= len(set(ends)) <= 54,
           "after exec it starts afresh", f"{run.rc} {begins} {len(ends)} {run.err}")
        run = Run("runs=30 gap=2000 abandon", **env)
        ok(run.rc == 0 and flamed.wait_closed(), "a program that leaves without a word")
        flamed.clear()
        env["FLAMED_DEADLINE_NS"] = "50000000"
        flamed.mute = True
        run = Run("runs=30 gap=2000", **env)
        ok(run.rc == 0 and run.out == plain.out and len(run.said()) == 1, "flamed does not answer", run.err)
        rotated = Run("runs=80 kernels=9 rotate times", layer=False)
        run = Run("runs=80 kernels=9 rotate times", **env)
        # From the third time on each shape is a request, and there are more shapes than sessions.
        times = [int(line.split()[1]) for line in run.err.splitlines() if line.startswith("times:")][32:]
        ok(run.rc == 0 and run.out == rotated.out and len(run.said()) == 1 and len(times) == 48
           and min(times) < OPEN_WAIT_NS, "flamed does not answer: not every session that is opened is waited for",
           f"{times} {run.said()}")
        flamed.mute = False
        flamed.rubbish = True
        run = Run("runs=30 gap=2000", **env)
        ok(run.rc == 0 and run.out == plain.out and len(run.said()) == 1, "flamed answers rubbish", run.err)
        flamed.rubbish = False
        flamed.refuse = True
        run = Run("runs=30 gap=2000", **env)
        ok(run.rc == 0 and run.out == plain.out and len(run.said()) == 1, "flamed refuses", run.err)
        flamed.clear()
        run = Run("runs=80 kernels=9 rotate", **env)
        ok(run.rc == 0 and run.out == rotated.out and len(flamed.of("open")) >= 48 and len(run.said()) == 1
           and "refuses" in run.said()[0], "flamed refuses more shapes than have sessions: said once",
           f"{len(flamed.of('open'))} {run.err}")
        flamed.refuse = False
        flamed.clear()
        flamed.refuse_opens = 2
        run = Run("runs=100 gap=10000", **env)
        ok(run.rc == 0 and len(run.said()) == 1 and len(flamed.of("open")) == 3 and len(flamed.of("end")) > 10,
           "flamed has no room at first: the session is opened once there is some",
           f"{len(flamed.of('open'))} {len(flamed.of('end'))} {run.err}")
    run = Run("runs=30 gap=2000", FLAMED_DEADLINE_NS="50000000")
    ok(run.rc == 0 and run.out == plain.out and len(run.said()) == 1 and "not running" in run.err,
       "no flamed: one line", run.err)
    run = Run("runs=9", FLAMED_DEADLINE_NS="soon", FLAMED_BOUNDARY="never", FLAMED_MODEL="a b")
    ok(run.rc == 0 and len(run.said()) == 3, "settings that make no sense are named and ignored", run.err)


def profiling():
    with fakeflamed.Server(os.path.join(scratch, "p.sock")) as flamed:
        flamed.points, flamed.pauses = 4, 1
        summary = os.path.join(scratch, "summary")
        run = Run("runs=60 kernels=10", FLAMED_SOCKET=flamed.path, FLAMED_PROFILE="1", FLAMED_MODEL="net",
                  FLAMED_SUMMARY=summary)
        samples = [m for m in flamed.of("sample") if "latency_ns" in m]
        ok(len(flamed.of("profile")) == 1 and len(samples) == 4, "each point is measured", f"{flamed.log} {run.err}")
        ok(all(m["n"] == "5" and int(m["latency_ns"]) > 0 and m["layers"].count(",") == 9 for m in samples),
           "a sample is the mean of what was asked for, with its layers", samples)
        ok(len([m for m in flamed.of("sample") if "latency_ns" not in m]) >= 1,
           "a pause is waited for, then the point is asked again")
        text = open(summary).read()
        ok(text.startswith("profile=done\n") and "inferences=" in text, "the end of profiling is noted at once", text)
        flamed.clear()
        flamed.points = 4
        run = Run("runs=90 kernels=10 size=65536 notify", FLAMED_SOCKET=flamed.path, FLAMED_PROFILE="1",
                  FLAMED_MODEL="net")
        samples = [m for m in flamed.of("sample") if "latency_ns" in m]
        ok(run.rc == 0 and len(samples) == 4 and all(m["n"] == "5" and m["layers"].count(",") == 9 for m in samples),
           "also a program that waits for callbacks", f"{samples} {run.err}")


def sanitizers():
    if os.path.exists(f"{ASAN}/libflamed-opencl.so"):
        for words in ("events check runs=20", "threads=4 runs=20", "notify threads=4 runs=20", "poll runs=20",
                      "out-of-order", "decode runs=30", "callback"):
            run = Run(words, tree=ASAN, FLAMED_TRACE=os.path.join(scratch, "asan.csv"))
            ok(run.rc == 0 and "Sanitizer" not in run.err and "runtime error" not in run.err,
               f"ASan and UBSan are silent: {words}", run.err[-3000:])
    else:
        skip("ASan and UBSan", "no such build")
    if not VALGRIND:
        skip("valgrind", "not installed")
        return
    with fakeflamed.Server(os.path.join(scratch, "v.sock")) as flamed:
        run = Run("runs=12 kernels=6 size=64", wrap=(VALGRIND, "--error-exitcode=9", "--leak-check=full",
                                                     "--show-leak-kinds=definite",
                                                     "--errors-for-leak-kinds=none", "--num-callers=20"),
                  FLAMED_TRACE=os.path.join(scratch, "v.csv"), FLAMED_SOCKET=flamed.path,
                  FLAMED_DEADLINE_NS="9000000000",
                  POCL_MAX_PTHREAD_COUNT="1")
        if "unhandled instruction" in run.err or run.rc == -signal.SIGILL or run.rc == 128 + signal.SIGILL:
            skip("valgrind", "it does not know this processor's instructions")
            return
        ours = [block for block in re.split(r"\n==\d+== \n", run.err) if "libflamed-opencl" in block]
        ok(not ours and "ERROR SUMMARY" in run.err, "valgrind finds nothing of the layer's", "\n".join(ours)[:3000]
           or run.err[-2000:])


def main():
    if not os.path.exists("/etc/OpenCL/vendors/pocl.icd"):
        skip("the OpenCL layer", "no PoCL ICD here")
    else:
        for part in (same_results, boundaries, rows_are_right, events_balance, devices, session_with_flamed, endings,
                     profiling, sanitizers):
            part()
    shutil.rmtree(scratch, ignore_errors=True)
    done()


main()
