#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""Unmodified Vulkan programs under the real daemon: by flamectl run, two at once, and the output of verify on the
layer."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
for room in ("../daemon", "."):
    sys.path.insert(0, os.path.join(HERE, room))
from daemonlib import RELEASE, Daemon, done, ok, skip, wait_for  # noqa: E402
import llamalib  # noqa: E402
import manifest  # noqa: E402

RUNS, LOCKS = 40, 3  # inferences of a program; the layer has found the period after LOCKS of them
folder = tempfile.TemporaryDirectory(prefix="flamed-vulkan-run-")
if not llamalib.DRIVER:
    skip("Vulkan under flamectl run", "no software driver (mesa-vulkan-drivers)")
    done()
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("FLAMED_", "LD_PRELOAD"))}
ENV.update(
    VK_ICD_FILENAMES=llamalib.DRIVER,
    MESA_SHADER_CACHE_DIR=folder.name,
    XDG_DATA_DIRS=os.path.abspath(RELEASE) + "/share:/usr/share",
    FLAMED_OPENCL_LAYER="/none",
    FLAMED_CUDA_LAYER="/none",
    FLAMED_ENGINES_LAYER="/none",
)


class Program:
    """The engine with these words, by itself or under flamectl run."""

    def __init__(self, words, *run):
        command = [RELEASE + "/tests/vulkan/engine", f"runs={RUNS}", *words.split()]
        if run:
            command = [RELEASE + "/flamectl", *run, "--", *command]
        self.process = subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self):
        out, self.err = self.process.communicate(timeout=240)
        self.result = re.findall(r"^hash \w+$", out, re.M)
        self.tally = json.loads(self.err[self.err.index("{") :]) if "\n}" in self.err else {}
        return self


