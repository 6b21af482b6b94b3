# SPDX-License-Identifier: MIT
"""libflamed against a daemon of tables: the messages sent, and the behaviour with a
daemon that is absent, silent, killed or restarted."""

import errno
import os
import subprocess
import threading
import time

from fake import Fake
from tap import BUILD, contains, equal, main, test, until, within

MS = 1000000


class Exercise:
    """tests/client/exercise with a pipe on either end."""

    def __init__(self, path=None, **environment):
        names = {k: v for k, v in os.environ.items() if not k.startswith("FLAMED_")}
        self.process = subprocess.Popen([os.path.join(BUILD, "tests/client/exercise")], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env={**names, **environment}, bufsize=1)
        equal(self("open", *([path] if path else [])), ["0"], "open")

    def __call__(self, *words):
        self.say(*words)
        return self.line()

    def say(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def line(self):
        return self.process.stdout.readline().split()

    def end(self):
        self.process.stdin.close()
        rest, errors = self.process.stdout.read(), self.process.stderr.read()
        equal(self.process.wait(), 0, "exit status: " + errors)
        equal(errors, "", "stderr")
        return rest


@test
def absent(directory):
    """No daemon: every call answers -ENOTCONN or passes the number on."""
    e = Exercise(directory + "/none.sock")
    equal(e("connected"), ["0"])
    equal(e("session", "resnet50", 999, 1000 * MS)[0], str(-errno.EINVAL), "deadline under 1 us")
    equal(e("session", "resnet50", 33 * MS, 20000 * MS)[0], "0", "session has a number all the same")
    equal(e("begin", 0, 0)[0], str(-errno.ENOTCONN))
    equal(e("wait", 0, 0, 20000 * MS)[0], str(-errno.ENOTCONN))
    equal(e("end", -errno.ENOTCONN, 0), [str(-errno.ENOTCONN)], "negative request")
    equal(e("begin", -22, 0)[0], "-22", "negative session")
    equal(e("state", 0), [str(-errno.ENOTCONN)])
    equal(e("phase", 0, "decode", 12), ["0"])
    equal(e("profile", "m", 4), [str(-errno.ENOTCONN), "0"])
    equal(e("close", 0), ["0"])
    e.end()


@test
def arguments(directory):
    """Bad names, deadlines, phases, numbers: -EINVAL and -ENOENT, nothing is sent."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s")
    for name in ("a/b", "x" * 65, "\u00e9"):
        equal(e("session", name, 0, 0)[0], str(-errno.EINVAL), name)
    equal(e("session", "-", 0, 0)[0], str(-errno.EINVAL), "no FLAMED_MODEL")
    for deadline_ns in (1, 999, 3600001 * 10**6):
        equal(e("session", "m", deadline_ns, 0)[0], str(-errno.EINVAL), f"deadline of {deadline_ns} ns")
    equal(fake.seen, [])
    equal(e("session", "m", 0, 20000 * MS)[0], "0")
    equal(e("begin", 0, 0)[0], str(-errno.EINVAL), "no deadline known")
    equal(e("begin", 0, 999)[0], str(-errno.EINVAL), "deadline under 1 us")
    equal(e("begin", 7, 33 * MS)[0], str(-errno.ENOENT))
    equal(e("begin", 64, 33 * MS)[0], str(-errno.ENOENT))
    equal(e("phase", 0, "sprint", 0), [str(-errno.EINVAL)])
    equal(e("end", 999, 0), [str(-errno.ENOENT)])
    for i in range(1, 64):
        equal(e("session", "m", 0, 20000 * MS)[0], str(i))
    equal(e("session", "m", 0, 0)[0], str(-errno.ENOSPC))
    e.end()
    fake.close()


@test
def messages(directory):
    """The messages of open, begin, end and close."""
    fake = Fake(directory + "/s")
    e = Exercise(None, FLAMED_SOCKET=directory + "/s", FLAMED_MODEL="from.env", FLAMED_DEADLINE_NS="20000000",
                 FLAMED_TAG="tag-1")
    equal(e("session", "-", 0, 20000 * MS)[0], "0")
    equal(fake.ops("open"), [{"op": "open", "model": "from.env", "deadline_ns": "20000000", "tag": "tag-1"}])
    equal(e("state", 0), ["2"], "ready")
    e("phase", 0, "decode", 731)
    answer = e("wait", 0, 0, 20000 * MS)
    equal(answer[1:], ["applied=1", "feasible=1", "cpu=1344000000", "gpu=510000000", "predicted=27900000",
                       "bound=30400000", "settle=5200000"])
    begin = fake.ops("begin")[0]
    equal((begin["deadline_ns"], begin["phase"], begin["context"], begin["wait"]), ("20000000", "decode", "731", "1"))
    equal(e("end", answer[0], 27950000), ["0"])
    equal(e("end", answer[0], 27950000), [str(-errno.ENOENT)], "ended twice")
    until(lambda: fake.ops("end"), "end")
    equal(fake.ops("end")[0]["total_ns"], "27950000")
    request = e("begin", 0, 33 * MS)[0]
    time.sleep(0.02)
    equal(e("end", request, 0), ["0"])
    until(lambda: len(fake.ops("end")) == 2, "end")
    within(int(fake.ops("end")[1]["total_ns"]), 20 * MS, 5000 * MS, "measured here")
    until(lambda: e("counts", 0)[1] == "2", "acknowledged")
    equal(e("close", 0), ["0"])
    until(lambda: fake.ops("close"), "close")
    e.end()
    fake.close()


@test
def long_layers(directory):
    """1,500 layers go out in lines of at most 4 KiB; too many are left out."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s")
    e("session", "m", 33 * MS, 20000 * MS)
    for count in (1500, 30000):
        request = e("wait", 0, 0, 20000 * MS)[0]
        equal(e("layers", request, count), ["0"])
    until(lambda: len(fake.ops("end")) == 2, "end")
    first, second = fake.ops("end")
    lines = [first["layers"]] + [first[f"layers.{i}"] for i in range(1, sum(k.startswith("layers.") for k in first)
                                                                     + 1)]
    within(max(map(len, lines)), 1000, 4080, "longest line")
    layers = ",".join(lines).split(",")
    equal((len(layers), layers[0], layers[-1]), (1500, "1000:20000", "2499:21499:s"))
    equal([k for k in second if k.startswith("layer")], [])
    equal([e("layer_source", word) for word in ("cupti", "not-a-word", "morethanfifteenletters")], [["0"], ["-22"],
                                                                                                    ["-22"]])
    for word in ("cupti", None):
        if word is None:
            equal(e("layer_source"), ["0"])
        request = e("wait", 0, 0, 20000 * MS)[0]
        e("layers", request, 2)
    until(lambda: len(fake.ops("end")) == 4, "end")
    equal([m.get("layer_source") for m in fake.ops("end")], [None, None, "cupti", None],
          "how layers were measured goes with them")
    e.end()
    fake.close()


