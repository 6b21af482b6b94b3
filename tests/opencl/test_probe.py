#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""flamed-probe: the devices found, messages without one, and measurements on an emulated board."""
import os, re, shutil, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../board"))
import boardlib
from boardlib import ok, skip, say, tied, done

BIN = os.path.abspath(boardlib.RELEASE)
PROBE = BIN + "/flamed-probe"


def probe(*words, timeout=240, **env):
    return subprocess.run([PROBE, *words], env={**os.environ, **env}, capture_output=True, text=True, timeout=timeout)


def main():
    r = probe("--device", "x")
    ok(r.returncode == 2 and "usage" in r.stderr, "a wrong usage")
    if not os.path.exists("/etc/OpenCL/vendors/pocl.icd"):
        skip("the probe", "no PoCL ICD here")
        done()
        return
    board = boardlib.Board("orin-nano", BIN)
    os.mkdir(board.dir + "/none")
    r = probe(OCL_ICD_VENDORS=board.dir + "/none")
    ok(r.returncode == 1 and "no OpenCL driver (ICD) is installed" in r.stderr, "no ICD", r.stderr)
    with open(board.dir + "/none/empty.icd", "w") as f:
        f.write(BIN + "/tests/opencl/libemptyicd.so\n")
    r = probe(OCL_ICD_VENDORS=board.dir + "/none")
    ok(r.returncode == 1 and ("no device on it" in r.stderr or "no OpenCL driver" in r.stderr),
       "an ICD without a device", r.stderr)
    shutil.copy("/etc/OpenCL/vendors/pocl.icd", board.dir + "/none")
    r = probe("--list", OCL_ICD_VENDORS=board.dir + "/none")
    ok(r.returncode == 0 and r.stdout.count("device ") == 2 and "device 0: " in r.stdout, "two ICDs, one device",
       r.stdout + r.stderr)
    r = probe("--list", "--device", "7")
    ok(r.returncode == 1 and "no usable device under that number" in r.stderr, "a device that is not there", r.stderr)
    file = board.dir + "/mine.ini"
    r = probe("--socket", board.dir + "/absent", "--output", file)
    ok(r.returncode == 0 and "flamed is not running" in r.stdout and "measuring the only operating point" in r.stdout,
       "without flamed the one point is measured",
       r.stdout + r.stderr)
    ok(open(file).read().count("[board]") == 1 and "settle" not in open(file).read(),
       "and nothing is written that was not measured")

    conf = board.dir + "/flamed.conf"
    open(conf, "w").close()
    env = {"FLAMED_SOCKET": board.dir + "/run/flamed.sock", "FLAMED_BOARD": board.root,
           "OPENCL_LAYERS": BIN + "/libflamed-board-opencl.so"}
    flamed = tied(subprocess.Popen([BIN + "/flamed", "--sysroot", board.root, "--runtime-dir", board.dir + "/run",
                                    "--state-dir", board.dir + "/state", "--config", conf], stderr=subprocess.DEVNULL))
    end = time.monotonic() + 20
    while time.monotonic() < end and not os.path.exists(env["FLAMED_SOCKET"]):
        time.sleep(0.1)
    r = probe("--output", file, **env)
    rows = [line.split() for line in r.stdout.splitlines() if re.match(r"^ +\d+ +\d+ +\d+ +[\d.]+ ", line)]
    ok(r.returncode == 0 and len(rows) >= 3, "on a board flamed moves the clocks", r.stdout[-1500:] + r.stderr[-500:])
    at_top, elsewhere = [float(row[4]) for row in rows][:1], [float(row[4]) for row in rows][1:]
    ok(at_top and elsewhere and max(elsewhere) > at_top[0] * 1.1, "a compute-bound kernel is slower at lower clocks",
       rows)
    for line in r.stdout.splitlines():
        if line.startswith(("A ", "The board")):
            say(line)
    text = open(file).read()
    ok("name = NVIDIA Jetson Orin Nano" in text, "the board file names the board", text)
    ok("W idle" in r.stdout, "power is reported", r.stdout[-600:])
    points = [[float(word.split()[0]) for word in line.split("=")[1].split(",")] for line in text.splitlines()
              if line.startswith("point =")]
    ok(len(points) == len(rows) and all(0 < p[5] < p[4] for p in points[:-1]),
       "what it drew at each point, busy and idle, is in the file", text)
    flamed.terminate()
    flamed.wait(20)
    os.mkdir(board.dir + "/boards.d")
    shutil.copy(file, board.dir + "/boards.d/mine.ini")
    with open(conf, "w") as f:
        f.write(f"[flamed]\nboards_dir = {board.dir}/boards.d\n")
    log = board.dir + "/flamed.log"
    flamed = tied(subprocess.Popen([BIN + "/flamed", "--sysroot", board.root, "--runtime-dir", board.dir + "/run",
                                    "--state-dir", board.dir + "/state", "--config", conf], stderr=open(log, "w")))
    end = time.monotonic() + 20
    while time.monotonic() < end and "ready:" not in open(log).read():
        time.sleep(0.1)
    told = open(log).read()
    ok(f"{len(points)} points from a board file" in told and "boards.d/mine.ini" in told, "flamed takes it up", told)
    flamed.terminate()
    flamed.wait(20)
    board.close()
    done()


main()
