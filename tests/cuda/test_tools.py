#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tools for a machine with a GPU: `flamectl verify cuda`, the kernels in PTX text, and the
script that uses both."""
import json, os, subprocess

import cudalib
import fakeflamed
from cudalib import ASAN, RELEASE, script
from boardlib import ok, skip, done

TOOLKIT = "/usr/local/cuda/bin/"
PTXAS = TOOLKIT + "ptxas"


def verify(*words, **env):
    run = subprocess.run([ASAN + "/flamectl", *words, "verify", "cuda"], capture_output=True, text=True,
                         env=dict(os.environ, FLAMED_CUDA_LAYER=RELEASE + "/libflamed-cuda.so",
                                  ASAN_OPTIONS="detect_leaks=0", **env))
    return run.returncode, run.stdout + run.stderr


def nvml_without(function):
    """A folder with the stand-in for NVML of an older driver, which lacks a function."""
    path = cudalib.scratch + "/old-nvml"
    os.mkdir(path)
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", f"-D{function}=absent", "-o",
                    path + "/libnvidia-ml.so.1", cudalib.ROOT + "/tests/keeper/standin_nvml.c"], check=True)
    return path


def verified():
    standin = {"LD_LIBRARY_PATH": RELEASE + "/tests/cuda"}
    rc, text = verify(**standin)
    ok(rc == 0 and "CUDA 12.4" in text and "flamed stand-in, compute capability 8.7" in text,
       "the driver, its version, the device", text)
    rc, text = verify("--json", **standin)
    checks = {check["check"]: check["result"] for check in json.loads(text)["checks"]}
    named = ("layer", "driver", "device", "nvtx", "cupti")
    ok(rc == 0 and all(checks[name] == "ok" for name in named), "the same as JSON", text)
    rc, text = verify(FLAMED_STANDIN_VERSION="11020", **standin)
    ok(rc == 1 and "needs 11.3 or later" in text, "a driver too old for the layer", text)
    rc, text = verify(NVTX_INJECTION64_PATH="/opt/tool.so", **standin)
    ok(rc == 0 and "NVTX_INJECTION64_PATH is /opt/tool.so" in text, "a tool that holds NVTX", text)
    ok("no GPU whose clocks NVML can lock" in text, "no NVML", text)
    rc, text = verify(LD_LIBRARY_PATH=f"{RELEASE}/tests/cuda:{RELEASE}/tests/keeper/nvml")
    ok(rc == 0 and "00000000:01:00.0: graphics up to 1980 MHz, memory up to 2619 MHz" in text, "what NVML can lock",
       text)
    rc, text = verify(LD_LIBRARY_PATH=f"{RELEASE}/tests/cuda:{nvml_without('nvmlDeviceSetMemoryLockedClocks')}")
    ok(rc == 0 and "NVML has no nvmlDeviceSetMemoryLockedClocks" in text and "may lock" not in text,
       "a library of NVML that the keeper would refuse", text)
    rc, text = verify(CUDA_INJECTION64_PATH="/opt/tool.so", **standin)
    ok(rc == 0 and "CUDA_INJECTION64_PATH is /opt/tool.so: flamectl profile --cupti uses events" in text,
       "a tool that holds CUPTI", text)
    if subprocess.run(["sh", "-c", "ldconfig -p | grep -q 'libcuda.so.1 '"]).returncode == 0:
        skip("no driver: a note, no failure", "there is a driver")
    else:
        rc, text = verify()
        ok(rc == 0 and "no CUDA driver" in text, "no driver: a note, no failure", text)


def run():
    """What `flamectl run` puts into a program's environment."""
    layer = RELEASE + "/libflamed-cuda.so"
    for env, preloaded, nvtx in (({}, layer, ""), ({"FLAMED_BOUNDARY": "count:3"}, layer, ""),
                                 ({"FLAMED_BOUNDARY": "nvtx:step"}, layer, layer),
                                 ({"FLAMED_BOUNDARY": "nvtx:step", "NVTX_INJECTION64_PATH": "/opt/tool.so"}, layer,
                                  "/opt/tool.so")):
        with fakeflamed.Server(cudalib.scratch + "/s") as server:
            done_ = subprocess.run([RELEASE + "/flamectl", "run", "--model", "m", "--deadline", "50ms", "--",
                                    "sh", "-c", 'echo "$LD_PRELOAD|$NVTX_INJECTION64_PATH"'],
                                   capture_output=True, text=True,
                                   env=dict(os.environ, FLAMED_SOCKET=server.path, FLAMED_CUDA_LAYER=layer,
                                            FLAMED_ENGINES_LAYER="/none", FLAMED_OPENCL_LAYER="/none", **env))
        ok(done_.returncode == 0 and done_.stdout == f"{preloaded}|{nvtx}\n",
           f"flamectl run preloads the layer, and names it to NVTX where that is asked for and free: {env}",
           done_.stdout + done_.stderr)


