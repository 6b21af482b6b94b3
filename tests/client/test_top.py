#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""flamectl top on a real terminal: tmux shows the screen and presses the keys."""

import contextlib
import os
import re
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


def answers(op, _message):
    return sessions() if op == "status" else False


@contextlib.contextmanager
def top(directory, behave=answers, shows=("aaa-cnn", "zzz-llm"), **size):
    """A fake flamed and flamectl top, which shows it: (fake, terminal)."""
    fake = Fake(directory + "/s", busy=True)
    fake.behave = behave
    terminal = None
    try:
        terminal = Terminal(directory, **size)
        terminal.shows(*shows)
        yield fake, terminal
    finally:
        if terminal:
            terminal.end()
        fake.close()


@test
def small(directory):
    """Everything fits 80 columns and 24 lines."""
    with top(directory) as (_, terminal):
        text = terminal.shows("aaa-cnn", "zzz-llm", "cpu", "gpu", "mem", "q quit", "MODEL", "LATE")
        lines = text.split("\n")
        equal(max(len(line) for line in lines) <= 80 and len(lines) <= 25, True, text)
        contains(lines[1], "9.71 W VDD_IN", "47.2 C tj-thermal", "keeper running")
        cpu = [line for line in lines if line.startswith("cpu")][0]
        contains(cpu, "1344 MHz of 1728 MHz", "flamed")
        equal((cpu.count("\u2588"), cpu.count("\u2591")), (25, 8), "the clock as a bar")
        contains([line for line in lines if "zzz-llm" in line][0], "20.0/s", "40.00%", "4.00 W")
        contains([line for line in lines if "aaa-cnn" in line][0], "33.0 ms", "1.00%", "9.00 W")
        bars = [c for c in [line for line in lines if "zzz-llm" in line][0] if "\u2581" <= c <= "\u2588"]
        equal(len(bars), 4, f"four bars of four latencies: {bars}")
        equal(bars[3], "\u2588", "the late one stands tallest")
        equal(lines.index([line for line in lines if "zzz-llm" in line][0]) < lines.index([line for line in lines
                                                                                           if "aaa-cnn" in line][0]),
              True,
              "the one that is late most stands first")
        terminal.press("h")
        terminal.shows("fraction of requests that ended after they were due", "q         quit", "as do\n")
        terminal.press("?")
        terminal.shows("aaa-cnn")
        terminal.press("q")
        terminal.shows("left with 0")


def listed(terminal):
    return [name for name in (line[:7] for line in terminal.screen().split("\n")) if name in ("aaa-cnn", "zzz-llm")]


@test
def sorts(directory):
    """< and > sort by the next column, up to both ends; P by power; R reverses."""
    with top(directory) as (_, terminal):
        terminal.shows("aaa-cnn", "sort by: late")
        for key, order, first in ((">", "power", "aaa"), (">", "power", "aaa"), ("<", "late", "zzz"),
                                  ("<", "p99", "aaa"), ("<", "mean", "aaa"), ("<", "deadline", "zzz"),
                                  ("<", "model", "aaa"), ("<", "model", "aaa"), ("R", "model (R)", "zzz"),
                                  ("P", "power", "aaa"), ("R", "power (R)", "zzz"), ("R", "power  ", "aaa")):
            terminal.press(key)
            terminal.shows("sort by: " + order)
            until(lambda: listed(terminal)[0].startswith(first), f"{key}: {first} first by {order}")
        title = [line for line in terminal.colours().split("\n") if "DEADLINE" in line][0]
        equal(re.findall(r"\x1b\[(?:[0-9]+;)*1m *([A-Z0-9]+)", title), ["POWER"],
              f"the column that it is sorted by is bold: {title!r}")


@test
def refreshes(directory):
    """d and s change the delay; space refreshes at once; k, which kills in top, does nothing."""
    with top(directory) as (fake, terminal):
        terminal.shows("aaa-cnn", "delay: 1.0 s")
        for key, typed, says in (("d", "0.5", "delay: 0.5 s"), ("s", "60", "delay: 60.0 s"), ("s", "", "delay: 60.0 s"),
                                 ("d", "0.01", "Not a delay of 0.1 to 3600 seconds: 0.01"),
                                 ("d", "x", "Not a delay of 0.1 to 3600 seconds: x")):
            terminal.press(key)
            terminal.shows("Change delay from")
            terminal.press(*typed, "Enter")
            terminal.shows(says)
        terminal.press("d")
        terminal.shows("Change delay from 60.0 to (seconds):")
        terminal.press("7", "8", "BSpace")
        until(lambda: terminal.screen().rstrip().endswith("(seconds): 7"), "a typed figure is taken back")
        terminal.press("Escape")
        terminal.shows("delay: 60.0 s")
        before = len(fake.ops("status"))
        terminal.press("k")
        time.sleep(1.5)
        equal(len(fake.ops("status")), before, "nothing is asked before the delay is over, nor for k")
        for key in ("Space", "Enter"):
            terminal.press(key)
            until(lambda: len(fake.ops("status")) == before + 1, f"{key} asks at once", 20)
            before += 1
        terminal.press("q")
        terminal.shows("left with 0")


