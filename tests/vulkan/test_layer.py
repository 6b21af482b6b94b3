#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The Vulkan layer under programs with the habits of real ones, on a real driver
without a GPU: same results, the inferences found, no error of the
validation layer, no effect when anything goes wrong."""
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [os.path.join(os.path.dirname(__file__), "..", folder) for folder in ("opencl", "", "vulkan")]
import fakeflamed  # noqa: E402
import manifest  # noqa: E402
from lines import done, ok, skip  # noqa: E402

BUILD = os.environ.get("RELEASE_DIR", "build/release")
ASAN = os.environ.get("BUILD_DIR", "build/asan")
VALIDATION = "/usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json"
scratch = tempfile.mkdtemp(prefix="flamed-vulkan-")


def driver():
    """The software driver's manifest, so that results do not depend on a GPU."""
    for folder in ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if name.startswith("lvp_icd"):
                return os.path.join(folder, name)
    return None


class Run:
    """One run of the engine. below: faults of the driver."""

    def __init__(self, words, layer=True, below=None, validation=False, tree=BUILD, wrap=(), **env):
        full = dict(os.environ, VK_ICD_FILENAMES=driver() or "", MESA_SHADER_CACHE_DIR=os.path.join(scratch, "shaders"),
                    XDG_DATA_DIRS=f"{os.path.abspath(tree)}/share:/usr/share", FLAMED_TIMESTAMPS="on",
                    ASAN_OPTIONS="detect_leaks=0")
        full.pop("FLAMED_VULKAN", None)
        layers = ["VK_LAYER_KHRONOS_validation"] * validation
        if below is not None:
            folder = manifest.write(os.path.join(scratch, "explicit"), "VK_LAYER_TEST_below",
                                    f"{BUILD}/tests/vulkan/libbelow.so")
            full["VK_LAYER_PATH"] = folder + ":" + os.path.dirname(VALIDATION)
            full["FLAMED_BELOW"] = below
            layers.append("VK_LAYER_TEST_below")
        if layers:
            full["VK_INSTANCE_LAYERS"] = ":".join(layers)
        if layer:
            full.setdefault("FLAMED_VULKAN", "1")
            full.setdefault("FLAMED_SUMMARY", "2")
        full.setdefault("FLAMED_SOCKET", os.path.join(scratch, "absent"))
        full.update(env)
        done = subprocess.run([*wrap, f"{tree}/tests/vulkan/engine", *words.split()], env=full, capture_output=True,
                              text=True,
                              timeout=240)
        self.rc, self.out, self.err = done.returncode, done.stdout, done.stderr

    def said(self):
        return [line for line in self.err.splitlines() if line.startswith("flamed-vulkan:")]

    def hash(self):
        found = re.search(r"^hash (\w+)$", self.out, re.M)
        return found.group(1) if found else None

    def summary(self, key):
        found = re.search(rf"^(?:inferences=.*)?\b{key}=(\S*)", self.err, re.M)
        return found.group(1) if found else None

    def inferences(self):
        return int(self.summary("inferences") or -1)


def trace_of(words, **env):
    path = os.path.join(scratch, "trace.csv")
    if os.path.exists(path):
        os.unlink(path)
    run = Run(words, FLAMED_TRACE=path, **env)
    rows = list(csv.DictReader(open(path))) if os.path.exists(path) else []
    reps = {}
    for row in rows:
        reps.setdefault(row["rep"], []).append(row)
    return run, list(reps.values())


