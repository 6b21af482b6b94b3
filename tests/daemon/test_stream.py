#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# A stream has a schedule: due times add up from its start, slack is banked, and the clocks are chosen for its pace.
import re

from daemonlib import *

MS = 10 ** 6


def token(c, session, took_ns, **kw):
    begun = c.ask(op="begin", session=session, wait=1, **kw)
    ended = c.ask(op="end", request=begun["request"], total_ns=int(took_ns(begun) if callable(took_ns) else took_ns),
                  ack=1)
    return begun, ended


def ctl(d, *words, client="", **kw):
    out = subprocess.run([os.path.join(BUILD, "flamectl"), "--socket", d.socket, *map(str, words)], input=client,
                         capture_output=True, text=True, timeout=120, **kw)
    return out.stdout + out.stderr


d = Daemon(config="[model configured]\nrate = 20/s\nfirst = 700 ms\n[model due]\ndeadline = 33 ms\n")
c = d.client()
for keys, key in (({"first_ns": 5 * MS}, "first_ns"), ({"rate_mhz": 0}, "rate_mhz"),
                  ({"rate_mhz": 10 ** 9 + 1}, "rate_mhz"), ({"rate_mhz": "15/s"}, "rate_mhz"),
                  ({"rate_mhz": 1000, "first_ns": 1}, "first_ns")):
    answer = c.ask(op="open", model="m", **keys)
    ok(answer["errno"] != "0" and answer["message"].startswith(key + ":"), f"open: {keys} is refused, by name", answer)
plain = c.open("plain")
answer = c.ask(op="begin", session=plain, stream=1, deadline_ns=33 * MS)
ok(answer["errno"] == "22" and answer["message"].startswith("stream:"), "begin: stream=1 needs a stream", answer)
answer = c.ask(op="begin", session=plain)
ok(answer["errno"] == "22" and answer["message"].startswith("deadline_ns:"),
   "begin: without a schedule a deadline is needed", answer)

# Reported times advance the connection's clock: the schedule is exact up to the time of the exchange itself.
def stream(model):
    global opened_ns
    opened_ns = time.monotonic_ns()
    return c.ask(op="open", model=model, rate_mhz=100, first_ns=30000 * MS)["session"]


def spent_ns():
    """On exchanges, since the newest stream was opened."""
    return time.monotonic_ns() - opened_ns


def near(value, expected):
    return expected - spent_ns() <= int(value) <= expected


session = stream("exact")
begun, ended = token(c, session, 10000 * MS)
ok(begun["deadline_ns"] == str(30000 * MS) and ended["missed"] == "0", "the first is due first_ns after the start",
   begun)
begun, ended = token(c, session, 10000 * MS)
ok(near(begun["deadline_ns"], 30000 * MS), "the next one a period later: what was left is banked", begun["deadline_ns"])
begun, ended = token(c, session, 45000 * MS)
ok(near(begun["deadline_ns"], 30000 * MS) and ended["missed"] == "1", "one that takes too long is late", (begun, ended))
begun, ended = token(c, session, 1000 * MS)
ok(begun["deadline_ns"] == "0" and begun["feasible"] == "0" or near(begun["deadline_ns"], 0),
   "and the one behind it begins late already", begun)
begun, ended = token(c, session, 1000 * MS, stream=1)
ok(begun["deadline_ns"] == str(30000 * MS), "stream=1 starts again", begun)
begun, ended = token(c, session, 1000 * MS, deadline_ns=5000 * MS)
ok("deadline_ns" not in begun and ended["missed"] == "0", "a deadline of its own stands for itself", begun)
begun, ended = token(c, session, 1000 * MS)
ok(near(begun["deadline_ns"], 38000 * MS), "and the schedule does not count it", begun["deadline_ns"])
exact_ns = spent_ns()
parts = stream("parts")
for took, left, start in ((9000, 30000, {"stream": 1}), (8000, 21000, {}), (7000, 13000, {})):
    begun, ended = token(c, parts, took * MS, phase="prefill", context=512, **start)
    ok(near(begun["deadline_ns"], left * MS) and ended["missed"] == "0",
       f"a prompt in parts is due as a whole: {left} ms are left", begun)
begun, ended = token(c, parts, 2000 * MS, phase="decode", context=1536)
ok(near(begun["deadline_ns"], 16000 * MS), "and the first token a period later", begun)
begun, ended = token(c, parts, 2000 * MS, phase="prefill", context=512)
ok(near(begun["deadline_ns"], 24000 * MS), "a prompt amid tokens starts nothing by itself", begun)
explained = c.ask(op="explain", session=parts)
ok(explained["stream.starts"] == "1" and 0 <= int(explained["stream.first_median_ns"]) - 24000 * MS <= spent_ns(),
   "one start, whose time is that of all parts", explained)
amid = stream("amid")
for left in (10000, 11000, 12000):
    begun, ended = token(c, amid, 9000 * MS, phase="decode", context=99)
    ok(near(begun["deadline_ns"], left * MS), f"a token whose prompt was not seen is due by the rate: {left} ms", begun)
explained = c.ask(op="explain", session=amid)
ok((explained["stream.starts"], explained["stream.scheduled"], explained["stream.first_median_ns"],
    explained["stream.first_p99_ns"]) == ("0", "3", "0", "0"), "and is not the first of a start", explained)
