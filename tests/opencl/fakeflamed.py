# SPDX-License-Identifier: MIT
"""A flamed for tests that replies correctly, or with the faults that a test selects,
and records every message."""
import os
import socket
import threading
import time

PATIENCE_S = 60  # for a client that was killed, or is slow on a busy machine


class Server:
    def __init__(self, path):
        self.path, self.log, self.lock, self.open = path, [], threading.Lock(), 0
        self.mute = self.rubbish = self.refuse = False
        self.points = self.pauses = self.refuse_opens = 0
        self.dies_at, self.connections = None, []  # request with which it dies: nothing is accepted any more
        self.number = 0

    def __enter__(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(16)
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        os.unlink(self.path)

    def die(self):
        for each in (self.listener, *self.connections):
            each.shutdown(socket.SHUT_RDWR)

    def settle(self):
        """Until all that clients have sent is read: connections are accepted in order, so a last one
        of our own comes after theirs."""
        if self.dies_at == 0:
            return
        probe, mark = socket.socket(socket.AF_UNIX), {"op": "settle"}
        deadline = time.monotonic() + PATIENCE_S
        probe.connect(self.path)
        probe.sendall(b"op=settle\n\n")
        while mark not in self.log and time.monotonic() < deadline:
            time.sleep(0.01)
        with self.lock:
            self.log = [message for message in self.log if message != mark]
        probe.close()
        while self.open and time.monotonic() < deadline:
            time.sleep(0.01)

    def of(self, op):
        self.settle()
        with self.lock:
            return [message for message in self.log if message.get("op") == op]

    def clear(self):
        self.of("")
        with self.lock:
            self.log = []

    def open_count(self):
        return self.open

    def wait_closed(self):
        self.of("")
        return self.open == 0

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.open += 1
                self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    @staticmethod
    def send(connection, answer):
        try:
            connection.sendall(answer.encode())
        except OSError:
            pass  # the client has closed: what it sent before is still read

    def serve(self, connection):
        data = b""
        try:
            while True:
                more = connection.recv(65536)
                if not more:
                    break
                data += more
                while b"\n\n" in data:
                    message, data = data.split(b"\n\n", 1)
                    keys = dict(line.split("=", 1) for line in message.decode().split("\n"))
                    with self.lock:
                        self.log.append(keys)
                    if self.dies_at and keys.get("op") == "begin":
                        self.dies_at -= 1
                        if self.dies_at == 0:
                            self.die()
                            break
                    answer = self.answer(keys)
                    if answer and not self.mute:
                        self.send(connection, answer)
        except OSError:
            pass
        with self.lock:
            self.open -= 1
        connection.close()

    def point(self):
        self.points -= 1
        if self.points < 0:
            return "errno=0\ndone=1\nsurface=ready\n"
        return (f"errno=0\nprofile=1\ncpu_hz=1000000000\ngpu_hz={(self.points + 1) * 100000000}\n"
                "mem_hz=0\ncontext=0\nrepeat=5\nstep=1\nbudget=4\ngain_permille=10\n")

    def reply(self, keys):
        op = keys.get("op")
        self.number += 1
        if self.refuse:
            return "errno=22\nmessage=model: no such thing\n"
        if op == "open" and self.refuse_opens > 0:
            self.refuse_opens -= 1
            return "errno=122\nmessage=session: 256 sessions are open\n"
        if op == "open":
            return f"errno=0\nsession={self.number}\nsurface=learning\n"
        if op == "begin":
            return (f"errno=0\nrequest={self.number}\nfeasible=1\ncpu_hz=1000000000\ngpu_hz=500000000\nmem_hz=0\n"
                    "predicted_ns=1000000\nbound_ns=2000000\nsettle_ns=0\n")
        if op == "end":
            return "errno=0\nmissed=0\n" if keys.get("ack") == "1" else ""
        if op == "profile":
            return self.point()
        if op == "sample":
            if "latency_ns" in keys and self.pauses > 0:
                self.pauses -= 1
                return "errno=0\nprofile=1\npause=1\n"
            return self.point()
        if op == "hello":
            return "errno=0\nversion=0\nprotocol=1\n"
        return "errno=0\n"

    def answer(self, keys):
        if self.rubbish:
            return "errno=zero\n\x01\x02==\n\n"
        lines = self.reply(keys)
        if lines and "tag" in keys:
            head, rest = lines.split("\n", 1)
            lines = f"{head}\ntag={keys['tag']}\n{rest}"
        return lines + "\n" if lines else ""
