#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Each entry point by itself, against a driver that notes its calls (mirror.c): arguments arrive in order, every way of
launching is seen, each way to look up a function gives the right one."""
import os, re, subprocess

import cudalib
from cudalib import RELEASE, ROOT, wrapped
import fakeflamed
from boardlib import ok, done

LAYER = RELEASE + "/libflamed-cuda.so"
# Parameters of those that api.h does not declare.
OTHERS = {"cuStreamBeginCapture": 1, "cuStreamBeginCaptureToGraph": 6, "cuGraphInstantiate": 5, "cuGraphExecUpdate": 4,
          "cuGraphExecKernelNodeSetParams": 3, "cuStreamDestroy": 1, "cuEventDestroy": 1, "cuCtxDestroy": 1,
          "cuCtxSynchronize_v2": 1, "cuDevicePrimaryCtxReset": 1, "cuDevicePrimaryCtxRelease": 1}
FOUND = 24 + 1  # segments of one kernel are inferences from the 25th on
PERIODS = 3     # repetitions of a cycle before it is believed


def entries(*words, preload=LAYER, **env):
    run = subprocess.run([RELEASE + "/tests/cuda/entries", *words], capture_output=True, text=True, timeout=60,
                         env=dict(os.environ, LD_LIBRARY_PATH=RELEASE + "/tests/cuda/mirror", LD_PRELOAD=preload,
                                  **{"FLAMED_SOCKET": cudalib.scratch + "/absent", **env}))
    return run.returncode, run.stdout, run.stderr


def parameters():
    text = open(ROOT + "/layers/cuda/api.h").read().replace("\\\n", " ")
    text = text.replace("DIMS", ", ".join(["unsigned int x"] * 7))
    counts = {}
    for name, params in re.findall(r"X\(\s*(cu\w+),\s*\(([^)]*)\)\)", text):
        counts[name] = 0 if params.strip() == "void" else params.count(",") + 1
    return dict(counts, **OTHERS)


def forwarded():
    counts = parameters()
    symbols = [symbol for symbol, name, _, _ in wrapped() if name != "cuGetProcAddress"]
    rc, out, err = entries("forward", *symbols, FLAMED_SUMMARY="2")
    wrong = []
    for line in out.splitlines():
        symbol, owner, noted, *at = line.split()
        count = counts[re.sub(r"_pt[sd][sz]$", "", symbol)]
        if owner != "layer" or noted != symbol or at[:count] != [str(i + 1) for i in range(count)]:
            wrong.append(line)
    ok(rc == 0 and len(out.splitlines()) == len(symbols) and not wrong,
       f"{len(symbols)} entry points: the driver's own is called, each argument in its place", f"{rc} {wrong} {err}")


def launches():
    for symbol, name, _, per_thread in wrapped():
        if "Launch" not in name or name == "cuLaunchHostFunc":
            continue
        wait = "cuCtxSynchronize" if name in ("cuLaunch", "cuLaunchGrid") else "cuStreamSynchronize"
        wait += "_ptsz" if per_thread else ""
        rc, _, err = entries("launch", symbol, wait, "40", FLAMED_SUMMARY="2")
        found = int((re.search(r"inferences=(\d+)", err) or [0, 0])[1])
        seen = int((re.search(r"launches=(\d+)", err) or [0, 0])[1])
        wanted = 400 if name in ("cuLaunchCooperativeKernelMultiDevice", "cuGraphLaunch") else 200
        least = 40 - (PERIODS if name == "cuGraphLaunch" else FOUND)
        ok(rc == 0 and seen == wanted and least <= found <= 40 - PERIODS, f"{symbol}: its launches are seen",
           f"{seen} of {wanted}, {found} {err}")


def node_parameters():
    for symbol in ("cuGraphExecKernelNodeSetParams", "cuGraphExecKernelNodeSetParams_v2", "cuGraphExecNodeSetParams"):
        found = []
        for shapes in ("1", "2"):
            rc, _, err = entries("set", symbol, "40", shapes, FLAMED_SUMMARY="2")
            found.append(int((re.search(r"inferences=(\d+)", err) or [0, 0])[1]))
        # A cycle begins after its longest gap: with either shape, if both take equally long. Its last one is then cut.
        ok(rc == 0 and found in ([40 - PERIODS, 20 - PERIODS], [40 - PERIODS, 20 - PERIODS - 1]),
           f"{symbol}: one shape is one inference, two in turn are a cycle of two", f"{found} {err}")


def destroyed():
    with fakeflamed.Server(cudalib.scratch + "/s") as server:
        rc, _, err = entries("graphs", "20000", FLAMED_SUMMARY="2", FLAMED_SOCKET=server.path,
                             FLAMED_DEADLINE_NS="50000000", FLAMED_MODEL="m")
        sessions = [message["session"] for message in server.of("begin")]
    ok(rc == 0 and sessions == sessions[:1] * (16 - PERIODS) + sessions[-1:] * 8 and len(set(sessions)) == 2,
       "a graph keeps its identity while 20000 others are made and destroyed, until a node is set",
       f"{rc} {sessions} {err}")


def too_many():
    for what, said in (("captures", "more than 16 captures at the same time"), ("devices",
                                                                                "a launch on more than 16 devices")):
        rc, _, err = entries(what, "16", FLAMED_SUMMARY="2")
        ok(rc == 0 and "continues without flamed" not in err, f"16 {what}: the layer stays on", err)
        rc, _, err = entries(what, "17", FLAMED_SUMMARY="2")
        off = [line for line in err.splitlines() if "continues without flamed" in line]
        ok(rc == 0 and len(off) == 1 and said in off[0], f"17 {what}: off, with one line", err)


def asked():
    """Whatever addresses the driver returns: the version asked for counts, and the flags."""
    cases = [("cuLaunchKernel", 13000, 0, "layer cuLaunchKernel"), ("cuLaunchKernel", 13000, 2,
                                                                    "layer cuLaunchKernel_ptsz"),
             ("cuLaunchKernel", 13000, 1, "layer cuLaunchKernel"), ("cuLaunchKernel", 5000, 2, "layer cuLaunchKernel"),
             ("cuStreamBeginCapture", 10000, 0, "layer cuStreamBeginCapture"),
             ("cuStreamBeginCapture", 11030, 0, "layer cuStreamBeginCapture_v2"),
             ("cuStreamBeginCapture", 11030, 2, "layer cuStreamBeginCapture_v2_ptsz"),
             ("cuMemcpyDtoH", 12000, 2, "layer cuMemcpyDtoH_v2_ptds"),
             ("cuMemcpy2D", 12000, 2, "layer cuMemcpy2D_v2_ptds"), ("cuMemcpy3D", 12000, 0, "layer cuMemcpy3D_v2"),
             ("cuGraphInstantiate", 11000, 0, "layer cuGraphInstantiate_v2"),
             ("cuGetProcAddress", 11030, 0, "layer cuGetProcAddress"),
             ("cuGetProcAddress", 12000, 0, "layer cuGetProcAddress_v2"),
             ("cuInit", 12000, 0, "driver cuInit"), ("cuGetExportTable", 12000, 0, "driver cuGetExportTable"),
             ("cuStreamCreate", 12000, 2, "driver cuStreamCreate"), ("cuNothing", 12000, 0, "nobody -")]
    for private in ({}, {"MIRROR_PRIVATE": "1"}):
        wrong = []
        for name, version, flags, wanted in cases:
            _, out, err = entries("owners", name, str(version), str(flags), **private)
            found = dict(line.split(" ", 1) for line in out.splitlines())
            if found.get("v1") != wanted or found.get("v2") != wanted:
                wrong.append((name, version, flags, found, err))
        title = "cuGetProcAddress, both versions"
        ok(not wrong, title + (", other addresses than the symbols" if private else ""), wrong)
    _, out, _ = entries("owners", "cuGraphClone", "12000", "0")
    _, other, _ = entries("owners", "cuGraphClone", "12000", "0", MIRROR_PRIVATE="1")
    ok("v2 layer cuGraphClone" in out and "v2 driver" in other,
       "an unknown address of a function that has a newer version is left alone", out + other)
    for name, wanted in (("cuLaunchKernel", "dlsym layer cuLaunchKernel"), ("cuInit", "dlsym driver cuInit"),
                         ("cuGetExportTable", "dlsym driver"), ("cuNothing", "dlsym nobody"),
                         ("malloc", "dlsym other")):
        _, out, _ = entries("owners", name, "12000", "0")
        ok(out.startswith(wanted), f"dlsym: {name}", out)


def following():
    page = str(os.sysconf("SC_PAGESIZE"))
    following_ = RELEASE + "/tests/cuda/next.so"
    rc, out, err = entries("next", preload=LAYER + " " + following_)
    ok(rc == 0 and out.split("\n") == ["no launch", page, ""], "RTLD_NEXT behind the layer is the caller's next",
       out + err)
    rc, out, err = entries("next", preload=following_ + " " + LAYER)
    ok(rc == 0 and out.split("\n") == ["a launch", page, ""], "RTLD_NEXT before the layer finds the layer", out + err)


def main():
    for part in (forwarded, launches, node_parameters, destroyed, too_many, asked, following):
        part()
    done()


main()
