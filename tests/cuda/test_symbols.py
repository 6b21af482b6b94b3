#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The layer's entry points beside those of an installed CUDA toolkit: every export of its libcuda.so that launches,
waits, captures or names is wrapped, or listed here with the reason why it is not; prototypes and versions agree with
its headers."""
import os, re, subprocess, tempfile

import cudalib
from cudalib import ROOT, wrapped
from boardlib import ok, skip, done

LIKE = re.compile(r"^cu(\w*Launch\w*|\w*Synchronize|\w+Query|StreamBeginCapture\w*|StreamEndCapture|"
                  r"Graph(Instantiate|ExecUpdate|ExecDestroy|Exec(Kernel)?NodeSetParams|Destroy|Clone)\w*|"
                  r"EventRecord\w*|StreamWaitEvent|"
                  r"(Stream|Event|Ctx)Destroy|StreamAddCallback|GetProcAddress|ModuleGetFunction|"
                  r"LibraryGetKernel|KernelGetFunction|Memcpy(HtoD|DtoH)(Async)?|Memcpy(Async)?|"
                  r"Memcpy(2D(Unaligned)?|3D)(Async)?|"
                  r"DevicePrimaryCtx(Reset|Release))"
                  r"(_v\d)?(_pt[sd]z|_ptds)?$")
PASSED = {
    "cuGraphDestroyNode": "changes a graph, not what was instantiated of it",
    **{name: "32-bit addresses (before CUDA 3.2)" for name in (
        "cuMemcpyHtoD", "cuMemcpyDtoH", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpy2D", "cuMemcpy2DUnaligned",
        "cuMemcpy2DAsync", "cuMemcpy3D", "cuMemcpy3DAsync")},
}
STUBS = ("/usr/local/cuda/lib64/stubs/libcuda.so", "/usr/lib/x86_64-linux-gnu/stubs/libcuda.so",
         "/usr/lib/aarch64-linux-gnu/stubs/libcuda.so")
HEADERS = [place for place in ("/usr/local/cuda/include", "/usr/include") if os.path.exists(place + "/cuda.h")]


def exports():
    ours = {name for name, _, _, _ in wrapped()}
    out = subprocess.run(["nm", "-D", "--defined-only", cudalib.RELEASE + "/libflamed-cuda.so"], capture_output=True,
                         text=True).stdout
    found = {line.split()[2] for line in out.splitlines() if line.split()[1] == "T"
             and line.split()[2].startswith("cu")}
    ok(found == ours, "the library exports what the list names, and no more", found ^ ours)
    for name in ("libflamed-cuda.so", "libflamed-cupti.so"):
        out = subprocess.run(["readelf", "-d", f"{cudalib.RELEASE}/{name}"], capture_output=True, text=True).stdout
        needed = set(re.findall(r"NEEDED.*\[(\w[\w-]*)", out))
        ok(needed and needed <= {"libc", "libm", "libpthread", "libdl", "ld-linux-x86-64", "ld-linux-aarch64"},
           f"{name} is linked with nothing of CUDA's", needed)


def driver():
    library = next((path for path in STUBS if os.path.exists(path)), None)
    if not library:
        skip("every launch-like export of the driver is wrapped or passed through by intention",
             "no CUDA toolkit with a libcuda.so to link")
        return
    out = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True).stdout
    names = {line.split()[2].split("@")[0] for line in out.splitlines() if len(line.split()) == 3}
    like = {name for name in names if LIKE.match(name)}
    ours = {name for name, _, _, _ in wrapped()}
    ok(len(like) > 40 and not like - ours - set(PASSED),
       "every launch-like export of the driver is wrapped or passed through by intention",
       sorted(like - ours - set(PASSED)))
    ok(not ours - names, "nothing is wrapped that the driver does not export", sorted(ours - names))


def headers():
    if not HEADERS:
        skip("prototypes agree with the toolkit's cuda.h", "no CUDA toolkit with headers")
        skip("versions agree with the toolkit's cudaTypedefs.h", "no CUDA toolkit with headers")
        return
    with tempfile.TemporaryDirectory() as directory:
        with open(directory + "/abi.c", "w") as f:
            f.write('#include <cuda.h>\n#include "layers/cuda/api.h"\n')
        run = subprocess.run(["gcc", "-Werror", "-I" + HEADERS[0], "-I" + ROOT, "-c", "-o", "/dev/null",
                              directory + "/abi.c"], capture_output=True, text=True)
        ok(run.returncode == 0, "prototypes agree with the toolkit's cuda.h", run.stderr[-1500:])
        # with this macro the header declares every version of a function under its exported name
        run = subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-D__CUDA_API_VERSION_INTERNAL", "-include",
                              "cuda.h", "-Werror", "-I" + HEADERS[0], "-I" + ROOT, "-c", "-o", "/dev/null",
                              ROOT + "/layers/cuda/dispatch.c"], capture_output=True, text=True)
        ok(run.returncode == 0, "definitions of the entry points agree with the toolkit's cuda.h, old versions too",
           run.stderr[-1500:])
        values = re.findall(r"\b(CUDA_\w+|CU_STREAM_CAPTURE_MODE_\w+) = (\d+)",
                            open(ROOT + "/layers/cuda/api.h").read())
        with open(directory + "/values.c", "w") as f:
            f.write("#include <cuda.h>\n" + "".join(f'_Static_assert({name} == {value}, "{name}");\n' for name,
                                                    value in values))
        run = subprocess.run(["gcc", "-I" + HEADERS[0], "-c", "-o", "/dev/null", directory + "/values.c"],
                             capture_output=True, text=True)
        ok(len(values) > 15 and run.returncode == 0, "error numbers agree with the toolkit's cuda.h",
           run.stderr[-1500:])
    path = HEADERS[0] + "/cudaTypedefs.h"
    if not os.path.exists(path):
        skip("versions agree with the toolkit's cudaTypedefs.h", "the toolkit has none")
        return
    known = set(re.findall(r"PFN_(\w+?)_v(\d+)(_pt[sd]s?z?)?\)", open(path).read()))
    known = {(name, int(version), bool(suffix)) for name, version, suffix in known}
    names = {name for name, _, _ in known}
    wrong = [row for row in wrapped() if row[1] in names and (row[1], row[2], row[3]) not in known]
    ok(len(known) > 300 and not wrong, "versions agree with the toolkit's cudaTypedefs.h",
       [(row, sorted(k for k in known if k[0] == row[1])) for row in wrong])
    ours = {row[1:] for row in wrapped()}
    missing = {row for row in known if row[0] in {name for name, _, _ in ours} and row not in ours}
    ok({name for name, _, _ in missing} <= set(PASSED), "no version of a wrapped function is left out", missing)


def cupti():
    title = "numbers, offsets and prototypes of CUPTI agree with the toolkit's headers"
    place = next((place for place in HEADERS if os.path.exists(place + "/cupti.h")), None)
    if not place:
        skip(title, "no CUDA toolkit with CUPTI's headers")
        return
    abi = open(ROOT + "/layers/cuda/cupti/abi.h").read()
    includes = ("<cupti.h>", "<cupti_activity_deprecated.h>", "<stddef.h>", '"layers/cuda/cupti/abi.h"')
    numbers = re.findall(r"CUPTI_(INVALID_\w+|MAX_LIMIT_REACHED|NOT_INITIALIZED) = (\d+)", abi)
    same = [(f"CUPTI_ERROR_{name}", number) for name, number in numbers]
    same += [("CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED", "CUPTI_MULTIPLE_SUBSCRIBERS"),
             ("CUPTI_SUCCESS", "CUPTI_OK"),
             ("CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL", "CUPTI_KIND_CONCURRENT_KERNEL"),
             ("CUPTI_CB_DOMAIN_DRIVER_API", "CUPTI_DOMAIN_DRIVER"),
             ("CUPTI_CB_DOMAIN_RUNTIME_API", "CUPTI_DOMAIN_RUNTIME"),
             ("CUPTI_API_ENTER", "CUPTI_ENTER"), ("CUPTI_API_EXIT", "CUPTI_EXIT")]
    callbacks = re.findall(r"X\((cu\w+), (\d+)\)", abi)
    for name, number in callbacks:
        api = "RUNTIME" if name.startswith("cuda") else "DRIVER"
        same.append((f"CUPTI_{api}_TRACE_CBID_{name}", number))
    kernel = {"start_ns": "start", "end_ns": "end", "completed_ns": "completed", "correlation": "correlationId"}
    same += [(f"offsetof(struct cupti_kernel, {ours})", f"offsetof(CUpti_ActivityKernel{version}, {theirs})")
             for version in range(3, 10) for ours, theirs in kernel.items()]
    call = {"site": "callbackSite", "function": "functionName", "symbol": "symbolName", "correlation": "correlationId"}
    same += [(f"offsetof(struct cupti_callback, {ours})", f"offsetof(CUpti_CallbackData, {theirs})")
             for ours, theirs in call.items()]
    with tempfile.TemporaryDirectory() as directory:
        with open(directory + "/cupti.c", "w") as f:
            f.writelines(f"#include {name}\n" for name in includes)
            f.writelines(f'_Static_assert((int)({a}) == (int)({b}), "{a}");\n' for a, b in same)
        run = subprocess.run(["gcc", "-I" + place, "-I" + ROOT, "-c", "-o", "/dev/null", f.name], capture_output=True,
                             text=True)
    ok(len(numbers) == 5 and len(callbacks) == 16 and run.returncode == 0, title,
       f"{numbers} {callbacks} {run.stderr[-2000:]}")


def main():
    for part in (exports, driver, headers, cupti):
        part()
    done()


main()
