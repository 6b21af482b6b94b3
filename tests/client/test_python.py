#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The Python module: times, streams, decorators, asyncio, types, examples."""

import asyncio
import ctypes
import datetime
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
import warnings

from fake import Fake
from tap import RELEASE, ROOT, Skip, equal, main, test, until, within

PYTHON = os.path.join(ROOT, "lib/python")
MS = 1000000
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("FLAMED_")}

sys.path.insert(0, PYTHON)
if "FLAMED_TEST_CHILD" not in os.environ:
    # The library is looked up as a program would: by the loader.
    child = {**ENVIRONMENT, "FLAMED_TEST_CHILD": "1", "LD_LIBRARY_PATH": RELEASE,
             "BUILD_DIR": os.environ.get("BUILD_DIR", RELEASE), "RELEASE_DIR": RELEASE}
    os.execve(sys.executable, [sys.executable, *sys.argv], child)
import flamed  # noqa: E402


def refused(call, *parts):
    try:
        call()
    except ValueError as error:
        for part in parts:
            if part not in str(error):
                raise AssertionError(f"{part!r} is not in {error}")
        return
    raise AssertionError("no ValueError")


@test
def times(_):
    """Seconds, timedelta, texts and rates; errors suggest the intended value."""
    for value, expected in ((0.033, 0.033), (1, 1.0), ("33ms", 0.033), ("33 MS", 0.033), ("1.5s", 1.5), (".5 s", 0.5),
                            ("250us", 250e-6),
                            ("40fps", 0.025), ("50 Hz", 0.02), ("20/s", 0.05),
                            (datetime.timedelta(milliseconds=7), 0.007)):
        within(flamed.seconds(value), expected * 0.999999, expected * 1.000001, repr(value))
    for bad in ("33", "fast", "33 parsecs", "", "-3ms", "0fps", "1..5ms"):
        refused(lambda: flamed.seconds(bad), bad)
    with flamed.Flamed("/nowhere") as governor:
        refused(lambda: governor.session("net", deadline=33), '"33ms"', "33 seconds", "deadline")
        refused(lambda: governor.stream("net", rate="15/s", first=800), '"800ms"', "first")
        refused(lambda: governor.stream("net"), "rate")
        refused(lambda: governor.stream("net", rate="15 bananas"), "15 bananas")
        refused(lambda: governor.session("no good"), "no good")
        for bad in ("0.5us", "2h"):
            refused(lambda: governor.session("net", bad), "deadline", "1 us to 1 h", repr(bad))
            refused(lambda: governor.stream("net", rate="15/s", first=bad), "first", "1 us to 1 h", repr(bad))
        for bad in ("9" * 400 + "s", float("inf"), float("nan")):
            refused(lambda: governor.session("net", "33ms", timeout=bad), "a time", repr(bad))
        for bad in ("9" * 400 + "/s", "1000001/s", float("inf"), float("nan"), 1e30, -1):
            refused(lambda: governor.stream("net", rate=bad), "1000000/s", repr(bad))
        governor.session("net", deadline=9.5)


@test
def blocks(directory):
    """with, decorators, and exceptions that pass through end their request."""
    fake = Fake(directory + "/s")
    with flamed.Flamed(directory + "/s") as governor:
        session = governor.session("resnet50", deadline="33ms")
        with session.request():
            pass
        with session.request("20ms", wait=True) as request:
            equal((request.decision.applied, request.decision.cpu_hz), (1, 1344000000), "decision")
        try:
            with session.request():
                raise KeyError("mine")
        except KeyError:
            pass

        @session.timed
        def infer(x, *, y):
            """It infers."""
            return x + y
        equal((infer(2, y=3), infer.__name__, infer.__doc__), (5, "infer", "It infers."), "decorated")
        with session.request(wait=True):
            pass
        equal([b["deadline_ns"] for b in fake.ops("begin")], [str(d * MS) for d in (33, 20, 33, 33, 33)], "begins")
        until(lambda: session.counts()[0] >= 4 and len(fake.ops("end")) >= 4, "each was ended")
        refused(session.start, "no stream")
    fake.close()


@test
def no_deadline(directory):
    """A session whose requests have no deadline warns, once."""
    fake = Fake(directory + "/s")
    with flamed.Flamed(directory + "/s") as governor, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        session = governor.session("net")
        for _ in range(2):
            with session.request():
                pass
        session.begin_wait()
        session.end(session.begin("20ms"))
        equal([(w.category, "FLAMED_DEADLINE_NS" in str(w.message)) for w in seen], [(RuntimeWarning, True)], "warned")
        governor.session("net").begin()
        equal(len(seen), 2, "another session")
    with flamed.Flamed("/nowhere") as governor, warnings.catch_warnings():
        warnings.simplefilter("error")
        governor.session("net").begin()
    fake.close()


@test
def streams(directory):
    """A stream has a rate, no deadlines, and starts again."""
    fake = Fake(directory + "/s")
    with flamed.Flamed(directory + "/s") as governor, governor.stream("llama", rate="15/s", first="800ms") as tokens:
        for phase, context in (("prefill", 512), ("decode", 513), ("decode", 514)):
            if phase == "prefill":
                tokens.start()
            tokens.phase(phase, context)
            with tokens.request(wait=True):
                pass
    opened, begins = fake.ops("open")[0], fake.ops("begin")
    equal((opened["rate_mhz"], opened["first_ns"]), ("15000", str(800 * MS)), "open")
    equal([(b.get("deadline_ns"), b.get("stream"), b["phase"], b["context"]) for b in begins],
          [(None, "1", "prefill", "512"), (None, None, "decode", "513"), (None, None, "decode", "514")], "begins")
    fake.close()


