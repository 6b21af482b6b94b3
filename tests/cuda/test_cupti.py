#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""CUPTI, on request (`flamectl profile --cupti`): times of kernels by its records; after any error one line is
printed and events are used. Against a stand-in that is as strict as the documentation; the real library, where there
is one, with no driver."""
import glob, os, subprocess

import cudalib
from cudalib import RELEASE, Run, scratch
import fakeflamed
from boardlib import ok, skip, done

LIBRARY = RELEASE + "/libflamed-cupti.so"
CUPTI = RELEASE + "/tests/cuda/libcupti.so.12"
REAL = sorted(glob.glob("/usr/local/cuda/lib64/libcupti.so.*") + glob.glob("/usr/lib/*/libcupti.so.*"))


def profile(name, *words, **env):
    """A profile of two points of three inferences. Returns its samples."""
    with fakeflamed.Server(scratch + "/s") as server:
        server.points = 3
        run = Run(name, *words, **{"FLAMED_SOCKET": server.path, "FLAMED_PROFILE": "1", "FLAMED_MODEL": "m",
                                   "FLAMED_CUPTI": "1", **env})
        return run, [message for message in server.of("sample") if "latency_ns" in message]


def layers_of(sample):
    return [int(part.split(":")[1]) for part in sample.get("layers", "").split(",") if part]


def recorded():
    wanted = (160000 ** 3 + 80000 ** 3) ** (1 / 3)  # conv of `plain`, see test_layer.py
    for words in ((), ("ptsz",)):
        run, samples = profile("plain", "runs=60", *words)
        title = f"plain{' on the default stream of each thread' if words else ''}"
        ok(run.rc == 0 and samples and all(sample.get("layer_source") == "cupti" for sample in samples),
           f"{title}: samples say so", f"{samples} {run.err}")
        conv = [ns for sample in samples for ns in layers_of(sample)[:6]]
        ok(samples and all(len(layers_of(sample)) == 15 for sample in samples) and
           max(abs(ns / wanted - 1) for ns in conv) < 1e-4,
           f"{title}: the device's own times, the first kernel of an inference too", f"{conv} {wanted}")
        ok("cuEventRecord" not in run.calls and not run.said(), f"{title}: no events, and nothing to say",
           f"{run.calls} {run.said()}")
        ok(run.err.count("standin-cupti") == 1 and
           len(set(run.err.split("asked for ")[1].split(" back")[0].replace(" buffers, gave", "").split())) == 1,
           f"{title}: each buffer came back", run.err)
    run, samples = profile("graph-replay", "runs=60")
    ok(samples and all(len(layers_of(sample)) == 1 and sample["layer_source"] == "cupti" for sample in samples),
       "a graph: one launch, all of its kernels", samples)
    plain, (run, _) = Run("llama-decode", "runs=80", layer=False), profile("llama-decode", "runs=80")
    ok(run.rc == 0 and run.out == plain.out and run.found > 70 and not run.said() and not run.errors,
       "eager, then captured: nothing is disturbed", run.err)
    plain = Run("plain", "runs=60", layer=False)
    run, _ = profile("plain", "runs=60")
    ok(run.out == plain.out and not run.errors, "same results", f"{run.out} {plain.out} {run.errors}")


def only_on_request():
    for env in ({"FLAMED_CUPTI": ""}, {"FLAMED_PROFILE": "", "FLAMED_DEADLINE_NS": "50000000"}):
        run, _ = profile("plain", "runs=30", **env)
        ok(run.rc == 0 and "standin-cupti" not in run.err and "cuEventRecord" in run.calls, f"never by itself: {env}",
           run.err)


def refused():
    cases = [("held", "another profiler holds it"), ("cuptiSubscribe=15", "cuptiSubscribe: CUPTI_ERROR_15"),
             ("cuptiActivityRegisterCallbacks=1", "cuptiActivityRegisterCallbacks: CUPTI_ERROR_1"),
             ("cuptiEnableCallback=11", "cuptiEnableCallback: CUPTI_ERROR_11"), ("cuptiActivityEnable=35",
                                                                                 "cuptiActivityEnable: CUPTI_ERROR_35"),
             ("blind", "does not see the launches"), ("drop", "dropped records"), ("cuptiActivityFlushAll=999",
                                                                                   "does not hand out its records"),
             ("cuptiActivityGetNextRecord=21", "cannot be read")]
    for fault, said in cases:
        run, samples = profile("plain", "runs=60", FLAMED_STANDIN_CUPTI=fault)
        lines = run.said()
        ok(run.rc == 0 and len(lines) == 1 and said in lines[0] and lines[0].endswith("layers are timed by events"),
           f"{fault}: one line", run.err)
        ok(samples and samples[-1].get("layer_source") == "events" and len(layers_of(samples[-1])) == 15,
           f"{fault}: events instead", samples)
        ok("standin-cupti" not in run.err or ", left" in run.err, f"{fault}: CUPTI is left to others", run.err)
    for fault in ("mute", "late"):
        run, samples = profile("overhead" if fault == "mute" else "plain", "runs=60", FLAMED_STANDIN_CUPTI=fault)
        ok(run.rc == 0 and not any("layers" in sample for sample in samples if sample.get("layer_source") == "cupti"),
           f"{fault}: no times rather than wrong ones", f"{samples} {run.err}")
    run, samples = profile("plain", "runs=60", CUDA_INJECTION64_PATH="/opt/tool.so")
    ok(run.said() and "CUDA_INJECTION64_PATH is /opt/tool.so" in run.said()[0] and
       samples[-1]["layer_source"] == "events", "another tool's variable is set", run.err)
    toolkit = scratch + "/toolkit"
    os.makedirs(toolkit + "/extras/CUPTI/lib64")
    os.symlink(CUPTI, toolkit + "/extras/CUPTI/lib64/libcupti.so.12")
    driver = scratch + "/driver"
    os.makedirs(driver)
    os.symlink(RELEASE + "/tests/cuda/libcuda.so.1", driver + "/libcuda.so.1")
    run, samples = profile("plain", "runs=60", LD_LIBRARY_PATH=driver, CUDA_PATH=toolkit)
    ok(samples and samples[-1]["layer_source"] == "cupti", "found in the toolkit", run.err)
    run, samples = profile("plain", "runs=60", LD_LIBRARY_PATH=driver)
    ok(run.said() and "libcupti.so.12" in run.said()[0], "found nowhere: said by name", run.err)
    run, samples = profile("plain", "runs=60", FLAMED_CUPTI_LIBRARY="/nonexistent.so")
    ok(run.said() and "/nonexistent.so" in run.said()[0] and samples[-1]["layer_source"] == "events",
       "there is no such library", run.err)


def allowed(root, version, privileged):
    return subprocess.run([RELEASE + "/tests/cuda/cupti-start", "allowed", root, str(version), str(int(privileged))],
                          capture_output=True, text=True).stdout.strip()


def access():
    jetson, other = scratch + "/jetson", scratch + "/other"
    for root, compatible in ((jetson, b"nvidia,p3737\0nvidia,tegra234\0"), (other, b"amd,epyc\0")):
        os.makedirs(root + "/proc/device-tree")
        with open(root + "/proc/device-tree/compatible", "wb") as f:
            f.write(compatible)
    ok(allowed(other, 12040, False) == "yes" and allowed(scratch, 11040, False) == "yes",
       "not on Jetson: CUPTI says itself what it refuses")
    ok(allowed(jetson, 12060, False) == "on Jetson CUPTI needs root up to CUDA 12, and this is 12.6",
       "Jetson, CUDA 12: root only", allowed(jetson, 12060, False))
    ok(allowed(jetson, 12060, True) == "yes" and allowed(jetson, 13000, True) == "yes", "Jetson: root may")
    ok(allowed(jetson, 13000, False).startswith("/dev/nvgpu/igpu0/prof-dev: "),
       "Jetson, CUDA 13: the profiling nodes", allowed(jetson, 13000, False))
    os.makedirs(jetson + "/dev/nvgpu/igpu0")
    for node in ("nvgpu/igpu0/prof-dev", "nvhost-prof-ctx-gpu"):
        open(f"{jetson}/dev/{node}", "w").close()
    ok(allowed(jetson, 13000, False) == "yes", "by either name", allowed(jetson, 13000, False))
    tree = ("mount -t tmpfs none /proc && mkdir /proc/device-tree && "
            "printf 'nvidia,tegra234\\0' >/proc/device-tree/compatible")
    # Not root any more, but the programs of a clone in root's own folder can be read.
    leave = ('exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=+dac_read_search '
             '--ambient-caps=+dac_read_search "$@"')
    if os.getuid() or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        skip("Jetson: checked before it subscribes", "only root can make a Jetson's /proc")
        return
    for version, said in ((12060, "on Jetson CUPTI needs root"), (13000, "/dev/nvgpu/igpu0/prof-dev: ")):
        run = subprocess.run(["unshare", "--mount", "sh", "-c", f"{tree} && {leave}", "sh", RELEASE +
                              "/tests/cuda/cupti-start", LIBRARY, str(version)], capture_output=True, text=True,
                             env=dict(os.environ, FLAMED_CUPTI_LIBRARY=CUPTI, LD_LIBRARY_PATH=RELEASE + "/tests/cuda"))
        ok(run.stdout.startswith(said), f"Jetson, CUDA {version}: checked before it subscribes",
           f"{run.stdout} {run.stderr}")


def real():
    title = "the real library with no driver: a reason, and nobody dies"
    if not REAL:
        skip(title, "no CUPTI on this machine")
        return
    run = subprocess.run([RELEASE + "/tests/cuda/cupti-start", LIBRARY, "13000"], capture_output=True, text=True,
                         timeout=120,
                         env=dict(os.environ, FLAMED_CUPTI_LIBRARY=REAL[-1]))
    ok(run.returncode == 0 and run.stdout.startswith("cupti"), title, f"{run.returncode} {run.stdout} {run.stderr}")
    print(f"# | {REAL[-1]}: {run.stdout.strip()}")


def main():
    for part in (recorded, only_on_request, refused, access, real):
        part()
    done()


main()
