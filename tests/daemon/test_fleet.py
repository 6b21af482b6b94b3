#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# flamectl models export and import: the measurements of one board are a prior for others of its kind, and only that.
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


def software(d, kernel):
    """Jetson Linux of that kernel; read whenever samples come or go."""
    for path, text in (("/proc/sys/kernel/osrelease", kernel),
                       ("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic")):
        os.makedirs(os.path.dirname(d.sys + path), exist_ok=True)
        d.write(path, text + "\n")


CONFIG = "[clocks]\nmem = leave\n"
first = Daemon(config=CONFIG)
software(first, "5.15.148-tegra")
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
ok("\nkernel=5.15.148-tegra\ndriver=\nsystem=R36 (release), REVISION: 4.3\n" in out.stdout,
   "with the software that they were measured with", out.stdout[:300])
ok(flamectl(first, "models", "export", "nosuch").returncode == 1, "of a model that is not known there is nothing")

alone = Daemon(config=CONFIG)
without = until_ready(alone, FACTOR)
alone.end()
second = Daemon(config=CONFIG)
software(second, "5.15.148-tegra")
out = flamectl(second, "models", "import", export)
ok(out.returncode == 0 and "points known from other boards" in out.stdout and "measured with" not in out.stdout,
   "import takes it", (out.stdout, out.stderr))
c = second.client()
ok(c.ask(op="open", model="net")["surface"] == "none",
   "alone it says nothing: the model is unknown until it has run here")
c.close()
n = until_ready(second, FACTOR)
print(f"# | ready after {n} measurements with what another board measured, after {without} without")
ok(n <= 2 and n < without, "two measurements make it ready", (n, without))
ok(inherited(second) > 0, "models tells that it rests on others' samples, and how far they are trusted",
   inherited(second))
trusted = inherited(second)
second.stop()
saved = glob.glob(second.state + "/models/net*.csv")
own = sum(len(open(path).readlines()) - 1 for path in saved)
ok(own == n, "what it measured is saved, and only that: the others' samples are none of its own", (saved, own))
second.start()
c = second.client()
c.request(c.open("net"), 60, lambda begun: FACTOR * latency_ns(begun)) # the first makes the surface
ok(0 < inherited(second) <= trusted, "they are kept over a restart, and trusted as before", inherited(second))
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
software(strange, "6.8.12-tegra")
out = flamectl(strange, "models", "import", export)
ok(out.returncode == 1 and 'kernel: measured with "5.15.148-tegra", this board has "6.8.12-tegra"' in out.stderr
   and "--other-versions" in out.stderr and not glob.glob(strange.state + "/models/net*"),
   "another kernel is refused, and named", (out.stdout, out.stderr))
out = flamectl(strange, "models", "import", "--other-versions", export)
ok(out.returncode == 0 and 'net: measured with kernel "5.15.148-tegra", this board has "6.8.12-tegra"' in out.stdout
   and out.stdout.count("measured with") == 1, "unless it is asked for: then it is named",
   (out.stdout, out.stderr))
until_ready(strange, STRANGE)
ok(inherited(strange) == 0, f"a board that is {STRANGE} times as slow does not believe them", inherited(strange))
strange.end()
first.end()
done()
