#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Vulkan programs that know nothing of flamed, under the real daemon: by flamectl run, two at once, and what verify
says of the layer."""
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
for room in ("../daemon", "."):
    sys.path.insert(0, os.path.join(HERE, room))
from daemonlib import RELEASE, Daemon, done, ok, skip  # noqa: E402
import llamalib  # noqa: E402

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
    re.search(r"ok +vulkan +flamectl run governs programs that use it", said) is not None,
    "verify: the layer would work here",
    said,
)
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
d.end()
done()
