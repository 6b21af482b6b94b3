#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The proxy in front of llama.cpp's server: flamed sees the schedule of each completion, the client sees the
same as without the proxy, and an error is a line in the log. The server is llama.cpp if npm has it, and one with fixed
replies."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for room in ("../daemon", "../vulkan"):
    sys.path.insert(0, os.path.join(HERE, room))
from daemonlib import RELEASE, ROOT, Daemon, done, ok, real_time, skip, wait_for  # noqa: E402
import llamalib  # noqa: E402

CHAT = "/v1/chat/completions"
FIRST_S, TOKEN_S = 0.15, 0.03  # of the written answers
HELD_S = 1                     # for which one waits for GO besides
GO = threading.Event()         # CHAT's waits for it
GO.set()
folder = tempfile.TemporaryDirectory(prefix="flamed-llama-")


class Proxy:
    def __init__(self, daemon, upstream, *words, tag="none"):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLAMED_", "ASAN_", "LD_PRELOAD"))}
        environment.update(PYTHONPATH=os.path.join(ROOT, "lib/python"), LD_LIBRARY_PATH=RELEASE, FLAMED_TAG=tag,
                           FLAMED_SOCKET=daemon.socket if daemon else os.path.join(folder.name, "nobody"))
        self.log = tempfile.NamedTemporaryFile("r", dir=folder.name, delete=False)
        self.process = subprocess.Popen([sys.executable, "-m", "flamed.llama", "--listen", "127.0.0.1:0", "--upstream",
                                         f"127.0.0.1:{upstream}", *words], env=environment,
                                        stderr=open(self.log.name, "w"))
        # A request that flamed answers too late for the library is not counted.
        for pid in (self.process.pid, *((daemon.process.pid, daemon.keeper_pid()) if daemon else ())):
            if pid:
                real_time(pid)
        wait_for(lambda: "listening" in self.text() or self.process.poll() is not None)
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", self.text())
        self.port = int(found[1]) if found else 0

    def text(self):
        with open(self.log.name) as file:
            return file.read()

    def lines(self):
        """Its log after it began to listen."""
        return self.text().split("listening on", 1)[-1].splitlines()[1:]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


class Written(threading.Thread):
    """A server with fixed replies: bytes by the path, piece by piece; headers alone to HEAD."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.asked = []
        self.start()

    def run(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        asked = b""
        with connection:
            while b"\r\n\r\n" not in asked or not self.whole(asked):
                data = connection.recv(65536)
                if not data:
                    return
                asked += data
            self.asked.append(asked)
            method, path = asked.split(b" ", 2)[:2]
            pieces = ANSWERS[path.decode()]
            try:
                for piece in [headers(pieces)] if method == b"HEAD" else pieces:
                    if piece is GO:
                        GO.wait()
                    else:
                        time.sleep(piece) if isinstance(piece, float) else connection.sendall(piece)
            except OSError:
                pass

    @staticmethod
    def whole(asked):
        head, body = asked.split(b"\r\n\r\n", 1)
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if b"chunked" in head.lower():
            return body.endswith(b"0\r\n\r\n")
        return len(body) >= int(length[1] if length else 0)


def headers(pieces):
    """The part of a fixed reply before its body."""
    return pieces[0].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(**choice):
    return b"data: " + json.dumps({"choices": [{"index": 0, **choice}]}).encode() + b"\n\n"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKENS = [event(delta={"content": word}) for word in ("To", "be", "or", "not")]
LAST = [event(delta={}, finish_reason="stop"), b"data: [DONE]\n\n"]
SPLIT = HEAD + b"".join(chunk(part) for part in [event(delta={"role": "assistant"}), *TOKENS, *LAST]) + b"0\r\n\r\n"
NATIVE = b"".join(b'data: {"content":"w%d","stop":%s}\n\n' % (i, b"true" if i == 5 else b"false") for i in range(6))
ANSWERS = {
    CHAT: [HEAD, GO, FIRST_S, chunk(event(delta={"role": "assistant"}) + TOKENS[0]),
           *(part for token in TOKENS[1:] for part in (TOKEN_S, chunk(token))), TOKEN_S,
           chunk(LAST[0]), chunk(LAST[1]), b"0\r\n\r\n"],
    "/v1/completions": [SPLIT[i:i + 1] for i in range(len(SPLIT))],
    "/chat/completions": [HEAD, chunk(b"".join(TOKENS * 5 + LAST)), b"0\r\n\r\n"],
    "/completions": [HEAD, *(part for _ in range(10**5) for part in (TOKEN_S, chunk(TOKENS[0])))],
    "/completion": [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", NATIVE],
    "/infill": [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    "/health": [b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}"],
    "/load": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    "/kept": [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 15\r\n\r\n"],
    "/slots": [b"HTTP/1.1 501 Not Implemented\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n",
               chunk(b"no!") + b"0\r\nX: 1\r\n\r\n"],
    "/cut": [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"],
    "/mute": [],
    "/garbage": [b"SSH-2.0-OpenSSH_9.2\r\n\r\n"],
}


def ask(port, path, body=None, method=None, **headers):
    """(status, headers without the date, body)"""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method or ("GET" if data is None else "POST"), path, data, named)
    reply = connection.getresponse()
    try:
        text = reply.read()
    except http.client.IncompleteRead as error:
        text = error.partial
    connection.close()
    return reply.status, sorted(pair for pair in reply.getheaders() if pair[0] != "Date"), text


def raw(port, data):
    """All that comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        return all_of(connection)