@test
def loop(directory):
    """In asyncio a request that waits for the clocks does not block the loop."""
    fake = Fake(directory + "/s")
    begun, go, ticks = threading.Event(), threading.Event(), []

    def late(op, _message):
        number = len(fake.ops("begin"))
        if op == "begin" and number == 1:
            give_up = time.monotonic() + 15
            while len(ticks) < 5 and time.monotonic() < give_up:
                time.sleep(0.01)
        if op == "begin" and number == 3:  # the one that is given up
            begun.set()
            go.wait()
        return bool(op == "begin" and time.sleep(0.3))  # False: as usual, after 300 ms

    fake.behave = late

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.005)

    async def run():
        with flamed.Flamed(directory + "/s") as governor:
            session = governor.session("net", deadline="33ms")
            ticking = asyncio.create_task(tick())
            began = time.monotonic()
            async with session.request(wait=True, timeout=20) as request:
                took, count = time.monotonic() - began, len(ticks)
                equal(request.decision.applied, 1, "applied")

            @session.timed
            async def infer(value):
                await asyncio.sleep(0)
                return value
            equal(await infer(7), 7, "decorated coroutine")
            given_up = asyncio.create_task(session.request(wait=True, timeout=20).__aenter__())
            while not begun.is_set():
                await asyncio.sleep(0.01)
            given_up.cancel()
            go.set()
            try:
                await given_up
                raise AssertionError("not cancelled")
            except asyncio.CancelledError:
                pass
            while len(fake.ops("end")) < 3:  # of the block that was never entered
                await asyncio.sleep(0.01)
            ticking.cancel()
            return took, count

    took, count = asyncio.run(asyncio.wait_for(run(), 60))
    within(took, 0.29, 60, "the begin really waited")
    equal(count >= 5, True, f"the loop ran meanwhile: {count} ticks in {took:.2f} s")
    fake.close()


@test
def types(directory):
    """mypy finds nothing, in the module and in a program that uses it."""
    if not importlib.util.find_spec("mypy"):
        raise Skip("no mypy here")
    program = directory + "/program.py"
    with open(program, "w") as file:
        file.write("import datetime\nimport flamed\n\nwith flamed.Flamed() as f:\n    s: flamed.Session = "
                   "f.session('m', deadline=datetime.timedelta(seconds=1))\n"
                   "    with s.request(wait=True) as r:\n        n: int = r.number\n\n@s.timed\ndef g(x: int) -> "
                   "str:\n    return str(x)\n\nv: str = g(3)\n")
    out = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", directory + "/cache", "-p",
                          "flamed"], cwd=PYTHON, capture_output=True, text=True)
    equal((out.returncode, out.stdout if out.returncode else ""), (0, ""), "module")
    out = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", directory + "/cache", program],
                         capture_output=True, text=True,
                         env={**os.environ, "MYPYPATH": PYTHON})
    equal((out.returncode, out.stdout if out.returncode else ""), (0, ""), "program")
    with open(program, "a") as file:
        file.write("w: int = g(3)\n")
    out = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", directory + "/cache", program],
                         capture_output=True, text=True,
                         env={**os.environ, "MYPYPATH": PYTHON})
    equal(out.returncode, 1, "a wrong type of what a decorated function returns is found")
    equal(os.path.exists(PYTHON + "/flamed/py.typed"), True, "py.typed")


@test
def camera(directory):
    """The OpenCV example runs without a camera: each frame is a request."""
    if not importlib.util.find_spec("cv2"):
        raise Skip("no OpenCV here")
    fake = Fake(directory + "/s")
    out = subprocess.run([sys.executable, os.path.join(ROOT, "lib/examples/camera.py"), "--frames", "12", "--rate",
                          "100fps", "--size", "64x48"],
                         capture_output=True, text=True, timeout=120,
                         env={**os.environ, "PYTHONPATH": PYTHON, "FLAMED_SOCKET": directory + "/s"})
    equal(out.returncode, 0, out.stderr)
    equal(len(fake.ops("begin")), 12, "begins")
    equal(fake.ops("open")[0]["rate_mhz"], "100000", "rate")
    if "12 frames" not in out.stdout:
        raise AssertionError(out.stdout)
    fake.close()


@test
def cplusplus(directory):
    """The C++ header: a session and its requests end with their scope, also by an exception."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if not compiler:
        raise Skip("no C++ compiler")
    fake = Fake(directory + "/s")
    program = directory + "/program"
    subprocess.run([compiler, "-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-I",
                    os.path.join(ROOT, "lib"), "-o", program,
                    os.path.join(ROOT, "tests/client/program.cpp"), "-L", RELEASE, "-lflamed"], check=True)
    out = subprocess.run([program, directory + "/s"], capture_output=True, text=True, timeout=60)
    equal((out.returncode, out.stdout), (0, "caught\nended 3\n"), out.stderr)
    begins = fake.ops("begin")
    equal([(b.get("deadline_ns"), b.get("stream")) for b in begins],
          [(str(33 * MS), None), (str(20 * MS), None), (str(33 * MS), None), (None, "1")], "begins")
    # An end waits for no reply, so the last ones may still be in transit.
    until(lambda: len(fake.ops("end")) >= 4, "four ends")
    equal(len(fake.ops("end")), 4, "ends")
    fake.close()


if __name__ == "__main__":
    main()