@test
def users(directory):
    """u lists the sessions of one user, by name or number."""
    def answer(op, message):
        return [("session.0.uid", 0) if p[0] == "session.0.uid" else p for p in answers(op, message) or []] or False

    with top(directory, answer) as (_, terminal):
        terminal.shows("aaa-cnn", "zzz-llm")
        for typed, names, says in (("root", ["aaa-cnn"], "user: root"), ("1000", ["zzz-llm"], "user: 1000"),
                                   ("12", [], "No session of this user."), ("nobody-here", [], "No such user: nobody"),
                                   ("", ["zzz-llm", "aaa-cnn"], "user: all")):
            terminal.press("u")
            terminal.shows("Which user")
            terminal.press(*typed, "Enter")
            terminal.shows(says)
            until(lambda: listed(terminal) == names, f"{typed}: {names}")


@test
def left_out(directory):
    """The number of sessions that are not listed is shown, as status shows it: those that flamed's reply has no room
    for, and those over 256 of it."""
    many = 300

    def answer(op, _message):
        if op != "status":
            return False
        return sessions() + [("more", 7)] + [(f"session.{i}.{key}", value) for i in range(2, many) for key, value in (
            ("id", i + 1), ("model", "mmm"), ("uid", 0))] * (len(terminals) > 0)

    terminals = []
    with top(directory, answer) as (_, terminal):
        lines = terminal.shows("and 7 more").split("\n")
        equal(lines.index("and 7 more") - [line[:7] for line in lines].index("aaa-cnn"), 1, "below the last session")
        terminals.append(terminal)
        terminal.press("Space")
        text = terminal.shows(f"and {7 + many - 256} more")
        lines = text.split("\n")
        contains(lines[lines.index(f"and {7 + many - 256} more") - 1], "mmm")
        terminal.press("End")
        until(lambda: "zzz-llm" not in terminal.screen(), "the end of the list")
        contains(terminal.screen(), f"and {7 + many - 256} more")
        terminal.press("Home", "u")
        terminal.shows("Which user")
        terminal.press(*"1000", "Enter")
        terminal.shows("user: 1000", "and 7 more of all users")
        equal(listed(terminal), ["zzz-llm", "aaa-cnn"])
        equal(terminal.screen().count("No session"), 0)


@test
def explains(directory):
    """The decision of the selected session is explained; the selection follows its session."""
    def answer(op, message):
        if op == "explain":
            return [("text", f"why session {message.get('session')} is where it is")]
        return answers(op, message)

    with top(directory, answer) as (_, terminal):
        terminal.shows("why session 2 is where it is")
        terminal.press("Down")
        terminal.shows("why session 1 is where it is")
        terminal.press("P")
        terminal.shows("why session 1 is where it is", "sort by: power")
        for key, session in (("Down", 2), ("Up", 1), ("End", 2), ("Home", 1), ("NPage", 2), ("PPage", 1)):
            terminal.press(key)
            terminal.shows(f"why session {session} is where it is")


@test
def large(directory):
    """A larger window is used, its size may change, and without UTF-8 or colour the output is ASCII."""
    with top(directory, columns=150, lines=40) as (_, terminal):
        text = terminal.screen()
        equal(max(len(line) for line in text.split("\n")) > 130, True, "the width is used:\n" + text)
        terminal.tmux("resize-window", "-x", "60", "-y", "15")
        until(lambda: max(len(line) for line in terminal.screen().split("\n")) <= 60 and "q quit" in terminal.screen(),
              "a small window")
    with top(directory, environment="LC_ALL=C") as (_, terminal):
        text = terminal.shows("#")
        equal(all(ord(c) < 128 for c in text), True, text)


@test
def lost(directory):
    """A daemon that ends is reported, and shown again after its restart, without a key."""
    with top(directory) as (fake, terminal):
        fake.close()
        terminal.shows("flamed does not answer")
        with contextlib.closing(Fake(fake.path, busy=True)) as restarted:
            restarted.behave = answers
            terminal.shows("aaa-cnn", "zzz-llm")
            terminal.press("q")
            terminal.shows("left with 0")


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


@test
def late_reply(directory):
    """A reply that comes after the limit is not taken for the next one: top connects again, and goes on."""
    held = []

    def late(op, message):
        if op == "explain" and held == ["next"]:
            held[:] = ["withheld"]
            return None
        reply = answers(op, message)
        if held != ["withheld"] or len(fake.connections) > 1:
            return reply
        held[:] = []
        pairs = fake.reply(op, message) if reply is False else reply
        return "".join(f"{k}={v}\n" for k, v in [("errno", 0), ("text", "it comes late\n\nerrno=0"), *pairs]
                       ).encode() + b"\n"

    with top(directory, shows=("aaa-cnn", "the cheapest of 37")) as (fake, terminal):
        fake.behave = late
        held[:] = ["next"]
        until(lambda: held == ["withheld"] and len(fake.connections) == 2, "a second connection", 60)
        asked = len(fake.ops("explain"))
        until(lambda: len(fake.ops("explain")) > asked + 1, "it asks again", 60)
        terminal.shows("aaa-cnn", "zzz-llm", "the cheapest of 37")
        equal("it comes late" in terminal.screen(), False)


if __name__ == "__main__":
    main()