def all_of(connection):
    got = b""
    while True:
        more = connection.recv(65536)
        if not more:
            return got
        got += more


class Seen:
    """flamed's tally of the streams with a tag, from now on."""

    def __init__(self, daemon, tag):
        self.client, self.tag = daemon.client(), tag
        self.ask()

    def ask(self):
        return self.client.ask(op="tally", tag=self.tag)

    def stream(self, tokens):
        """Once so many tokens were seen: (rate, first, tokens, starts), and all of it."""
        wait_for(lambda: int(self.ask().get("stream.scheduled", 0)) >= tokens and self.ask()["open"] == "0")
        said = self.ask()
        names = ("rate_mhz", "first_ns", "scheduled", "starts")
        return tuple(int(said.get("stream." + name, -1)) for name in names), said


def real():
    """llama.cpp itself, on the CPU. flamed leaves the clocks: a prompt during which they moved would teach nothing."""
    server = subprocess.Popen([llamalib.NODE, os.path.join(HERE, "server.mjs"), llamalib.MODULES,
                               llamalib.model(folder.name)], stdout=subprocess.PIPE, text=True)
    port = int(server.stdout.readline().split()[1])
    daemon = Daemon(config="[clocks]\ncpu = leave\ngpu = leave\nmem = leave\n")
    seen = Seen(daemon, "real")
    proxy = Proxy(daemon, port, "--rate", "20/s", "--first", "900ms", tag="real")
    body = {"model": "/models/noise.gguf", "messages": [{"role": "user", "content": "What is it? " * 8}],
            "max_tokens": 24, "stream": True}
    plain = ask(port, CHAT, body)
    said = ask(proxy.port, CHAT, body)
    ok(plain[0] == 200 and plain[2].count(b'"content":"<') == 24 and said == plain,
       "llama.cpp streams 24 tokens, the same to the byte with the proxy and without", (plain, said))
    told, tally = seen.stream(24)
    ok(told == (20000, 900 * 10**6, 24, 1), "flamed saw the configuration's rate and first token, and 24 tokens", tally)
    ok(tally["model"] == "noise.gguf" and tally["requests"] == "24", "of the model that the request names", tally)
    c = daemon.client()
    known = c.ask(op="models")
    ok(sorted(known["model.0.phases"].split(",")) == ["decode", "prefill"], "the prompt and the tokens are two phases",
       known)
    c.close()
    whole = {**body, "stream": False}
    ok(ask(port, CHAT, whole) == ask(proxy.port, CHAT, whole) and ask(port, "/none") == ask(proxy.port, "/none"),
       "what is no stream, and what is not there, are the same as well")
    ok(seen.ask()["requests"] == "24" and not proxy.lines(), "and no requests of flamed's", proxy.text())
    ok(proxy.end() == 0, "SIGTERM ends it with 0", proxy.text())
    server.terminate()
    server.wait(20)
    daemon.end()