def boundaries():
    """(words, inferences of 30 runs that are seen). Locked by the third, so 27."""
    plain = Run("", layer=False)
    model = None
    for words, expected in (("", 27), ("wait=poll", 27), ("wait=part submits=2", 27), ("wait=timeline", 27),
                            ("wait=timelinepoll", 27), ("wait=queue", 27), ("wait=device", 27), ("submit2", 27),
                            ("submit2 wait=timeline submits=3", 27), ("resubmit", 27),
                            ("resubmit submits=3 wait=part", 27),
                            ("secondary", 27), ("reset", 27), ("recycle submits=6", 27),
                            ("recycle submits=3 wait=poll", 27)):
        run = Run(words)
        ok(run.rc == 0 and run.hash() == plain.hash(), f"{words or 'fence'}: the same result", run.out + run.err)
        ok(run.inferences() == expected,
           f"{words or 'fence'}: locked by the third inference, and all after it are seen",
           f"{run.inferences()}, not {expected}\n{run.err}")
        model = model or run.summary("model")
        ok(run.summary("model") == model, f"{words or 'fence'}: one model, however it is submitted and waited for",
           run.err)
    same, other, inlined = Run("inlined"), Run("other"), Run("inlined other")
    ok(other.inferences() == 27 and other.summary("model") not in (model, None, "") and other.hash() != plain.hash(),
       "another shader, of the same constants and sizes, is another model", other.err)
    ok(same.inferences() == 27 and same.summary("model") == model and same.hash() == plain.hash(),
       "code that the pipeline brings along instead of a module: the same model", same.out + same.err)
    ok(inlined.summary("model") == other.summary("model") and inlined.hash() == other.hash(),
       "... and another model where that code is another", inlined.out + inlined.err)
    run, plain = Run("upload"), Run("upload", layer=False)
    ok(run.inferences() == 27 and run.hash() == plain.hash() and run.summary("model") == model,
       "uploads are no launches", run.err)
    ok(Run("").summary("model") == model, "a second process finds the same identity")
    for words in ("rounds=128", "size=1", "kernels=7"):
        other = Run(words)
        ok(other.inferences() == 27 and other.summary("model") not in (model, None, ""),
           f"{words}: other constants, sizes or kernels are another model", other.err)
    run = Run("runs=60 late")
    ok(run.inferences() >= 54, "another shape that comes again is found as well", run.err)
    run = Run("compile")
    ok(12 <= run.inferences() <= 14, "inferences that compile a pipeline are left out", run.err)
    for setting in ({"FLAMED_RATE_MHZ": "15000"}, {"FLAMED_DEADLINE_NS": "5000000000"}):
        with fakeflamed.Server(os.path.join(scratch, "compile.sock")) as flamed:
            Run("compile", FLAMED_SOCKET=flamed.path, **setting)
            opens, begins = flamed.of("open"), flamed.of("begin")
            withdrawn = [end.get("withdraw") for end in flamed.of("end")]
            ok(len(opens) == 1 and len({b["session"] for b in begins}) == 1 and len(begins) == len(withdrawn) == 27
               and not any("stream" in b for b in begins) and 12 <= withdrawn.count("1") <= 15,
               f"... and their requests withdrawn, in a session that goes on: {setting}", (opens, withdrawn))


