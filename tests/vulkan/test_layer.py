#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The Vulkan layer under programs with the habits of real ones, on a real driver
without a GPU: same results, the inferences found, nothing that validation
objects to, no effect when anything goes wrong."""
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path[:0] = [os.path.join(os.path.dirname(__file__), "..", folder) for folder in ("opencl", "")]
import fakeflamed  # noqa: E402
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


def explicit(name, library):
    """A manifest for a layer that is named in VK_INSTANCE_LAYERS."""
    folder = os.path.join(scratch, "explicit")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"{name}.json"), "w") as file:
        json.dump({"file_format_version": "1.2.0", "layer": {
            "name": name, "type": "GLOBAL", "library_path": os.path.abspath(library), "api_version": "1.3.0",
            "implementation_version": "1", "description": "a test"}}, file)
    return folder


class Run:
    """One run of the engine. below: faults of the driver."""

    def __init__(self, words, layer=True, below=None, validation=False, tree=BUILD, wrap=(), **env):
        full = dict(os.environ, VK_ICD_FILENAMES=driver() or "", MESA_SHADER_CACHE_DIR=os.path.join(scratch, "shaders"),
                    XDG_DATA_DIRS=f"{os.path.abspath(tree)}/share:/usr/share", FLAMED_TIMESTAMPS="on",
                    ASAN_OPTIONS="detect_leaks=0")
        full.pop("FLAMED_VULKAN", None)
        layers = ["VK_LAYER_KHRONOS_validation"] * validation
        if below is not None:
            full["VK_LAYER_PATH"] = explicit("VK_LAYER_TEST_below",
                                             f"{BUILD}/tests/vulkan/libbelow.so") + ":" + os.path.dirname(VALIDATION)
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
                            ("secondary", 27), ("reset", 27)):
        run = Run(words)
        ok(run.rc == 0 and run.hash() == plain.hash(), f"{words or 'fence'}: the same result", run.out + run.err)
        ok(run.inferences() == expected,
           f"{words or 'fence'}: locked by the third inference, and all after it are seen",
           f"{run.inferences()}, not {expected}\n{run.err}")
        model = model or run.summary("model")
        ok(run.summary("model") == model, f"{words or 'fence'}: one model, however it is submitted and waited for",
           run.err)
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


def several():
    plain = Run("devices=2", layer=False)
    run = Run("devices=2")
    ok(run.inferences() == 54 and run.hash() == plain.hash(), "two queues at once keep their own boundaries", run.err)
    plain = Run("", layer=False)
    run = Run("crowd=17")
    ok(run.rc == 0 and run.inferences() == 27 and run.hash() == plain.hash(),
       "seventeen other instances, and a device of each: the last one is still observed", run.out + run.err)
    plain, run = Run("flight=2 runs=100", layer=False), Run("flight=2 runs=100")
    told = [line for line in run.said() if "FLAMED_BOUNDARY=count:N" in line]
    ok(len(told) == 1 and "launches 6 kernels" in told[0] and run.inferences() == 0 and run.hash() == plain.hash(),
       "inferences that overlap on a queue: said once, with the number", run.err)
    run = Run("flight=2 runs=100", FLAMED_BOUNDARY="count:6")
    ok(run.inferences() >= 95 and run.hash() == plain.hash(), "... and counted by it", run.err)
    run = Run("wait=none runs=30 resubmit flight=2")
    ok(run.rc in (0, 1) and run.inferences() == 0, "a program that never waits is never an inference", run.err)


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
    run, reps = trace_of("kernels=64 submits=1 runs=20")
    ok({len(rep) for rep in reps} == {64}, "as many as there are", f"{[len(rep) for rep in reps]}")
    run, reps = trace_of("secondary")
    ok({len(rep) for rep in reps} == {1}, "a secondary buffer is one net layer", f"{[len(rep) for rep in reps]}")
    run, reps = trace_of("", below="nostamps")
    ok(run.inferences() == 27 and not reps and len([line for line in run.said() if "timestamps" in line]) == 1,
       "no timestamps: said once, timed as a whole", run.err)
    run, reps = trace_of("", FLAMED_TIMESTAMPS="off")
    ok(run.inferences() == 27 and not reps, "timestamps can be turned off", run.err)
    run, reps = trace_of("", FLAMED_TIMESTAMPS="")
    refused = [line for line in run.said() if "timestamps" in line]
    ok(bool(refused) != bool(reps) and run.inferences() == 27, "what they cost is tried: used, or said why not",
       run.err)


def validation():
    if not os.path.exists(VALIDATION):
        skip("validation", "vulkan-validationlayers is not installed")
        return
    for words in ("", "wait=part submits=3", "wait=timelinepoll submit2", "resubmit secondary",
                  "reset upload devices=2",
                  "compile flight=2", "wait=device kernels=64 submits=8 resubmit"):
        bare, run = Run(words, layer=False, validation=True), Run(words, validation=True, FLAMED_TRACE="/dev/null")
        ok("Validation" not in bare.out + bare.err, f"{words or 'fence'}: the test program itself is clean",
           bare.out + bare.err)
        ok("Validation" not in run.out + run.err and run.hash() == bare.hash() is not None,
           f"{words or 'fence'}: validation has nothing to say of the layer", run.out + run.err)


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
        run = Run("devices=2", **env)
        ok(len(flamed.of("begin")) == len(flamed.of("end")) == 54, "two queues: each its own requests")
        flamed.clear()
        Run("fork", **env)
        ok(len(flamed.of("begin")) == 27, "the child of a fork says nothing", str(len(flamed.of("begin"))))
        flamed.clear()
        run = Run("exec", **env)
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
       "a device that is lost: said once, and the program is told as ever", run.out + run.err)
    run = Run("swapchain", below="swapchain")
    ok(run.rc == 0 and run.inferences() == 0 and len(run.said()) == 1 and run.hash() == plain.hash(),
       "a program that draws on a screen is left alone", run.out + run.err)
    bare = Run("", layer=False, VK_ICD_FILENAMES="/nonexistent/icd.json")
    run = Run("", VK_ICD_FILENAMES="/nonexistent/icd.json", FLAMED_DEADLINE_NS="50000000")
    ok(run.rc == bare.rc == 4 and run.out == bare.out and run.err == bare.err,
       "no driver: the Vulkan loader loads no layer, and the program finds none, as without the layer",
       run.out + run.err)
    run = Run("runs=10 single kernels=1")
    ok(run.rc == 0 and run.inferences() == 0, "one kernel alone must repeat longer", run.err)
    for words in ("", "devices=2 submits=3 wait=part", "compile reset", "flight=2 runs=80", "leave", "fork",
                  "crowd=17"):
        run = Run(words, tree=ASAN, FLAMED_TRACE="/dev/null", FLAMED_BOUNDARY="count:6" if "flight" in words else "")
        ok(run.rc == 0 and "Sanitizer" not in run.err and "runtime error" not in run.err,
           f"{words or 'fence'}: clean under ASan and UBSan",
           run.err[-2000:])


def main():
    if not driver():
        skip("Vulkan", "no software driver (mesa-vulkan-drivers)")
    else:
        boundaries()
        several()
        timestamps()
        validation()
        requests()
        trouble()
    shutil.rmtree(scratch, ignore_errors=True)
    done()


main()
