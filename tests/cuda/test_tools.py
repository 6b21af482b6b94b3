#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What is for the day a GPU is at hand: `flamectl verify cuda`, the kernels in PTX text, and the
script that uses both."""
import json, os, subprocess

import cudalib
from cudalib import ASAN, RELEASE, script
from boardlib import ok, skip, done

PTXAS = "/usr/local/cuda/bin/ptxas"


def verify(*words, **env):
    run = subprocess.run([ASAN + "/flamectl", *words, "verify", "cuda"], capture_output=True, text=True,
                         env=dict(os.environ, FLAMED_CUDA_LAYER=RELEASE + "/libflamed-cuda.so",
                                  ASAN_OPTIONS="detect_leaks=0", **env))
    return run.returncode, run.stdout + run.stderr


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
    rc, text = verify(CUDA_INJECTION64_PATH="/opt/tool.so", **standin)
    ok(rc == 0 and "CUDA_INJECTION64_PATH is /opt/tool.so: flamectl profile --cupti uses events" in text,
       "a tool that holds CUPTI", text)
    if subprocess.run(["sh", "-c", "ldconfig -p | grep -q 'libcuda.so.1 '"]).returncode == 0:
        skip("no driver: a note, no failure", "there is a driver")
    else:
        rc, text = verify()
        ok(rc == 0 and "no CUDA driver" in text, "no driver: a note, no failure", text)


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


def on_gpu():
    run = subprocess.run([os.path.join(cudalib.HERE, "on-gpu.sh")], capture_output=True, text=True,
                         env=dict(os.environ, LD_LIBRARY_PATH=RELEASE + "/tests/cuda"))
    ok(run.returncode == 2 and "stand-in driver" in run.stderr and "|" not in run.stdout,
       "the stand-in is not taken for a GPU", run.stdout + run.stderr)


def main():
    for part in (verified, kernels, on_gpu):
        part()
    done()


main()