@test
def other_shapes(directory):
    """A reply that does not belong to its message (one was lost or repeated): the library uses no later reply, and
    reconnects."""
    lost = {"begin": [("missed", 0)], "open": [("request", 3), ("feasible", 1)],
            "end": [("session", 2), ("surface", "none")],
            "close": [("missed", 1)]}
    for op, reply in lost.items():
        fake = Fake(directory + "/" + op)
        wrong = []
        fake.behave = lambda seen, message: (wrong.append(seen), reply)[1] if seen == op and not wrong else False
        e = Exercise(directory + "/" + op)
        number = e("session", "m", 33 * MS, 200 * MS)[0]
        if op == "close":
            equal(e("close", 0), ["0"])
            number = e("session", "m", 33 * MS, 200 * MS)[0]
        first = e("wait", number, 0, 20000 * MS)
        if int(first[0]) > 0:
            e("end", first[0], 1000)
        until(lambda: wrong, op)
        # The connection is closed, and a new one works.
        answers = []
        until(lambda: answers.append(e("wait", number, 0, 20000 * MS))
              or answers[-1][1:3] == ["applied=1", "feasible=1"], op + " again")
        equal(e("end", answers[-1][0], 1000), ["0"])
        until(lambda: e("counts", number)[1] != "0", op + " counted")
        e.end()
        fake.close()


