# SPDX-License-Identifier: MIT
"""A flamed that is not there: speaks docs/protocol.md from tables, so that the
clients can be shown what a real daemon rarely does (silence, rubbish, a restart
in the middle, a surface of any size)."""

import math
import os
import socket
import threading
import time

from tap import VERSION

MHZ = 1000000
AXES = {
    "cpu": [115200000 + 76800000 * i for i in range(0, 22)],
    "gpu": [306 * MHZ, 408 * MHZ, 510 * MHZ, 612 * MHZ, 714 * MHZ, 816 * MHZ, 918 * MHZ, 1020 * MHZ],
    "mem": [204 * MHZ, 665600000, 2133 * MHZ, 3199 * MHZ],
}


def latency_ns(cpu, gpu, mem):
    """A double p-norm, with the parameters of a small CNN."""
    execution = ((6.1e6 / (gpu / 1e9)) ** 3 + (5.2e6 / (mem / 1e9)) ** 3) ** (1 / 3)
    return 0.8e6 + ((7.9e6 / (cpu / 1e9)) ** 5 + execution**5) ** 0.2


def power_uw(cpu, gpu, mem):
    return 4.1e6 + 0.9e6 * (cpu / 1e9) ** 2.4 + 2.6e6 * (gpu / 1e9) ** 2.2 + 0.45e6 * mem / 1e9


IDLE = [
    ("version", VERSION), ("uptime_ns", 11520 * 10**9), ("state", "idle"), ("state_reason", ""),
    ("board.name", "NVIDIA Jetson Orin Nano"), ("board.file", "orin-nano.ini"), ("board.power_mode", "15W"),
    ("board.other_owners", ""),
    ("clock.cpu.controllable", 1), ("clock.cpu.method", "cpufreq limits"), ("clock.cpu.devices", "policy0,policy4"),
    ("clock.cpu.cur_hz", 729600000), ("clock.cpu.min_hz", 115200000), ("clock.cpu.max_hz", 1728000000),
    ("clock.cpu.steps", 22),
    ("clock.cpu.ceiling_hz", 0), ("clock.cpu.owner", "kernel"), ("clock.cpu.why_not", ""), ("clock.cpu.state", "ok"),
    ("clock.cpu.settle_ns", 1400000),
    ("clock.gpu.controllable", 1), ("clock.gpu.method", "devfreq limits"), ("clock.gpu.devices", "17000000.gpu"),
    ("clock.gpu.cur_hz", 306000000), ("clock.gpu.min_hz", 306000000), ("clock.gpu.max_hz", 1020000000),
    ("clock.gpu.steps", 8),
    ("clock.gpu.ceiling_hz", 918000000), ("clock.gpu.owner", "kernel"), ("clock.gpu.why_not", ""),
    ("clock.gpu.state", "ok"), ("clock.gpu.settle_ns", 5200000),
    ("clock.mem.controllable", 0), ("clock.mem.method", ""), ("clock.mem.devices", ""),
    ("clock.mem.cur_hz", 2133000000),
    ("clock.mem.min_hz", 0), ("clock.mem.max_hz", 0), ("clock.mem.steps", 0), ("clock.mem.ceiling_hz", 0),
    ("clock.mem.owner", "kernel"),
    ("clock.mem.why_not", "/sys/kernel/debug/bpmp/debug/clk/emc is not there; a [memory] section in "
                          "boards.d/BOARD.ini can name the files"),
    ("clock.mem.state", "ok"), ("clock.mem.settle_ns", 0),
    ("power.sensor", "VDD_IN"), ("power.uw", 5480000), ("power.why_not", ""),
    ("temperature.millidegree_c", 47250), ("temperature.zone", "tj-thermal"),
    ("keeper.pid", 412), ("keeper.state", "running"), ("keeper.journal_knobs", 0), ("keeper.journal_errno", 0),
    ("keeper.text", ""),
    ("connections", 1), ("sessions", 0), ("requests", 0),
]

