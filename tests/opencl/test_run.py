#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""flamectl run with the real daemon and programs with the habits of real ones: every one leaves the clocks
as they were and another session as it was."""
import json, os, re, signal, socket, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../board"))
import boardlib
from boardlib import ok, skip, tied, done

BIN = os.path.abspath(boardlib.RELEASE)
ENGINE = BIN + "/tests/opencl/engine"


class Session:
    """A session of another program, whose requests must continue in all cases."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(path)
        self.id = self.ask("op=open\nmodel=other\ndeadline_ns=50000000\n")["session"]

    def ask(self, text):
        self.socket.sendall(text.encode() + b"\n")
        data = b""
        while b"\n\n" not in data:
            more = self.socket.recv(65536)
            if not more:
                return {}
            data += more
        return dict(line.split("=", 1) for line in data.decode().strip().split("\n"))

    def request(self):
        begun = self.ask(f"op=begin\nsession={self.id}\ndeadline_ns=50000000\n")
        ended = self.ask(f"op=end\nrequest={begun.get('request', 0)}\ntotal_ns=20000000\nack=1\n")
        return begun.get("errno") == "0" and ended.get("errno") == "0" and ended.get("missed") == "0"

    def close(self):
        self.socket.close()


class Place:
    """A board with flamed on it."""

    def __init__(self):
        self.board = boardlib.Board("orin-nano", BIN)
        self.before = self.knobs()
        run_dir, conf = self.board.dir + "/run", self.board.dir + "/flamed.conf"
        open(conf, "w").close()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("FLAMED_", "OPENCL_"))}
        self.env.update(FLAMED_SOCKET=run_dir + "/flamed.sock", FLAMED_OPENCL_LAYER=BIN + "/libflamed-opencl.so",
                        POCL_CACHE_DIR=self.board.dir + "/pocl")
        self.flamed = tied(subprocess.Popen([BIN + "/flamed", "--sysroot", self.board.root, "--runtime-dir", run_dir,
                                             "--state-dir", self.board.dir + "/state", "--config", conf],
                                            stderr=subprocess.DEVNULL))
        self.until(lambda: self.ctl("status").returncode == 0, 20)

    def until(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)
        return condition()

    def knobs(self):
        names = [f"{p}/{n}" for p in self.board.policies() for n in ("scaling_max_freq", "scaling_min_freq")]
        return [self.board.read(n) for n in names + [self.board.gpu() + "/max_freq", self.board.gpu() + "/min_freq",
                                                     boardlib.Board.EMC + "/mrq_rate_locked"]]

    def ctl(self, *words, **env):
        return subprocess.run([BIN + "/flamectl", *words], env=dict(self.env, **env), capture_output=True, text=True,
                              timeout=300)

    def words(self, model, program, *options):
        return [BIN + "/flamectl", "--json", "run", "--model", model, "--deadline", "40ms", *options, "--", ENGINE,
                *program.split()]

    def models(self):
        return [m["name"] for m in json.loads(self.ctl("--json", "models").stdout).get("model", [])]

    def back(self):
        return self.until(lambda: self.knobs() == self.before)

    def close(self):
        self.flamed.terminate()
        self.flamed.wait(20)
        self.board.close()


def tally(text):
    return json.loads("{" + text.split("{", 1)[1].rsplit("}", 1)[0] + "}") if "{" in text else {}


def programs(place):
    """Each beside a session that must not notice. Of inferences shorter than flamed takes to answer,
    some may be no requests."""
    for name, program, status, requests, sessions in (
            ("a plain one", "runs=60 gap=10000 size=65536", 0, 40, 1),
        ("one that asks instead of waiting", "runs=60 gap=10000 size=65536 poll", 0, 40, 1),
            ("one that waits for a callback", "runs=80 gap=10000 size=65536 notify", 0, 40, 1),
        ("prefill, then decode", "runs=80 gap=10000 decode", 0, 40, 2),
            ("one whose shapes keep changing", "runs=60 kernels=4 shapes size=1024 gap=10000", 0, 0, None),
            ("one that never waits", "runs=60 no-wait gap=10000", 0, 0, 0),
            ("one that forks", "runs=60 gap=10000 fork", 0, 40, 1),
        ("one that execs", "runs=40 gap=10000 exec", 0, 40, 2),
            ("one that is killed", "runs=60 gap=10000 kill", -signal.SIGKILL, 8, 1),
        ("one that leaves without a word", "runs=60 gap=10000 abandon", 0, 8, 1)):
        plain = subprocess.run([ENGINE, *program.split()], env=place.env, capture_output=True, text=True, timeout=300)
        other = Session(place.env["FLAMED_SOCKET"])
        undisturbed = other.request()
        run = subprocess.run(place.words("net", program), env=dict(place.env, FLAMED_SUMMARY="2"), capture_output=True,
                             text=True, timeout=300)
        seen = tally(run.stderr)
        ok(run.returncode == status and run.stdout == plain.stdout, f"{name}: its own output and status",
           f"{run.returncode} {run.stderr[-800:]}")
        ok(requests <= seen.get("requests", 0) <= requests + 40 and sessions in (None, seen.get("sessions")),
           f"{name}: its inferences are requests", f"{run.stderr[:300]} {seen}")
        undisturbed = undisturbed and other.request()
        other.close()
        ok(undisturbed and place.back(), f"{name}: another session goes on, then the clocks are back", place.knobs())


def two_at_once(place):
    """Under the same name: one model, two sessions, both counted."""
    runs = [subprocess.Popen(place.words("same", "runs=60 gap=10000 size=65536"), env=place.env, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
            for _ in range(2)]
    said = [run.communicate(timeout=300) for run in runs]
    ok([run.returncode for run in runs] == [0, 0] and said[0][0] == said[1][0],
       "two at once under the same name: both run as alone", said)
    ok(all(40 <= tally(err).get("requests", 0) <= 57 and tally(err)["sessions"] == 1 for _, err in said)
       and place.models().count("same") == 1,
       "each with its own tally, one model", said)
    ok(place.back(), "clocks back after both")


def profiled(place):
    """run --profile: measures instead, which shows in the model's samples."""
    run = place.ctl("run", "--model", "measured", "--profile", "--", ENGINE, "runs=3000", "kernels=12", "gap=100")
    known = {m["name"]: m for m in json.loads(place.ctl("--json", "models").stdout)["model"]}
    ok(run.returncode == 0 and int(known.get("measured", {}).get("samples", 0)) >= 2
       and int(known["measured"]["layers"]) == 1,
       "run --profile measures it, layer by layer", f"{known} {run.stderr}")
    ok(place.back(), "clocks back after profiling")


def no_daemon(place):
    run = subprocess.run(place.words("net", "runs=10"), env=dict(place.env, FLAMED_SOCKET="/nonexistent/s"),
                         capture_output=True, text=True, timeout=300)
    plain = subprocess.run([ENGINE, "runs=10"], env=place.env, capture_output=True, text=True, timeout=300)
    ok(run.returncode == 0 and run.stdout == plain.stdout and len(re.findall("warning",
                                                                             run.stderr)) == 1
       == len(run.stderr.strip().splitlines()),
       "no daemon: untouched, with one warning", run.stderr)


def main():
    if subprocess.run([ENGINE, "runs=1"], capture_output=True).returncode != 0:
        skip("flamectl run", "no OpenCL device")
        done()
        return
    place = Place()
    for part in (programs, two_at_once, profiled, no_daemon):
        part(place)
    place.close()
    done()


main()