@test
def stolen_descriptors(directory):
    """A program that closes every descriptor and opens its own: its file is neither written to nor closed."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s")
    e("session", "m", 33 * MS, 20000 * MS)
    equal(e("steal", directory + "/file", 0), ["1", "0"], "every descriptor is still the file, which is empty")
    equal(open(directory + "/file").read(), "")
    until(lambda: e("connected") == ["1"], "reconnected")
    e.end()
    fake.close()


@test
def silent(directory):
    """A daemon that never answers: begin does not block, waits end in time."""
    fake = Fake(directory + "/s")
    fake.behave = lambda op, message: None
    e = Exercise(directory + "/s")
    number, took = e("session", "m", 33 * MS, 100 * MS)
    equal(number, "0")
    within(int(took), 90 * MS, 20000 * MS, "session waited")
    rc, took = e("begin", 0, 0)
    equal(rc, str(-errno.EAGAIN))
    within(int(took), 0, 20000 * MS, "begin took")  # blocked it would be for ever
    equal(e("wait", 0, 0, 50 * MS)[0], str(-errno.EAGAIN))
    e.end()
    fake.close()


@test
def streams(directory):
    """A stream names its rate at open and no deadline at begin, and starts again on request."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s", FLAMED_FIRST_NS=str(800 * MS))
    equal(e("stream", "llama", 15000, 0)[0], "0")
    opened = fake.ops("open")[0]
    equal((opened["rate_mhz"], opened["first_ns"], opened.get("deadline_ns")), ("15000", str(800 * MS), None), "open")
    for expected in (None, "1", None):
        if expected:
            equal(e("start", 0), ["0"])
        e("end", e("wait", 0, 0, 20000 * MS)[0], 5 * MS)
        begin = fake.ops("begin")[-1]
        equal((begin.get("deadline_ns"), begin.get("stream")), (None, expected), "begin")
    e("end", e("wait", 0, 33 * MS, 20000 * MS)[0], 5 * MS)
    equal(fake.ops("begin")[-1]["deadline_ns"], str(33 * MS), "a deadline of its own")
    until(lambda: e("counts", 0)[1] == "4", "acknowledged")
    for begin, verb, value in (("wait", "withdraw", "1"), ("begin", "withdraw", "1"),  # after the reply, and before
                               ("wait", "put_back", "2"), ("begin", "put_back", "2")):
        request = e(begin, 0, 0, 20000 * MS)[0]
        equal(e(verb, request), ["0"])
        equal(e(verb, request), [str(-errno.ENOENT)], "withdrawn once")
        e("end", e("wait", 0, 0, 20000 * MS)[0], 5 * MS)
        until(lambda: [end.get("withdraw") for end in fake.ops("end")[-2:]] == [value, None], "withdrawn")
    until(lambda: e("counts", 0)[1] == "8", "withdrawn requests are not counted")
    fake.drop()  # opened again, as a stream
    until(lambda: e("begin", 0, 0)[0].isdigit() and len(fake.ops("open")) > 1, "open again")
    equal(fake.ops("open")[-1]["rate_mhz"], "15000", "open again")
    equal(e("stream", "llama", 0, 0)[0], str(-errno.EINVAL), "no rate")
    equal(e("stream", "llama", 10**9 + 1, 0)[0], str(-errno.EINVAL), "rate too high")
    equal(e("stream", "llama", 15000, 999)[0], str(-errno.EINVAL), "first under 1 us")
    number = e("session", "net", 33 * MS, 20000 * MS)[0]
    equal(e("start", number)[0], str(-errno.EINVAL), "no stream")
    e.end()
    e = Exercise(directory + "/s", FLAMED_RATE_MHZ="30000", FLAMED_DEADLINE_NS=str(20 * MS))
    e("session", "net", 0, 20000 * MS)
    equal(fake.ops("open")[-1].get("rate_mhz"), "30000",
          "a session without a deadline takes the rate of the environment")
    e("session", "net", 25 * MS, 20000 * MS)
    equal(fake.ops("open")[-1].get("rate_mhz"), None, "one with a deadline does not")
    e.end()
    fake.close()


