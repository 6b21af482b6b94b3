#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""Background profiling: flamectl profile --background with the command of [model NAME], against the
real daemon on a board."""
import os, re, socket, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../board"))
import boardlib
from boardlib import ok, skip, tied, done

BIN = os.path.abspath(boardlib.RELEASE)
ENGINE = BIN + "/tests/opencl/engine"
MODELS = {"good": f"{ENGINE} kernels=12 runs=100000 gap=500", "fails": "echo hello; exit 3", "hangs": "sleep 300",
          "silent": "true",
          "ends": f"{ENGINE} kernels=12 runs=30"}


def knobs(board):
    return {p: board.read(p) for d in board.policies() for p in (d + "/scaling_min_freq", d + "/scaling_max_freq")}


def deadline_session(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(path)
    s.sendall(b"op=open\nmodel=urgent\ndeadline_ns=50000000\n\n")
    session = re.search(rb"session=(\d+)", s.recv(4096))[1]
    s.sendall(b"op=begin\nsession=" + session + b"\ndeadline_ns=50000000\n\n")
    s.recv(4096)
    return s


def engine_states(group):
    """Process states of the command's group."""
    states = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) in group and fields[0] != "Z":
            states.append(fields[0])
    return states


def children(pid):
    found = set()
    for child in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(open(f"/proc/{child}/stat").read().rsplit(")", 1)[1].split()[1]) == pid:
                found.add(int(child))
        except OSError:
            pass
    return found


def wait(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def main():
    if not os.path.exists("/etc/OpenCL/vendors/pocl.icd"):
        skip("background profiling", "no PoCL ICD here")
        done()
        return
    board = boardlib.Board("orin-nano", BIN)
    before = knobs(board)
    conf, run_dir = board.dir + "/flamed.conf", board.dir + "/run"
    with open(conf, "w") as f:
        # a model that hardly becomes ready: its profile does not end before it was stopped
        f.write("[flamed]\nready_width = 0.01\n")
        f.write("".join(f"[model {name}]\ncommand = {command}\nworking_directory = {board.dir}\n" for name,
                        command in MODELS.items()))
        f.write("[model empty]\ndeadline = 20ms\n")
    env = dict(os.environ, FLAMED_SOCKET=run_dir + "/flamed.sock", FLAMED_OPENCL_LAYER=BIN + "/libflamed-opencl.so",
               POCL_CACHE_DIR=board.dir + "/pocl", ASAN_OPTIONS="detect_leaks=0")
    env.pop("OPENCL_LAYERS", None)
    start = lambda: tied(subprocess.Popen([BIN + "/flamed", "--sysroot", board.root, "--runtime-dir", run_dir,
                                           "--state-dir", board.dir + "/state", "--config", conf],
                                          stderr=subprocess.DEVNULL))
    words = lambda name: [BIN + "/flamectl", "profile", name, "--background", "--config", conf]
    profile = lambda name, **more: subprocess.run(words(name), env=dict(env, **more), capture_output=True, text=True,
                                                  timeout=300)
    models = lambda: subprocess.run([BIN + "/flamectl", "models"], env=env, capture_output=True, text=True).stdout
    flamed = start()
    wait(lambda: models() != "")

    r = profile("fails")
    ok(r.returncode == 1 and "failed with status 3" in r.stderr and r.stdout == "",
       "a command that fails is reported, without its output", r.stderr)
    r = profile("hangs", FLAMED_STALL_NS="4000000000")
    ok(r.returncode == 1 and "measured nothing for 4 s and was terminated" in r.stderr, "a command that hangs is ended",
       r.stderr)
    r = profile("silent")
    ok(r.returncode == 1 and "ended without a measurement" in r.stderr, "a command that measures nothing", r.stderr)
    r = profile("empty")
    ok(r.returncode == 2 and "no command in [model empty]" in r.stderr, "a model without a command", r.stderr)
    ok(wait(lambda: knobs(board) == before), "clocks back after each", knobs(board))

    urgent = deadline_session(env["FLAMED_SOCKET"])
    running = subprocess.Popen(words("good"), env=env, stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    ok(not children(running.pid), "nothing runs while a deadline session is open")
    urgent.close()
    ok(wait(lambda: children(running.pid)), "it runs when that has ended")
    group = children(running.pid)
    time.sleep(0.5)
    urgent = deadline_session(env["FLAMED_SOCKET"])
    ok(wait(lambda: set(engine_states(group)) == {"T"}), "stopped by a deadline session", engine_states(group))
    urgent.close()
    ok(wait(lambda: engine_states(group) and "T" not in engine_states(group)), "and goes on after it",
       engine_states(group))
    try:
        running.wait(180)
    except subprocess.TimeoutExpired:
        running.terminate()
    text = running.communicate()[1]
    ok(running.returncode == 0 and re.search("good(: no further point is worth| is ready)", text),
       "until nothing more is worth measuring", text)
    ok(not engine_states(group), "and the command is ended")
    flamed.terminate()
    flamed.wait(20)
    flamed = start()
    wait(lambda: models() != "")
    ok("good" in models(), "what was measured survives a restart", models())
    r = profile("good")
    ok(r.returncode == 0 and "operating points known" in r.stderr, "and it is gone on from there", r.stderr)
    ok(wait(lambda: knobs(board) == before), "clocks back at the end", knobs(board))
    flamed.terminate()
    flamed.wait(20)
    board.close()

    unit = BIN + "/systemd/flamed-profile@.service"
    name = os.path.join(os.path.dirname(BIN), "flamed-profile@x.service")
    with open(name, "w") as f:
        f.write(open(unit).read())
    r = subprocess.run(["systemd-analyze", "security", "--offline=yes", name], capture_output=True, text=True)
    os.unlink(name)
    level = re.search(r"exposure level for \S+: ([\d.]+)", r.stdout)
    ok(level and float(level[1]) <= 1.2, "exposure of flamed-profile@.service <= 1.2", r.stdout[-300:] + r.stderr)
    done()


main()