BUSY = {
    "state": "busy", "clock.cpu.cur_hz": 1344000000, "clock.gpu.cur_hz": 510000000, "clock.cpu.owner": "flamed",
    "clock.gpu.owner": "flamed",
    "keeper.journal_knobs": 6, "power.uw": 9710000, "connections": 3, "sessions": 2, "requests": 1,
    "board.other_owners": "nvpmodel",
}
SESSIONS = [
    {"id": 1, "model": "resnet50", "pid": 4711, "uid": 1000, "phase": "run", "context": 0, "deadline_ns": 33000000,
     "requests": 41230, "missed": 12,
     "surface": "ready", "mean_ns": 27950000, "p99_ns": 31200000, "power_uw": 9710000, "energy_uj": 271400,
     "cpu_hz": 1344000000, "gpu_hz": 510000000,
     "mem_hz": 2133000000},
    {"id": 4, "model": "qwen2.5-1.5b-q4", "pid": 5012, "uid": 1000, "phase": "decode", "context": 731,
     "deadline_ns": 50000000, "requests": 900,
     "missed": 31, "surface": "learning", "mean_ns": 30100000, "p99_ns": 58000000, "power_uw": 15200000,
     "energy_uj": 457500, "cpu_hz": 1728000000,
     "gpu_hz": 1020000000, "mem_hz": 2133000000},
]
PROFILE = {"id": 2, "model": "mobilenet", "step": 5, "budget": 12, "paused": 0, "bound_permille": 142,
           "cpu_hz": 1036800000, "gpu_hz": 612000000,
           "mem_hz": 2133000000, "latency_ns": 11200000, "gain_permille": 31}
EXPLAIN = [
    ("session", 1), ("model", "resnet50"), ("phase", "run"), ("context", 0), ("request", 41230), ("feasible", 1),
    ("learning", 0),
    ("deadline_ns", 33000000), ("slack_ns", 32990000), ("cpu_hz", 1344000000), ("gpu_hz", 510000000),
    ("mem_hz", 2133000000),
    ("predicted_ns", 27900000), ("bound_ns", 30400000), ("settle_ns", 0), ("margin_ns", 2500000),
    ("power_uw", 9710000), ("power_known", 1),
    ("source", "cell"), ("regime", "execution-bound"), ("bubble_ns", 410000), ("slowdown", "1.03"),
    ("runner_up.cpu_hz", 1267200000), ("runner_up.gpu_hz", 408000000), ("runner_up.mem_hz", 2133000000),
    ("runner_up.power_uw", 8900000),
    ("runner_up.bound_ns", 36100000), ("runner_up.settle_ns", 5200000), ("runner_up.refused", "late"),
    ("runner_up.deadline_ns", 41300000), ("runner_up.text", "it is too likely to be late"),
    ("text", "cpu 1344, gpu 510: the cheapest of 37 points that fit."),
]


def status(busy):
    pairs = [(k, BUSY.get(k, v) if busy else v) for k, v in IDLE]
    if busy:
        for i, session in enumerate(SESSIONS):
            pairs += [(f"session.{i}.{k}", v) for k, v in session.items()]
        pairs += [(f"profile.0.{k}", v) for k, v in PROFILE.items()]
    return pairs


def surface(start, measured=(17, 120, 333, 400, 512, 601, 640, 703), rows_per_message=40):
    axes = [AXES["cpu"], AXES["gpu"], AXES["mem"]]
    rows = len(axes[0]) * len(axes[1])
    pairs = [("state", "ready"), ("phase", "run"), ("context", 0), ("power_known", 1), ("slowdown", "1.02"),
             ("current", 530)]
    pairs += [(f"{c}_hz", ",".join(map(str, AXES[c]))) for c in ("cpu", "gpu", "mem")]
    until = min(rows, start + rows_per_message)
    for row in range(start, until):
        i, j = divmod(row, len(axes[1]))
        cells = []
        for m, mem in enumerate(axes[2]):
            latency = latency_ns(axes[0][i], axes[1][j], mem)
            index = row * len(axes[2]) + m
            launch = 7.9e6 / (axes[0][i] / 1e9) > 6.1e6 / (axes[1][j] / 1e9)
            cells.append(f"{latency:.0f}:{latency * 1.09:.0f}:{power_uw(axes[0][i], axes[1][j], mem):.0f}:"
                         f"{30 if index in measured else 0}:{3 if index in measured else 1}:{1 if launch else 2}:"
                         f"{latency * 0.1:.0f}")
        pairs.append((f"row.{i}.{j}", ",".join(cells)))
    if until < rows:
        pairs.append(("next", until))
    return pairs


