#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""flamectl import: small traces written by hand in the documented forms of nsys' SQLite export, of
torch.profiler and of Chrome's trace events, with known times; and wrong ones, which are refused
with the table, line or event at fault."""
import csv, io, json, os, sqlite3, subprocess

import cudalib
from cudalib import scratch
from boardlib import ok, done

FLAMECTL = cudalib.ASAN + "/flamectl"
US = 1000
STEP = 1000 * US       # of one inference to the next
LAUNCH, GAP = 5 * US, 20 * US  # duration of a launch, and from the begin of one to the begin of the next
KERNELS = (("conv", 100 * US), ("relu", 40 * US), ("conv", 90 * US))
WAIT_END = 400 * US    # after the first launch


def inferences(count):
    """(kind, begin, end, correlation, name) of each event, in ns: launches every 20 us, kernels back
    to back from 10 us on, one wait."""
    for rep in range(count):
        at, run = 1000 * US + rep * STEP, 1010 * US + rep * STEP
        yield "range", at - 2 * US, at + WAIT_END + 3 * US, 0, "step"
        for i, (name, ns) in enumerate(KERNELS):
            correlation = rep * 10 + i + 1
            yield "launch", at + i * GAP, at + i * GAP + LAUNCH, correlation, "cudaLaunchKernel"
            yield "kernel", run, run + ns, correlation, name
            run += ns
        yield "wait", at + 60 * US, at + WAIT_END, rep * 10 + 9, "cudaStreamSynchronize"


def threaded(events):
    """Each event with its thread: 1 if it has none."""
    return ((*event, 1)[:6] for event in events)


def nsys(path, events, drop=None, text=None):
    if os.path.exists(path):
        os.unlink(path)
    db = sqlite3.connect(path)
    strings = {}
    number = lambda name: strings.setdefault(name, len(strings) + 1)
    db.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId INTEGER, streamId "
               "INTEGER, correlationId INTEGER, "
               "demangledName INTEGER, shortName INTEGER)")
    db.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, globalTid INTEGER, "
               "correlationId INTEGER, nameId INTEGER)")
    db.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER, end INTEGER, correlationId INTEGER, "
               "bytes INTEGER, copyKind INTEGER)")
    db.execute("CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, eventType INTEGER, text TEXT, textId INTEGER, "
               "globalTid INTEGER)")
    for kind, begin, end, correlation, name, thread in threaded(events):
        if kind == "kernel":
            db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, 0, 7, ?, ?, ?)",
                       (text or begin, end, correlation, number(name), number(name)))
        elif kind == "copy":
            db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (?, ?, ?, 64, ?)",
                       (begin, end, correlation, {"HtoD": 1, "DtoH": 2}[name]))
        elif kind == "range":
            db.execute("INSERT INTO NVTX_EVENTS VALUES (?, ?, 59, NULL, ?, ?)", (begin, end, number(name), thread))
        else:
            db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?, ?)",
                       (begin, end, thread, correlation, number(name + "_v7000")))
    db.execute("INSERT INTO NVTX_EVENTS VALUES (5, NULL, 34, 'mark', NULL, 1)")
    db.execute("CREATE TABLE StringIds (id INTEGER, value TEXT)")
    db.executemany("INSERT INTO StringIds VALUES (?, ?)", [(number, name) for name, number in strings.items()])
    if drop:
        db.execute(drop)
    db.commit()
    db.close()
    return path


def kineto(path, events, wrap=True, **wrong):
    rows = [{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}}]
    for kind, begin, end, correlation, name, thread in threaded(events):
        category = {"kernel": "kernel", "copy": "gpu_memcpy", "range": "user_annotation"}.get(kind, "cuda_runtime")
        name = f"Memcpy {name} (Pageable)" if kind == "copy" else name
        rows.append({"ph": "X", "cat": category, "name": name, "pid": 1, "tid": thread, "ts": begin / 1000,
                     "dur": (end - begin) / 1000,
                     "args": {"correlation": correlation} if correlation else {}})
    rows[3].update(wrong)
    text = json.dumps({"schemaVersion": 1, "traceEvents": rows} if wrap else rows)
    with open(path, "w") as f:
        f.write(text)
    return path


def run(path, *words):
    samples, layers = scratch + "/samples.csv", scratch + "/layers.csv"
    done_ = subprocess.run([FLAMECTL, "import", path, "--samples", samples, "--layers", layers, *words],
                           capture_output=True, text=True, timeout=60)
    rows = [list(csv.DictReader(open(name))) if done_.returncode == 0 else [] for name in (samples, layers)]
    return done_, *rows


def right(name, path):
    done_, samples, layers = run(path, "--cpu", "1728MHz", "--gpu", "1020MHz", "--mem", "3199MHz")
    ok(done_.returncode == 0 and len(samples) == 1, f"{name}: read", done_.stderr)
    sample = samples[0] if samples else {}
    # from the first launch to the end of the wait; three come before the first that is known
    ok(sample.get("latency_ns") == str(WAIT_END) and sample.get("n") == "6" and sample.get("sd_ns") == "0"
       and sample.get("max_ns") == str(WAIT_END) and
       (sample["cpu_hz"], sample["gpu_hz"], sample["mem_hz"]) == ("1728000000", "1020000000", "3199000000"),
       f"{name}: latency and clocks", sample)
    ok(layers and all(row["source"] == "trace" for row in layers), f"{name}: the layers say where they come from",
       layers[:1])
    one = [(int(row["cpu_ns"]), int(row["gpu_ns"]), row["sync"]) for row in layers if row["rep"] == "0"]
    ok(one == [(LAUNCH, 100 * US, "0"), (GAP, 40 * US, "0"), (GAP, 90 * US, "1")],
       f"{name}: host and execution times of each launch", one)
    done_, samples, layers = run(path, "--range", "step", "--phase", "decode", "--context", "128")
    ok(done_.returncode == 0 and samples[0]["n"] == "9" and samples[0]["latency_ns"] == str(WAIT_END + 5 * US) and
       (samples[0]["phase"], samples[0]["context"]) == ("decode", "128"), f"{name}: by a range's name",
       f"{done_.stderr} {samples}")
    done_, _, _ = run(path, "--range", "nothing")
    ok(done_.returncode == 1 and 'no range "nothing"' in done_.stderr, f"{name}: a range that is not there",
       done_.stderr)


def graph():
    events = []
    for rep in range(9):
        at = 1000 * US + rep * STEP
        events += [("launch", at, at + LAUNCH, rep + 1, "cudaGraphLaunch"),
                   ("wait", at + 10 * US, at + 300 * US, 100 + rep, "cudaStreamSynchronize")]
        events += [("kernel", at + 20 * US + i * 50 * US, at + 60 * US + i * 50 * US, rep + 1, f"k{i}")
                   for i in range(5)]
    done_, samples, layers = run(nsys(scratch + "/graph.sqlite", events))
    ok(done_.returncode == 0 and samples[0]["n"] == "6" and samples[0]["latency_ns"] == str(300 * US),
       "replays of a graph are inferences", done_.stderr)
    ok([row["gpu_ns"] for row in layers if row["rep"] == "0"] == [str(240 * US)],
       "one launch, from its first kernel to the end of its last", layers[:2])


def copying(count, call, way):
    """The same inferences, but that a copy ends them; amid each one, copies for which the host waits for no kernel."""
    for kind, begin, end, correlation, name in inferences(count):
        if kind == "wait":
            yield "call", begin, end, correlation, call
            yield "copy", end - 10 * US, end - 5 * US, correlation, way
        else:
            yield kind, begin, end, correlation, name
        if kind == "launch" and correlation % 10 == 1:
            for i, (other, to) in enumerate((("cudaMemcpy", "HtoD"), ("cudaMemcpyAsync", "DtoH"))):
                at = end + (2 + 4 * i) * US
                yield "call", at, at + 2 * US, correlation + 4 + i, other
                yield "copy", at, at + US, correlation + 4 + i, to


def copies():
    for tool, make in (("nsys", nsys), ("torch.profiler", kineto)):
        path = scratch + "/copies"
        for call in ("cudaMemcpy", "cuMemcpyDtoH_v2", "cudaMemcpy2D"):
            right(f"{tool}, {call} to the host", make(path, copying(9, call, "DtoH")))
        for call, way in (("cudaMemcpyAsync", "DtoH"), ("cudaMemcpy", "HtoD")):
            done_, _, _ = run(make(path, copying(9, call, way)))
            ok(done_.returncode == 1 and "between host waits repeats" in done_.stderr,
               f"{tool}: {call}, {way}, is no wait", done_.stderr)


def threads():
    """Ranges of two threads that overlap: each has its own thread's launches."""
    both = [*inferences(9), *((kind, begin + 10 * US, end + 10 * US, correlation + 1000 * (correlation > 0), name, 2)
                              for kind, begin, end, correlation, name in inferences(9))]
    for tool, make in (("nsys", nsys), ("torch.profiler", kineto)):
        done_, samples, layers = run(make(scratch + "/threads", both), "--range", "step")
        ok(done_.returncode == 0 and (samples[0]["n"], samples[0]["latency_ns"], samples[0]["sd_ns"])
           == ("18", str(WAIT_END + 5 * US), "0"), f"{tool}: ranges of two threads", f"{done_.stderr} {samples}")
        one = [(int(row["cpu_ns"]), int(row["gpu_ns"]), row["sync"]) for row in layers if row["rep"] == "1"]
        ok(len(layers) == 18 * 3 and one == [(LAUNCH + 2 * US, 100 * US, "0"), (GAP, 40 * US, "0"),
                                             (GAP, 90 * US, "1")], f"{tool}: each with the launches of its thread",
           one)


