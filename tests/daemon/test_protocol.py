#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# The protocol, and every kind of bad input on it: a clear error that names the
# key, without effect on other clients.
import os
import random
import re
import resource
import socket
import time

from daemonlib import *

d = Daemon()
before = d.knobs()
bystander = d.client()
session = bystander.open("bystander")


def refused(name, errnum, key, **kw):
    c = d.client()
    r = c.ask(**kw)
    ok(r["errno"] == str(errnum) and r["message"].startswith(key + ":"), name, r)
    ok(c.ask(op="hello")["errno"] == "0", name + ": the connection goes on")
    c.close()


lost = []  # explorations while its model is learned, three at most


def unharmed(name):
    begun, ended = bystander.request(session, 40, latency_ns)
    missed = latency_ns(begun) > 40e6
    lost.extend([name] * missed)
    ok(begun["errno"] == "0" and ended == {"errno": "0", "missed": str(int(missed))} and len(lost) <= 3,
       f"the bystander is served after: {name}", (begun, ended, lost))


hello = bystander.ask(op="hello")
ok(hello["protocol"] == "1" and "Orin Nano" in hello["board"] and hello["power_sensor"] == "1", "hello", hello)
opened = bystander.ask(op="open", model="fresh")
ok(opened == {"errno": "0", "session": opened["session"], "surface": "none"}, "open: errno, session, surface", opened)
begun = bystander.ask(op="begin", session=opened["session"], deadline_ns=33000000, ignored="yes", wait=1)
ok(list(begun) == ["errno", "request", "feasible", "cpu_hz", "gpu_hz", "mem_hz", "predicted_ns", "bound_ns",
                   "settle_ns"], "begin: keys in order", begun)
ok((begun["cpu_hz"], begun["gpu_hz"]) == ("1728000000", "1020000000"), "a model never seen starts at full clocks",
   begun)
bystander.send(op="end", request=begun["request"], total_ns=27950000)
ok(bystander.ask(op="hello")["errno"] == "0", "end without ack has no reply")
ok(bystander.ask(op="end", request=begun["request"], total_ns=1)["errno"] == "2",
   "ending twice is an error even without ack")

refused("unknown op", 22, "op", op="fly")
refused("op is not the first key", 22, "op", model="x", op="open")
refused("open without model", 22, "model", op="open")
refused("open with a path for a model", 22, "model", op="open", model="../etc")
refused("open with a long model", 22, "model", op="open", model="m" * 65)
refused("unknown session", 2, "session", op="begin", session=99999, deadline_ns=1000000)
refused("session of another connection", 2, "session", op="begin", session=session, deadline_ns=1000000)
refused("session 0", 34, "session", op="begin", session=0, deadline_ns=1000000)
refused("unknown request", 2, "request", op="end", request=12345)
refused("end without request", 22, "request", op="end")
refused("unknown profile", 2, "profile", op="sample", profile=7, latency_ns=5)
refused("unknown model's surface", 2, "model", op="surface", model="nobody")
refused("phase that is none", 22, "phase", op="open", model="a", phase="dance")

c = d.client()
own = c.open("numbers")
for value, errnum in (("0", 34), ("-5", 22), ("1e9", 22), ("18446744073709551616", 34), ("", 22), ("33ms", 22),
                      ("0x10", 22), ("99999999999999999", 34)):
    r = c.ask(op="begin", session=own, deadline_ns=value)
    ok(r["errno"] == str(errnum) and r["message"].startswith("deadline_ns:"),
       f"deadline_ns={value!r} is refused by name", r)
r = c.ask(op="begin", session=own)
ok(r["errno"] == "22" and r["message"] == "deadline_ns: missing", "a missing deadline is named", r)
begun = c.ask(op="begin", session=own, deadline_ns=5000000)
for key, value in (("total_ns", "0"), ("total_ns", "x"), ("layers", "1:2,3"), ("layers", "a:b"), ("layers", "1:2:x")):
    r = c.ask(op="end", request=begun["request"], **{key: value})
    ok(r["errno"] != "0" and r["message"].startswith(key + ":"), f"end with {key}={value} is refused by name", r)
r = c.ask(op="end", request=begun["request"], total_ns=4000000, layers="1000:20000,2000:30000:s", ack=1)
ok(r == {"errno": "0", "missed": "0"}, "and the request can still be ended", r)
for source in ("cupti", "a-method-of-later"):
    begun = c.ask(op="begin", session=own, deadline_ns=5000000)
    r = c.ask(op="end", request=begun["request"], total_ns=4000000, layers="1000:20000", layer_source=source, ack=1)
    ok(r == {"errno": "0", "missed": "0"}, f"layers measured by {source}", r)
r = c.ask(op="begin", session=own, deadline_ns=1000, wait=1)
ok(r["errno"] == "0" and r["feasible"] == "0", "a deadline nothing can meet: feasible=0", r)
for _ in range(7):
    c.ask(op="begin", session=own, deadline_ns=5000000)
r = c.ask(op="begin", session=own, deadline_ns=5000000)
ok(r["errno"] == "122" and "session" in r["message"], "more requests in flight than allowed: a quota error", r)
c.close()
unharmed("numbers")

# Framing.
c = d.client()
c.raw(b"op=hello\nx=" + b"a" * 5000 + b"\n\n")
r = c.reply()
ok(r["errno"] == "90" and c.closed(), "an over-long line: error, then closed", r)
c = d.client()
try:
    c.raw(b"op=hello\n" + b"".join(b"k%d=v\n" % i for i in range(9000)))
except OSError:
    pass