def profile():
    """`flamectl profile --cupti` asks the layer for CUPTI, and nothing else does."""
    with fakeflamed.Server(cudalib.scratch + "/s") as server:
        for words, wanted in ((["--cupti"], "cupti=1 profile=1"), ([], "cupti= profile=1")):
            run = subprocess.run([RELEASE + "/flamectl", "profile", "m", *words, "--", "sh", "-c",
                                  'echo "cupti=$FLAMED_CUPTI profile=$FLAMED_PROFILE" >&2'], capture_output=True,
                                 text=True, env=dict(os.environ, FLAMED_SOCKET=server.path, FLAMED_CUPTI="9",
                                                     FLAMED_ENGINES_LAYER="/none", FLAMED_OPENCL_LAYER="/none"))
            ok(wanted in run.stderr.splitlines(), f"flamectl profile {' '.join(words)}: {wanted}", run.stderr)


def kernels():
    if not os.path.exists(PTXAS):
        skip("the kernels in PTX text are assembled", "no CUDA toolkit with ptxas")
        return
    wrong = []
    for name in sorted(os.listdir(os.path.join(cudalib.HERE, "scripts"))):
        text = subprocess.run([RELEASE + "/tests/cuda/engine", script(name), "show-ptx"], capture_output=True,
                              text=True).stdout
        run = subprocess.run([PTXAS, "-arch=sm_87", "-o", "/dev/null", "-"], input=text, capture_output=True, text=True)
        wrong += [f"{name}: {run.stderr}"] if run.returncode or ".entry" not in text else []
    ok(not wrong, "the kernels in PTX text are assembled", wrong)


def compiled():
    source = os.path.join(cudalib.HERE, "kernels.cu")
    for name, words, tool in (("nvcc", [TOOLKIT + "nvcc", "-ptx", "-arch=compute_87", "-o", "/dev/stdout", source],
                               TOOLKIT + "nvcc"),
                              ("NVRTC", [RELEASE + "/tests/cuda/nvrtc", "compute_87", source],
                               TOOLKIT + "../lib64/libnvrtc.so")):
        if not os.path.exists(tool) or not os.path.exists(PTXAS):
            skip(f"the kernels in CUDA C, by {name}", "no CUDA toolkit with it and ptxas")
            continue
        text = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ, CUDA_HOME=TOOLKIT + ".."))
        run = subprocess.run([PTXAS, "-arch=sm_87", "-o", "/dev/null", "-"], input=text.stdout, capture_output=True,
                             text=True)
        ok(text.returncode == run.returncode == 0 and text.stdout.count(".visible .entry") == 7,
           f"the kernels in CUDA C, by {name}", text.stderr + run.stderr)


def runtime():
    """The genuine static runtime goes no further than the driver's private tables, which the stand-in lacks."""
    title = "a program of the CUDA runtime: built, and ends in the same way with the layer"
    if not os.path.exists(TOOLKIT + "nvcc"):
        skip(title, "no CUDA toolkit with nvcc")
        return
    program = cudalib.scratch + "/runtime"
    built = subprocess.run([TOOLKIT + "nvcc", "-o", program, os.path.join(cudalib.HERE, "runtime.cu")],
                           capture_output=True, text=True)
    ends = []
    for preload in ({}, {"LD_PRELOAD": RELEASE + "/libflamed-cuda.so"}):
        run = subprocess.run([program, "conv", "3"], capture_output=True, text=True,
                             env=dict(os.environ, LD_LIBRARY_PATH=RELEASE + "/tests/cuda",
                                      FLAMED_STANDIN_VERSION="13000", **preload))
        ends.append((run.returncode, run.stdout, run.stderr))
    ok(built.returncode == 0 and ends[0] == ends[1] and ends[0][0] == 3 and "not supported" in ends[0][2], title,
       f"{built.stderr} {ends}")


def on_gpu():
    words = [os.path.join(cudalib.HERE, "on-gpu.sh")]
    env = dict(os.environ, LD_LIBRARY_PATH=RELEASE + "/tests/cuda")
    run = subprocess.run(words, capture_output=True, text=True, env=env)
    ok(run.returncode == 2 and "stand-in driver" in run.stderr and "|" not in run.stdout,
       "the stand-in is not taken for a GPU", run.stdout + run.stderr)
    run = subprocess.run(words, capture_output=True, text=True, env=dict(env, ON_GPU_STANDIN="1"))
    rows = [line.split("|")[1:-1] for line in run.stdout.splitlines() if line.startswith("| ")]
    ok(run.returncode == 0 and len(rows) >= 20 and all(len(row) == 4 for row in rows) and
       sum(row[3].strip() == "identical" for row in rows) >= 16 and "ns more with the layer" in run.stdout and
       "by CUPTI" in run.stdout, "asked to, the script runs against the stand-in", run.stdout + run.stderr)
    run = subprocess.run(words, capture_output=True, text=True,
                         env=dict(env, ON_GPU_STANDIN="1", LD_PRELOAD="", FLAMED_STANDIN_VERSION="11020"))
    ok(run.returncode != 0 and " identical" not in run.stdout, "a driver that is too old is no success",
       run.stdout + run.stderr)


def main():
    for part in (verified, run, profile, kernels, compiled, runtime, on_gpu):
        part()
    done()


main()
