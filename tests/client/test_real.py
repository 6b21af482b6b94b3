# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The clients with the real flamed, its keeper and a board in a directory: every
verb, the library through a restart, run with its tally, verify's apply."""

import collections
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
import xml.dom.minidom
import zlib

from tap import BUILD, RELEASE, ROOT, Skip, contains, equal, main, test, within

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("FLAMED_", "OPENCL_"))}
ENVIRONMENT.update(LC_ALL="C.UTF-8", COLUMNS="120")
MS = 1000000


class Board:
    """flamed on a board in `directory`; a with block ends both."""

    def __init__(self, directory, name="orin-nano", build=BUILD, config="", **environment):
        self.directory, self.socket = directory, directory + "/run/flamed.sock"
        self.build, self.environment = build, environment
        self.root = directory + "/board"
        self.log = open(directory + "/log", "w", encoding="utf-8")
        for name_of in ("run", "state"):
            os.mkdir(f"{directory}/{name_of}")
        with open(directory + "/conf", "w", encoding="utf-8") as conf:
            conf.write(config)
        self.board = self.spawn("flamed-board", self.root, "--board", os.path.join(ROOT, "board", name + ".ini"),
                                stdout=subprocess.PIPE)
        contains(self.board.stdout.readline(), "ready")  # the whole tree is there
        self.flamed = None
        self.start()

    def spawn(self, program, *words, stdout=None, **environment):
        return subprocess.Popen([os.path.join(self.build, program), *words], stdout=stdout or self.log, stderr=self.log,
                                text=True, env={**ENVIRONMENT, **environment})

    def start(self):
        d = self.directory
        self.flamed = self.spawn("flamed", "--config", d + "/conf", "--sysroot", self.root, "--runtime-dir", d + "/run",
                                 "--state-dir", d + "/state", **self.environment)
        give_up = time.monotonic() + 30
        while subprocess.run([os.path.join(BUILD, "flamectl"), "--socket", self.socket, "status"], capture_output=True,
                             check=False).returncode:
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
        done = subprocess.run([os.path.join(BUILD, "flamectl"), "--socket", self.socket, *words], capture_output=True,
                              text=True,
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
        self.process = subprocess.Popen([os.path.join(BUILD, "tests/client/exercise")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True,
                                        bufsize=1, env={**ENVIRONMENT, **environment})
        self("open", board.socket)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def requests(self, count, total_ns, session=0):
        for _ in range(count):
            request = self("wait", session, 0, 20000 * MS)[0]
            within(int(request), 1, 2**60, "request")
            equal(self("end", request, total_ns), ["0"])

    def end(self):
        self.process.stdin.close()
        equal(self.process.wait(timeout=30), 0)


@test
def every_verb(directory):
    """Every verb on the idle and on the busy daemon, for people and as JSON."""
    with Board(directory, config="[flamed]\nrelease_after = 1 h\n") as board:
        before = board.knobs()
        equal(board.json("status")["state"], "idle")
        contains(board.ctl("status")[0], "Jetson Orin Nano", "none: the kernel governs the clocks", "VDD_IN")
        contains(board.ctl("models")[0], "No model is known yet")
        contains(board.ctl("surface", "nosuch", status=1)[1], "nosuch")
        contains(board.ctl("explain", status=1)[1], "no decision")
        e = Exercise(board)
        e("session", "resnet50", 50 * MS, 20000 * MS)
        e.requests(30, 30 * MS)
        status = board.json("status")
        session = status["session"][0]
        equal((status["state"], session["model"], session["requests"], session["missed"], session["mean_ns"]),
              ("busy", "resnet50", 30, 0, 30 * MS))
        equal(status["clock"]["cpu"]["owner"], "flamed")
        contains(board.ctl("status")[0], "resnet50", "100 %", "30.0 ms", "journal contains the original values of")
        equal(board.json("models")["model"][0]["name"], "resnet50")
        surface = board.json("surface", "resnet50")
        equal(len(surface["cells"]), 704)
        within(sum(c["measured"] > 0 for c in surface["cells"]), 1, 30, "measured cells")
        equal([c for c in surface["cells"] if c["bound_ns"] < c["latency_ns"]], [],
              "cells whose bound is below their latency")
        contains(board.ctl("surface", "resnet50", "--deadline", "50ms")[0], "memory 3199 MHz", "now      cpu")
        equal(len(xml.dom.minidom.parseString(board.ctl("surface", "resnet50", "--svg",
                                                        "-")[0]).getElementsByTagName("title")), 704)
        explained = board.json("explain", str(session["id"]))
        equal((explained["model"], explained["feasible"]), ("resnet50", 1))
        contains(board.ctl("explain")[0], "resnet50, session", "Chosen: cpu", "Expected: ", "The margin",
                 "flamed's own summary")
        contains(board.ctl("profile")[0], "No profile is running")
        equal(board.knobs() == before, False, "knobs moved")
        board.ctl("release")
        deadline = time.monotonic() + 30
        while board.knobs() != before and time.monotonic() < deadline:
            time.sleep(0.02)
        equal(board.knobs(), before, "released")
        equal(board.json("status")["state"], "released")
        e.requests(1, 30 * MS)
        equal(board.json("status")["state"], "busy")
        e.end()


@test
def many_sessions(directory):
    """200 sessions: status is still one message, with the number of sessions left out."""
    with Board(directory) as board:
        clients = [Exercise(board) for _ in range(4)]
        for i, client in enumerate(clients):
            for j in range(50):
                equal(client("session", f"model-{i}", 50 * MS, 20000 * MS)[0], str(j))
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
        contains(out, "ok      begin", "and read back", "released, and the journal is empty", "All checks passed")
        equal(board.knobs(), before)
        equal(board.json("models").get("model", []), [])
        equal(board.json("verify")["failed"], 0)
        e = Exercise(board)
        e("session", "m", 50 * MS, 20000 * MS)
        contains(board.ctl("verify")[0], "not tested: there are open sessions")
        e.end()
        board.stop(signal.SIGKILL)
        contains(board.ctl("verify", status=1)[0], "FAILED")


@test
def run_counts(directory):
    """run: the summary counts the requests of its program, and no others."""
    with Board(directory) as board:
        other = Exercise(board)
        other("session", "other", 50 * MS, 20000 * MS)
        other.requests(5, 30 * MS)
        script = f"echo open {board.socket}; echo session - 0 20000000000; sleep 0.3; "
        script += "".join(f"echo wait 0 0 20000000000; echo end {i} {60 * MS if i == 7 else 20 * MS}; "
                          for i in range(1, 21)) + "echo counts 0"
        command = f"({script}) | {BUILD}/tests/client/exercise"
        out, err = board.ctl("run", "--model", "mine", "--deadline", "50ms", "--", "sh", "-c", command)
        contains(out, "applied=1")
        contains(err, "mine under 50.0 ms: 20 inferences, 1 missed (5.00 %)", "20.0 ms median", "60.0 ms longest",
                 "per inference at", "cpu/gpu/mem")
        tally = json.loads(board.ctl("--json", "run", "--model", "mine", "--deadline", "50ms", "--", "sh", "-c",
                                     command)[1])
        equal((tally["requests"], tally["missed"], tally["max_ns"], tally["mean_ns"]), (20, 1, 60 * MS, 22 * MS))
        shown = sum(c["requests"] for c in tally["clock"])
        within(shown, 20 if len(tally["clock"]) < 8 else 8, 20, "requests at the eight points used most")
        contains(board.ctl("run", "--model", "mine", "--deadline", "50ms", "--", "true")[1],
                 "no inference of true was seen")
        other.end()


@test
def run_shadow(directory):
    """run --shadow, beside a keeper whose every write is recorded: there is none, and its account is printed."""
    record = directory + "/writes"
    environment = {"LD_PRELOAD": os.path.join(RELEASE, "tests/keeper/shim.so"), "SHIM_ROOT": directory + "/board",
                   "SHIM_LOG": record}
    with Board(directory, build=RELEASE, **environment) as board:
        before = board.knobs()
        equal(board.json("status")["keeper"]["state"], "running", "the keeper")
        script = f"echo open {board.socket}; echo session - 0 20000000000; sleep 0.3; "
        script += "".join(f"echo wait 0 0 20000000000; echo end {i} {60 * MS if i == 7 else 20 * MS}; "
                          for i in range(1, 41)) + "echo counts 0"
        command = ["--model", "mine", "--deadline", "50ms", "--", "sh", "-c",
                   f"({script}) | {BUILD}/tests/client/exercise"]
        tally = json.loads(board.ctl("--json", "run", "--shadow", *command)[1])
        account = tally["shadow"]
        equal((tally["requests"], account["requests"], account["judged"], account["missed"]), (40, 40, 39, 1),
              "all but the first, before which the model was unknown")
        within(account["would_j"], account["would_low_j"], account["would_high_j"], "energy that flamed would take")
        contains(board.ctl("run", "--shadow", *command)[1], "40 inferences", "would have")
        equal((board.knobs(), os.path.exists(record)), (before, False), "what was written")
        equal(os.path.exists(directory + "/state/journal"), False, "a journal")
        contains(board.ctl("run", *command)[1], "40 inferences")
        with open(record, encoding="utf-8") as file:
            contains(file.read(), "/scaling_max_freq ", "/devfreq/")


def pixels(path):
    """How often each colour is in a PNG of eight bits a channel."""
    with open(path, "rb") as file:
        data = file.read()
    at, packed = 8, b""
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack_from(">IIBB", data, at + 8)
        packed += data[at + 8:at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    equal(depth, 8)
    n, raw, found = {2: 3, 6: 4}[colour], zlib.decompress(packed), collections.Counter()
    above = bytearray(width * n)
    for y in range(height):
        line = bytearray(raw[y * (width * n + 1) + 1:(y + 1) * (width * n + 1)])
        how = raw[y * (width * n + 1)]
        for i, _ in enumerate(line):
            a, b, c = line[i - n] if i >= n else 0, above[i], above[i - n] if i >= n else 0
            nearest = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            line[i] = (line[i] + (0, a, b, (a + b) // 2, nearest)[how]) & 255
        found.update(bytes(line[i:i + 3]) for i in range(0, len(line), n))
        above = line
    return found


@test
def run_report(directory):
    """run --report: a page that a real browser draws, with every late request in it and nothing to fetch."""
    page, picture = directory + "/page.html", directory + "/page.png"
    with Board(directory) as board:
        script = f"echo open {board.socket}; echo session - 0 20000000000; sleep 0.3; "
        script += "".join(f"echo wait 0 0 20000000000; echo end {i} {60 * MS if i in (7, 31) else (20 + i % 5) * MS}; "
                          for i in range(1, 41))
        command = f"({script} echo counts 0; sleep 0.7) | {BUILD}/tests/client/exercise # <&>"
        run = ["run", "--model", "mine", "--deadline", "50ms", "--report"]
        board.ctl(*run, page, "--", "sh", "-c", command)
        contains(board.ctl(*run, directory + "/no/where", "--", "true", status=1)[1], "--report", "No such file")
    with open(page, encoding="utf-8") as file:
        html = file.read()
    contains(html, "<p>Measured at VDD_IN, smoothed over the last requests.</p>")
    for word in ("<script", "http://", "https://", "src=", "url(", "@import", "<&>"):
        equal(word in html, False, word)
    names = ("chromium-headless-shell", "chromium", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if not browser:
        raise Skip("no browser: apt-get install chromium-headless-shell")
    shell = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=700,1800",
             f"--user-data-dir={directory}/browser"]
    dom = subprocess.run([*shell, "--dump-dom", "file://" + page], capture_output=True, text=True, timeout=120).stdout
    contains(dom, '<svg id="latency"', '<svg id="power"', '<svg id="surface"', '<table id="figures">', "2 (5.00 %)",
             "&lt;&amp;&gt;")
    dots = {kind: re.search(f'<path class="{kind}" d="([^"]*)"', dom)[1].count("M") for kind in ("met", "late")}
    equal(dots, {"met": 38, "late": 2})
    within(dom.count("<rect "), 8, 4096, "cells of the surface")
    within(dom.count('class="visit"'), 1, 40, "points that were visited")
    subprocess.run([*shell, f"--screenshot={picture}", "file://" + page], capture_output=True, timeout=120)
    colours = pixels(picture)
    within(colours[bytes((0xd1, 0x35, 0x2b))], 8, 10**5, "red pixels: late requests and visits")
    within(colours[bytes((0x31, 0x68, 0x8e))], 38, 10**6, "blue pixels: requests in time")
    within(colours[bytes((0x35, 0x84, 0x5c))], 38, 10**6, "green pixels: power")
    within(len(colours), 200, 10**7, "colours of the surface")


@test
def one_truth(directory):
    """Watts of one point: explain, surface and predict agree; status and run measured it, and run names the rail."""
    with Board(directory) as board:
        e = Exercise(board)
        e("session", "resnet50", 50 * MS, 20000 * MS)
        e.requests(60, 30 * MS)
        text, explained = board.ctl("explain")[0], board.json("explain")
        contains(text, "while it runs, predicted for VDD_IN")
        surface, status = board.json("surface", "resnet50"), board.json("status")["session"][0]
        keys = ("cpu_hz", "gpu_hz", "mem_hz")
        at = lambda shown, point: next(c for c in shown["cells"] if all(c[key] == point[key] for key in keys))
        point = {c: explained[c + "_hz"] for c in ("cpu", "gpu", "mem")}
        watts = at(surface, explained)["power_uw"]
        within(watts, 0.99 * explained["power_uw"], 1.01 * explained["power_uw"], "surface against explain")
        within(status["power_uw"], 0.9 * explained["power_uw"], 1.1 * explained["power_uw"], "status against explain")
        e.end()
        script = f"(echo open {board.socket}; echo session - 0 20000000000; sleep 0.3; "
        script += "".join(f"echo wait 0 0 20000000000; echo end {i} {30 * MS}; " for i in range(1, 61))
        run = ["run", "--model", "resnet50", "--deadline", "50ms", "--", "sh", "-c",
               script + f"echo counts 0) | {BUILD}/tests/client/exercise"]
        for _ in range(5):  # a machine that is late reads the sensor at other clocks
            tally, surface = json.loads(board.ctl("--json", *run)[1]), board.json("surface", "resnet50")
            equal((tally["requests"], sum(c["requests"] for c in tally["clock"])), (60, 60))
            equal(tally["power_rail"], "VDD_IN")
            predicted = sum(at(surface, c)["power_uw"] * c["requests"] for c in tally["clock"]) / 60
            if 0.9 * predicted <= tally["power_uw"] <= 1.1 * predicted:
                break
        within(tally["power_uw"], 0.9 * predicted, 1.1 * predicted, "run against surface, at the clocks that it ran at")
        equal(board.stop(), 0, "flamed saves what it learned, and exits")
        samples = f"{directory}/state/models/resnet50@nvpmodel-1.csv"
        with open(directory + "/p.csv", "w", encoding="utf-8") as file:
            print("cpu_hz,gpu_hz,mem_hz", "{cpu},{gpu},{mem}".format(**point), sep="\n", file=file)
        rows = board.ctl("predict", "--samples", samples, "--points", directory + "/p.csv")[0].split("\n")
        predicted = dict(zip(rows[0].split(","), rows[1].split(",")))
        watts = int(predicted["power_uw"])
        within(watts, 0.95 * explained["power_uw"], 1.05 * explained["power_uw"], "predict against explain")


@test
def run_infeasible(directory):
    """run: a deadline that no clock can meet is named, with the latency at the fastest."""
    with Board(directory) as board:
        script = f"echo open {board.socket}; echo session - 0 20000000000; sleep 0.3; "
        script += "".join(f"echo wait 0 0 20000000000; echo end {i} {400 * MS}; " for i in range(1, 21))
        run = ["run", "--model", "slow", "--deadline", "50ms", "--", "sh", "-c"]
        err = board.ctl(*run, f"({script} echo counts 0) | {BUILD}/tests/client/exercise")[1]
        found = re.search(r"50.0 ms cannot be met: the fastest possible here is (\d+) ms", err)
        within(int(found[1]) if found else err, 380, 420, "ms of the fastest")
        contains(err, "measured at VDD_IN while they ran")


@test
def run_streams(directory):
    """run --rate: a stream by its schedule, and its results."""
    with Board(directory) as board:
        script = f"echo open {board.socket}; echo session - 0 20000000000; sleep 0.3; "
        script += "".join(f"echo wait 0 0 20000000000; echo end {i} {(900 if i == 1 else 20) * MS}; "
                          for i in range(1, 21)) + "echo counts 0"
        command = ["--rate", "2/s", "--ttft", "800ms", "--", "sh", "-c", f"({script}) | {BUILD}/tests/client/exercise"]
        err = board.ctl("run", "--model", "mine", *command)[1]
        contains(err, "mine at 2.00/s: 20 inferences, 1 late (5.00 %)",
                 "of the requested 2.00/s, 1 of 20 late against the schedule", "of 1 starts, due after 800 ms",
                 "900 ms longest", "per token at")
        tally = json.loads(board.ctl("--json", "run", "--model", "mine", *command)[1])
        equal((tally["requests"], tally["missed"], tally["stream"]["scheduled"], tally["stream"]["late"],
               tally["stream"]["rate_mhz"]), (20, 1, 20, 1, 2000))
        equal(tally["stream"]["first_median_ns"], 900 * MS)
        for wrong, word in ((["--rate", "fast"], "--rate takes"),
                            (["--rate", "15/s", "--deadline", "33ms"], "exclude each other"),
                            (["--ttft", "1s", "--deadline", "33ms"], "--ttft requires"),
                            (["--rate", "0"], "--rate takes"), (["--rate", "15/s", "--ttft", "15/s"], "--ttft takes")):
            contains(board.ctl("run", "--model", "mine", *wrong, "--", "true", status=2)[1], word)
        contains(board.ctl("run", "--model", "mine", "--deadline", "30fps", "--", "true")[1], "no inference")


@test
def survives_restart(directory):
    """The library through kill -9 of flamed, a second without it, and its return."""
    with Board(directory) as board:
        before = board.knobs()
        e = Exercise(board)
        e("session", "m", 50 * MS, 20000 * MS)
        e.requests(10, 30 * MS)
        board.stop(signal.SIGKILL)
        for _ in range(10):
            within(int(e("begin", 0, 0)[0]), -200, -1, "refused while flamed is away")
        deadline = time.monotonic() + 30
        while board.knobs() != before and time.monotonic() < deadline:
            time.sleep(0.02)
        equal(board.knobs(), before, "restored by the keeper")
        board.start()
        deadline = time.monotonic() + 30
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
        script = (f"(echo open {board.socket}; echo session - 0 20000000000; for i in $(seq 400); do echo begin 0 0; "
                  f"echo end $i 5000000; sleep 0.002; done)")
        out = board.ctl("profile", "turned", "--budget", "2", "--", "sh", "-c",
                        f"{script} | {BUILD}/tests/client/exercise")[0]
        contains(out, "turned: ", "operating points measured")
        known = {m["name"]: m for m in board.json("models")["model"]}
        within(known["turned"]["samples"], 1, 2, "samples")


@test
def run_opencl(directory):
    """run: an unmodified OpenCL program is governed, its output is the same."""
    # a gap in which a busy machine, too, gets round to the daemon: the layer does not wait for it
    engine = [os.path.join(BUILD, "tests/opencl/engine"), "kernels=24", "runs=120", "gap=20000"]
    environment = {**ENVIRONMENT, "ASAN_OPTIONS": "detect_leaks=0"}
    alone = subprocess.run(engine, capture_output=True, text=True, env=environment, timeout=120)
    if alone.returncode:
        raise Skip("no OpenCL device")
    with Board(directory) as board:
        layer = {"FLAMED_OPENCL_LAYER": os.path.join(BUILD, "libflamed-opencl.so"), "ASAN_OPTIONS": "detect_leaks=0"}
        out, err = board.ctl("--json", "run", "--model", "engine", "--deadline", "20s", "--", *engine, **layer)
        equal(out, alone.stdout, "output")
        tally = json.loads(err)
        equal((tally["model"], tally["deadline_ns"] <= 20000 * MS, tally["missed"]), ("engine", True, 0))
        within(tally["requests"], 100, 120, "inferences seen")
        equal(board.json("models")["model"][0]["layers"], 1, "layers learned")
        equal(board.json("status")["sessions"], 0)


@test
def power_users(directory):
    """release by a user other than root and the owner is refused."""
    if os.geteuid() != 0:
        raise Skip("only root can become somebody else")
    with Board(directory) as board:
        os.chmod(directory, 0o755)
        os.chmod(directory + "/run", 0o755)
        os.chmod(board.socket, 0o666)
        request = (f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{board.socket}'); "
                   f"s.sendall(b'op=release\\n\\n'); print(s.recv(999).decode())")
        out = subprocess.run(["/usr/bin/python3", "-c", request], capture_output=True, text=True, user=65534,
                             group=65534, extra_groups=[], check=True).stdout
        equal(out.startswith("errno=0"), False, out)


main()