@test
def of_the_daemon(directory):
    """Deadline and rate of flamed.conf, as the reply to open has them, serve requests without a deadline."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s")
    replies = {"due": ("deadline_ns", 40 * MS), "paced": ("rate_mhz", 20000)}
    fake.behave = lambda op, message: ([("session", 1), ("surface", "none"), replies[message["model"]]]
                                       if message.get("model") in replies else False)
    equal(e("session", "due", 0, 20000 * MS)[0], "0")
    equal(e("session", "paced", 0, 20000 * MS)[0], "1")
    equal(e("session", "neither", 0, 20000 * MS)[0], "2")
    e("end", e("wait", 0, 0, 20000 * MS)[0], 5 * MS)
    e("end", e("wait", 0, 20 * MS, 20000 * MS)[0], 5 * MS)
    e("end", e("wait", 1, 0, 20000 * MS)[0], 5 * MS)
    equal([m.get("deadline_ns") for m in fake.ops("begin")], [str(40 * MS), str(20 * MS), None], "begins")
    equal((e("start", 0), e("start", 1)), ([str(-errno.EINVAL)], ["0"]), "which one is a stream")
    equal(e("begin", 2, 0)[0], str(-errno.EINVAL), "no deadline known")
    replies.clear()
    fake.drop()  # opened again: flamed.conf has changed
    until(lambda: e("begin", 0, 0)[0] == str(-errno.EINVAL), "the deadline is gone")
    e.end()
    fake.close()


@test
def slow_begin(directory):
    """A begin answered late: returned as not applied, ended once it is known, with its layers."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s")
    e("session", "m", 33 * MS, 20000 * MS)

    go = threading.Event()

    def late(op, message):
        if op == "begin":
            go.wait(60)
            go.clear()
        return False

    fake.behave = late
    answer = e("wait", 0, 0, 20 * MS)
    equal(answer[1], "applied=0")
    equal(e("decision", answer[0])[0], str(-errno.EAGAIN))
    equal(e("end", answer[0], 123456), ["0"], "before its begin was answered")
    go.set()
    until(lambda: e("counts", 0)[1] == "1", "sent on and acknowledged")
    equal(fake.ops("end")[0]["total_ns"], "123456")
    answer = e("wait", 0, 0, 20 * MS)
    equal((answer[1], e("layers", answer[0], 3)), ("applied=0", ["0"]), "the same with layers")
    go.set()
    until(lambda: e("counts", 0)[1] == "2", "sent on and acknowledged")
    equal(fake.ops("end")[1]["layers"], "1000:20000,1001:20001,1002:20002:s", "its layers went with it")
    answer = e("wait", 0, 0, 20 * MS)
    equal(e("layers", answer[0], 3), ["0"], "and without an answer nothing is kept for ever")
    go.set()
    until(lambda: e("counts", 0)[1] == "3", "sent on and acknowledged")
    fake.behave = lambda op, message: None if op == "begin" else False
    for n in range(20):
        seen = len(fake.seen)
        e("end", e("begin", n, 0)[0], 777)
        until(lambda: fake.seen[-1]["op"] == "begin", "begin")
        answer = "".join(f"{k}={v}\n" for k, v in [("errno", 0), *fake.reply("begin", {})]) + "\n"
        closing = time.monotonic()
        e.say("close", n)
        time.sleep(0.03)
        fake.connections[-1].sendall(answer.encode())
        answered = time.monotonic()
        e.line()
        until(lambda: len(fake.ops("close")) == n + 1, "close")
        if answered - closing < 0.1:  # for which the library waits: else this test was too late
            break
        equal(e("session", "m", 33 * MS, 20000 * MS), [str(n + 1)])
    order = [m["op"] for m in fake.seen[seen:] if m["op"] in ("end", "close")]
    equal(order, ["end", "close"], "requests that ended are reported before the session closes")
    e.end()
    fake.close()


