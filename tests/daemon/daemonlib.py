# SPDX-License-Identifier: MIT
"""Start the real flamed and keeper on a tree in a directory and talk to them."""
import csv
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("BUILD_DIR") or os.path.join(ROOT, "build/release")
RELEASE = os.environ.get("RELEASE_DIR") or os.path.join(ROOT, "build/release")
TREES = os.path.join(ROOT, "tests/trees")
sys.path[:0] = [TREES, os.path.dirname(HERE)]
import make_tree  # noqa: E402
from lines import done, ok, real_time, skip, tied  # noqa: E402, F401

def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


class Closed(Exception):
    pass


class Client:
    def __init__(self, path, timeout=20):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.s.settimeout(timeout)
        self.s.connect(path)
        self.buf = b""

    def raw(self, data):
        self.s.sendall(data)

    def send(self, **kw):
        self.raw(("".join(f"{k}={v}\n" for k, v in kw.items()) + "\n").encode())

    def reply(self):
        while b"\n\n" not in self.buf:
            try:
                data = self.s.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                raise Closed("closed by the daemon")
            self.buf += data
        text, self.buf = self.buf.split(b"\n\n", 1)
        return dict(line.split("=", 1) for line in text.decode().split("\n"))

    def ask(self, **kw):
        self.send(**kw)
        return self.reply()

    def closed(self):
        try:
            return self.s.recv(1) == b""
        except ConnectionError:
            return True

    def gone(self):
        """Has the daemon closed the connection? Does not wait."""
        timeout = self.s.gettimeout()
        self.s.setblocking(False)
        try:
            return self.s.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        finally:
            self.s.settimeout(timeout)

    def open(self, model="net", **kw):
        return self.ask(op="open", model=model, **kw)["session"]

    def request(self, session, deadline_ms, latency, **kw):
        """A whole request; `latency` is a function of the begin reply. Returns (begin, end)."""
        begun = self.ask(op="begin", session=session, deadline_ns=int(deadline_ms * 1e6), wait=1, **kw)
        ended = self.ask(op="end", request=begun["request"], total_ns=int(latency(begun)), ack=1)
        return begun, ended

    def close(self):
        self.s.close()


def latency_ns(begun):
    """Latency of a model of two regimes at the clocks of the reply."""
    cpu, gpu = int(begun["cpu_hz"]) or 1.7e9, int(begun["gpu_hz"]) or 1e9
    return 1e6 + ((6e6 * 1.728e9 / cpu) ** 4 + (8e6 * 1.02e9 / gpu) ** 4) ** 0.25


class Daemon:
    """`tree` is a name in tests/trees; the directories live until end()."""

    def __init__(self, tree="jetson-orin-nano", config="", env=None, start=True, wrapper=(), build=BUILD):
        self.dir = tempfile.mkdtemp(prefix="flamed-test-")
        self.sys, self.run, self.state = (os.path.join(self.dir, d) for d in ("sys", "run", "state"))
        make_tree.make(os.path.join(TREES, tree + ".tree"), self.sys)
        self.config = os.path.join(self.dir, "flamed.conf")
        with open(self.config, "w") as f:
            f.write(config)
        self.socket = os.path.join(self.run, "flamed.sock")
        self.log = os.path.join(self.dir, "log")
        self.env, self.wrapper, self.build = env or {}, list(wrapper), build
        self.process = None
        if start:
            self.start()

    def command(self, *more):
        return [os.path.join(self.build, "flamed"), "--sysroot", self.sys, "--runtime-dir", self.run, "--state-dir",
                self.state,
                "--config", self.config, *more]

    def start(self, wait=True):
        self.process = tied(subprocess.Popen(self.wrapper + self.command(), stderr=open(self.log, "a"),
                                             env={**os.environ, **self.env}))
        if wait and not wait_for(lambda: os.path.exists(self.socket) and self.up() or self.process.poll() is not None):
            raise Closed("flamed does not come up: " + self.text())

    def up(self):
        try:
            Client(self.socket).close()
            return True
        except OSError:
            return False

    def client(self, **kw):
        return Client(self.socket, **kw)

    def client_of(self, uid, **kw):
        """A connection whose peer credentials are another user's; needs root."""
        os.chmod(self.dir, 0o711)
        os.chmod(self.socket, 0o666)
        os.setegid(uid)
        os.seteuid(uid)
        try:
            return Client(self.socket, **kw)
        finally:
            os.seteuid(0)
            os.setegid(0)

    def status(self):
        c = self.client()
        try:
            return c.ask(op="status")
        finally:
            c.close()

    def keeper_pid(self):
        return int(self.status()["keeper.pid"])

    def text(self):
        if not os.path.exists(self.log):
            return ""
        with open(self.log, errors="replace") as f:
            return f.read()

    def read(self, path):
        with open(self.sys + path) as f:
            return f.read().strip()

    def write(self, path, text):
        """In place, as to a file of sysfs, which nobody finds empty."""
        data = f"{text}\n".encode()
        with open(os.open(self.sys + path, os.O_WRONLY | os.O_CREAT, 0o666), "wb", buffering=0) as f:
            f.write(data.ljust(os.fstat(f.fileno()).st_size, b"\n"))
            f.truncate(len(data))

    def learned(self, model):
        """The only row of a model's file; None where there is no file, or more rows."""
        path = glob.glob(f"{self.state}/models/{model}*.csv")
        rows = list(csv.DictReader(open(path[0]))) if path else []
        return rows[0] if len(rows) == 1 else None

    def knobs(self):
        paths = []
        for pattern in ("/sys/devices/system/cpu/cpufreq/policy*/scaling_m*_freq",
                        "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
                        "/sys/devices/**/devfreq/*/m*_freq", "/sys/devices/**/devfreq/*/governor",
                        "/sys/kernel/debug/bpmp/debug/clk/emc/*rate*",
                        "/sys/devices/**/gt_m*_freq_mhz", "/sys/devices/**/power_dpm_force_performance_level"):
            paths += glob.glob(self.sys + pattern, recursive=True)
        return {p[len(self.sys):]: open(p).read() for p in sorted(set(paths))}

    def journal(self):
        return os.path.exists(os.path.join(self.state, "journal"))

    def restored(self, before, seconds=20.0):
        return wait_for(lambda: self.knobs() == before and not self.journal(), seconds)

    def difference(self, before):
        now = self.knobs()
        return {p: (before[p], now.get(p)) for p in before if before[p] != now.get(p)} or ("journal left"
                                                                                           if self.journal()
                                                                                           else "none")

    def stop(self, sig=signal.SIGTERM):
        """Returns the exit status."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(30) if self.process else None

    def end(self):
        rc = self.stop()
        text = self.text()
        if "ERROR: AddressSanitizer" in text or "runtime error:" in text or "ERROR: LeakSanitizer" in text:
            ok(False, "no sanitizer report", text[-3000:])
        shutil.rmtree(self.dir, ignore_errors=True)
        return rc