told = ctl(d, "explain", amid)
ok("Stream: " in told and "first after" not in told, "explain does not speak of a first one", told)
begun, ended = token(c, amid, 9000 * MS, phase="prefill", context=99, stream=1)
told = ctl(d, "explain", amid)
ok(begun["deadline_ns"] == str(30000 * MS)
   and re.search(r"; first after 9.00 s \(median\), 9.00 s \(99th", told) is not None,
   "until a prompt is seen", (begun, told))
for phase, words in (("decode", "first    no prompt was seen"), ("prefill", "first    2.00 s median")):
    told = ctl(d, "run", "--model", "run", "--rate", "0.1/s", "--ttft", "3s", "--",
               os.path.join(BUILD, "tests/client/exercise"),
               client=f"open\nsession - 0 {1000 * MS}\nphase 0 {phase} 7\nbegin 0 0\nend 1 {2000 * MS}\n")
    ok(words in told and "0 of 1 late" in told, f"flamectl run sums up a stream that starts in phase {phase}", told)
again = stream("again")
left_over = c.ask(op="begin", session=again, wait=1)["request"]
begun = c.ask(op="begin", session=again, wait=1, stream=1)["request"]
ended = [c.ask(op="end", request=request, total_ns=40000 * MS, ack=1, **how)
         for request, how in ((left_over, {"withdraw": 2}), (begun, {}))]
explained = c.ask(op="explain", session=again)
begun, _ = token(c, again, 1000 * MS)
ok([e["errno"] for e in ended] == ["0", "0"] and (explained["stream.scheduled"], explained["stream.late"]) == ("1", "1")
   and near(begun["deadline_ns"], 0), "a request from before a restart takes no place back", (explained, begun))
again = stream("again")
left_over = c.ask(op="begin", session=again, wait=1)["request"]
begun = c.ask(op="begin", session=again, wait=1, stream=1)["request"]
ended = [c.ask(op="end", request=request, total_ns=1000 * MS, ack=1) for request in (left_over, begun)]
explained = c.ask(op="explain", session=again)
ok([e["errno"] for e in ended] == ["0", "0"] and explained["stream.scheduled"] == "1",
   "nor does it count in the new stream", explained)
changed = stream("withdrawn")
# The period is 10 s: a request that keeps its place leaves the next one a period more.
for took, left, withdraw in ((10000, 30000, 0), (12000, 30000, 1), (3000, 28000, 2), (7000, 25000, 2),
                             (10000, 18000, 0)):
    begun = c.ask(op="begin", session=changed, wait=1)
    ended = c.ask(op="end", request=begun["request"], total_ns=took * MS, ack=1, withdraw=withdraw, layers="5:nonsense"
                  if withdraw else "")
    ok(near(begun["deadline_ns"], left * MS) and ended["errno"] == "0" and ended["missed"] == "0",
       f"a withdrawn request keeps its place in the schedule, or gives it back: {left} ms are left", (begun, ended))
status = d.status()
kept = {k.split(".", 2)[2]: v for k, v in status.items() if k.startswith("session.")
        and status[".".join(k.split(".")[:2]) + ".model"] == "withdrawn"}
ok((kept["requests"], kept["missed"], kept["recent_ns"], kept["scheduled"], kept["starts"])
   == ("2", "0", f"{10000 * MS},{10000 * MS}", "3", "1"), "... but is not counted itself", kept)
status = d.status()
mine = {k.split(".", 2)[2]: v for k, v in status.items() if k.startswith("session.")
        and status[".".join(k.split(".")[:2]) + ".model"] == "exact"}
ok((mine["rate_mhz"], mine["scheduled"], mine["starts"], mine["first_median_ns"]) == ("100", "6", "2",
                                                                                      mine["first_median_ns"]) and
   mine["late"] == "2" and 0 <= int(mine["first_p99_ns"]) - 10000 * MS <= exact_ns, "status counts the stream", mine)
explained = c.ask(op="explain", session=session)
ok(explained["rate_mhz"] == "100" and 0 <= 28000 * MS - int(explained["ahead_ns"]) <= exact_ns
   and "ahead of its schedule" in explained["text"], "explain says how far ahead it is", explained)
ok((explained["stream.scheduled"], explained["stream.late"], explained["stream.first_p99_ns"],
    explained["stream.energy_uj"]) ==
   ("6", "2", mine["first_p99_ns"], mine["energy_uj"]), "and what came of the stream, as status does", explained)

configured = c.open("configured")
ok(c.ask(op="begin", session=configured)["deadline_ns"] == str(700 * MS),
   "flamed.conf gives a session that names neither a schedule")
for model, keys, wanted in (("configured", {}, (None, "20000")), ("due", {}, (str(33 * MS), None)),
                            ("due", {"deadline_ns": 5 * MS}, (str(5 * MS), None)), ("plain", {}, (None, None)),
                            ("due", {"rate_mhz": 15000}, (None, "15000"))):
    answer = c.ask(op="open", model=model, **keys)
    ok((answer.get("deadline_ns"), answer.get("rate_mhz")) == wanted,
       f"open replies which deadline or rate a begin without one has: {model} {keys}", answer)
c.close()
d.end()
done()