@test
def unanswered(directory):
    """No more begins wait for replies than the daemon takes of a session: each that has a number is counted."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s")
    e("session", "m", 33 * MS, 20000 * MS)
    e("session", "n", 33 * MS, 20000 * MS)
    go = threading.Event()
    fake.behave = lambda op, message: op == "begin" and not go.wait(60)
    requests = [int(e("begin", 0, 0)[0]) for _ in range(8)]
    equal(sorted(set(requests)), requests, "a number each")
    within(requests[0], 1, 10**6, "numbers")
    for request in requests[:4]:
        equal(e("end", request, 5 * MS), ["0"], "before its begin was answered")
    equal(e("begin", 0, 0)[0], str(-errno.EAGAIN), "the ninth")
    within(int(e("begin", 1, 0)[0]), 1, 10**6, "another session")
    go.set()
    for request in requests[4:]:
        equal(e("end", request, 5 * MS), ["0"])
    until(lambda: e("counts", 0)[1] == "8", "counted")
    equal(len(fake.ops("begin")), 9, "begins")
    within(int(e("begin", 0, 0)[0]), 1, 10**6, "once they are answered")
    e.end()
    fake.close()


@test
def refused(directory):
    """The daemon's refusals come back as their errno."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s")
    e("session", "m", 33 * MS, 20000 * MS)
    fake.behave = lambda op, m: [("errno", errno.EDQUOT), ("message", "too many")] if op in ("open", "begin",
                                                                                             "end") else False
    equal(e("session", "n", 33 * MS, 20000 * MS)[0], str(-errno.EDQUOT))
    equal(e("wait", 0, 0, 20000 * MS)[0], str(-errno.EDQUOT))
    request = e("begin", 0, 0)[0]
    until(lambda: e("decision", request)[0] == str(-errno.EDQUOT), "refusal")
    equal(e("end", request, 0), [str(-errno.EDQUOT)])
    fake.behave = None
    request = e("wait", 0, 0, 20000 * MS)[0]
    fake.behave = lambda op, m: [("errno", errno.ENOENT), ("message", "request: expired")] if op == "end" else False
    equal(e("end", request, 5), ["0"])
    fake.behave = None
    within(int(e("wait", 0, 0, 20000 * MS)[0]), 1, 10**6, "an error to end is not taken for the answer to begin")
    e.end()
    fake.close()


@test
def restart(directory):
    """Killed in the middle and started again: no signal, no stale reply, sessions come back by themselves."""
    path = directory + "/s"
    fake = Fake(path)
    e = Exercise(path)
    e("session", "m", 33 * MS, 20000 * MS)
    e("session", "n", 33 * MS, 20000 * MS)
    request = e("wait", 0, 0, 20000 * MS)[0]
    fake.close()
    equal(e("end", request, 0)[0] in ("0", str(-errno.ENOENT), str(-errno.ENOTCONN)), True)
    for _ in range(20):
        equal(e("begin", 0, 0)[0], str(-errno.ENOTCONN))
    fake = Fake(path)
    until(lambda: int(e("begin", 1, 0)[0]) > 0, "begin after the restart")
    within(int(e("wait", 0, 0, 20000 * MS)[0]), 1, 10**6, "the other session")
    equal(sorted(m["model"] for m in fake.ops("open")), ["m", "n"])
    equal(e("end", request, 0), [str(-errno.ENOENT)], "a request of the lost connection")
    e.end()
    fake.close()


@test
def refused_again(directory):
    """A session that is refused when it is opened again is asked for again, ever more rarely, until there is room."""
    path = directory + "/s"
    fake = Fake(path)
    e = Exercise(path)
    e("session", "m", 33 * MS, 20000 * MS)
    fake.behave = lambda op, m: [("errno", errno.EDQUOT), ("message", "too many")] if op == "open" else False
    fake.drop()
    equal(e("session", "n", 33 * MS, 0)[0], "1", "a session that was not waited for")
    opens = lambda name: sum(m["model"] == name for m in fake.ops("open"))  # noqa: E731
    for number, name in ((0, "m"), (1, "n")):
        before = opens(name)
        until(lambda: e("begin", number, 0)[0] == str(-errno.EDQUOT), "refusal")
        begin = time.monotonic()
        until(lambda: int(e("begin", number, 0)[0]) < 0 and opens(name) >= max(before, 1) + 3, "three more tries")
        within(time.monotonic() - begin, 0.29, 60, "seconds of at least 100 and 200 ms")
    fake.behave = None
    connections = len(fake.connections)
    for number in (0, 1):
        until(lambda: int(e("begin", number, 0)[0]) > 0, "begin once there is room")
    equal(len(fake.connections), connections, "connections")
    e.end()
    fake.close()