def streams(daemon, server):
    """The rate that applies, and the requests that are counted."""
    body = {"messages": [{"role": "user", "content": "x" * 400}], "stream": True}
    seen = Seen(daemon, "one")
    proxy = Proxy(daemon, server.port, tag="one")
    plain = ask(server.port, CHAT, body)
    ok(ask(proxy.port, CHAT, body) == plain and int(seen.ask()["sessions"]) == 0,
       "without a rate nothing is asked of flamed")
    begin_s = time.monotonic()
    answers = []
    GO.clear()  # the server goes on once flamed has the begin, however busy the machine is
    asking = threading.Thread(target=lambda: answers.append(
        ask(proxy.port, CHAT, body, Flamed_Rate="25/s", Flamed_First="800ms", Flamed_Model="chat:8b")))
    asking.start()
    wait_for(lambda: seen.client.ask(op="status")["requests"] == "1")
    time.sleep(HELD_S)
    GO.set()
    asking.join()
    ok(answers == [plain], "headers give one: the answer is the same")
    told, tally = seen.stream(4)
    took_s = time.monotonic() - begin_s
    ok(told == (25000, 800 * 10**6, 4, 1) and tally["model"] == "chat:8b", "flamed has them, and four tokens", tally)
    first_s = int(tally["stream.first_median_ns"]) / 1e9
    ok(HELD_S + FIRST_S <= first_s <= took_s - 3 * TOKEN_S, "the first token came when the server sent it",
       (first_s, took_s))
    pace, others_s = int(tally["stream.reached_mhz"]) / 1000, HELD_S + FIRST_S + 3 * TOKEN_S - first_s  # at least
    ok(3 / (took_s - HELD_S) <= pace and pace * others_s <= 3,
       "the others at its pace, and the wait for the first is no part of it", (pace, first_s, took_s))
    ok(int(tally["requests"]) == 4 and tally["open"] == "0", "nothing is left open", tally)
    proxy.end()

    seen = Seen(daemon, "two")
    proxy = Proxy(daemon, server.port, "--rate", "5/s", "--first", "2s", "--model", "set", tag="two")
    fields = {"flamed": {"rate": 30, "first": "1.5s"}}
    ok(ask(proxy.port, "/v1/completions", {"prompt": "x", "stream": True, **fields})[2] ==
       ask(server.port, "/v1/completions", {"prompt": "x", "stream": True, **fields})[2],
       "fields give one, and an answer in single bytes is the same")
    told, tally = seen.stream(4)
    ok(told == (30000, 1500 * 10**6, 4, 1) and tally["model"] == "set", "flamed has the fields'", tally)
    ok(json.dumps(fields)[1:-1].encode() in server.asked[-1] and server.asked[-1].split(b"\r\n\r\n")[1] ==
       server.asked[-2].split(b"\r\n\r\n")[1], "the server has read the same request")
    ask(proxy.port, "/completion", {"prompt": "x", "stream": True, **fields}, Flamed_Rate="40/s", Flamed_First="20s")
    told, tally = seen.stream(10)
    ok(told == (40000, 20 * 10**9, 10, 2), "headers come before fields; llama.cpp's own events count too", tally)
    ask(proxy.port, CHAT, body)
    told, tally = seen.stream(14)
    ok(told == (5000, 2 * 10**9, 14, 3), "and the configuration last", tally)
    ask(proxy.port, "/chat/completions", body)
    told, tally = seen.stream(34)
    ok(told[2:] == (34, 4), "twenty tokens that come at once are twenty", tally)
    GO.clear()
    together = [threading.Thread(target=ask, args=(proxy.port, CHAT, body)) for _ in range(3)]
    for thread in together:
        thread.start()
    ok(wait_for(lambda: seen.ask()["open"] == "3"), "three at once are three streams", seen.ask())
    GO.set()
    for thread in together:
        thread.join()
    told, tally = seen.stream(46)
    ok(told[2:] == (46, 7), "of four tokens each", tally)
    with socket.create_connection(("127.0.0.1", proxy.port)) as gone:
        text = json.dumps(body).encode()
        gone.sendall(b"POST /completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        ok(wait_for(lambda: seen.ask()["open"] == "1"), "a stream that does not end by itself", seen.ask())
    ok(wait_for(lambda: seen.ask()["open"] == "0"), "a client that goes away takes its stream with it", seen.ask())
    ok(not proxy.lines(), "the proxy logs nothing of all this", proxy.lines())
    proxy.end()


def passing(daemon, server):
    """HTTP that is no completion, or of a rarer kind."""
    proxy = Proxy(daemon, server.port, "--rate", "5/s")
    for path in ("/health", "/slots", "/completion"):
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        ok(raw(proxy.port, request) == raw(server.port, request) == b"".join(ANSWERS[path]), f"{path}: byte by byte")
    paths = [("GET", "/health"), ("HEAD", "/health"), ("HEAD", "/slots"), ("GET", "/kept"), ("GET", "/health")]
    ok(raw(proxy.port, b"".join(f"{method} {path} HTTP/1.1\r\n\r\n".encode() for method, path in paths)
           + b"HEAD /health HTTP/1.0\r\n\r\n") ==
       b"".join([ANSWERS["/health"][0], *(headers(ANSWERS[path]) for path in ("/health", "/slots", "/kept")),
                 ANSWERS["/health"][0], headers(ANSWERS["/health"])]),
       "six requests on a connection; to HEAD, and with 304, a length announces no body")
    chunked = b"POST /infill HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunk(b'{"x":') + \
        chunk(b"1}") + b"0\r\n\r\n"
    ok(raw(proxy.port, chunked) == b"".join(ANSWERS["/infill"]) and server.asked[-1] == chunked,
       "a request in chunks goes on as it is, an interim reply comes back")
    waits = b"POST /infill HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as connection:
        connection.sendall(waits)
        ok(connection.recv(100).startswith(b"HTTP/1.1 100"), "a client that waits to be let in is let in")
    ok(wait_for(lambda: len(proxy.lines()) == 1) and "ended" in proxy.lines()[0],
       "and when it then goes, a line says so", proxy.lines())
    let_in = b"HTTP/1.1 100 Continue\r\n\r\n"
    for path in ("/infill", "/load"):
        request = waits.replace(b"/infill", path.encode())
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as connection:
            connection.sendall(request)
            ok(connection.recv(len(let_in), socket.MSG_WAITALL) == let_in, f"{path}: let in before its body is sent")
            connection.sendall(b"{}")
            ok(all_of(connection) == b"".join(ANSWERS[path]) and server.asked[-1] ==
               request.replace(b"Expect: 100-continue\r\n", b"") + b"{}", "the server gets it without Expect",
               server.asked[-1])
    proxy.end()


