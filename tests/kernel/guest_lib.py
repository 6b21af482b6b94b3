# SPDX-License-Identifier: MIT
# Shared by the guest's tests: TAP, knobs, a protocol client, systemd.
import glob
import os
import re
import socket
import subprocess
import time

SOCKET = "/run/flamed/flamed.sock"
CPU = "/sys/devices/system/cpu/cpufreq"
GPU = "/sys/class/devfreq/17000000.gpu"
PARAMS = "/sys/module/flamed_test_gpu/parameters"
JOURNAL = "/var/lib/flamed-keeper/journal"
# Factor on every time that is reported to flamed: on an emulated processor of a busy host a write to a knob takes
# tens to hundreds of milliseconds, and a move has to be short beside a request.
SLOW = 50
count = 0


def ok(condition, name, detail=""):
    global count
    count += 1
    print(f"{'ok' if condition else 'not ok'} {count} - {name}")
    if not condition and detail != "":
        print("  # " + str(detail).replace("\n", "\n  # "))
    return bool(condition)


def skip(name, why):
    global count
    count += 1
    print(f"ok {count} - {name} # SKIP {why}")


def read(path):
    try:
        with open(path) as f:
            return f.read().strip()
    except OSError as e:
        return f"<{e.strerror}>"


def write(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(fd, (str(text) + "\n").encode())
    finally:
        os.close(fd)


def create(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text + "\n")


def knobs():
    paths = sorted(glob.glob(CPU + "/policy*/scaling_min_freq") + glob.glob(CPU + "/policy*/scaling_max_freq")
                   + glob.glob(CPU + "/policy*/scaling_governor") + glob.glob(GPU + "/min_freq")
                   + glob.glob(GPU + "/max_freq") + glob.glob(GPU + "/governor"))
    return {p: read(p) for p in paths}


def run(command, **kw):
    p = subprocess.run(command, shell=isinstance(command, str), capture_output=True, text=True, **kw)
    return p.returncode, (p.stdout + p.stderr).strip()


def wait_for(condition, seconds=20.0):
    """Real kernels and emulated processors are slow: poll, then give up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


def unit(name, prop):
    return run(["systemctl", "show", "-P", prop, name])[1]


def main_pid(name):
    return int(unit(name, "MainPID") or 0)


def journal_text(unit_name="flamed"):
    return run(["journalctl", "-u", unit_name, "-o", "cat", "--no-pager"])[1]


class Client:
    def __init__(self):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.s.settimeout(20)
        self.s.connect(SOCKET)
        self.buf = b""

    def send(self, **kw):
        self.s.sendall(("".join(f"{k}={v}\n" for k, v in kw.items()) + "\n").encode())

    def reply(self):
        while b"\n\n" not in self.buf:
            data = self.s.recv(65536)
            if not data:
                raise ConnectionError("closed by the daemon")
            self.buf += data
        text, self.buf = self.buf.split(b"\n\n", 1)
        return dict(line.split("=", 1) for line in text.decode().split("\n"))

    def ask(self, **kw):
        self.send(**kw)
        return self.reply()

    def open(self, model="vm-net"):
        return int(self.ask(op="open", model=model)["session"])

    def begin(self, session, deadline_ms):
        return self.ask(op="begin", session=session, deadline_ns=int(deadline_ms * 1e6 * SLOW), wait=1)

    def end(self, begun, total_ns):
        return self.ask(op="end", request=begun["request"], total_ns=int(total_ns * SLOW), ack=1)

    def close(self):
        self.s.close()


def latency_ns(cpu_hz, gpu_hz):
    """The board's model of this test: launches on the CPU, execution on the GPU."""
    return 1e7 + ((8e7 * 2.0e9 / cpu_hz) ** 4 + (10e7 * 1.02e9 / gpu_hz) ** 4) ** 0.25


def clocks():
    """Frequencies that the kernel reports as pinned, Hz: (cpu of every policy, gpu)."""
    cpu = {(int(read(p + "/scaling_min_freq")) * 1000, int(read(p + "/scaling_max_freq")) * 1000)
           for p in glob.glob(CPU + "/policy*")}
    gpu = (int(read(GPU + "/min_freq")), int(read(GPU + "/max_freq")))
    return cpu, gpu


def request(client, session, deadline_ms):
    """One whole request; returns the begin reply and the latency the kernel's clocks gave."""
    begun = client.begin(session, deadline_ms)
    took = latency_ns(int(read(CPU + "/policy0/scaling_max_freq")) * 1000, int(read(GPU + "/max_freq")))
    client.end(begun, took)
    return begun, took


def status():
    client = Client()
    try:
        return client.ask(op="status")
    finally:
        client.close()


def restored(before, seconds=20.0):
    return wait_for(lambda: knobs() == before and not os.path.exists(JOURNAL), seconds)


def difference(before):
    now = knobs()
    return {p: (before.get(p), now.get(p)) for p in set(before) | set(now) if before.get(p) != now.get(p)} or \
        ("journal left" if os.path.exists(JOURNAL) else "no difference")


def busy_client():
    """A session with its clocks moved down; the caller closes it."""
    client = Client()
    session = client.open()
    for _ in range(12):
        request(client, session, 400)
    return client, session


def stage():
    return int(re.search(r"flamed\.stage=(\d+)", read("/proc/cmdline")).group(1))