@test
def backs_off(directory):
    """Without a daemon, attempts become less frequent: at most a few connects a second."""
    e = Exercise(directory + "/none")
    e("session", "m", 33 * MS, 0)
    slowest, begin = 0, time.monotonic()
    calls = 0
    while time.monotonic() < begin + 0.5:
        slowest = max(slowest, int(e("begin", 0, 0)[1]))
        calls += 1
    fake = Fake(directory + "/none")
    until(lambda: int(e("begin", 0, 0)[0]) > 0, "found")
    print(f"# | without a daemon: {calls} begins, the slowest {slowest / 1000:.0f} us")
    e.end()
    fake.close()


@test
def dropped_while_waiting(directory):
    """The connection ends while begin_wait blocks: it returns at once."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s")
    e("session", "m", 33 * MS, 20000 * MS)

    def drop(op, message):
        if op == "begin":
            fake.drop()
            return None
        return False

    fake.behave = drop
    begin = time.monotonic()
    equal(e("wait", 0, 0, 120000 * MS)[0], str(-errno.ENOTCONN))
    within(time.monotonic() - begin, 0, 60, "seconds")
    e.end()
    fake.close()


@test
def rubbish(directory):
    """Another program listens there: the connection is closed, without other effects."""
    for text in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 70000, b"errno=0\n" * 9000, b"\n\n\n", b"x" * 5000):
        fake = Fake(directory + "/s")
        fake.behave = lambda op, message: text
        e = Exercise(directory + "/s")
        equal(e("session", "m", 33 * MS, 200 * MS)[0], "0")
        equal(e("begin", 0, 0)[0] in (str(-errno.ENOTCONN), str(-errno.EAGAIN)), True)
        e.end()
        fake.close()


@test
def forks(directory):
    """A forked child gets a connection and sessions of its own; the parent's live on."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s")
    e("session", "m", 33 * MS, 20000 * MS)
    before = e("wait", 0, 0, 20000 * MS)[0]
    equal(e("fork"), ["forked"])
    equal(e("end", before, 0), [str(-errno.ENOENT)], "the parent's request")
    within(int(e("wait", 0, 0, 20000 * MS)[0]), 1, 10**6, "child")
    equal(len(fake.connections), 2)
    equal(e("exit"), ["back"])
    equal(e("end", before, 77), ["0"], "parent")
    until(lambda: any(m.get("total_ns") == "77" for m in fake.ops("end")), "the parent's end")
    within(int(e("wait", 0, 0, 20000 * MS)[0]), 1, 10**6, "parent")
    equal(len(fake.connections), 2, "the parent has not reconnected")
    e.end()
    fake.close()


@test
def threads(directory):
    """Eight threads on one handle: every request is ended once, none mixed up."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s")
    e("session", "m", 33 * MS, 20000 * MS)
    equal(e("threads", 0, 8, 100), ["done"])
    # The last begins may still be on their way to the daemon.
    until(lambda: int(e("counts", 0)[1]) == len(fake.ops("begin")) == 800, "ends")
    ids = [m["request"] for m in fake.ops("end")]
    equal(len(set(ids)), len(ids), "requests ended once")
    e.end()
    fake.close()


@test
def profiles(directory):
    """flamed_profile: each point measured as often as requested, paused ones again."""
    fake = Fake(directory + "/s")
    paused = []

    def pause_once(op, message):
        if op == "sample" and "latency_ns" in message and not paused:
            paused.append(1)
            fake.step += 1
            return [("pause", 1)]
        return False

    fake.behave = pause_once
    e = Exercise(directory + "/s")
    equal(e("profile", "m", 5), ["3", "12"], "points, inferences (3 x (1 + 3))")
    equal(fake.ops("profile")[0], {"op": "profile", "model": "m", "budget": "5"})
    samples = fake.ops("sample")
    equal([("latency_ns" in m) for m in samples], [True, False, True, True])
    equal({m.get("n") for m in samples if "n" in m}, {"3"})
    until(lambda: fake.ops("close"), "close")
    equal(fake.ops("close")[0]["profile"], "7")
    e.end()
    fake.close()


@test
def profiles_sessions(directory):
    """FLAMED_PROFILE: a program's own begins and ends become measurements."""
    fake = Fake(directory + "/s")
    e = Exercise(directory + "/s", FLAMED_PROFILE="1", FLAMED_BUDGET="9")
    e("session", "m", 33 * MS, 20000 * MS)
    for _ in range(200):
        request = e("begin", 0, 0)[0]
        e("end", request, 5 * MS)
        if any("wait" not in m for m in fake.ops("begin")):
            break
        time.sleep(0.005)
    equal(fake.ops("profile")[0]["budget"], "9")
    equal([(m["latency_ns"], m["n"]) for m in fake.ops("sample")], [("5000001", "3")] * 3)
    within(len(fake.ops("begin")), 1, 200, "governed once all is measured")
    e.end()
    fake.close()


