#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""flamectl top on a real terminal: tmux shows the screen and presses the keys."""

import os
import shutil
import subprocess
import tempfile
import time

from fake import Fake, status
from tap import BUILD, Skip, contains, equal, main, test, until


class Terminal:
    def __init__(self, directory, columns=80, lines=24, environment=""):
        if not shutil.which("tmux"):
            raise Skip("no tmux here")
        # a server that is still ending answers on its old one
        self.socket = tempfile.mkdtemp(dir=directory) + "/tmux"
        ctl = os.path.join(BUILD, "flamectl")
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines),
                  f"env LC_ALL=C.UTF-8 {environment} {ctl} --socket {directory}/s top; echo left with $?; sleep 60")

    def tmux(self, *words):
        return subprocess.run(["tmux", "-S", self.socket, *words], capture_output=True, text=True, check=True,
                              timeout=30,
                              env={**os.environ, "LC_ALL": "C.UTF-8"}).stdout

    def screen(self):
        return self.tmux("capture-pane", "-p")

    def colours(self):
        return self.tmux("capture-pane", "-p", "-e")

    def press(self, *keys):
        self.tmux("send-keys", *keys)

    def shows(self, *parts):
        until(lambda: all(p in self.screen() for p in parts), f"{parts} on:\n{self.screen()}", 20)
        return self.screen()

    def end(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], capture_output=True, timeout=30)


def sessions():
    """The usual status, with a stream that is often late beside a network that is not."""
    pairs = [p for p in status(True) if not p[0].startswith("session.")]
    for i, (model, missed, watts, deadline, recent) in enumerate((("aaa-cnn", 1, 9, 33, [20, 25, 30]),
                                                                  ("zzz-llm", 40, 4, 50, [45, 52, 49, 70]))):
        pairs += [(f"session.{i}.{key}", value) for key, value in (
            ("id", i + 1), ("model", model), ("pid", 1), ("uid", 1000), ("phase", "run"), ("context", 0),
            ("deadline_ns", deadline * 10**6), ("requests", 100),
            ("missed", missed), ("unended", 0), ("surface", "ready"), ("mean_ns", 28 * 10**6), ("p99_ns", 31 * 10**6),
            ("power_uw", watts * 10**6),
            ("energy_uj", 1), ("cpu_hz", 1344000000), ("gpu_hz", 510000000), ("mem_hz", 0),
            ("recent_ns", ",".join(str(r * 10**6) for r in recent)))]
    return pairs + [("session.1.rate_mhz", 20000)]


@test
def small(directory):
    """Everything fits 80 columns and 24 lines."""
    fake = Fake(directory + "/s", busy=True)
    fake.behave = lambda op, message: sessions() if op == "status" else False
    terminal = Terminal(directory)
    try:
        text = terminal.shows("aaa-cnn", "zzz-llm", "cpu", "gpu", "mem", "q quit", "MODEL", "LATE")
        lines = text.split("\n")
        equal(max(len(line) for line in lines) <= 80 and len(lines) <= 25, True, text)
        contains([line for line in lines if "zzz-llm" in line][0], "20.0/s", "40.00%", "4.00 W")
        contains([line for line in lines if "aaa-cnn" in line][0], "33.0 ms", "1.00%", "9.00 W")
        bars = [c for c in [line for line in lines if "zzz-llm" in line][0] if "\u2581" <= c <= "\u2588"]
        equal(len(bars), 4, f"four bars of four latencies: {bars}")
        equal(bars[3], "\u2588", "the late one stands tallest")
        equal(lines.index([line for line in lines if "zzz-llm" in line][0]) < lines.index([line for line in lines
                                                                                           if "aaa-cnn" in line][0]),
              True,
              "the one that is late most stands first")
        terminal.press("s")
        terminal.shows("sort by: power")
        lines = terminal.screen().split("\n")
        equal([n for n in (line[:7] for line in lines) if n in ("aaa-cnn", "zzz-llm")], ["aaa-cnn", "zzz-llm"],
              "by power")
        terminal.press("Space")
        terminal.shows("paused")
        before = len(fake.ops("status"))
        time.sleep(1.5)
        equal(len(fake.ops("status")), before, "nothing is asked while paused")
        terminal.press("Space", "h")
        terminal.shows("fraction of requests that ended after they were due")
        terminal.press("h")
        terminal.shows("aaa-cnn")
        terminal.press("+")
        terminal.shows("every 0.5 s")
        terminal.press("q")
        terminal.shows("left with 0")
    finally:
        terminal.end()
        fake.close()


@test
def explains(directory):
    """The decision of the selected session is explained; the selection follows its session."""
    fake = Fake(directory + "/s", busy=True)
    fake.behave = lambda op, message: (sessions() if op == "status" else
                                       [("text", f"why session {message.get('session')} is where it is")]
                                       if op == "explain" else False)
    terminal = Terminal(directory)
    try:
        terminal.shows("why session 2 is where it is")
        terminal.press("Down")
        terminal.shows("why session 1 is where it is")
        terminal.press("s")
        time.sleep(0.3)
        terminal.shows("why session 1 is where it is", "sort by: power")
        terminal.press("k")
        terminal.press("j")
        terminal.shows("why session 2 is where it is")
    finally:
        terminal.end()
        fake.close()


@test
def large(directory):
    """A larger window is used, its size may change, and without UTF-8 or colour the output is ASCII."""
    fake = Fake(directory + "/s", busy=True)
    fake.behave = lambda op, message: sessions() if op == "status" else False
    terminal = Terminal(directory, 150, 40)
    try:
        text = terminal.shows("aaa-cnn")
        equal(max(len(line) for line in text.split("\n")) > 130, True, "the width is used:\n" + text)
        terminal.tmux("resize-window", "-x", "60", "-y", "15")
        until(lambda: max(len(line) for line in terminal.screen().split("\n")) <= 60 and "q quit" in terminal.screen(),
              "a small window")
    finally:
        terminal.end()
    ascii_only = Terminal(directory, 80, 24, "LC_ALL=C")
    try:
        text = ascii_only.shows("aaa-cnn", "#")
        equal(all(ord(c) < 128 for c in text), True, text)
    finally:
        ascii_only.end()
        fake.close()


@test
def lost(directory):
    """A daemon that goes away is reported, and shown again when it is back, without a key."""
    fake = Fake(directory + "/s", busy=True)
    fake.behave = lambda op, message: sessions() if op == "status" else False
    terminal = Terminal(directory)
    try:
        terminal.shows("aaa-cnn")
        fake.close()
        terminal.shows("flamed does not answer")
        fake = Fake(directory + "/s", busy=True)
        fake.behave = lambda op, message: sessions() if op == "status" else False
        terminal.shows("aaa-cnn", "zzz-llm")
        terminal.press("q")
        terminal.shows("left with 0")
    finally:
        terminal.end()
        fake.close()


@test
def no_terminal(directory):
    """Without a terminal, and with --json, it names the command to use instead."""
    fake = Fake(directory + "/s")
    ctl = [os.path.join(BUILD, "flamectl"), "--socket", directory + "/s"]
    out = subprocess.run([*ctl, "top"], capture_output=True, text=True)
    equal(out.returncode, 1)
    contains(out.stderr, "not a terminal", "status --watch")
    out = subprocess.run([*ctl, "--json", "top"], capture_output=True, text=True)
    equal(out.returncode, 2)
    contains(out.stderr, "status --json")
    fake.close()


if __name__ == "__main__":
    main()