ok(c.reply()["errno"] == "90" and c.closed(), "an over-long message: error, then closed")
c = d.client()
c.raw(b"op=hello\nnonsense\n\nop=hello\n\n")
r = [c.reply(), c.reply()]
ok(r[0]["errno"] == "22" and "line 2" in r[0]["message"] and r[1]["errno"] == "0",
   "a malformed line: error names it, the next message is served", r)
c.raw(b"\x00\x01\xff\xfe\n\n" + b"op=hello\n\n")
r = [c.reply(), c.reply()]
ok(r[0]["errno"] == "22" and r[1]["errno"] == "0", "a binary message: error, the next is served", r)
c.raw(b"\n")
ok(c.reply()["message"].startswith("op:"), "an empty message is one without op")
for byte in b"op=hello\n\n":
    c.raw(bytes([byte]))
ok(c.reply()["errno"] == "0", "a message sent byte by byte")
c.raw(b"op=hello\n\n" * 300)
ok(all(c.reply()["errno"] == "0" for _ in range(300)), "300 messages at once: 300 replies")
s = c.open("pipe")
c.raw(f"op=begin\nsession={s}\ndeadline_ns=50000000\nwait=1\n\nop=hello\n\nop=models\n\n".encode())
r = [c.reply() for _ in range(3)]
ok("request" in r[0] and "version" in r[1] and r[2]["errno"] == "0",
   "pipelined behind a waiting begin: replies in order", r)
c.close()
half = d.client()
half.raw(b"op=begin\nsession=")
unharmed("a half-sent message")
half.close()
rng = random.Random(5)
for _ in range(200):
    c = d.client()
    try:
        c.raw(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 400))))
    except OSError:
        pass
    c.close()
unharmed("200 connections of random bytes")

# A client that never reads.
c = d.client()
c.s.settimeout(1)
c.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
sent = 0
try:
    while sent < 64 << 20:
        sent += c.s.send(b"op=status\n\n" * 200)
except OSError:
    pass
ok(sent < 64 << 20, "a client that never reads is not read from for ever", sent)
unharmed("a client that never reads")
c.close()

# A client that vanishes between begin and end.
c = d.client()
c.ask(op="begin", session=c.open("gone"), deadline_ns=50000000, wait=1)
c.close()
ok(wait_for(lambda: d.status()["requests"] == "0"), "a client that vanishes takes its request along", d.status())
unharmed("a vanished client")

# Sessions: bounds.
c = d.client()
replies = [c.ask(op="open", model="many") for _ in range(257)]
ok(all(r["errno"] == "0" for r in replies[:254]) and replies[254]["errno"] == "122",
   "sessions of a user are bounded by a quota error", replies[252:])
c.close()
ok(wait_for(lambda: d.status()["sessions"] == "2"), "and all end with their connection", d.status()["sessions"])

# 2,000 connections.
resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
many, refusals, served = [], 0, 0
for _ in range(2000):
    try:
        many.append(d.client())
    except OSError:
        refusals += 1
for c in many:
    try:
        served += c.ask(op="hello")["errno"] == "0"
    except (Closed, OSError):
        pass
ok(1000 <= served < 2000, f"2,000 connections: {served} served up to the user's quota, the rest refused",
   (served, refusals))
for c in many:
    c.close()
ok(wait_for(lambda: d.up() and d.status()["connections"] in ("1", "2")), "and the daemon is there after",
   d.status()["connections"])
unharmed("2,000 connections")

status = d.status()
for key in ("version", "state", "board.name", "clock.cpu.cur_hz", "clock.gpu.owner", "clock.mem.method", "power.sensor",
            "keeper.pid", "session.0.model"):
    ok(status.get(key, "") != "", f"status has {key}", status)
ok(status["clock.cpu.owner"] == "flamed" and int(status["keeper.journal_knobs"]) > 0,
   "status says who owns the clocks and what the journal holds")
r = bystander.ask(op="explain")
ok(r["model"] == "bystander" and r["text"] and r["source"] in ("envelope", "fit", "neighbour", "cell"),
   "explain names model, source and reason", r)
bystander.request(session, 1, latency_ns)  # too soon for any point: the fastest is chosen, and others are cheaper
r = bystander.ask(op="explain")
text = re.fullmatch(r"bystander by [\d.]+ ms: cpu .+, gpu .+, mem .+ (is|makes) .+; bound [\d.]+ ms \((\w+)\)"
                    r"(?:; still learning)?; a cheaper point was refused because (.+)", r["text"])
ok(text and text[2] == r["source"] and text[3] == r["runner_up.text"] and len(text[3].split()) > 3,
   "as a sentence, which says why the next cheaper point was refused", r)
r = bystander.ask(op="surface", model="bystander")
rows = [k for k in r if k.startswith("row.")]
ok(r["state"] != "none" and len(rows) > 0 and r[rows[0]].count(":") % 6 == 0,
   "surface has rows of seven fields", list(r)[:12])
# The reply's own name of a key is its last part; numbers and clocks are in the one before.
with open(os.path.join(ROOT, "docs/protocol.md")) as f:
    page = f.read()
for op in ("hello", "status", "models", "explain"):
    lacks = [key for key in bystander.ask(op=op) if not re.search(rf"[`.]{key.split('.')[-1]}[`=]", page)]
    ok(not lacks, f"docs/protocol.md has every key of the reply to {op}", lacks)
bystander.close()
ok(d.restored(before), "the last session closed: every knob as found", d.difference(before))
ok(d.end() == 0, "SIGTERM: exit 0")
done()
