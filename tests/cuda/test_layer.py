#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The CUDA layer under programs that come by the driver in every way there is and use it as frameworks
do: same outputs, the same calls of the driver but for a few of its own, inferences found, nothing
in a capture disturbed, and off where it makes no sense."""
import csv, os, statistics, subprocess

import cudalib
from cudalib import ASAN, RELEASE, Run, scratch
import fakeflamed
from boardlib import ok, done

# The driver calls of the layer itself; none of them waits.
OWN = {"cuEventCreate", "cuEventRecord", "cuEventElapsedTime", "cuEventQuery", "cuCtxGetCurrent",
       "cuStreamGetCaptureInfo_v2",
       "cuDevicePrimaryCtxGetState", "cuEventDestroy_v2", "cuThreadExchangeStreamCaptureMode",
       "cuStreamGetFlags", "cuGraphGetNodes", "cuFuncGetName", "cuKernelGetName"}
POLLED = {"cuStreamQuery", "cuEventQuery"}  # as often as time allows
FRAMEWORKS = ("pytorch-item", "tensorrt-enqueue", "tensorrt-trtexec", "onnxruntime-run", "llama-decode", "graph-replay")
PREFIX = 5  # inferences at most that pass until the first is found
PERIODS = 3 # repetitions of a cycle before it is believed
ADDED = 20  # added to a launch at most, times the time of the stand-in: some ten times what it is
ONCE = {"llama-decode": 3}  # tokens, of 66, that run eagerly once for each shape of the graph, and never again


def unchanged(name, plain, run):
    extra = {call for call in run.calls if call not in OWN | POLLED and run.calls[call] != plain.calls.get(call, 0)}
    ok(run.rc == plain.rc == 0 and run.out == plain.out, f"{name}: same results",
       f"{run.rc} {run.out} {plain.out} {run.err[-800:]}")
    run.errors.pop("cuStreamGetFlags", None)  # of a handle that the program has destroyed and then uses
    # Of the default stream while a blocking stream is captured: an error, and the capture goes on.
    run.errors.pop("cuStreamGetCaptureInfo_v2", None)
    ok(not extra and run.errors == plain.errors, f"{name}: the driver is called as without the layer",
       f"{extra} {run.errors} {plain.errors}")


def frameworks():
    for name in FRAMEWORKS:
        plain, run = Run(name, "runs=64", layer=False), Run(name, "runs=64")
        unchanged(name, plain, run)
        least = run.truth - PREFIX - ONCE.get(name, 0)
        ok(least <= run.found <= run.truth, f"{name}: an inference is found within {PREFIX}",
           f"{run.found} of {run.truth}")


def ways():
    for resolve in ("runtime", "old", "dlsym", "linked"):
        for words in ((), ("ptsz",)):
            if resolve == "linked" and words:
                continue
            how = [f"resolve={resolve}", *words] if resolve != "linked" else []
            program = "engine-linked" if resolve == "linked" else "engine"
            for name in ("pytorch-item", "graph-replay" if not words else "plain"):
                plain = Run(name, "runs=20", *how, layer=False, program=program)
                run = Run(name, "runs=20", *how, program=program)
                title = f"{name}, {resolve}{', default stream of each thread' if words else ''}"
                unchanged(title, plain, run)
                ok(run.truth - PREFIX <= run.found <= run.truth, f"{title}: inferences found",
                   f"{run.found} of {run.truth} {run.err}")


def waits():
    for name, lost in (("polling", 7), ("polling-event", 7), ("host-function", 28), ("callback", 28),
                       ("synchronous", 4), ("rows", 4), ("slices", 4), ("fork", 4)):
        plain, run = Run(name, "runs=64", layer=False), Run(name, "runs=64", FLAMED_TRACE=scratch + "/waits.csv")
        unchanged(name, plain, run)
        ok(run.truth - lost <= run.found <= run.truth, f"{name}: inferences found",
           f"{run.found} of {run.truth} {run.err}")
    for name in ("onnxruntime-run", "rows-async"):
        run = Run(name, "runs=30", FLAMED_BOUNDARY="read")
        ok(run.truth - PREFIX <= run.found <= run.truth, f"{name}: only waits for what is read count, if asked for",
           f"{run.found} of {run.truth} {run.err}")
    with fakeflamed.Server(scratch + "/s") as server:
        run = Run("upload-first", "runs=12", FLAMED_SOCKET=server.path, FLAMED_DEADLINE_NS="50000000")
        left = [int(message["deadline_ns"]) for message in server.of("begin")]
        # unless more than a quarter of the deadline has passed, on a busy machine
        counted = [ns for ns in left if ns != 50000000]
        ok(run.rc == 0 and len(left) >= run.truth - PREFIX and len(counted) > 12 and max(counted) <= 47000000,
           "input on its way counts: less of the deadline is left", left)


def several():
    plain, run = Run("double-buffer", "runs=40", layer=False), Run("double-buffer", "runs=40")
    unchanged("two streams, two in flight", plain, run)
    ok(run.truth - 8 <= run.found <= run.truth, "two streams, two in flight: each stream's inferences are found",
       f"{run.found} of {run.truth}")
    plain, run = Run("plain", "runs=24", "threads=4", layer=False), Run("plain", "runs=24", "threads=4")
    unchanged("four threads", plain, run)
    ok(run.truth - 4 * PREFIX <= run.found <= run.truth, "four threads: each thread's inferences are found",
       f"{run.found} of {run.truth}")
    plain, run = Run("legacy-wait", "runs=30", layer=False), Run("legacy-wait", "runs=30")
    unchanged("the default stream is waited for", plain, run)
    ok(run.truth - 2 * PREFIX <= run.found <= run.truth,
       "the default stream is waited for: that covers the streams that block, and no others",
       f"{run.found} of {run.truth} {run.err}")
    run = Run("overlapping", "runs=40")
    ok(run.rc == 0 and run.found == 0 and "cannot be told apart" in run.err and "FLAMED_BOUNDARY=count:N" in run.err,
       "two in flight in one stream: said, with what to set", run.err)
    run = Run("overlapping", "runs=40", FLAMED_BOUNDARY="count:10")
    ok(run.rc == 0 and run.truth - 6 <= run.found <= run.truth + 1, "two in flight in one stream: found by count:10",
       f"{run.found} of {run.truth} {run.err}")


def streams():
    plain, run = Run("streams", "runs=150", layer=False), Run("streams", "runs=150")
    unchanged("streams that come and go", plain, run)
    ok(run.truth - 3 * 150 <= run.found <= run.truth, "streams that come and go: each one's inferences are found",
       f"{run.found} of {run.truth} {run.err}")


    plain = Run("reset", "runs=12", layer=False)
    run = Run("reset", "runs=12", FLAMED_TRACE=scratch + "/reset.csv")
    unchanged("a device that is reset", plain, run)
    rows = list(csv.DictReader(open(scratch + "/reset.csv")))
    ok(run.truth - PREFIX <= run.found and len({row["rep"] for row in rows}) >= run.found - 1,
       "a device that is reset: inferences after it are found and timed", f"{run.found} of {run.truth} {rows[-1:]}")


def contexts():
    for name, title in (("retained", "a context that is retained again and released"), ("contexts", "three contexts")):
        made = []
        for runs in ("runs=12", "runs=200"):
            plain, run = Run(name, runs, layer=False), Run(name, runs, FLAMED_TRACE=scratch + "/contexts.csv")
            unchanged(f"{title}, {runs}", plain, run)
            made.append(run.calls.get("cuEventCreate", 0) - run.calls.get("cuEventDestroy_v2", 0))
        ok(run.found > 100 and 0 < made[1] == made[0], f"{title}: as many events for 12 as for 200",
           f"{made} {run.found} of {run.truth} {run.calls}")


def old_drivers():
    path = scratch + "/old.csv"
    for words in ((), ("module",)):
        run = Run("plain", "runs=10", *words, FLAMED_TRACE=path, LD_LIBRARY_PATH=RELEASE + "/tests/cuda/before-12.3")
        names = [row["kernel"] for row in csv.DictReader(open(path))]
        ok(run.rc == 0 and names[:15] == ["conv"] * 6 + ["relu"] * 6 + ["fc"] * 3,
           f"a driver that tells no names: those asked for, {' '.join(words)}", names[:15])
    for name in ("plain", "graph-replay"):
        old = {"LD_LIBRARY_PATH": RELEASE + "/tests/cuda/before-11.3"}
        plain = Run(name, "resolve=dlsym", layer=False, **old)
        for rule in ("", "nvtx:infer"):
            run = Run(name, "resolve=dlsym", FLAMED_DEADLINE_NS="50000000", FLAMED_BOUNDARY=rule, **old)
            ok(run.rc == 0 and run.out == plain.out and run.calls == plain.calls and len(run.said()) == 1 and
               "older than 11.3" in run.said()[0],
               f"{name}, a driver before CUDA 11.3: one line, and left alone {rule}", f"{run.rc} {run.err}")


def graphs():
    plain, run = Run("two-graphs", "runs=40", layer=False), Run("two-graphs", "runs=40")
    unchanged("two graphs in turn", plain, run)
    ok(run.truth - 2 * PREFIX <= run.found <= run.truth,
       "two graphs in turn, or one updated in turn, are one inference",
       f"{run.found} of {run.truth} {run.err}")
    path = scratch + "/captures.csv"
    plain, run = Run("captures", "runs=40", layer=False), Run("captures", "runs=40", FLAMED_TRACE=path)
    unchanged("captures that fail", plain, run)
    ok(run.truth - PREFIX <= run.found <= run.truth, "captures that fail: those after them are known",
       f"{run.found} of {run.truth} {run.err}")
    ok(len(open(path).readlines()) > 2 * (run.found - 1), "captures that fail: launches after them are timed",
       open(path).read()[:400])


    plain, run = Run("clone", "runs=30", layer=False), Run("clone", "runs=30")
    unchanged("a graph and its clone", plain, run)
    ok(run.truth - PREFIX <= run.found <= run.truth, "a graph and its clone are one inference",
       f"{run.found} of {run.truth} {run.err}")
    plain, run = Run("capture-joined", "runs=40", layer=False), Run("capture-joined", "runs=40")
    unchanged("a stream that joined a capture", plain, run)
    ok(run.truth - PREFIX <= run.found <= run.truth, "a stream that joined a capture: its launches are the graph's",
       f"{run.found} of {run.truth} {run.err}")
    plain = Run("capture-beside", "runs=40", layer=False)
    for rule in ("", "count:10"):
        run = Run("capture-beside", "runs=40", FLAMED_TRACE=scratch + "/beside.csv", FLAMED_BOUNDARY=rule)
        title = f"while another stream is captured{', by count' if rule else ''}"
        unchanged(title, plain, run)
        ok(not set(run.calls) & {"cuEventCreate", "cuEventRecord", "cuEventQuery", "cuEventElapsedTime"},
           f"{title}: no event of the layer's", run.calls)
        ok(rule or run.truth - PREFIX <= run.found <= run.truth, f"{title}: inferences are found",
           f"{run.found} of {run.truth} {run.err}")
    plain, run = Run("capture-amid", "runs=40", layer=False), Run("capture-amid", "runs=40", FLAMED_BOUNDARY="count:10",
                                                                  FLAMED_TRACE=scratch + "/amid.csv")
    unchanged("a capture while inferences are in flight", plain, run)
    ok(run.found > 10 and run.calls.get("cuEventRecord", 0) > 10, "a capture while inferences are in flight: found",
       f"{run.found} of {run.truth} {run.calls}")
    words = ("llama-decode", "runs=40", "threads=4")
    plain, run = Run(*words, layer=False), Run(*words, FLAMED_TRACE=scratch + "/threads.csv")
    unchanged("four threads that capture now and then", plain, run)


def locks():
    """lockwatch.c and the stand-in end a program that calls the driver with a lock of the layer held."""
    scripts = sorted(os.listdir(os.path.join(cudalib.HERE, "scripts")))
    watched = f"{RELEASE}/tests/cuda/lockwatch.so {RELEASE}/libflamed-cuda.so"
    wrong = []
    for name in scripts:
        ranges, program = {}, "engine"
        if name.startswith("nvtx"):
            ranges = {"FLAMED_BOUNDARY": "nvtx:infer", "NVTX_INJECTION64_PATH": RELEASE + "/libflamed-cuda.so"}
            program = "engine-nvtx"
        if not os.path.exists(f"{RELEASE}/tests/cuda/{program}"):
            continue  # no NVTX headers
        with fakeflamed.Server(scratch + "/s") as server:
            run = Run(name, "runs=20", LD_PRELOAD=watched, program=program, FLAMED_SOCKET=server.path,
                      FLAMED_DEADLINE_NS="50000000", **ranges)
        wrong += [(name, run.err)] if run.rc else []
    ok(len(scripts) > 20 and not wrong, "no lock is held while the driver is called", wrong)


def off():
    run = Run("never-waits")
    ok(run.rc == 0 and len(run.said()) == 1 and "the program never waits" in run.said()[0]
       and "continues without flamed" in run.said()[0],
       "a program that never waits: off, with one line", run.err)
    plain, run = Run("strict", "runs=12", layer=False), Run("strict", "runs=12")
    unchanged("what the reference forbids", plain, run)
    ok(plain.errors.get("cuStreamEndCapture") == 10, "the stand-in refuses it", plain.errors)
    run = Run("shapes", "runs=9000")
    ok(run.rc == 0 and len(run.said()) == 1 and run.said()[0].endswith("continues without flamed"),
       "a program whose steps never repeat: off, with one line", run.err)
    for name in ("plain", "graph-replay", "strict", "fork"):
        plain, run = Run(name, layer=False), Run(name, FLAMED_SUMMARY="")
        ok(run.rc == 0 and run.out == plain.out and run.calls == plain.calls and not run.said(),
           f"{name}, nothing asked for: nothing said, nothing done", f"{run.rc} {run.err}")
    run = subprocess.run(["sh", "-c", "echo well"], env=dict(os.environ, LD_PRELOAD=cudalib.preload(RELEASE),
                                                             FLAMED_SUMMARY="2"), capture_output=True, text=True)
    ok(run.stdout == "well\n" and not run.stderr, "a program without CUDA notices nothing", run.stderr)


def requests():
    with fakeflamed.Server(scratch + "/s") as server:
        asked = {"FLAMED_SOCKET": server.path, "FLAMED_DEADLINE_NS": "50000000", "FLAMED_MODEL": "llama"}
        run = Run("eager-then-graph", "runs=40", **asked)
        begins, ends, opened = server.of("begin"), server.of("end"), server.of("open")
        ok(run.rc == 0 and len(begins) == len(ends) == run.found, "each inference is a request",
           f"{len(begins)} {len(ends)} {run.found}")
        names = [message["model"] for message in opened]
        ok(names[0] == "llama" and len(set(names)) >= 2 and all(name.startswith("llama") for name in names),
           "eager and replayed, one model under two names", names)
        server.clear()
        run = Run("llama-decode", "runs=160", **asked)
        opened = [message["model"] for message in server.of("open")]
        # Five times in 160 tokens, one runs eagerly and the next one replays a graph of a new shape.
        ok(run.rc == 0 and run.found == run.truth - 1 - PERIODS - 5 and len(server.of("begin")) == run.found and
           len(opened) == len(set(opened)) == 6,
           "the first replay of a graph is a request, of a model of its own",
           f"{run.found} of {run.truth} {len(server.of('begin'))} {opened}")
        server.clear()
        run = Run("llama-decode", "runs=800", **asked)
        # Of these tokens 25 run eagerly. A graph of a ninth shape takes the place of the shape used longest ago.
        ok(run.rc == 0 and run.found == run.truth - 1 - PERIODS - 25 and len(server.of("begin")) == run.found and
           len(server.of("open")) == 26, "more shapes than have sessions at a time: each inference is a request",
           f"{run.found} of {run.truth} {len(server.of('begin'))} {len(server.of('open'))}")
        server.clear()
        run = Run("graph-tail", "runs=40", **asked)
        # Graphs change at 9, 19, 29 and 39, the first of these to its own shape. Such an inference
        # is a request from its third time on.
        ok(run.rc == 0 and run.found == len(server.of("begin")) == 40 - PERIODS - 2 * 2 - 1 and
           len(server.of("open")) == 3, "a graph that more launches follow is not announced as if it were alone",
           f"{run.found} {len(server.of('begin'))} {len(server.of('open'))} {run.err}")
        server.clear()
        layers = [message["layers"] for message in ends if "layers" in message]
        counts = {len(text.split(",")) for text in layers}
        ok(40 in counts and 1 in counts and all(int(part.split(":")[1]) > 0 for text in layers
                                                for part in text.split(",")),
           "times of layers: of each kernel when eager, of the whole when replayed", counts)
        server.clear()
        run = Run("plain", "runs=80", FLAMED_SOCKET=server.path, FLAMED_DEADLINE_NS="50000000", FLAMED_MODEL="plain")
        ends = server.of("end")
        timed = [i for i, message in enumerate(ends) if "layers" in message]
        ok(timed == [i for i in range(run.found) if i < 8 or i % 16 == 0] and
           all(ends[i].get("layer_source") == "events" for i in timed),
           "layers are timed for the first 8 inferences and every 16th, by events",
           f"{timed} {[ends[i].get('layer_source') for i in timed]}")
        server.clear()
        run = Run("fork", "runs=24", FLAMED_SOCKET=server.path, FLAMED_DEADLINE_NS="50000000", FLAMED_MODEL="forks")
        ok(run.rc == 0 and len(server.of("begin")) == run.found > 0 and run.err.count("inferences=") == 1 and
           not run.said() and server.wait_closed(), "a program that forks: its children say nothing", run.err)


def traced():
    path = scratch + "/trace.csv"
    for words in (("module",), ("resolve=dlsym", "module")):
        run = Run("plain", "runs=10", *words, FLAMED_TRACE=path)
        names = [row["kernel"] for row in csv.DictReader(open(path))]
        ok(run.rc == 0 and names[:15] == ["conv"] * 6 + ["relu"] * 6 + ["fc"] * 3,
           f"kernels of a module by name, {' '.join(words)}", names[:15])
    run = Run("plain", "runs=10", FLAMED_TRACE=path)
    rows = list(csv.DictReader(open(path)))
    last = [row for row in rows if row["rep"] == rows[-1]["rep"]]
    # conv: 8 blocks of 20000 and 10000 cycles at 1 GHz: 160 and 80 us under a norm of 3
    # All but the first of an inference run back to back, unless the machine is late; the median of
    # all repetitions is not.
    conv = [int(row["gpu_ns"]) for row in rows if row["kernel"] == "conv" and row["layer"] != "0"]
    wanted = (160000 ** 3 + 80000 ** 3) ** (1 / 3)
    ok(run.rc == 0 and [row["kernel"] for row in last] == ["conv"] * 6 + ["relu"] * 6 + ["fc"] * 3,
       "kernels by name, in order", last)
    ok(len(conv) == 35 and abs(statistics.median(conv) / wanted - 1) < 0.02, "times of kernels by events",
       f"{conv} {wanted}")
    ok([row["sync"] for row in last] == ["0"] * 14 + ["1"], "the host waits after the last one")


def quick():
    """What the layer adds to a launch, as a multiple of what the launch takes without it: a slow machine is slow at
    both. The stand-in takes some 26 ns, the layer adds 40 to 80, and the least of many loops is one that nothing
    interrupted; `make bench` has the limit in ns."""
    def launch_ns(**how):
        run = Run("overhead", "runs=200", "times", **how)
        times = [int(line.split()[1]) for line in run.err.splitlines() if line.startswith("times:")]
        return min(times) / 400

    with fakeflamed.Server(scratch + "/s") as server:
        pairs = [(launch_ns(layer=False), launch_ns(FLAMED_SOCKET=server.path, FLAMED_DEADLINE_NS="100000000"))
                 for _ in range(5)]
        begins = len(server.of("begin"))
    added = [(layered - plain) / plain for plain, layered in pairs]
    ok(begins > 100 and statistics.median(added) <= ADDED, f"a launch costs at most {ADDED} times as much again",
       f"{begins} {pairs}")


def sanitized():
    """Every entry point again, in a build that checks memory."""
    for name, words in (("plain", ("threads=3",)), ("llama-decode", ()), ("strict", ()), ("double-buffer", ()),
                        ("host-function", ()), ("plain", ("ptsz",)),
                        ("fork", ())):
        run = Run(name, "runs=12", *words, tree=ASAN)
        ok(run.rc == 0 and "Sanitizer" not in run.err and "runtime error" not in run.err,
           f"{name} {' '.join(words)}: no memory error", run.err[-1500:])


def main():
    for part in (frameworks, ways, waits, several, streams, contexts, old_drivers, graphs, locks, off, requests, traced,
                 quick, sanitized):
        part()
    done()


main()
