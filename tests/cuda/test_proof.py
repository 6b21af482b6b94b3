#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The proof of tests/opencl with the driver calls of a CUDA program against the stand-in driver, whose kernels
follow the clocks of the emulated board: profiled at 8
operating points, 12 others predicted, three deadlines kept."""
import importlib.util, os, sys

import cudalib
from cudalib import script
from boardlib import done, ok

spec = importlib.util.spec_from_file_location("opencl_proof", os.path.join(cudalib.HERE, "../opencl/test_proof.py"))
proof = importlib.util.module_from_spec(spec)
spec.loader.exec_module(proof)


class CudaProof(proof.Proof):
    def __init__(self):
        super().__init__()
        self.env.update(LD_LIBRARY_PATH=proof.BIN + "/tests/cuda", FLAMED_CUDA_LAYER=proof.BIN + "/libflamed-cuda.so",
                        OPENCL_LAYERS="",
                        FLAMED_OPENCL_LAYER="/nonexistent")

    def words(self, kind, runs):
        return [proof.BIN + "/tests/cuda/engine", script(kind), f"runs={runs}"]

    def without(self):
        return {key: value for key, value in self.env.items() if key != "FLAMED_BOARD"}

    def layered(self):
        return {"LD_PRELOAD": self.env["FLAMED_CUDA_LAYER"]}


def main():
    with_board = CudaProof()
    kind = "board-net"
    path, layers = proof.predict_and_measure(with_board, kind)
    proof.deadlines(with_board, kind, path, layers)
    with_board.close()
    done()


main()