def refused():
    events = list(inferences(9))
    path = scratch + "/bad"

    def spoiled(table, values, row):
        name = table if "_" in table else "CUPTI_ACTIVITY_KIND_" + table
        return lambda: nsys(path, events, drop=f"UPDATE {name} SET {values} WHERE rowid = {row}")

    for name, make, words in (
            ("a missing table", lambda: nsys(path, events, drop="DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL"),
             "no table CUPTI_ACTIVITY_KIND_KERNEL"),
            ("a missing column", lambda: nsys(path, events,
                                              drop="ALTER TABLE CUPTI_ACTIVITY_KIND_RUNTIME DROP COLUMN correlationId"),
             "table CUPTI_ACTIVITY_KIND_RUNTIME has no column correlationId"),
            ("a missing column of copies", lambda: nsys(path, events, drop="ALTER TABLE CUPTI_ACTIVITY_KIND_MEMCPY "
                                                        "DROP COLUMN copyKind"),
             "table CUPTI_ACTIVITY_KIND_MEMCPY has no column copyKind"),
            ("a time that is none", lambda: nsys(path, events, text="soon"),
             "table CUPTI_ACTIVITY_KIND_KERNEL, row 1: start is not a time"),
            ("a time that is none, of one row", spoiled("KERNEL", "start = 'soon'", 3),
             "table CUPTI_ACTIVITY_KIND_KERNEL, row 3: start is not a time"),
            ("an end that is none, of a launch", spoiled("RUNTIME", "start = 1 << 62, end = NULL", 2),
             "table CUPTI_ACTIVITY_KIND_RUNTIME, row 2: end is not a time"),
            ("a time that is none, of a range", spoiled("NVTX_EVENTS", "start = 'soon'", 4),
             "table NVTX_EVENTS, row 4: start is not a time"),
            ("a correlation that is none", spoiled("KERNEL", "correlationId = 'seven'", 3),
             "table CUPTI_ACTIVITY_KIND_KERNEL, row 3: correlationId is not a number"),
            ("a launch without correlation", spoiled("RUNTIME", "correlationId = NULL", 2),
             "table CUPTI_ACTIVITY_KIND_RUNTIME, row 2: correlationId is not a number"),
            ("a kernel without a name", lambda: kineto(path, events, name=None),
             "traceEvents[3]: a kernel without a name"),
            ("an end before its begin", lambda: nsys(path, [(k, e, b, c, n) if k == "kernel" else (k, b, e, c, n) for k,
                                                            b, e, c, n in events]),
             "table CUPTI_ACTIVITY_KIND_KERNEL, row 1: it ends before it begins"),
            ("a duration that is none", lambda: kineto(path, events, dur="long"),
             "traceEvents[3]: dur is not a number"),
            ("a negative duration", lambda: kineto(path, events, dur=-1), "traceEvents[3]: dur is not a number"),
            ("a kernel without correlation", lambda: kineto(path, events, args={}),
             "traceEvents[3]: the kernel conv has no args.correlation"),
            ("a launch without correlation in JSON", lambda: kineto(path, events, cat="cuda_runtime",
                                                                    name="cudaLaunchKernel", args={}),
             "traceEvents[3]: the launch cudaLaunchKernel has no args.correlation"),
            ("an event without phase", lambda: kineto(path, events, ph=None), "traceEvents[3] has no ph")):
        make()
        done_, _, _ = run(path)
        ok(done_.returncode == 1 and words in done_.stderr and path in done_.stderr and "Sanitizer" not in done_.stderr,
           f"{name} is refused by name", done_.stderr)
    for name, text, words in (("broken JSON", '{"traceEvents": [\n{"ph": "X",\n}]}', "line 3"),
                              ("JSON of something else", '{"a": 1}', "no array traceEvents"),
                              ("nothing at all", "", "neither an SQLite export"),
                              ("some other file", "\x1f\x8bxxxx", "it is compressed"),
                              ("no kernels", "[]", "contains no kernel"),
                              ("half a database", "SQLite format 3\0" + "x" * 200, path),
                              ("a database that ends early", open(nsys(path, events), encoding="latin-1",
                                                                  newline="").read()[:4096], "malformed")):
        with open(path, "w", encoding="latin-1", newline="") as f:
            f.write(text)
        done_, _, _ = run(path)
        ok(done_.returncode == 1 and words in done_.stderr and "Sanitizer" not in done_.stderr, f"{name} is refused",
           done_.stderr)
    done_, _, _ = run(scratch + "/absent")
    ok(done_.returncode == 1 and "No such file" in done_.stderr, "no file", done_.stderr)
    done_, _, _ = run(kineto(path, list(inferences(2))))
    ok(done_.returncode == 1 and "between host waits repeats" in done_.stderr, "too few inferences", done_.stderr)
    usage = subprocess.run([FLAMECTL, "import", path, "--cpu", "fast"], capture_output=True, text=True)
    ok(usage.returncode == 2 and "--cpu takes a frequency" in usage.stderr, "a clock that is none", usage.stderr)


def used():
    """predict reads the files that import writes."""
    run(nsys(scratch + "/t", inferences(9)), "--cpu", "1000MHz", "--gpu", "1000MHz")
    points = scratch + "/points.csv"
    with open(points, "w") as f:
        f.write("cpu_hz,gpu_hz,mem_hz\n1000000000,1000000000,0\n500000000,1000000000,0\n")
    done_ = subprocess.run([FLAMECTL, "predict", "--samples", scratch + "/samples.csv", "--layers",
                            scratch + "/layers.csv", "--points", points],
                           capture_output=True, text=True)
    rows = list(csv.DictReader(io.StringIO(done_.stdout)))
    ok(done_.returncode == 0 and len(rows) == 2 and abs(float(rows[0]["latency_ns"]) / WAIT_END - 1) < 0.05,
       "flamectl predict takes it", done_.stderr + done_.stdout)


def main():
    right("nsys", nsys(scratch + "/a.sqlite", inferences(9)))
    right("torch.profiler", kineto(scratch + "/b.json", inferences(9)))
    right("Chrome's array", kineto(scratch + "/c.json", inferences(9), wrap=False))
    for part in (graph, copies, threads, refused, used):
        part()
    done()


main()
