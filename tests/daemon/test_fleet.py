#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# flamectl models export and import: what one board measured is where the next of its kind begins, and no more than
# that.
from daemonlib import *

FACTOR, STRANGE = 1.03, 1.7


def flamectl(d, *words):
    return subprocess.run([os.path.join(BUILD, "flamectl"), "--socket", d.socket, *words], capture_output=True,
                          text=True)


def inherited(d):
    c = d.client()
    models = c.ask(op="models")
    c.close()
    return int(models["model.0.inherited_permille"])


def until_ready(d, factor, most=8):
    """Measurements of a profile until the model is ready; one more than `most` where it is not."""
    c = d.client()
    asked = c.ask(op="profile", model="net", budget=most)
    for n in range(1, most + 1):
        ns = factor * latency_ns(asked)
        asked = c.ask(op="sample", profile=asked["profile"], latency_ns=int(ns), n=asked["repeat"],
                      sd_ns=int(ns / 200))
        if c.ask(op="models")["model.0.state"] == "ready":
            break
        n += 1
    c.close()
    return n


CONFIG = "[clocks]\nmem = leave\n"
first = Daemon(config=CONFIG)
until_ready(first, 1)
until_ready(first, 1)
export = os.path.join(first.dir, "export")
out = flamectl(first, "models", "export")
ok(out.returncode == 0 and out.stdout.endswith("\n\n") and "line.0=phase,context,cpu_hz" in out.stdout,
   "export tells the samples", out.stderr)
with open(export, "w") as f:
    f.write(out.stdout)
board = first.status()["board.name"]
ok(f"board={board}\n" in out.stdout and "mode=" in out.stdout and "format=1\n" in out.stdout,
   "and what they are of", out.stdout[:300])
ok(flamectl(first, "models", "export", "nosuch").returncode == 1, "of a model that is not known there is nothing")

alone = Daemon(config=CONFIG)
without = until_ready(alone, FACTOR)
alone.end()
second = Daemon(config=CONFIG)
out = flamectl(second, "models", "import", export)
ok(out.returncode == 0 and "points known from other boards" in out.stdout, "import takes it", out.stderr)
c = second.client()
ok(c.ask(op="open", model="net")["surface"] == "none",
   "alone it says nothing: the model is unknown until it has run here")
c.close()
n = until_ready(second, FACTOR)
print(f"# | ready after {n} measurements with what another board measured, after {without} without")
ok(n <= 2 and n < without, "two measurements make it ready", (n, without))
ok(inherited(second) > 0, "models tells that it rests on others' samples, and how far they are trusted",
   inherited(second))
ok(wait_for(lambda: glob.glob(second.state + "/models/net*.csv")), "what it measured is saved")
own = len(open(glob.glob(second.state + "/models/net*.csv")[0]).readlines()) - 1
ok(own == n, "and only that: the others' samples are none of its own", own)
second.stop()
second.start()
c = second.client()
c.open("net")
ok(inherited(second) >= 0 and glob.glob(second.state + "/models/net*.inherited"), "they are kept over a restart")
c.close()

for key, was, to, word in (("board", board, "another board", "this is"), ("mode", None, "x", "power mode"),
                           ("format", "1", "2", "newer"),
                           ("line.1", None, "run,0,what", "line")):
    text = open(export).read().split("\n")
    text = [f"{key}={to}" if line.startswith(key + "=") else line for line in text]
    with open(export + "2", "w") as f:
        f.write("\n".join(text))
    out = flamectl(second, "models", "import", export + "2")
    ok(out.returncode == 1 and word in out.stderr and key.split(".")[0] in out.stderr,
       f"another {key} is refused, and named", out.stderr)
with open(export + "2", "w") as f:
    f.write("hello\n")
ok("no export of flamectl" in flamectl(second, "models", "import", export + "2").stderr,
   "what is no export is refused")
if os.getuid() == 0:
    c = second.client_of(12345)
    ok(c.ask(op="import", model="net", format=1)["errno"] == "1" and c.ask(op="export", model="net")["errno"] == "1",
       "and so is a user who is not the administrator")
    c.close()
second.end()

strange = Daemon(config=CONFIG)
flamectl(strange, "models", "import", export)
until_ready(strange, STRANGE)
ok(inherited(strange) == 0, f"a board that is {STRANGE} times as slow does not believe them", inherited(strange))
strange.end()
first.end()
done()