class OneProfile(Fake):
    """Has one profile at a time, as flamed does. Replies to operations in `late` wait for `go`."""

    def __init__(self, path):
        super().__init__(path)
        self.running, self.late, self.go, self.behave = None, (), threading.Event(), self.one

    def one(self, op, message):
        if op in self.late:
            self.go.wait(60)
        if op == "close" and "profile" in message:
            if message["profile"] != str(self.running):
                return [("errno", errno.ENOENT), ("message", "profile: none of that number")]
            self.running = None
        if op == "profile":
            if self.running:
                return [("errno", errno.EBUSY), ("message", "profile: another one is running")]
            self.running, self.step = len(self.ops("profile")), 1
        if op in ("profile", "sample"):
            return [("profile", self.running)] + self.point(self.step)[1:]
        return False


@test
def profiles_close(directory):
    """A profile that was closed is closed in the daemon too, also if its reply comes later."""
    fake = OneProfile(directory + "/s")
    e = Exercise(directory + "/s", FLAMED_PROFILE="1")
    for n in (1, 2):  # the next session of the handle is profiled in turn
        number, sampled = e("session", "m", 33 * MS, 1000 * MS)[0], len(fake.ops("sample"))
        until(lambda: e("end", e("begin", number, 0)[0], 5 * MS) and len(fake.ops("sample")) > sampled, "a sample")
        equal(fake.running, n, "profile of the session")
        e("close", number)
        until(lambda: e("connected") == ["1"] and fake.running is None, "closed with its session")
    e.end()

    e = Exercise(directory + "/s")
    seen = len(fake.seen)
    fake.late = ("profile",)
    equal(e("profile_open", "m", 20 * MS), [str(-errno.ETIMEDOUT)], "no reply to open")
    equal(e("profile_open", "m", 20 * MS), [str(-errno.EBUSY)], "still waits for it")
    equal(e("profile_close"), ["0"], "before its id is known")
    equal(e("profile_open", "m", 20 * MS), [str(-errno.ETIMEDOUT)], "another one waits for the reply")
    until(lambda: fake.seen[seen:], "profile")
    equal([m["op"] for m in fake.seen[seen:]], ["profile"], "until then nothing else is sent")
    fake.go.set()
    equal(e("profile_open", "n", 10000 * MS), ["1"], "once that has come")
    equal([(m["op"], m.get("profile")) for m in fake.seen[seen:]],
          [("profile", None), ("close", "3"), ("profile", None)], "the first was closed")
    equal(fake.running, 4, "the one that is open")

    fake.late, fake.go = ("sample",), threading.Event()
    equal(e("profile_sample", 5 * MS, 20 * MS), [str(-errno.ETIMEDOUT)], "no reply to sample")
    equal(e("profile_close"), ["0"])
    e.say("profile_open", "o", 10000 * MS)
    fake.go.set()
    equal(e.line(), ["1"], "its reply is not taken for that to the next open")
    equal((fake.running, fake.ops("profile")[-1]["model"]), (5, "o"), "the daemon has the new one")
    equal(e("profile_close"), ["0"])
    until(lambda: e("connected") == ["1"] and fake.running is None, "closed")
    e.end()
    fake.close()


main()
