#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# A stream has a schedule: due times add up from its start, slack is banked, and the clocks are chosen for its pace.
from daemonlib import *

MS = 10 ** 6


def token(c, session, took_ns, **kw):
    begun = c.ask(op="begin", session=session, wait=1, **kw)
    ended = c.ask(op="end", request=begun["request"], total_ns=int(took_ns(begun) if callable(took_ns) else took_ns),
                  ack=1)
    return begun, ended


d = Daemon(config="[model configured]\nrate = 20/s\nfirst = 700 ms\n")
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

# Reported times pass for the connection: the schedule is exact, but for what the exchange itself takes.
near = lambda value, expected: expected - 400 * MS <= int(value) <= expected
session = c.ask(op="open", model="exact", rate_mhz=100, first_ns=30000 * MS)["session"]
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
status = d.status()
mine = {k.split(".", 2)[2]: v for k, v in status.items() if k.startswith("session.")
        and status[".".join(k.split(".")[:2]) + ".model"] == "exact"}
ok((mine["rate_mhz"], mine["scheduled"], mine["starts"], mine["first_median_ns"]) == ("100", "6", "2",
                                                                                      mine["first_median_ns"]) and
   mine["late"] == "2" and near(int(mine["first_p99_ns"]) - 1, 10000 * MS + 300 * MS), "status counts the stream", mine)
explained = c.ask(op="explain", session=session)
ok(explained["rate_mhz"] == "100" and near(explained["ahead_ns"], 28000 * MS)
   and "ahead of its schedule" in explained["text"], "explain says how far ahead it is", explained)
ok((explained["stream.scheduled"], explained["stream.late"], explained["stream.first_p99_ns"],
    explained["stream.energy_uj"]) ==
   ("6", "2", mine["first_p99_ns"], mine["energy_uj"]), "and what came of the stream, as status does", explained)

configured = c.open("configured")
ok(c.ask(op="begin", session=configured)["deadline_ns"] == str(700 * MS),
   "flamed.conf gives a session that names neither a schedule")
c.close()
d.end()
done()
