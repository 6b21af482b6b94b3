#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""FLAMED_BOUNDARY=nvtx:NAME with NVTX's own headers, which load the layer by themselves: a range is an
inference, wherever it is waited for, in a domain or not, several in flight, in several threads."""
import os, statistics

import cudalib
from cudalib import RELEASE, Run, scratch
import fakeflamed
from boardlib import ok, skip, done

LAYER = RELEASE + "/libflamed-cuda.so"


def run(*words, **env):
    return Run("nvtx", *words, program="engine-nvtx", NVTX_INJECTION64_PATH=LAYER, **env)


def main():
    if not os.path.exists(RELEASE + "/tests/cuda/engine-nvtx"):
        skip("ranges of NVTX", "no NVTX headers: no CUDA toolkit is installed")
        done()
        return
    plain = Run("nvtx", "runs=8", program="engine-nvtx", layer=False)
    named = run("runs=8", FLAMED_BOUNDARY="nvtx:infer")
    ok(named.rc == plain.rc == 0 and named.out == plain.out and named.errors == plain.errors, "same results", named.err)
    ok(named.found == named.truth == 40, "each range of this name is an inference, and nothing else is",
       f"{named.found} of {named.truth}")
    other = run("runs=8", FLAMED_BOUNDARY="nvtx:load")
    ok(other.rc == 0 and other.found == 1, "another name: its ranges", other.err)
    threads = run("runs=8", "threads=4", FLAMED_BOUNDARY="nvtx:infer")
    ok(threads.found == threads.truth == 160, "four threads, several in flight in each",
       f"{threads.found} of {threads.truth}")
    nested = Run("nvtx-nested", "runs=8", program="engine-nvtx", NVTX_INJECTION64_PATH=LAYER,
                 FLAMED_BOUNDARY="nvtx:infer")
    ok(nested.rc == 0 and nested.found == nested.truth == 16,
       "ranges with wide names count, and each domain has a stack: the pop of another range ends none",
       f"{nested.found} of {nested.truth} {nested.err}")
    moved = Run("nvtx-threads", "runs=20", program="engine-nvtx", NVTX_INJECTION64_PATH=LAYER,
                FLAMED_BOUNDARY="nvtx:infer")
    ok(moved.rc == 0 and moved.found == moved.truth == 80,
       "ranges that another thread ends, or that begin within a pushed one",
       f"{moved.found} of {moved.truth} {moved.err}")
    alone = Run("nvtx", "runs=8", program="engine-nvtx", FLAMED_BOUNDARY="nvtx:infer")
    ok(alone.rc == 0 and alone.found == 0 and not alone.errors,
       "the library not named to NVTX: nothing is found, nothing is harmed", alone.err)
    unasked = run("runs=8")
    ok(unasked.rc == 0 and unasked.out == plain.out, "no range asked for: NVTX is left alone", unasked.err)
    with fakeflamed.Server(scratch + "/s") as server:
        asked = run("runs=8", FLAMED_BOUNDARY="nvtx:infer", FLAMED_SOCKET=server.path, FLAMED_DEADLINE_NS="50000000",
                    FLAMED_MODEL="net")
        begins, ends = server.of("begin"), server.of("end")
        ok(len(begins) == len(ends) == asked.truth and {m["model"] for m in server.of("open")} == {"net"},
           "each is a request of one model",
           f"{len(begins)} {len(ends)} {asked.truth}")
        # conv takes 484 and fc 147 us at least, by the stand-in's clocks of 1 GHz: work launched
        # in a range counts, waited for in it or not.
        totals = [int(m["total_ns"]) for m in ends]
        ok(min(totals) > 480000 and statistics.median(totals) > 1500000, "to the end of what was launched in it",
           sorted(totals)[:5])
        server.clear()
        asked = Run("nvtx-streams", "runs=20", program="engine-nvtx", NVTX_INJECTION64_PATH=LAYER,
                    FLAMED_BOUNDARY="nvtx:infer", FLAMED_SOCKET=server.path, FLAMED_DEADLINE_NS="50000000")
        totals = [int(m["total_ns"]) for m in server.of("end")]
        ok(asked.rc == 0 and len(totals) == asked.truth == 20 and min(totals) > 5 * 480000,
           "a stream for each range: to the end of what was launched in it", f"{totals} {asked.err}")
    done()


main()