def several():
    plain = Run("devices=2", layer=False)
    run = Run("devices=2")
    ok(run.inferences() == 54 and run.hash() == plain.hash(), "two devices at once keep their own boundaries", run.err)
    plain = Run("devices=2 shared", below="queues", layer=False)
    for words in ("", " submits=3 wait=queue", " wait=timeline"):
        run = Run("devices=2 shared" + words, below="queues")
        ok(run.rc == 0 and run.inferences() == 54 and run.hash() == plain.hash() is not None,
           f"two queues of a device at once{words}: each its own boundaries", run.out + run.err)
    plain = Run("devices=2 shared turns wait=timeline", below="queues", layer=False)
    run = Run("devices=2 shared turns wait=timeline", below="queues")
    ok(run.rc == 0 and run.inferences() == 27 + 22 and run.hash() == plain.hash() is not None,
       "two queues signal one timeline: each value is of the queue that signals it", run.out + run.err)
    plain, (run, reps) = Run("", layer=False), trace_of("submits=3 wait=timeline behind", below="queues")
    ok(run.rc == 0 and run.inferences() == 27 and run.hash() == plain.hash()
       and {"".join(row["sync"] for row in rep) for rep in reps} == {"000001"},
       "a wait for a submission behind a part: it covers that part, and no more", run.out + run.err)
    for words in ("", " submit2"):
        words = "batch submits=3 wait=timelineparts" + words
        run = Run(words)
        ok(run.rc == 0 and run.inferences() == 27 and int(run.summary("median_ns")) > 5000000
           and run.hash() == plain.hash(),
           f"{words}: a wait for a part of one call, and 5 ms later for the rest, which ends the inference",
           run.out + run.err)
    for words, expected in (("", 27), (" rest", 54)):
        words = "wait=timelinesecond" + words
        bare, run = Run(words, below="queues", layer=False), Run(words, below="queues")
        ok(run.rc == 0 and run.inferences() == expected and run.hash() == bare.hash() is not None,
           f"{words}: a wait for a queue covers what this waited for in another queue", run.out + run.err)
    for words in ("", " submit2"):
        words = "submits=3 wait=timelinethread" + words
        run, reps = trace_of(words, below="slow")
        ok(run.rc == 0 and run.inferences() == 27 and {len(rep) for rep in reps} <= {6} and run.hash() == plain.hash(),
           f"{words}: another thread's wait returns before the call that submits what it waits for",
           f"{[len(rep) for rep in reps]}" + run.out + run.err)
    plain = Run("", layer=False)
    run = Run("crowd=17")
    ok(run.rc == 0 and run.inferences() == 27 and run.hash() == plain.hash(),
       "seventeen other instances, and a device of each: the last one is still observed", run.out + run.err)
    run = Run("again=5")
    ok(run.rc == 0 and run.inferences() == 27 and run.hash() == plain.hash() and run.summary("launches") == "210",
       "five devices before it in the same process, each destroyed", run.out + run.err)
    plain, run = Run("flight=2 runs=100", layer=False), Run("flight=2 runs=100")
    told = run.said()
    ok(len(told) == 1 and "FLAMED_BOUNDARY=count:N; it launches 6 kernels" in told[0] and run.inferences() == 0
       and run.hash() == plain.hash(), "inferences that overlap on a queue: said in one line, with the number", run.err)
    run = Run("flight=2 runs=100 devices=2")
    ok(len(run.said()) == 1 and run.inferences() == 0, "... and on two devices: in one line as well", run.err)
    run = Run("flight=2 runs=100", FLAMED_BOUNDARY="count:6")
    ok(run.inferences() >= 95 and run.hash() == plain.hash(), "... and counted by it", run.err)
    last = trace_of("kernels=3")[1][0][2]["kernel"]
    run = Run("flight=2 runs=100 kernels=3", FLAMED_BOUNDARY=f"kernel:{last}")
    ok(run.inferences() >= 95 and not run.said(), "... or by the last kernel's name, as a trace has it", run.err)
    run = Run("", FLAMED_BOUNDARY="kernel:main")
    ok(run.inferences() == 27 and len(run.said()) == 1 and "FLAMED_BOUNDARY=kernel:main is not" in run.said()[0],
       "a name that no kernel can have is ignored, with one line", run.err)
    run = Run("wait=none runs=30 resubmit flight=2")
    ok(run.rc in (0, 1) and run.inferences() == 0, "a program that never waits is never an inference", run.err)
    ok(len(run.said()) == 1 and "in 180 launches: no sequence repeats 3 times between host waits" in run.said()[0],
       "... which is said once, with the reason", run.err)


def above():
    """The loader puts implicit layers in the order in which it finds them: here another one before flamed's. A layer
    that loses the device above flamed's returns the error without flamed's seeing a fault."""
    folder = os.path.join(scratch, "above")
    manifest.write(os.path.join(folder, "vulkan/implicit_layer.d"), "VK_LAYER_TEST_above",
                   f"{BUILD}/tests/vulkan/libbelow.so", enable_environment={"TEST_ABOVE": "1"},
                   disable_environment={"TEST_ABOVE_DISABLE": "1"})
    env = {"TEST_ABOVE": "1", "XDG_DATA_DIRS": f"{folder}:{os.path.abspath(BUILD)}/share:/usr/share"}
    plain = Run("", layer=False)
    run, reps = trace_of("", **env)
    ok(run.rc == 0 and run.inferences() == 27 and {len(rep) for rep in reps} == {6} and run.hash() == plain.hash(),
       "below another layer: the same result, inferences and net layers", run.out + run.err)
    run = Run("", FLAMED_BELOW="lost=20", **env)
    ok(run.rc == 3 and "device was lost" not in run.err and run.summary("launches") == "120",
       "... which is in fact above it", run.out + run.err)


