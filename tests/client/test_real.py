# SPDX-License-Identifier: MIT
"""The clients with the real flamed, its keeper and a board in a directory: every
verb, the library through a restart, run with its tally, verify's apply."""

import json
import os
import signal
import subprocess
import time
import xml.dom.minidom

from tap import BUILD, ROOT, Skip, contains, equal, main, test, within

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("FLAMED_", "OPENCL_"))}
ENVIRONMENT.update(LC_ALL="C.UTF-8", COLUMNS="120")
MS = 1000000


class Board:
    """flamed on a board in `directory`; a with block ends both."""

    def __init__(self, directory, name="orin-nano"):
        self.directory, self.socket = directory, directory + "/run/flamed.sock"
        self.root = directory + "/board"
        self.log = open(directory + "/log", "w", encoding="utf-8")
        for name_of in ("run", "state"):
            os.mkdir(f"{directory}/{name_of}")
        open(directory + "/conf", "w", encoding="utf-8").close()
        self.board = self.spawn("flamed-board", self.root, "--board", os.path.join(ROOT, "board", name + ".ini"))
        self.await_path(self.root + "/sys/class/hwmon")
        time.sleep(0.3)
        self.flamed = None
        self.start()

    def spawn(self, program, *words):
        return subprocess.Popen([os.path.join(BUILD, program), *words], stdout=self.log, stderr=self.log, env=ENVIRONMENT)

    def await_path(self, path, seconds=30):
        give_up = time.monotonic() + seconds
        while not os.path.exists(path):
            if time.monotonic() > give_up:
                raise AssertionError(f"{path} did not appear: {open(self.directory + '/log', encoding='utf-8').read()}")
            time.sleep(0.02)

    def start(self):
        d = self.directory
        self.flamed = self.spawn("flamed", "--config", d + "/conf", "--sysroot", self.root, "--runtime-dir", d + "/run", "--state-dir", d + "/state")
        give_up = time.monotonic() + 30
        while subprocess.run([os.path.join(BUILD, "flamectl"), "--socket", self.socket, "status"], capture_output=True, check=False).returncode:
            if time.monotonic() > give_up:
                raise AssertionError(open(d + "/log", encoding="utf-8").read())
            time.sleep(0.05)

    def stop(self, how=signal.SIGTERM):
        self.flamed.send_signal(how)
        return self.flamed.wait(timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in (self.flamed, self.board):
            if process.poll() is None:
                process.terminate()
            process.wait(timeout=30)
        self.log.close()

    def ctl(self, *words, status=0, **environment):
        done = subprocess.run([os.path.join(BUILD, "flamectl"), "--socket", self.socket, *words], capture_output=True, text=True,
                              env={**ENVIRONMENT, **environment}, timeout=120)
        equal(done.returncode, status, f"exit status of {words}: {done.stdout}{done.stderr}")
        return done.stdout, done.stderr

    def json(self, *words):
        return json.loads(self.ctl("--json", *words)[0])

    def knobs(self):
        """Text of every file below cpufreq, devfreq and the memory clock that can be written."""
        found = {}
        for base, _, names in os.walk(self.root):
            for name in names:
                if name in ("scaling_min_freq", "scaling_max_freq", "min_freq", "max_freq", "rate", "mrq_rate_locked"):
                    with open(os.path.join(base, name), encoding="utf-8") as file:
                        found[os.path.join(base, name)] = file.read().strip()
        return found


class Exercise:
    def __init__(self, board, **environment):
        self.process = subprocess.Popen([os.path.join(BUILD, "tests/client/exercise")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        bufsize=1, env={**ENVIRONMENT, **environment})
        self("open", board.socket)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def requests(self, count, total_ns, session=0):
        for _ in range(count):
            request = self("wait", session, 0, 2000 * MS)[0]
            within(int(request), 1, 2**60, "request")
            equal(self("end", request, total_ns), ["0"])

    def end(self):
        self.process.stdin.close()
        equal(self.process.wait(timeout=30), 0)


@test
def every_verb(directory):
    """Every verb on the idle and on the busy daemon, for people and as JSON."""
    with Board(directory) as board:
        before = board.knobs()
        equal(board.json("status")["state"], "idle")
        contains(board.ctl("status")[0], "Jetson Orin Nano", "none: the clocks are the kernel's", "VDD_IN")
        contains(board.ctl("models")[0], "No model is known yet")
        contains(board.ctl("surface", "nosuch", status=1)[1], "nosuch")
        contains(board.ctl("explain", status=1)[1], "no decision")
        e = Exercise(board)
        e("session", "resnet50", 50 * MS, 2000 * MS)
        e.requests(30, 30 * MS)
        status = board.json("status")
        session = status["session"][0]
        equal((status["state"], session["model"], session["requests"], session["missed"], session["mean_ns"]), ("busy", "resnet50", 30, 0, 30 * MS))
        equal(status["clock"]["cpu"]["owner"], "flamed")
        contains(board.ctl("status")[0], "resnet50", "100 %", "30.0 ms", "journal holds the originals of")
        equal(board.json("models")["model"][0]["name"], "resnet50")
        surface = board.json("surface", "resnet50")
        equal(len(surface["cells"]), 704)
        within(sum(c["measured"] > 0 for c in surface["cells"]), 1, 30, "measured cells")
        equal([c for c in surface["cells"] if c["bound_ns"] < c["latency_ns"]], [], "cells whose bound is below their latency")
        contains(board.ctl("surface", "resnet50", "--deadline", "50ms")[0], "memory 3199 MHz", "now      cpu")
        equal(len(xml.dom.minidom.parseString(board.ctl("surface", "resnet50", "--svg", "-")[0]).getElementsByTagName("title")), 704)
        explained = board.json("explain", str(session["id"]))
        equal((explained["model"], explained["feasible"]), ("resnet50", 1))
        contains(board.ctl("explain")[0], "resnet50, session", "Chosen: cpu", "It should take", "The margin", "In flamed's words")
        contains(board.ctl("profile")[0], "No profile is running")
        equal(board.knobs() == before, False, "knobs moved")
        board.ctl("release")
        deadline = time.monotonic() + 10
        while board.knobs() != before and time.monotonic() < deadline:
            time.sleep(0.02)
        equal(board.knobs(), before, "released")
        equal(board.json("status")["state"], "released")
        e.requests(1, 30 * MS)
        equal(board.json("status")["state"], "busy")
        e.end()


@test
def many_sessions(directory):
    """200 sessions: status is still one message, and says how many it leaves out."""
    with Board(directory) as board:
        clients = [Exercise(board) for _ in range(4)]
        for i, client in enumerate(clients):
            for j in range(50):
                equal(client("session", f"model-{i}", 50 * MS, 5000 * MS)[0], str(j))
        status = board.json("status")
        equal((status["sessions"], len(status["session"]) + status.get("more", 0)), (200, 200))
        contains(board.ctl("status")[0], "model-0")
        for client in clients:
            client.end()


@test
def verify(directory):
    """verify applies, reads back, hands back; leaves no knob moved and no model behind."""
    with Board(directory) as board:
        before = board.knobs()
        out = board.ctl("verify")[0]
        contains(out, "ok      begin", "and read back", "handed back, the journal is empty", "All is well")
        equal(board.knobs(), before)
        equal(board.json("models").get("model", []), [])
        equal(board.json("verify")["failed"], 0)
        e = Exercise(board)
        e("session", "m", 50 * MS, 2000 * MS)
        contains(board.ctl("verify")[0], "not tried: there are sessions")
        e.end()
        board.stop(signal.SIGKILL)
        contains(board.ctl("verify", status=1)[0], "FAILED")


@test
def run_counts(directory):
    """run: what its program did is in the summary, that of others is not."""
    with Board(directory) as board:
        other = Exercise(board)
        other("session", "other", 50 * MS, 2000 * MS)
        other.requests(5, 30 * MS)
        script = f"echo open {board.socket}; echo session - 0 2000000000; sleep 0.3; "
        script += "".join(f"echo wait 0 0 2000000000; echo end {i} {60 * MS if i == 7 else 20 * MS}; " for i in range(1, 21)) + "echo counts 0"
        command = f"({script}) | {BUILD}/tests/client/exercise"
        out, err = board.ctl("run", "--model", "mine", "--deadline", "50ms", "--", "sh", "-c", command)
        contains(out, "applied=1")
        contains(err, "mine under 50.0 ms: 20 inferences, 1 missed (5.00 %)", "20.0 ms median", "60.0 ms longest", "per inference at", "cpu/gpu/mem")
        tally = json.loads(board.ctl("--json", "run", "--model", "mine", "--deadline", "50ms", "--", "sh", "-c", command)[1])
        equal((tally["requests"], tally["missed"], tally["max_ns"], tally["mean_ns"]), (20, 1, 60 * MS, 22 * MS))
        equal(sum(c["requests"] for c in tally["clock"]), 20)
        contains(board.ctl("run", "--model", "mine", "--deadline", "50ms", "--", "true")[1], "no inference of true was seen")
        other.end()


@test
def survives_restart(directory):
    """The library through kill -9 of flamed, a second without it, and its return."""
    with Board(directory) as board:
        before = board.knobs()
        e = Exercise(board)
        e("session", "m", 50 * MS, 2000 * MS)
        e.requests(10, 30 * MS)
        board.stop(signal.SIGKILL)
        for _ in range(10):
            within(int(e("begin", 0, 0)[0]), -200, -1, "refused while flamed is away")
        deadline = time.monotonic() + 10
        while board.knobs() != before and time.monotonic() < deadline:
            time.sleep(0.02)
        equal(board.knobs(), before, "restored by the keeper")
        board.start()
        deadline = time.monotonic() + 15
        while int(e("begin", 0, 0)[0]) < 0:
            within(time.monotonic(), 0, deadline, "back within")
            time.sleep(0.05)
        e.requests(5, 30 * MS)
        equal(board.json("status")["session"][0]["model"], "m")
        e.end()


@test
def profiles(directory):
    """flamed_profile and profile --time against the real plan; FLAMED_PROFILE turns a program into one."""
    with Board(directory) as board:
        e = Exercise(board)
        points, calls = map(int, e("profile", "direct", 4))
        within(points, 1, 4, "points")
        within(calls, 2 * points, 400 * points, "inferences")
        e.end()
        known = {m["name"]: m for m in board.json("models")["model"]}
        equal(known["direct"]["samples"], points)
        out = board.ctl("profile", "timed", "--budget", "2", "--time", "--", "true")[0]
        contains(out, "step 1 of 2", "timed: ")
        script = f"(echo open {board.socket}; echo session - 0 2000000000; for i in $(seq 400); do echo begin 0 0; echo end $i 5000000; sleep 0.002; done)"
        out = board.ctl("profile", "turned", "--budget", "2", "--", "sh", "-c", f"{script} | {BUILD}/tests/client/exercise")[0]
        contains(out, "turned: ", "operating points known")
        known = {m["name"]: m for m in board.json("models")["model"]}
        within(known["turned"]["samples"], 1, 2, "samples")


@test
def run_opencl(directory):
    """run: an OpenCL program that knows nothing of flamed is governed, its output is the same."""
    engine = [os.path.join(BUILD, "tests/opencl/engine"), "kernels=24", "runs=120", "gap=200"]
    environment = {**ENVIRONMENT, "ASAN_OPTIONS": "detect_leaks=0"}
    alone = subprocess.run(engine, capture_output=True, text=True, env=environment, timeout=120)
    if alone.returncode:
        raise Skip("no OpenCL device")
    with Board(directory) as board:
        layer = {"FLAMED_OPENCL_LAYER": os.path.join(BUILD, "libflamed-opencl.so"), "ASAN_OPTIONS": "detect_leaks=0"}
        out, err = board.ctl("--json", "run", "--model", "engine", "--deadline", "1s", "--", *engine, **layer)
        equal(out, alone.stdout, "output")
        tally = json.loads(err)
        equal((tally["model"], tally["deadline_ns"] <= 1000 * MS, tally["missed"]), ("engine", True, 0))
        within(tally["requests"], 100, 120, "inferences seen")
        equal(board.json("models")["model"][0]["layers"], 1, "layers learned")
        equal(board.json("status")["sessions"], 0)


@test
def power_users(directory):
    """release by a user who is neither root nor owner is refused."""
    if os.geteuid() != 0:
        raise Skip("only root can become somebody else")
    with Board(directory) as board:
        os.chmod(directory, 0o755)
        os.chmod(directory + "/run", 0o755)
        os.chmod(board.socket, 0o666)
        request = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{board.socket}'); s.sendall(b'op=release\\n\\n'); print(s.recv(999).decode())"
        out = subprocess.run(["/usr/bin/python3", "-c", request], capture_output=True, text=True, user=65534, group=65534, extra_groups=[], check=True).stdout
        equal(out.startswith("errno=0"), False, out)


main()