def refused(daemon, server):
    """An error is one line, to the client and in the log."""
    proxy = Proxy(daemon, server.port, "--rate", "5/s")
    count = 0

    def bad(name, reply, status, *words):
        nonlocal count
        count += 1
        body = json.loads(reply[2])["error"]["message"] if isinstance(reply, tuple) else reply.decode()
        got = reply[0] if isinstance(reply, tuple) else int(reply.split()[1])
        ok(got == status and all(word in body for word in words) and
           wait_for(lambda: len(proxy.lines()) == count) and all(word in proxy.lines()[-1] for word in words),
           name, (reply, proxy.lines()))

    body = {"prompt": "x", "stream": True}
    asked = len(server.asked)
    bad("a rate without a unit", ask(proxy.port, CHAT, body, Flamed_Rate="fast"), 400, "rate: ", "'fast'")
    bad("a first token in milliseconds", ask(proxy.port, CHAT, {**body, "flamed": {"first": 800}}), 400, '"800ms"')
    bad("a rate that nobody has", ask(proxy.port, CHAT, {**body, "flamed": {"rate": 1e12}}), 400, "rate")
    bad("a rate of another type", ask(proxy.port, CHAT, {**body, "flamed": {"rate": [1]}}), 400, "flamed:")
    bad("a name that is none", ask(proxy.port, CHAT, {**body, "flamed": {"model": "a b"}}), 400, "'a b'")
    bad("a name that is a number", ask(proxy.port, CHAT, {**body, "flamed": {"model": 5}}), 400, "model name: 5")
    digits = "9" * 400
    bad("an infinite rate", ask(proxy.port, CHAT, b'{"stream": true, "flamed": {"rate": 1e999}}'), 400, "rate: ", "inf")
    bad("a rate of 400 digits", ask(proxy.port, CHAT, body, Flamed_Rate=digits + "/s"), 400, "rate: ", digits)
    bad("and as a number", ask(proxy.port, CHAT, {**body, "flamed": {"rate": int(digits)}}), 400, "rate: ")
    bad("a time of 400 digits", ask(proxy.port, CHAT, body, Flamed_First=digits + "s"), 400, "first: ", digits)
    bad("and as a number", ask(proxy.port, CHAT, {**body, "flamed": {"first": int(digits)}}), 400, "first: ")
    bad("a first token after two hours", ask(proxy.port, CHAT, body, Flamed_First="2h"), 400, "first ", "1 us to 1 h")
    bad("no object", ask(proxy.port, CHAT, {**body, "flamed": "fast"}), 400, "not an object")
    bad("no HTTP", raw(proxy.port, b"hello\r\n\r\n"), 400, "hello")
    bad("half of the headers", raw_half(proxy.port, b"GET / HTTP/1.1\r\nHost"), 400, "early")
    bad("headers without an end", raw(proxy.port, b"GET / HTTP/1.1\r\nX: " + b"x" * (70 << 10)), 431, "65536")
    bad("two lengths", raw(proxy.port, b"POST %s HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"
                           % CHAT.encode()), 400, "'1,2'")
    bad("no size of a chunk", raw(proxy.port, b"POST %s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
                                  % CHAT.encode()), 400, "chunk")
    ok(len(server.asked) == asked, "of these the server has seen nothing")
    bad("a server that says nothing", ask(proxy.port, "/mute"), 502, f"127.0.0.1:{server.port}", "without a reply")
    bad("one that speaks otherwise", ask(proxy.port, "/garbage"), 502, "SSH-2.0")
    ok(ask(proxy.port, "/cut")[2] == b"half" and wait_for(lambda: "within a message" in proxy.lines()[-1]),
       "an answer that is cut off is cut off for the client too", proxy.lines())
    ok(all(ask(proxy.port, CHAT, text)[0] == 200 for text in (b"{", b"[1]", b"[" * 10000)),
       "what is wrong with a body is the server's to say")
    run = lambda *words: subprocess.run([*proxy.process.args[:3], *words], capture_output=True, text=True,
                                        env={**os.environ, "PYTHONPATH": ROOT + "/lib/python",
                                             "LD_LIBRARY_PATH": RELEASE})
    used = run("--listen", f"127.0.0.1:{proxy.port}")
    ok(used.returncode == 1 and f"127.0.0.1:{proxy.port}" in used.stderr and used.stderr.count("\n") == 1,
       "an address that is taken", used.stderr)
    for words, said in ((["--rate", "fast"], "'fast'"), (["--rate", digits + "/s"], digits),
                        (["--first", "800"], "'800'"), (["--upstream", "no"], "'no'"),
                        (["--listen", "1.2.3.4:99999"], "99999")):
        out = run(*words)
        ok(out.returncode == 2 and words[0] in out.stderr and said in out.stderr and "Traceback" not in out.stderr,
           " ".join(words)[:40], out.stderr)
    proxy.end()
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    proxy, count = Proxy(daemon, port, "--rate", "5/s"), 0
    bad("no server", ask(proxy.port, "/health"), 502, f"127.0.0.1:{port}", "refused")
    proxy.end()