def ctl(*words, **env):
    said = subprocess.run(
        [RELEASE + "/flamectl", "--socket", d.socket, *words],
        env={**ENV, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return said.stdout + said.stderr


WORDS = {"net": "rounds=256 pause_us=10000", "other": "kernels=9 rounds=128 pause_us=10000 wait=poll"}
plain = {model: Program(words).end().result for model, words in WORDS.items()}
d = Daemon(build=RELEASE)
before = d.knobs()

said = ctl("verify")
ok(
    re.search(r"ok +vulkan +flamectl run governs programs that use Vulkan", said) is not None,
    "verify: the layer would work here",
    said,
)
for variables in (
    {"VK_ICD_FILENAMES": "/none:" + llamalib.DRIVER},
    {"VK_ICD_FILENAMES": "/none", "VK_DRIVER_FILES": os.path.dirname(llamalib.DRIVER)},
    {"VK_ICD_FILENAMES": "/none", "VK_ADD_DRIVER_FILES": llamalib.DRIVER},
):
    said = ctl("verify", **variables)
    ok(re.search(r"ok +vulkan ", said) is not None, f"verify: a driver is among {' '.join(variables)}", said)
said = ctl("verify", VK_ICD_FILENAMES="/none:/nor.json")
ok(
    re.search(r"note +vulkan +no driver for Vulkan: none is in VK_ICD_FILENAMES=/none:/nor.json\n", said) is not None,
    "verify: no driver, where the variable names none that exists",
    said,
)
said = ctl("verify", VK_DRIVER_FILES="/none")
ok("none is in VK_DRIVER_FILES=/none" in said, "... which of two variables counts", said)
# The folders of the loader: only those, wherever this machine has drivers of its own.
none, drivers = folder.name + "/none", folder.name + "/drivers"
for parent in (none, drivers):
    os.makedirs(f"{parent}/vulkan/icd.d")
    os.makedirs(f"{parent}/vulkan/implicit_layer.d")
os.symlink(llamalib.DRIVER, drivers + "/vulkan/icd.d/driver.json")
os.symlink(
    os.path.abspath(RELEASE) + "/share/vulkan/implicit_layer.d/flamed-vulkan.json",
    none + "/vulkan/implicit_layer.d/flamed-vulkan.json",
)
NOWHERE = {
    "VK_ICD_FILENAMES": "",
    "HOME": none,
    "XDG_CONFIG_HOME": "",
    "XDG_CONFIG_DIRS": none,
    "XDG_DATA_HOME": "",
    "XDG_DATA_DIRS": none,
}
if not os.path.exists("/etc/vulkan/icd.d") or not os.listdir("/etc/vulkan/icd.d"):
    said = ctl("verify", **NOWHERE)
    ok(
        re.search(r"note +vulkan +no driver for Vulkan: none in vulkan/icd.d of ", said) is not None,
        "verify: no driver, where XDG_DATA_DIRS leads elsewhere",
        said,
    )
for variable in ("XDG_DATA_DIRS", "XDG_DATA_HOME", "XDG_CONFIG_DIRS", "XDG_CONFIG_HOME"):
    said = ctl("verify", **{**NOWHERE, variable: drivers + ":" + none if variable.endswith("DIRS") else drivers})
    ok(re.search(r"ok +vulkan ", said) is not None, f"verify: a driver is in a folder of {variable}", said)
said = ctl("verify", XDG_DATA_DIRS="/nowhere")
ok(
    re.search(r"vulkan +(not installed: there is no /|the Vulkan loader does not find its manifest)", said) is not None,
    "verify: not where it is not installed, and why",
    said,
)

run = Program(WORDS["net"], "--socket", d.socket, "run", "--model", "net", "--deadline", "2s").end()
ok(run.process.returncode == 0 and run.result == plain["net"] != [], "the same result under a deadline", run.err)
ok(
    f"net under 2.00 s: {RUNS - LOCKS} inferences" in run.err and f"vulkan saw {RUNS - LOCKS} inferences" in run.err,
    "run counts every inference, and says which layer saw it",
    run.err,
)
ENV["VK_ICD_FILENAMES"] = "/none"
run = Program(WORDS["net"], "--socket", d.socket, "run", "--model", "net", "--deadline", "2s").end()
ENV["VK_ICD_FILENAMES"] = llamalib.DRIVER
ok(
    re.search(r"vulkan +no driver for Vulkan: none is in VK_ICD_FILENAMES=/none$", run.err, re.M) is not None,
    "run says why the layer was not loaded",
    run.err,
)
run = Program(WORDS["net"], "--socket", d.socket, "run", "--model", "net", "--rate", "1/s").end()
ok(
    f"net at 1.00/s: {RUNS - LOCKS} inferences" in run.err and "of the requested 1.00/s" in run.err,
    "a rate makes them a stream",
    run.err,
)

pair = {
    model: Program(words, "--json", "--socket", d.socket, "run", "--model", model, "--deadline", deadline)
    for (model, words), deadline in zip(WORDS.items(), ("2s", "3s"))
}
for model, program in pair.items():
    program.end()
    tally = program.tally
    ok(
        program.process.returncode == 0 and program.result == plain[model] != [],
        f"two programs at once: {model} computes the same",
        program.err,
    )
    ok(
        (tally.get("model"), tally.get("sessions"), tally.get("requests")) == (model, 1, RUNS - LOCKS),
        f"two programs at once: {model} keeps its own boundaries",
        program.err,
    )
ok(
    [pair[model].tally.get("deadline_ns") for model in WORDS] == [2 * 10**9, 3 * 10**9],
    "each under its own deadline",
    [p.tally for p in pair.values()],
)
said = ctl("models")
ok(
    re.search(r"^ *net\b", said, re.M) is not None and re.search(r"^ *other\b", said, re.M) is not None,
    "both models are known",
    said,
)
ok(d.restored(before), "every knob is as it was found", d.difference(before))

below = manifest.write(folder.name + "/below", "VK_LAYER_TEST_below", RELEASE + "/tests/vulkan/libbelow.so")
ENV.update(VK_LAYER_PATH=below, VK_INSTANCE_LAYERS="VK_LAYER_TEST_below", FLAMED_TIMESTAMPS="on")
for fault, status, counts, said in (
    ("lost=40", 3, range(1, RUNS - LOCKS), "the device was lost; the program continues without flamed"),
    ("nostamps", 0, [RUNS - LOCKS], "inferences are timed as a whole"),
):
    ENV["FLAMED_BELOW"] = fault
    run = Program(WORDS["net"], "--socket", d.socket, "run", "--model", "net", "--deadline", "2s").end()
    count = re.search(r"^flamectl run: net under 2.00 s: (\d+) inferences", run.err, re.M)
    ok(
        run.process.returncode == status and count and int(count[1]) in counts and run.err.count(said) == 1,
        f"{fault}: the program ends as without flamed, told once, inferences until then were requests",
        run.err,
    )
    ok(d.restored(before), f"{fault}: every knob is as it was found", d.difference(before))
for variable in ("VK_LAYER_PATH", "VK_INSTANCE_LAYERS", "FLAMED_TIMESTAMPS", "FLAMED_BELOW"):
    del ENV[variable]

long = WORDS["net"] + " runs=150"
program = Program(long, "--socket", d.socket, "run", "--model", "net", "--deadline", "2s")
moved = wait_for(lambda: d.knobs() != before)
d.stop(signal.SIGKILL)
program.end()
ok(
    moved and program.process.returncode == 0 and program.result == Program(long).end().result != [],
    "flamed is killed amid the requests: the same result",
    program.err,
)
ok(
    program.err.count("flamed-vulkan: the connection to flamed broke") == 1,
    "... told once",
    program.err,
)
ok(d.restored(before), "... and every knob is as it was found", d.difference(before))
d.end()
done()