class Fake:
    """Serves on `path` until close(). `seen` are the messages received, as
    dicts; `behave` may be set to a function(op, message) that returns a list of
    pairs, raw bytes to send, None (no answer), or False (as usual)."""

    def __init__(self, path, busy=False):
        self.path, self.busy, self.seen, self.behave = path, busy, [], None
        self.numbers, self.connections, self.tallies = 0, [], {}
        self.profile_steps = 3
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(16)
        self.open = True
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while self.open:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def drop(self):
        """Every connection ends, as when the daemon is killed."""
        connections, self.connections = self.connections, []  # a client may connect again while they end
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def close(self):
        self.open = False
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.drop()
        if os.path.exists(self.path):
            os.unlink(self.path)

    def ops(self, op):
        return [m for m in self.seen if m["op"] == op]

    def serve(self, connection):
        data = b""
        while True:
            try:
                chunk = connection.recv(65536)
            except OSError:
                return
            if not chunk:
                return
            data += chunk
            while b"\n\n" in data:
                text, data = data.split(b"\n\n", 1)
                message = dict(line.split("=", 1) for line in text.decode().split("\n"))
                self.seen.append(message)
                reply = self.behave(message["op"], message) if self.behave else False
                if reply is False:
                    reply = self.reply(message["op"], message)
                if reply is None:
                    continue
                if not isinstance(reply, bytes):
                    if not reply or reply[0][0] != "errno":
                        reply = [("errno", 0)] + reply
                    reply = "".join(f"{k}={v}\n" for k, v in reply).encode() + b"\n"
                try:
                    connection.sendall(reply)
                except OSError:
                    return

    def point(self, step):
        if step > self.profile_steps:
            return [("done", 1), ("surface", "ready")]
        return [("profile", 7), ("cpu_hz", AXES["cpu"][-step]), ("gpu_hz", AXES["gpu"][-step]), ("mem_hz", 0),
                ("context", 0), ("repeat", 3),
                ("step", step - 1), ("budget", self.profile_steps), ("gain_permille", 50 // step)]

    def reply(self, op, message):
        self.numbers += 1
        if op == "hello":
            return [("version", VERSION), ("protocol", 1), ("board", "NVIDIA Jetson Orin Nano"), ("power_sensor", 1)]
        if op == "open":
            return [("session", self.numbers), ("surface", "ready")]
        if op == "begin":
            if message.get("wait"):
                time.sleep(0.01)
            return [("request", self.numbers), ("feasible", 1), ("cpu_hz", 1344000000), ("gpu_hz", 510000000),
                    ("mem_hz", 0),
                    ("predicted_ns", 27900000), ("bound_ns", 30400000), ("settle_ns", 5200000)]
        if op == "end":
            return [("missed", 1 if int(message.get("total_ns", 0)) > 33000000 else 0)] if message.get("ack") else None
        if op == "profile":
            self.step = 1
            return self.point(1)
        if op == "sample":
            if "latency_ns" in message:
                self.step += 1
            return self.point(self.step)
        if op == "status":
            return status(self.busy)
        if op == "surface":
            if message["model"] != "resnet50":
                return [("errno", 2), ("message", f"model: \"{message['model']}\" is not known")]
            return surface(int(message.get("from", 0)))
        if op == "models":
            return [("model.0.name", "resnet50"), ("model.0.state", "ready"), ("model.0.phases", "run"),
                    ("model.0.samples", 8),
                    ("model.0.rejected", 0), ("model.0.contexts", 1), ("model.0.layers", 1),
                    ("model.1.name", "qwen2.5-1.5b-q4"), ("model.1.state", "learning"),
                    ("model.1.phases", "prefill,decode"), ("model.1.samples", 5),
                    ("model.1.rejected", 17), ("model.1.contexts", 3), ("model.1.layers", 0)]
        if op == "explain":
            return EXPLAIN
        if op == "tally":
            return [("sessions", 1), ("requests", 120), ("missed", 1), ("model", "resnet50"), ("deadline_ns", 33000000),
                    ("mean_ns", 28000000),
                    ("median_ns", 27900000), ("p99_ns", 31200000), ("max_ns", 33100000), ("power_uw", 9710000),
                    ("energy_uj", 271400),
                    ("power_known", 1), ("clock.0.cpu_hz", 1344000000), ("clock.0.gpu_hz", 510000000),
                    ("clock.0.mem_hz", 2133000000),
                    ("clock.0.requests", 110), ("clock.1.cpu_hz", 1728000000), ("clock.1.gpu_hz", 1020000000),
                    ("clock.1.mem_hz", 2133000000),
                    ("clock.1.requests", 10)]
        return []


if __name__ == "__main__":
    import sys

    Fake(sys.argv[1], busy="busy" in sys.argv[2:])
    while True:
        time.sleep(3600)