def raw_half(port, data):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(65536)


def alone(daemon, server):
    """Without flamed, and while it starts and ends."""
    body = {"prompt": "x", "stream": True}
    proxy = Proxy(None, server.port, "--rate", "5/s")
    told = "flamed does not answer: completions pass through without deadlines"
    ok(proxy.text().count(told) == 1 and all(ask(proxy.port, CHAT, body) == ask(server.port, CHAT, body)
                                             for _ in range(2)), "without flamed all passes through", proxy.text())
    ok(proxy.text().count(told) == 1 and not proxy.lines(), "and one line says so, once", proxy.text())
    proxy.end()
    proxy = Proxy(daemon, server.port, "--rate", "5/s", tag="again")
    daemon.stop()
    ok(ask(proxy.port, CHAT, body) == ask(server.port, CHAT, body), "flamed went: the answer is the same")
    ok([line for line in proxy.lines() if told in line] == proxy.lines() and len(proxy.lines()) == 1, "a line says so",
       proxy.lines())
    daemon.start()
    seen = Seen(daemon, "again")
    ok(wait_for(lambda: ask(proxy.port, CHAT, body)[0] == 200 and int(seen.ask()["requests"]) >= 4),
       "flamed came back: streams again", seen.ask())
    ok(len(proxy.lines()) == 2 and "answers again" in proxy.lines()[1], "and a line says that", proxy.lines())
    proxy.end()


why = llamalib.install()
if why:
    skip("llama.cpp behind the proxy", why)
else:
    real()
server, daemon = Written(), Daemon()
for part in (streams, passing, refused, alone):
    part(daemon, server)
daemon.end()
done()
