#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The real flamed and its keeper, killed in every combination at random moments: every knob compared, no journal left,
and the time from flamed's death to the last knob restored."""
import ctypes
import random
import signal

from keeper import *

ROUNDS = 10
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # the keeper of a killed flamed is waited for
if os.access("/dev/shm", os.W_OK):
    tempfile.tempdir = "/dev/shm"  # other programs may keep the disk busy
tap = Tap()
rng = random.Random(31337)


class Daemon:
    def __init__(self, name="jetson-orin-nano", build=RELEASE):
        self.path = tree(name)
        self.root, self.state, self.run = self.path + "/root", self.path + "/state", self.path + "/run"
        self.before = snapshot(self.root)
        self.config = self.path + "/flamed.conf"
        open(self.config, "w").close()
        self.build = build
        self.args = [os.path.join(build, "flamed"), "--config", self.config, "--sysroot", self.root, "--runtime-dir",
                     self.run,
                     "--state-dir", self.state]
        self.log = open(self.path + "/log", "wb")
        self.process = subprocess.Popen(self.args, stdout=subprocess.DEVNULL, stderr=self.log)
        self.client = socket.socket(socket.AF_UNIX)
        self.client.settimeout(30)
        if not wait_for(self.connected):
            self.remove()
            raise OSError("flamed did not start")
        self.buffer = b""
        self.session = self.ask("op=open", "model=m")["session"]

    def connected(self):
        try:
            self.client.connect(self.run + "/flamed.sock")
            return True
        except OSError:
            return False

    def ask(self, *lines):
        self.client.sendall(("\n".join(lines) + "\n\n").encode())
        while b"\n\n" not in self.buffer:
            data = self.client.recv(65536)
            if not data:
                raise OSError("closed")
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\n\n", 1)
        return dict(line.split("=", 1) for line in message.decode().splitlines())

    def infer(self, ms=20):
        reply = self.ask("op=begin", f"session={self.session}", f"deadline_ns={ms * 1000000}", "wait=1")
        self.ask("op=end", f"request={reply['request']}", f"total_ns={rng.randrange(4, 9) * 1000000}", "ack=1")

    def keeper_pid(self):
        return int(self.ask("op=status")["keeper.pid"])

    def moved(self):
        return differences(self.before, snapshot(self.root))

    def journal(self):
        return os.path.exists(self.state + "/journal")

    def settle(self):
        return wait_for(lambda: not self.moved() and not self.journal())

    def restore(self):
        return subprocess.run([self.args[0], "--restore", "--sysroot", self.root, "--state-dir", self.state],
                              stderr=self.log).returncode

    def remove(self):
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=20)
        self.log.close()
        remove(self.path)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill_flamed(d, keeper):
    d.process.kill()
    d.process.wait()


def kill_keeper(d, keeper):
    os.kill(keeper, signal.SIGKILL)


def kill_both(d, keeper):
    os.kill(keeper, signal.SIGSTOP)  # so that it cannot act between the two
    d.process.kill()
    d.process.wait()
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: not alive(keeper))
    d.status = d.restore()


def kill_client(d, keeper):
    d.client.close()


def terminate(d, keeper):
    d.process.terminate()
    d.status = d.process.wait(timeout=30)


for death in (kill_flamed, kill_keeper, kill_both, kill_client, terminate):
    bad, took_ms, ran_ms, moved = [], [], [], 0
    for _ in range(ROUNDS):
        d = Daemon()
        d.status = 0
        try:
            for _ in range(rng.randrange(1, 12)):
                d.infer()
            moved += bool(d.moved())
            keeper = d.keeper_pid()
            undisturbed = real_time(keeper)
            if rng.random() < 0.5:  # in the middle of a request
                d.client.sendall(f"op=begin\nsession={d.session}\ndeadline_ns=7000000\n\n".encode())
                time.sleep(rng.uniform(0, 0.003))
            begin, ran_before_ms = time.monotonic(), run_ms(keeper)
            death(d, keeper)
            if death is kill_flamed:
                while d.journal() and time.monotonic() - begin < 20:  # it is removed after the last knob
                    time.sleep(0.0002)
                took_ms.append((time.monotonic() - begin) * 1000)
                ran_ms.append(reaped_ms(keeper)[1] - ran_before_ms)
            if death is kill_keeper:
                d.client.close()  # the next keeper replays, and with no session left nothing is held
            if not d.settle():
                bad.append(f"{d.moved()} journal={d.journal()}")
            if d.status:
                bad.append(f"exit status {d.status}")
        except (OSError, KeyError) as e:
            bad.append(repr(e))
        if bad:
            bad.append(open(d.path + "/log").read()[-800:])
        d.remove()
    name = death.__name__.replace("_", " ")
    tap.ok(not bad, f"{name}: {ROUNDS} times, every knob is as it was and no journal is left", "\n".join(bad))
    tap.ok(moved == ROUNDS, f"{name}: the knobs had been moved ({moved} of {ROUNDS})")
    if took_ms:
        within_50_ms(tap, "kill -9 of flamed to every knob restored", took_ms, ran_ms, undisturbed)
tap.done()