def timestamps():
    run, reps = trace_of("")
    sizes = [len(rep) for rep in reps]
    ok(sizes and set(sizes) == {6}, "a net layer from barrier to barrier, with its time", f"{sizes}\n{run.err}")
    # The median of both: in a single inference the machine may have been elsewhere.
    busy = sorted(sum(int(row["gpu_ns"]) for row in rep) for rep in reps)
    median = int(run.summary("median_ns") or 0)
    ok(busy and 0 < busy[len(busy) // 2] < median, "their times add up to less than the inference",
       f"{busy} of {median}")
    ok(all(row["sync"] == ("1" if i == 5 else "0") for i, row in enumerate(reps[-1] if reps else [])),
       "the host waits for the last one")
    run, reps = trace_of("resubmit")
    ok({len(rep) for rep in reps} == {6}, "buffers that are submitted again have times each time",
       f"{[len(rep) for rep in reps]}")
    run, reps = trace_of("fork")
    ok([len(rep) for rep in reps] == [6] * 27, "a child that exits writes no row again",
       f"{[len(rep) for rep in reps]}")
    for group, layers in ((2, 3), (3, 2), (7, 1)):
        run, reps = trace_of(f"group={group}")
        ok({len(rep) for rep in reps} == {layers} and run.summary("launches") == "180",
           f"a barrier after every {group} of 6 dispatches: {layers} net layers", f"{[len(rep) for rep in reps]}")
    run, reps = trace_of("kernels=64 submits=1 runs=20")
    ok({len(rep) for rep in reps} == {64}, "as many as there are", f"{[len(rep) for rep in reps]}")
    run, reps = trace_of("recycle submits=6")
    ok(run.inferences() == 27 and not reps,
       "buffers whose pool is reset amid the inference have no times, rather than those of later launches",
       f"{[len(rep) for rep in reps]}\n{run.err}")
    run, reps = trace_of("secondary")
    ok({len(rep) for rep in reps} == {1}, "a secondary buffer is one net layer", f"{[len(rep) for rep in reps]}")
    run, reps = trace_of("", below="nostamps")
    ok(run.inferences() == 27 and not reps and len([line for line in run.said() if "timestamps" in line]) == 1,
       "no timestamps: said once, timed as a whole", run.err)
    run = Run("again=3", below="nostamps", FLAMED_TRACE="/dev/null")
    ok(run.inferences() == 27 and len(run.said()) == 1, "... for all devices of a process", run.err)
    run, reps = trace_of("", FLAMED_TIMESTAMPS="off")
    ok(run.inferences() == 27 and not reps, "timestamps can be turned off", run.err)
    run, reps = trace_of("", below="cheap", FLAMED_TIMESTAMPS="")
    ok(reps and {row["gpu_ns"] for rep in reps for row in rep} == {"1"} and not run.said(),
       "where they are cheap they are used without being asked for", run.err)
    run, reps = trace_of("", below="costly", FLAMED_TIMESTAMPS="")
    ok(not reps and len(run.said()) == 1 and "cost too much" in run.said()[0], "... and not where they are dear",
       run.err)
    run, reps = trace_of("", FLAMED_TIMESTAMPS="")
    refused = [line for line in run.said() if "timestamps" in line]
    ok(bool(refused) != bool(reps) and run.inferences() == 27, "what they cost is tried: used, or said why not",
       run.err)


def validation():
    if not os.path.exists(VALIDATION):
        skip("validation", "vulkan-validationlayers is not installed")
        return
    for layer in (False, True):
        run = Run("wrong", layer=layer, validation=True, FLAMED_TRACE="/dev/null")
        ok("VUID-VkFenceCreateInfo-flags-parameter" in run.out + run.err,
           f"validation notices a wrong call, {'with' if layer else 'without'} the layer", run.out + run.err)
    for words in ("", "wait=part submits=3", "wait=timelinepoll submit2", "resubmit secondary",
                  "reset upload devices=2", "recycle submits=6", "inlined other", "wait=part submits=3 polls=50",
                  "compile flight=2", "wait=device kernels=64 submits=8 resubmit"):
        bare, run = Run(words, layer=False, validation=True), Run(words, validation=True, FLAMED_TRACE="/dev/null")
        ok("Validation" not in bare.out + bare.err, f"{words or 'fence'}: the test program itself is clean",
           bare.out + bare.err)
        ok("Validation" not in run.out + run.err and run.hash() == bare.hash() is not None,
           f"{words or 'fence'}: validation has nothing to say of the layer", run.out + run.err)
    settings = os.path.join(scratch, "vk_layer_settings.txt")
    with open(settings, "w", encoding="utf-8") as file:
        file.write("khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT,"
                   "VK_VALIDATION_FEATURE_ENABLE_BEST_PRACTICES_EXT\n"
                   "khronos_validation.report_flags = error,warn,perf\n"
                   "khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG\n")
    for words in ("upload", "reset kernels=64 submits=8 submit2"):
        bare, run = (Run(words, layer=layer, validation=True, VK_LAYER_SETTINGS_PATH=settings,
                         **({"FLAMED_TRACE": "/dev/null"} if layer else {})) for layer in (False, True))
        said = [set(re.findall(r"\b(?:UNASSIGNED|VUID|SYNC)-[\w-]+", one.out + one.err)) for one in (bare, run)]
        ok(run.inferences() == 27 and run.hash() == bare.hash() is not None and said[0] == said[1]
           and any("BestPractices" in name for name in said[0]),
           f"{words}: nor do its checks of best practices and synchronisation", f"{said[1] - said[0]} {run.err[:500]}")
    run = Run("", below="impatient", validation=True, FLAMED_TRACE="/dev/null")
    ok(run.rc == 0 and "Validation" not in run.out + run.err and run.inferences() == 27
       and "could not be tried" in "".join(run.said()),
       "... nor where timestamps are given up before they are complete", run.out + run.err)


def requests():
    path = os.path.join(scratch, "flamed.sock")
    with fakeflamed.Server(path) as flamed:
        env = dict(FLAMED_SOCKET=path, FLAMED_DEADLINE_NS="50000000", FLAMED_MODEL="net")
        run = Run("", **env)
        begins, ends = flamed.of("begin"), flamed.of("end")
        ok(len(begins) == len(ends) == 27 and run.inferences() == 27, "every inference is a request",
           f"{len(begins)} {len(ends)}")
        ok([keys["model"] for keys in flamed.of("open")] == ["net"], "under the name the user gave",
           str(flamed.of("open")))
        totals = [int(keys["total_ns"]) for keys in ends if "total_ns" in keys]
        ok(len(totals) == 27 and all(0 < total < 10**10 for total in totals), "with the time it took", str(totals))
        layered = [keys for keys in ends if "layers" in keys]
        ok(len(layered) >= 8 and all(len(keys["layers"].split(",")) == 6 for keys in layered),
           "the first with their net layers",
           str([keys.get("layers") for keys in ends][:3]))
        flamed.clear()
        run = Run("", FLAMED_SOCKET=path, FLAMED_RATE_MHZ="20000", FLAMED_MODEL="net")
        begins, ends = flamed.of("begin"), flamed.of("end")
        layered = [keys for keys in ends if "layers" in keys]
        ok([keys.get("rate_mhz") for keys in flamed.of("open")] == ["20000"] and len(begins) == len(ends) == 27
           and len(layered) >= 8 and all(len(keys["layers"].split(",")) == 6 for keys in layered),
           "under a rate: every inference as well, the first with their net layers", f"{flamed.of('open')} {ends[:3]}")
        flamed.clear()
        for words in ("", " resubmit"):
            run = Run("hold flight=2 runs=20 pause_us=20000" + words, below="queries", FLAMED_BOUNDARY="count:6", **env)
            totals = [int(keys["total_ns"]) for keys in flamed.of("end") if "withdraw" not in keys]
            ok(run.rc == 0 and run.inferences() == len(totals) == 17 and min(totals) > 20000000,
               f"a buffer that is used again and has not begun: the times of its last execution do not end it{words}",
               f"{totals} {run.out} {run.err}")
            flamed.clear()
        run = Run("devices=2", **env)
        ok(len(flamed.of("begin")) == len(flamed.of("end")) == 54, "two devices: each its own requests")
        flamed.clear()
        Run("fork", **env)
        ok(len(flamed.of("begin")) == 27, "the child of a fork says nothing", str(len(flamed.of("begin"))))
        flamed.clear()
        run = Run("exec pause_us=20000", **env)  # each is answered before the next
        sessions = [keys["session"] for keys in flamed.of("begin")]
        requests = {keys["request"] for keys in flamed.of("end")}
        # The end of a request waits for the answer to its begin, and exec does not: the last may be lost.
        ok(run.rc == 0 and run.hash() == Run("", layer=False).hash() and run.inferences() == 27
           and [sessions.count(session) for session in dict.fromkeys(sessions)] == [13, 27]
           and 38 <= len(requests) <= 40 and [keys["model"] for keys in flamed.of("open")] == ["net", "net"],
           "exec amid its requests: it starts afresh, with a session of its own",
           f"{run.rc} {sessions} {len(requests)} {flamed.of('open')} {run.out} {run.err}")
        flamed.clear()
        run = Run("kill", **env)
        ok(run.rc == -signal.SIGKILL and flamed.wait_closed(),
           "killed: the connection is gone, and with it its requests")
        flamed.clear()
        run = Run("fork kill", **env)
        child = re.search(r"^child (\d+)$", run.out, re.M)
        deadline = time.monotonic() + 5
        while flamed.open and time.monotonic() < deadline:
            time.sleep(0.01)
        ok(run.rc == -signal.SIGKILL and child and not flamed.open,
           "killed, while a child of it lives on: the connection is gone as well", run.out + run.err)
        os.kill(int(child[1]), signal.SIGKILL)
        flamed.clear()
        run = Run("leave", **env)
        ok(run.rc == 0 and flamed.wait_closed(), "left in the middle")
        flamed.rubbish = True
        run, plain = Run("", **env), Run("", layer=False)
        ok(run.rc == 0 and run.hash() == plain.hash() and len(run.said()) == 1 and "broke" in run.said()[0],
           "a daemon that answers rubbish: said once", run.err)
        flamed.rubbish, flamed.mute = False, True
        run = Run("", **env)
        ok(run.rc == 0 and run.hash() == plain.hash() and len(run.said()) == 1 and "does not answer" in run.said()[0],
           "a daemon that does not answer: said once", run.err)
        flamed.mute, flamed.refuse = False, True
        run = Run("", **env)
        ok(run.rc == 0 and run.hash() == plain.hash() and len(run.said()) == 1, "a daemon that refuses: said once",
           run.err)
        flamed.refuse = False
        flamed.clear()
        with fakeflamed.Server(os.path.join(scratch, "dies.sock")) as dying:
            dying.dies_at = 10
            run = Run("", **{**env, "FLAMED_SOCKET": dying.path})
            ok(run.rc == 0 and run.hash() == plain.hash() and dying.dies_at == 0 and len(run.said()) == 1
               and "broke" in run.said()[0], "a daemon that dies amid its requests: said once", run.err)
        flamed.points = 4
        run = Run("runs=60", FLAMED_SOCKET=path, FLAMED_PROFILE="1", FLAMED_MODEL="net")
        samples = [keys for keys in flamed.of("sample") if "latency_ns" in keys]
        ok(len(samples) == 4 and all("layers" in keys and keys["n"] == "5" for keys in samples),
           "profiling: a sample a point, with net layers",
           str(samples)[:500])


def trouble():
    plain = Run("", layer=False)
    run = Run("", layer=True, FLAMED_SUMMARY="", FLAMED_TRACE="")
    ok(run.rc == 0 and not run.err and run.hash() == plain.hash(), "nothing asked for, nothing done", run.err)
    run = Run("", layer=False, FLAMED_SUMMARY="2", FLAMED_DEADLINE_NS="50000000")
    ok(not run.err and run.hash() == plain.hash(), "off without its variable", run.err)
    run = Run("", FLAMED_DEADLINE_NS="50000000")
    ok(run.rc == 0 and run.hash() == plain.hash() and len(run.said()) == 1, "no daemon: said once", run.err)
    run = Run("", below="lost=20")
    ok(run.rc == 3 and [line for line in run.said() if "device was lost" in line] != [] and len(run.said()) == 1,
       "a device that is lost: one message, and the program gets the error as without the layer", run.out + run.err)
    for words in ("swapchain", "swapchains"):
        run = Run(words, below="swapchain")
        ok(run.rc == 0 and run.inferences() == 0 and len(run.said()) == 1 and run.hash() == plain.hash(),
           f"{words}: a program that draws on a screen is left alone", run.out + run.err)
    bare = Run("", layer=False, VK_ICD_FILENAMES="/nonexistent/icd.json")
    run = Run("", VK_ICD_FILENAMES="/nonexistent/icd.json", FLAMED_DEADLINE_NS="50000000")
    ok(run.rc == bare.rc == 4 and run.out == bare.out and run.err == bare.err,
       "no driver: the Vulkan loader loads no layer, and the program finds none, as without the layer",
       run.out + run.err)
    run = Run("runs=10 single kernels=1")
    ok(run.rc == 0 and run.inferences() == 0, "one kernel alone must repeat longer", run.err)
    # Another thread records a buffer again, with more launches, before the call that submitted it has returned.
    plain, reuse = Run("", layer=False), "wait=timeline reuse"
    for words in (reuse, reuse + " submit2"):
        run = Run(words, tree=ASAN, below="slow", FLAMED_TRACE="/dev/null")
        ok(run.rc == 0 and run.inferences() == 27 and run.hash() == plain.hash() and "Sanitizer" not in run.err,
           f"{words}: a buffer recorded again while the call that submitted it returns", run.out + run.err[-2000:])
    for words in ("", "devices=2 submits=3 wait=part", "compile reset", "flight=2 runs=80", "leave", "fork",
                  "crowd=17", "again=3", "recycle submits=6", "inlined other", "submits=3 wait=timelinethread",
                  "batch submits=3 wait=timelineparts submit2"):
        run = Run(words, tree=ASAN, FLAMED_TRACE="/dev/null", FLAMED_BOUNDARY="count:6" if "flight" in words else "")
        ok(run.rc == 0 and "Sanitizer" not in run.err and "runtime error" not in run.err,
           f"{words or 'fence'}: clean under ASan and UBSan",
           run.err[-2000:])


def no_program_by_name():
    """Programs are recognised by what they launch: outside comments no source has the name of one."""
    layers = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../layers")
    paths = [os.path.join(layers, room, name) for room in ("core", "vulkan") for name in os.listdir(f"{layers}/{room}")
             if name.endswith((".c", ".h"))]
    named = []
    for path in paths:
        with open(path, encoding="utf-8") as source:
            code = re.sub(r"/\*.*?\*/|//[^\n]*", "", source.read(), flags=re.DOTALL)
        named += [(os.path.relpath(path, layers), name) for name in re.findall("llama|ggml", code, re.IGNORECASE)]
    ok(len(paths) > 15 and not named, "neither the core nor the Vulkan layer names llama.cpp or ggml", named or paths)


def main():
    no_program_by_name()
    if not driver():
        skip("Vulkan", "no software driver (mesa-vulkan-drivers)")
    else:
        boundaries()
        several()
        above()
        timestamps()
        validation()
        requests()
        trouble()
    shutil.rmtree(scratch, ignore_errors=True)
    done()


main()
