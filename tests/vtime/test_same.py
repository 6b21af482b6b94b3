#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Virtual time is the same to the byte when it is run again, and nothing outlives its driver."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "client"))
import tap  # noqa: E402

PROGRAM = os.path.join(tap.RELEASE, "tests/vtime/vtime")
ENVIRON = dict(os.environ, VTIME_SHIM=os.path.join(tap.RELEASE, "tests/vtime/shim.so"))
# Clocks that settle, two requests in flight, a client that waits for nothing, a keeper whose write is
# refused, a restart.
SCENARIOS = ["settle times, periodic", "two at once", "no wait", "foreign", "restart", "decode"]


def traced():
    """Standard output and the trace: every request, what the daemon and its keeper logged, what was learned."""
    run = subprocess.run([PROGRAM] + SCENARIOS, env=dict(ENVIRON, VTIME_TRACE="1"), stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    return run.stdout, run.stderr


def under(shim_dir):
    """Processes whose environment names this directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/environ" % pid, "rb") as file:
                if b"VTIME_DIR=" + shim_dir in file.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def shim_dir_of(driver):
    """The directory of the daemon that `driver` started."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as stat, open("/proc/%s/environ" % pid, "rb") as environ:
                parent = int(stat.read().rsplit(")", 1)[1].split()[1])
                entries = [e[len(b"VTIME_DIR="):] for e in environ.read().split(b"\0") if e.startswith(b"VTIME_DIR=")]
        except OSError:
            continue
        if parent == driver and entries:
            return entries[0]
    return None


@tap.test
def same(_):
    """run twice, scenarios give the same output and the same trace, to the byte"""
    (out, trace), (out_again, trace_again) = traced(), traced()
    if trace.count(b" point ") < 2500:
        raise AssertionError("requests are not traced")
    tap.contains(trace, b"clock: dmc", b"keeper: gpu clock", b"cpu_hz")
    tap.equal(out_again, out, "standard output")
    for line, again in zip(trace.splitlines(), trace_again.splitlines()):
        tap.equal(again, line, "first line of the trace that differs")
    tap.equal(len(trace_again), len(trace), "length of the trace")


@tap.test
def orphans(_):
    """neither daemon nor keeper outlives a driver that is killed"""
    driver = subprocess.Popen([PROGRAM, "settle times"], env=ENVIRON, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    tap.until(lambda: shim_dir_of(driver.pid), "daemon")
    shim_dir = shim_dir_of(driver.pid)
    tap.until(lambda: len(under(shim_dir)) == 2, "daemon and keeper")
    driver.kill()
    driver.wait()
    try:
        tap.until(lambda: not under(shim_dir), "the end of both", 30)
    finally:
        shutil.rmtree(os.path.dirname(os.fsdecode(shim_dir)))


tap.main()
