# SPDX-License-Identifier: MIT
"""flamectl against a daemon of tables: output for people, JSON, SVG, errors, run."""

import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import termios
import time
import xml.dom.minidom

from fake import AXES, Fake, latency_ns
from tap import BUILD, VERSION, Skip, contains, equal, main, test, within

FLAMECTL = os.path.join(BUILD, "flamectl")
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("FLAMED_", "OPENCL_", "COLORTERM"))}
ENVIRONMENT.update(LC_ALL="C.UTF-8", TERM="xterm-256color", COLUMNS="120")


def ctl(*words, status=0, **environment):
    """Run flamectl; returns its stdout and stderr."""
    done = subprocess.run([FLAMECTL, *words], capture_output=True, text=True, env={**ENVIRONMENT, **environment},
                          timeout=60)
    equal(done.returncode, status, f"exit status of {words}: {done.stdout}{done.stderr}")
    return done.stdout, done.stderr


def on_terminal(*words, lines=0, **environment):
    """The same with a terminal of `lines` lines (0: unknown) for stdout."""
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", lines, 0, 0, 0))
        os.execve(FLAMECTL, [FLAMECTL, *words], {**ENVIRONMENT, **environment})
    data = b""
    while True:
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break
        if not chunk:
            break
        data += chunk
    os.close(fd)
    equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, "exit status")
    return data.decode().replace("\r\n", "\n")


@test
def help_texts(_):
    """--help lists every verb, VERB --help and --version work, mistakes are status 2."""
    out = ctl("--help")[0]
    verbs = "status models surface tradeoff savings explain profile plan predict run verify release".split()
    contains(out, *[f"\n  {verb} " for verb in verbs])
    for verb in verbs:
        contains(ctl(verb, "--help")[0], f"usage: flamectl [--socket PATH] [--json] {verb}")
    equal(ctl("--version")[0], f"flamectl {VERSION}\n")
    for words in ([], ["dance"], ["--loud"], ["--socket"], ["status", "x"], ["status", "--watch", "0.001"], ["surface"],
                  ["surface", "a/b"],
                  ["surface", "m", "--show", "x"], ["surface", "m", "--deadline", "soon"], ["explain", "x"],
                  ["explain", "1", "2"], ["models", "x"],
                  ["profile", "--budget", "3"], ["profile", "m", "--budget", "0", "--", "true"], ["profile", "a/b"],
                  ["profile", "--", "true"],
                  ["run"], ["run", "--model", "m", "--", "true"],
                  ["run", "--model", "m", "--deadline", "33", "--", "true"],
                  ["run", "--model", "m", "--deadline", "33ms"], ["run", "--model", "m", "--deadline", "33ms", "true"],
                  ["run", "--model", "a b", "--deadline", "33ms", "--", "true"],
                  ["run", "--deadline", "33ms", "--", "true"],
                  ["run", "--model", "m", "--deadline"], ["verify", "x"], ["release", "x"], ["release", "--force"],
                  ["savings", "a/b"],
                  ["savings", "m", "x"],
                  ["run", "--model", "m", "--deadline", "33ms", "--shadow", "--profile", "--", "true"],
                  ["status", "--json=1"], ["status", "-w"], ["plan"], ["plan", "--points", "p"],
                  ["plan", "--points", "p", "--budget", "0"],
                  ["plan", "--points", "p", "--budget", "3", "more"], ["predict", "--samples", "s"],
                  ["predict", "--points", "p"]):
        out, err = ctl(*words, status=2)
        equal(out, "", f"stdout of {words}")
        contains(err, "flamectl", "try: flamectl")


@test
def absent(directory):
    """No socket, no listener, no permission: status 1 and a hint."""
    path = directory + "/s"
    for verb in (["status"], ["models"], ["surface", "m"], ["explain"], ["release"], ["profile"],
                 ["profile", "m", "--", "true"]):
        contains(ctl("--socket", path, *verb, status=1)[1], f"no socket at {path}", "is flamed running",
                 "systemctl start flamed")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    contains(ctl("--socket", path, "status", status=1)[1], "refused", "systemctl start flamed")
    dead.close()
    contains(ctl("--socket", "/" + "x" * 200, "status", status=1)[1], "cannot connect")
    contains(ctl("--socket", directory, "status", status=1)[1], "flamectl status:")


@test
def forbidden(directory):
    """EACCES names the group and how to join it."""
    if os.geteuid() != 0:
        raise Skip("only root can become somebody else")
    path = directory + "/s"
    fake = Fake(path)
    os.chmod(directory, 0o755)
    os.chmod(path, 0o660)
    program = os.path.join(directory, "flamectl")
    with open(FLAMECTL, "rb") as source, open(program, "wb") as target:
        target.write(source.read())
    os.chmod(program, 0o755)
    done = subprocess.run([program, "--socket", path, "status"], capture_output=True, text=True, user=65534,
                          group=65534, extra_groups=[],
                          env={**ENVIRONMENT, "USER": "jo"})
    equal(done.returncode, 1)
    contains(done.stderr, "no permission", 'members of the group "root"', "sudo usermod -aG root jo", "log in again")
    fake.close()


@test
def daemon_errors(directory):
    """The daemon's own words, silence and rubbish: status 1 and a clear message."""
    fake = Fake(directory + "/s")
    contains(ctl("--socket", directory + "/s", "surface", "nosuch", status=1)[1], 'model: "nosuch" is not known')
    fake.behave = lambda op, message: [("errno", 1), ("message", "release: only for root and the socket's owner")]
    contains(ctl("--socket", directory + "/s", "release", status=1)[1], "only for root")
    for rubbish in (b"HTTP/1.1 400\n\n", b"hello=1\n\n", b"x" * 70000):
        fake.behave = lambda op, message: rubbish
        contains(ctl("--socket", directory + "/s", "status", status=1)[1], "does not use flamed's protocol")
    fake.behave = lambda op, message: fake.drop()
    contains(ctl("--socket", directory + "/s", "status", status=1)[1], "connection lost")
    fake.behave = lambda op, message: [("state", "ready"), ("cpu_hz", "1,x"), ("gpu_hz", "1"), ("mem_hz", "0")]
    contains(ctl("--socket", directory + "/s", "surface", "m", status=1)[1], "cannot parse flamed's reply")
    fake.behave = lambda op, message: [("state", "ready"), ("cpu_hz", "1"), ("gpu_hz", "1"), ("mem_hz", "0"),
                                       ("row.0.0", "1:2:3")]
    contains(ctl("--socket", directory + "/s", "surface", "m", status=1)[1], "cannot parse flamed's reply")
    fake.close()


@test
def json_of_every_verb(directory):
    """--json is JSON: numbers are numbers, lists are lists, names are text."""
    fake = Fake(directory + "/s", busy=True)

    def reply(*words, status=0):
        return json.loads(ctl("--socket", directory + "/s", "--json", *words, status=status)[0])

    status = reply("status")
    equal(status["clock"]["cpu"]["cur_hz"], 1344000000)
    equal([s["model"] for s in status["session"]], ["resnet50", "qwen2.5-1.5b-q4"])
    equal((status["version"], status["profile"][0]["gain_permille"]), (VERSION, 31))
    equal(reply("models")["model"][1]["phases"], "prefill,decode")
    equal(reply("explain")["runner_up"]["refused"], "late")
    equal(reply("release"), {})
    equal(reply("profile")["state"], "busy")
    checks = reply("verify")
    equal((checks["failed"], checks["checks"][0]["check"]), (0, "socket"))
    surface = reply("surface", "resnet50")
    equal([surface["axes"][c + "_hz"] for c in AXES], list(AXES.values()))
    equal(len(surface["cells"]), 22 * 8 * 4)
    for cell in surface["cells"][::97]:
        within(cell["latency_ns"] / latency_ns(cell["cpu_hz"], cell["gpu_hz"], cell["mem_hz"]), 0.999, 1.001,
               "latency of a cell")
    equal(sum(c["measured"] > 0 for c in surface["cells"]), 8)
    equal(len(fake.ops("surface")), 5, "parts it came in")
    fake.close()


@test
def json_of_strange_text(directory):
    """Quotes, backslashes, broken UTF-8, numbers that are none: still valid JSON."""
    fake = Fake(directory + "/s")
    fake.behave = lambda op, message: (b'errno=0\nmodel.0.name=007\nmodel.0.state=a"b\\c\nmodel.0.samples=0012\n'
                                       b"model.1.name=\xff\xfe\xc3\x28 \xe2\x82\xac\n"
                                       b"model.1.x=-0.5\nmodel.1.y=1e9\nmodel.1.z=.5\nsession=3\nsession.0.id=4\n"
                                       b"list.1=a\nlist.0=b\nempty=\n\n")
    answer = json.loads(ctl("--socket", directory + "/s", "--json", "models")[0])
    equal(answer["model"][0], {"name": "007", "state": 'a"b\\c', "samples": "0012"})
    equal(answer["model"][1], {"name": "\ufffd\ufffd\ufffd( \u20ac", "x": -0.5, "y": "1e9", "z": ".5"})
    equal((answer["list"], answer["empty"], answer["session"]["0"]), ({"1": "a", "0": "b"}, "", {"id": 4}))
    fake.close()


@test
def status_for_people(directory):
    """status: aligned, coloured on a terminal only, with the missing devices."""
    fake = Fake(directory + "/s", busy=True)
    words = ["--socket", directory + "/s", "status"]
    plain = ctl(*words)[0]
    equal("\033" in plain, False, "escapes in a pipe")
    contains(plain, "NVIDIA Jetson Orin Nano, power mode 15W", "1344 MHz", "918 MHz", "9.71 W",
             "journal contains the original values of 6 knobs", "resnet50",
             "99.97 %", "31.2 ms", "271 mJ", "/sys/kernel/debug/bpmp", "nvpmodel")
    lines = [line for line in plain.splitlines() if re.match(r"  (CLOCK|cpu|gpu|mem) ", line)]
    equal(len({line.index(word) for line, word in zip(lines, ("OWNER", "flamed", "flamed", "kernel"))}), 1, "columns")
    coloured = on_terminal(*words)
    contains(coloured, "\033[32mflamed\033[0m", "\u2588")
    wide = {"COLUMNS": "200"}
    equal(re.sub(r"\033\[[0-9;]*m", "", on_terminal(*words, **wide)), plain, "with the colour taken off")
    equal(on_terminal(*words, NO_COLOR="1", **wide), plain, "NO_COLOR")
    narrow = on_terminal(*words, NO_COLOR="1", COLUMNS="80")
    contains(narrow, "resnet50", "99.97 %", "271 mJ", "1344/510/2133")
    tables = [line for line in narrow.splitlines() if re.match(r"  +(CLOCK|cpu|gpu|MODEL|ID|1 |4 |resnet|qwen)", line)]
    within(len(tables), 6, 8, "table lines")
    within(max(map(len, tables)), 40, 80, "columns of the widest")
    equal("\033" in on_terminal(*words, TERM="dumb"), False, "dumb terminal")
    equal(ctl(*words, LC_ALL="C")[0].isascii() or "\u00b0" in ctl(*words, LC_ALL="C")[0], True)
    fake.busy = False
    contains(ctl(*words)[0], "idle", "none: the kernel governs the clocks", "journal empty")
    fake.close()


@test
def status_hostile_names(directory):
    """Text from elsewhere cannot send escapes to the terminal."""
    fake = Fake(directory + "/s")
    fake.behave = lambda op, m: b"errno=0\nmodel.0.name=a\x1b[31mb\n\n"
    contains(ctl("--socket", directory + "/s", "models", status=1)[1], "does not use flamed's protocol")
    fake.behave = lambda op, m: b"errno=0\nmodel.0.name=a\xc2\x9b31mb\xc2\xb0\n\n"
    contains(ctl("--socket", directory + "/s", "models")[0], "a??31mb\u00b0")
    fake.close()


@test
def models_shown(directory):
    """models: a table, with the number of samples that were rejected."""
    fake = Fake(directory + "/s")
    rows = [line.split() for line in ctl("--socket", directory + "/s", "models")[0].splitlines()]
    equal(rows, [["MODEL", "STATE", "PHASES", "SAMPLES", "REJECTED", "CONTEXTS", "LAYERS"],
                 ["resnet50", "ready", "run", "8", "0", "1", "known"],
                 ["qwen2.5-1.5b-q4", "learning", "prefill,decode", "5", "17", "3"]])
    fake.close()


@test
def status_watch(directory):
    """status --watch: one frame a period, ends on SIGINT, puts the terminal back."""
    fake = Fake(directory + "/s")
    process = subprocess.Popen([FLAMECTL, "--socket", directory + "/s", "status", "--watch", "0.1"],
                               stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    give_up = time.monotonic() + 20
    while len(fake.ops("status")) < 3 and time.monotonic() < give_up:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=60)[0]
    equal(process.returncode, 0)
    within(out.count("NVIDIA Jetson"), 3, 1000, "frames")
    fake.close()


@test
def explain_for_people(directory):
    """explain: the point, the bound and its source, and why the cheaper one was refused."""
    fake = Fake(directory + "/s")
    out = ctl("--socket", directory + "/s", "explain", "1")[0]
    equal(fake.ops("explain"), [{"op": "explain", "session": "1"}])
    contains(out, "asked for 33.0 ms", "cpu 1344 MHz, gpu 510 MHz", "27.9 ms, at most 30.4 ms", "2.59 ms to spare",
             "margin of 2.50 ms (9 %)", "measured at this point",
             "execution-bound", "cpu 1267.2 MHz, gpu 408 MHz",
             "was refused because it is too likely to be late (at most 36.1 ms, after a transition "
             "of 5.20 ms)", "A deadline of 41.3 ms would save 0.81 W",
             "The board is 3 % slower")
    fake.close()


def narrow_marks(text):
    """The second character of each cell of two columns."""
    rows = re.findall(r"^ *[0-9.]+ ((?:..){8})$", text, re.M)
    equal(len(rows), 22 * 4, "rows of cells of two columns: " + text)
    return "".join(row[1::2] for row in rows)


@test
def heat_map(directory):
    """surface: measured cells and the current point are marked, with and without colour."""
    fake = Fake(directory + "/s")
    words = ["--socket", directory + "/s", "surface", "resnet50", "--deadline", "15ms"]
    plain = ctl(*words)[0]
    contains(plain, "8 of 704 points measured", "memory 204 MHz", "memory 3199 MHz", "[9.65]", "<13.6>",
             "bound exceeds 15.0 ms",
             "now      cpu 1344, gpu 714, memory 2133 MHz: 9.65 ms expected", "cheapest cpu 730", "launch-bound")
    grid = plain[plain.index("memory"):plain.index("measured   [ ]")]
    equal(len(re.findall(r"\d\*", grid)), 8, "measured marks")
    equal("\033" in plain, False)
    coloured = on_terminal(*words)
    contains(coloured, "\033[38;5;231;48;5;53m", "\u2022", "\033[1;38;5;16;48;5;231m[")
    equal(max(len(re.sub(r"\033\[[0-9;]*m", "", line))
              for line in coloured.split("memory 3199")[0].splitlines()) <= 120, True, "fits 120 columns")
    contains(on_terminal(*words, COLORTERM="truecolor"), "48;2;")
    narrow = ctl(*words, COLUMNS="40")[0]
    equal(max(map(len, narrow[narrow.index("memory 2"):narrow.index("measured   [")].splitlines()[:20])) <= 40, True,
          "narrow")
    contains(narrow, "[]", "<>")
    cells = json.loads(ctl(*words[:2], "--json", *words[2:4])[0])["cells"]
    late = [c["bound_ns"] > 15 * 10**6 for c in cells]
    equal((narrow_marks(narrow).count("*"), narrow_marks(narrow).count("x")),
          (8, sum(over and not c["measured"] for over, c in zip(late, cells))), "marks of narrow cells: " + narrow)
    for show in ("bound", "power", "regime", "bubble"):
        contains(ctl("--socket", directory + "/s", "surface", "resnet50", "--show", show)[0], "resnet50")
    ctl("--socket", directory + "/s", "surface", "resnet50", "--phase", "decode", "--context", "512")
    last = fake.ops("surface")[-1]
    equal((last["phase"], last["context"]), ("decode", "512"))
    fake.close()


@test
def svg(directory):
    """surface --svg: well-formed, titled, one rectangle a cell, marks, axes, colour bar."""
    fake = Fake(directory + "/s")
    path = directory + "/picture.svg"
    words = ["--socket", directory + "/s", "surface", "resnet50", "--deadline", "15ms", "--svg"]
    contains(ctl(*words, path)[0], path)
    document = xml.dom.minidom.parse(path)
    texts = [t.firstChild.data for t in document.getElementsByTagName("text") if t.firstChild
             and t.firstChild.nodeType == t.TEXT_NODE]
    cells = [r for r in document.getElementsByTagName("rect") if r.getElementsByTagName("title")]
    equal(len(cells), 704)
    equal(len({r.getAttribute("fill") for r in cells}) > 50, True, "colours")
    equal(len(document.getElementsByTagName("circle")), 8 + 1, "measured and the legend's")
    for text in ("GPU clock (MHz)", "CPU clock (MHz)", "memory 2133 MHz", "measured", "now", "bound exceeds 15 ms",
                 "7.1 ms", "13.7 ms", "1728", "1020"):
        equal(text in texts, True, text)
    width, height = (float(document.documentElement.getAttribute(a)) for a in ("width", "height"))
    for rect in cells:
        within(float(rect.getAttribute("x")) + float(rect.getAttribute("width")), 0, width, "right edge")
        within(float(rect.getAttribute("y")) + float(rect.getAttribute("height")), 0, height, "lower edge")
    equal(xml.dom.minidom.parseString(ctl(*words, "-")[0]).documentElement.tagName, "svg")
    contains(ctl(*words, directory + "/no/such/place.svg", status=1)[1], "cannot write")
    for show in ("power", "regime", "bound", "bubble"):
        xml.dom.minidom.parseString(ctl(*words, "-", "--show", show)[0])
    fake.close()


@test
def surface_shapes(directory):
    """One point, one axis only, equal values, zeros: drawn without a fault."""
    fake = Fake(directory + "/s")
    for axes, cell in ((("0", "0", "0"), "5:6:7:1:0:0:0"), (("1000000", "2000000,3000000", "0"), "5:5:0:0:0:0:0"),
                       (("1000000", "1000000", "0,1000000"), "0:0:0:0:0:0:0")):
        count = [len(a.split(",")) for a in axes]
        rows = [(f"row.{i}.{j}", ",".join([cell] * count[2])) for i in range(count[0]) for j in range(count[1])]
        fake.behave = lambda op, m: [("state", "learning"), ("phase", "run"), ("current", "-1"),
                                     *zip(("cpu_hz", "gpu_hz", "mem_hz"), axes), *rows]
        contains(ctl("--socket", directory + "/s", "surface", "m")[0], "learning", "cpu\\gpu")
        contains(on_terminal("--socket", directory + "/s", "surface", "m"), "learning")
        xml.dom.minidom.parseString(ctl("--socket", directory + "/s", "surface", "m", "--svg", "-")[0])
        json.loads(ctl("--socket", directory + "/s", "--json", "surface", "m")[0])
    fake.close()


@test
def surface_fits(directory):
    """surface: one memory clock with --mem or where the screen is small, extrapolated cells marked,
    the only phase there is."""
    fake = Fake(directory + "/s")
    words = ["--socket", directory + "/s", "surface", "resnet50"]
    one = ctl(*words, "--mem", "2100")[0]
    contains(one, "memory 2133 MHz", "other memory clocks: --mem 204 665.6 3199")
    equal(len(re.findall(r"memory [0-9.]+ MHz", one.split("now")[0])), 1, "panels")
    small = on_terminal(*words, "--deadline", "15ms", lines=24, COLUMNS="100", NO_COLOR="1")
    equal(len(small.strip("\n").split("\n")) <= 24, True, "lines: " + small)
    contains(small, "[9.65]", "other memory clocks")
    contains(ctl(*words, "--mem", "x", status=2)[1], "--mem takes")
    rows = [("row.0.0", "5:6:7:0:0:0:0,5:6:7:0:1:0:0")]
    fake.behave = lambda op, m: [("state", "ready"), ("phase", "run"), ("current", "-1"), ("cpu_hz", "1000000"),
                                 ("gpu_hz", "1000000"),
                                 ("mem_hz", "1000000,2000000"), *rows]
    far = ctl(*words, NO_COLOR="1")[0]
    equal(far.count("~"), 2, "one mark and its legend: " + far)
    contains(ctl(*words, "--svg", "-")[0], "extrapolated")
    rows = [(f"row.0.{i}", f"5:6:7:0:{i // 4}:0:0") for i in range(8)]
    fake.behave = lambda op, m: [("state", "ready"), ("phase", "run"), ("current", "-1"), ("cpu_hz", "1000000"),
                                 ("gpu_hz", ",".join(f"{i}000000" for i in range(1, 9))), ("mem_hz", "0"), *rows]
    for narrow in (ctl(*words, COLUMNS="40")[0], on_terminal(*words, COLUMNS="40")):
        plain = re.sub(r"\033\[[0-9;]*m", "", narrow)
        equal([row[1::2] for row in re.findall(r"^ +1 (.{16})$", plain, re.M)], ["~~~~    "], narrow)
    none = [("state", "none"), ("phase", "run"), ("current", "-1"), ("cpu_hz", "1"), ("gpu_hz", "1"), ("mem_hz", "0"),
            ("row.0.0", "0:0:0:0:0:0:0")]
    fake.behave = lambda op, m: ([("model.0.name", "resnet50"), ("model.0.phases", "decode")] if op == "models" else
                                 none if m.get("phase") != "decode" else [("state", "ready"), ("phase", "decode"),
                                                                          *none[2:]])
    contains(ctl(*words)[0], "resnet50, decode")
    fake.close()


@test
def tradeoff(directory):
    """tradeoff: for each deadline the least power and the least energy among the points whose bound meets it."""
    fake = Fake(directory + "/s")
    words = ["--socket", directory + "/s", "tradeoff", "resnet50"]
    cells = json.loads(ctl("--socket", directory + "/s", "--json", "surface", "resnet50")[0])["cells"]
    answer = json.loads(ctl(*words, "--json")[0])
    for name, cost in (("power", lambda c: c["power_uw"]), ("energy", lambda c: c["power_uw"] * c["latency_ns"])):
        points = answer[name]
        equal(points[0]["deadline_ns"], min(c["bound_ns"] for c in cells),
              f"{name}: the least possible deadline comes first", )
        for this, following in zip(points, points[1:] + [{"deadline_ns": 1e18}]):
            meets = [c for c in cells if c["bound_ns"] < following["deadline_ns"]]
            best = min(meets, key=cost)
            within(cost(this) / cost(best), 0.999, 1.001, f"{name} at {this['deadline_ns']}")
            equal([this[k] for k in ("cpu_hz", "gpu_hz", "mem_hz")], [best[k] for k in ("cpu_hz", "gpu_hz", "mem_hz")])
    table = ctl(*words)[0]
    contains(table, "DEADLINE", "11.6 W", "1728/1020/3199", "LEAST ENERGY")
    equal(max(map(len, table.split("\n")[1:-3])) <= 100, True, "width")
    picture = xml.dom.minidom.parseString(ctl(*words, "--svg", "-")[0])
    equal(len(picture.getElementsByTagName("circle")), len(answer["power"]) + len(answer["energy"]),
          "a dot for each choice")
    fake.behave = lambda op, m: [("state", "learning"), ("phase", "run"), ("current", "-1"), ("cpu_hz", "0"),
                                 ("gpu_hz", "0"), ("mem_hz", "0"),
                                 ("row.0.0", "0:0:0:0:0:0:0")]
    contains(ctl(*words)[0], "learning")
    xml.dom.minidom.parseString(ctl(*words, "--svg", "-")[0])
    ctl("tradeoff", status=2)
    fake.close()


@test
def surface_of_nothing(directory):
    """surface of a model, or a phase, that was never measured: an answer that lists the measured phases, and an error
    where a picture was wanted."""
    fake = Fake(directory + "/s")
    nothing = [("state", "none"), ("phase", "run"), ("current", "-1"), ("cpu_hz", "1"), ("gpu_hz", "1"),
               ("mem_hz", "0"), ("row.0.0", "0:0:0:0:0:0:0")]
    fake.behave = lambda op, m: nothing if op == "surface" else False
    contains(ctl("--socket", directory + "/s", "surface", "qwen2.5-1.5b-q4")[0], "phase run was not measured yet",
             "--phase prefill,decode", "profile")
    contains(ctl("--socket", directory + "/s", "surface", "new")[0], "was not measured yet")
    equal(json.loads(ctl("--socket", directory + "/s", "--json", "surface", "new")[0])["state"], "none")
    contains(ctl("--socket", directory + "/s", "tradeoff", "new")[0], "was not measured yet")
    for verb in ("surface", "tradeoff"):
        for words in ([], ["--json"]):
            for file in (directory + "/new.svg", "-"):
                err = ctl("--socket", directory + "/s", verb, "new", "--svg", file, *words, status=1)[1]
                contains(err, "was not written: phase run of new was not measured yet")
        equal(os.path.exists(directory + "/new.svg"), False, f"{verb}: no picture of nothing")
    fake.close()


@test
def run_environment(directory):
    """run: model, deadline, socket and layer reach the command; summary on stderr; its own output untouched."""
    fake = Fake(directory + "/s")
    layer = directory + "/layer.so"
    open(layer, "w").close()
    words = ["--socket", directory + "/s", "run", "--model", "resnet50", "--deadline", "33ms"]
    out, err = ctl(*words, "--", "sh", "-c", "env; cat", OPENCL_LAYERS="/other.so", FLAMED_OPENCL_LAYER=layer)
    environment = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    equal((environment["FLAMED_MODEL"], environment["FLAMED_DEADLINE_NS"], environment["FLAMED_SOCKET"]),
          ("resnet50", "33000000", directory + "/s"))
    equal(environment["OPENCL_LAYERS"], "/other.so:" + layer)
    equal({m["tag"] for m in fake.ops("tally")}, {environment["FLAMED_TAG"]})
    equal("FLAMED_PROFILE" in environment, False)
    contains(err, "120 inferences, 1 missed (0.83 %)", "27.9 ms median", "31.2 ms 99th percentile",
             "271 mJ per inference at 9.71 W, measured at the board's input while they ran", "1344/510/2133 MHz 92 %")
    contains(ctl(*words, "--profile", "--", "env")[0], "FLAMED_PROFILE=1")
    equal("OPENCL_LAYERS" in ctl(*words, "--", "env", FLAMED_OPENCL_LAYER="/none.so")[0], False,
          "a layer that is not there")
    equal(json.loads(ctl("--json", *words, "--", "true")[1])["requests"], 120)
    fake.behave = lambda op, m: [("sessions", 0), ("requests", 0)] if op == "tally" else False
    contains(ctl(*words, "--", "true")[1], "no inference of true was seen")
    fake.close()


@test
def run_json_layers(directory):
    """run --json: what each layer saw and, where nothing was seen, the reasons that the text gives."""
    fake = Fake(directory + "/s")
    words = ["--socket", directory + "/s", "run", "--model", "resnet50", "--deadline", "33ms", "--"]
    report = ["sh", "-c", "echo layer: inferences=44 missed=0 layer=engines launches=3254 >> $FLAMED_SUMMARY; "
                          "echo layer: inferences=0 missed=0 layer=cuda launches=7 >> $FLAMED_SUMMARY"]
    names = ["opencl", "vulkan", "cuda", "engines", "gstreamer"]
    answer = json.loads(ctl("--json", *words, *report)[1])
    equal((answer["requests"], [one["name"] for one in answer["layer"]], "text" in answer), (120, names, False))
    equal(answer["layer"][3], {"name": "engines", "loaded": 1, "inferences": 44, "launches": 3254})
    equal(answer["layer"][0], {"name": "opencl", "loaded": 0, "inferences": 0, "launches": 0})
    equal("layer" in json.loads(ctl("--json", *words, "true", FLAMED_SUMMARY="2")[1]), False, "it went elsewhere")
    fake.behave = lambda op, m: [("sessions", 0), ("requests", 0)] if op == "tally" else False
    answer, text = json.loads(ctl("--json", *words, *report)[1]), ctl(*words, *report)[1].splitlines()
    contains(answer["text"], "no inference was seen", "libflamed")
    equal([f"  {one['name']:9} {one['text']}" for one in answer["layer"]], text[1:6], "the reasons")
    contains(answer["layer"][2]["text"], "set FLAMED_BOUNDARY")
    fake.close()


@test
def run_status(directory):
    """run: exit statuses, deaths by signal, commands that do not exist."""
    fake = Fake(directory + "/s")
    for socket_path in (directory + "/s", directory + "/none"):
        words = ["--socket", socket_path, "run", "--model", "m", "--deadline", "33ms", "--"]
        for status in (0, 1, 7, 255):
            ctl(*words, "sh", "-c", f"exit {status}", status=status)
        ctl(*words, "sh", "-c", "kill -TERM $$", status=-signal.SIGTERM)
        ctl(*words, "sh", "-c", "kill -KILL $$", status=-signal.SIGKILL)
        contains(ctl(*words, "/no/such/command", status=127)[1], "/no/such/command")
        ctl(*words, directory, status=126)
    fake.close()


@test
def streams_in_status(directory):
    """status has the results of each stream: rate, late tokens, first tokens, energy of a token."""
    fake = Fake(directory + "/s", busy=True)
    pairs = fake.reply("status", {})
    row = [("rate_mhz", 15000), ("first_ns", 800000000), ("reached_mhz", 14950), ("scheduled", 300), ("late", 2),
           ("starts", 4), ("first_median_ns", 312000000), ("first_p99_ns", 480000000), ("energy_uj", 1234000)]
    stream = {f"session.0.{k}": v for k, v in row}
    answer = [pair for pair in pairs if pair[0] not in stream] + list(stream.items())
    fake.behave = lambda op, message: answer if op == "status" else False
    text = ctl("--socket", directory + "/s", "status")[0]
    titles, line = text[text.index("Streams"):].splitlines()[1:3]
    equal(titles.split(), "ID RATE REACHED LATE FIRST P99 DUE ENERGY".split())
    equal(re.split("  +", line.strip()), ["1", "15.0/s", "14.9/s", "2 of 300", "312 ms", "480 ms", "800 ms", "1.23 J"])
    stream["session.0.starts"] = stream["session.0.first_median_ns"] = stream["session.0.first_p99_ns"] = 0
    answer = [pair for pair in pairs if pair[0] not in stream] + list(stream.items())
    line = ctl("--socket", directory + "/s", "status")[0].split("Streams")[1].splitlines()[2]
    equal(re.split("  +", line.strip())[4:6], ["-", "-"], "before the first prompt")
    fake.behave = None
    equal("Streams" in ctl("--socket", directory + "/s", "status")[0], False, "without a stream")
    fake.close()


@test
def stream_explained(directory):
    """explain has the results of the stream that the request belongs to."""
    fake = Fake(directory + "/s")
    pairs = fake.reply("explain", {})
    stream = [("rate_mhz", 15000), ("number", 299), ("ahead_ns", 120000000), ("stream.rate_mhz", 15000),
              ("stream.reached_mhz", 14950), ("stream.scheduled", 300),
              ("stream.late", 2), ("stream.starts", 4), ("stream.first_median_ns", 312000000),
              ("stream.first_p99_ns", 480000000), ("stream.energy_uj", 310000)]
    fake.behave = lambda op, message: pairs + stream if op == "explain" else False
    contains(ctl("--socket", directory + "/s", "explain")[0],
             "Stream: 14.9/s reached of 15.0/s asked, 2 of 300 late against the schedule; first after 312 ms "
             "(median), 480 ms (99th percentile); 310 mJ per token.")
    fake.behave = None
    equal("Stream:" in ctl("--socket", directory + "/s", "explain")[0], False, "without a stream")
    fake.close()


@test
def run_without_daemon(directory):
    """run with no daemon: the command runs untouched, after one warning."""
    out, err = ctl("--socket", directory + "/none", "run", "--model", "m", "--deadline", "33ms", "--", "sh", "-c",
                   "env | grep -c ^FLAMED_ ; echo $PPID")
    equal(out.splitlines(), ["0", str(os.getpid())], "no variable of ours, and no process between")
    equal(len(err.splitlines()), 1, "warnings")
    contains(err, "warning", "runs without it")


@test
def run_signals(directory):
    """run hands on signals that were sent to it alone, once, and waits for the end."""
    fake = Fake(directory + "/s")
    script = ("trap 'echo usr1' USR1; trap 'echo term; exit 3' TERM; trap 'echo hup' HUP; echo ready; while :; do "
              "sleep 0.05; done")
    process = subprocess.Popen([FLAMECTL, "--socket", directory + "/s", "run", "--model", "m", "--deadline", "33ms",
                                "--", "sh", "-c", script],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT)
    equal(process.stdout.readline(), "ready\n")
    for number, answer in ((signal.SIGUSR1, "usr1\n"), (signal.SIGHUP, "hup\n"), (signal.SIGTERM, "term\n")):
        process.send_signal(number)
        equal(process.stdout.readline(), answer)
    equal(process.stdout.read(), "")
    equal(process.wait(timeout=60), 3)
    fake.close()


@test
def run_group(directory):
    """A signal for the whole process group reaches the command once; one that has left the group gets it handed on."""
    fake = Fake(directory + "/s")
    program = ("import os, signal, sys, time\nseen = []\nsignal.signal(signal.SIGUSR1, lambda *_: "
               "seen.append(time.monotonic()))\n"
               "if sys.argv[1] == 'leaves': os.setpgid(0, 0)\nprint('ready', flush=True)\nend = time.monotonic() + 20\n"
               "while time.monotonic() < (seen[0] + 0.5 if seen else end): time.sleep(0.02)\nprint(len(seen))")
    for word in ("stays", "leaves"):
        process = subprocess.Popen([FLAMECTL, "--socket", directory + "/s", "run", "--model", "m", "--deadline", "33ms",
                                    "--", sys.executable, "-c",
                                    program, word], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                   env=ENVIRONMENT, start_new_session=True)
        equal(process.stdout.readline(), "ready\n")
        for number in (signal.SIGUSR1, signal.SIGCONT):
            os.killpg(process.pid, number)
        equal(process.stdout.read(), "1\n", word)
        equal(process.wait(timeout=60), 0)
    fake.close()


@test
def run_interrupt(directory):
    """Ctrl-C on a terminal reaches the command once, not twice."""
    fake = Fake(directory + "/s")
    log = directory + "/log"
    script = f"trap 'echo int >>{log}' INT; echo ready; for i in 1 2 3 4 5 6 7 8; do sleep 0.1; done; exit 5"
    pid, fd = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored by all that a shell runs in the background
        os.execve(FLAMECTL, [FLAMECTL, "--socket", directory + "/s", "run", "--model", "m", "--deadline", "33ms", "--",
                             "sh", "-c", script], ENVIRONMENT)
    seen = b""
    while b"ready" not in seen:
        seen += os.read(fd, 1000)
    os.write(fd, b"\x03")
    while True:
        try:
            if not os.read(fd, 1000):
                break
        except OSError:
            break
    equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 5)
    os.close(fd)
    equal(open(log).read(), "int\n")
    fake.close()


@test
def profile_progress(directory):
    """profile: progress of those that run; with --time each run of the command is an inference."""
    fake = Fake(directory + "/s", busy=True)
    process = subprocess.Popen([FLAMECTL, "--socket", directory + "/s", "profile"], stdout=subprocess.PIPE, text=True,
                               env=ENVIRONMENT)
    contains(process.stdout.readline(), "mobilenet", "5/12", "1037/612/2133 MHz", "last 11.2 ms", "bound +14.2 %",
             "this point: -3.1 %")
    fake.busy = False
    contains(process.communicate(timeout=60)[0], "Done")
    equal(process.returncode, 0)
    contains(ctl("--socket", directory + "/s", "profile")[0], "No profile is running")
    count = directory + "/count"
    out = ctl("--socket", directory + "/s", "profile", "resnet50", "--budget", "3", "--time", "--", "sh", "-c",
              f"echo x >>{count}")[0]
    contains(out, "step 1 of 3", "1728/1020/0 MHz, 3 runs", "resnet50: ready, 8 operating points")
    equal(len(open(count).read().splitlines()), 12)
    equal(len([m for m in fake.ops("sample") if int(m["latency_ns"]) > 0]), 3)
    contains(ctl("--socket", directory + "/s", "profile", "resnet50", "--time", "--", "false", status=1)[1],
             "false failed")
    fake.close()


@test
def profile_command(directory):
    """profile MODEL -- COMMAND: repeated until ready, abandoned after a run without a measurement."""
    fake = Fake(directory + "/s")
    samples = [0]

    def learn(op, message):
        if op == "models":
            state = "ready" if samples[0] >= 3 else "learning"
            return [("model.0.name", "m"), ("model.0.state", state),
                    ("model.0.samples", samples[0])] if samples[0] else []
        if op == "hello":
            samples[0] += 1
        return False

    fake.behave = learn
    hello = (f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{directory}/s'); "
             f"s.sendall(b'op=hello\\n\\n'); s.recv(99)")
    out = ctl("--socket", directory + "/s", "profile", "m", "--", sys.executable, "-c", hello)[0]
    contains(out, "m: ready, 3 operating points")
    samples[0] = 0
    contains(ctl("--socket", directory + "/s", "profile", "m", "--", "true", status=1)[1],
             "no inference of true was seen", "--time")
    contains(ctl("--socket", directory + "/s", "profile", "m", "--", "sh", "-c", "exit 4", status=1)[1],
             "failed with status 4")
    fake.close()


@test
def model_of_whom(directory):
    """A model's state is that of the user's own in the current power mode, else of the administrator's.
    These may be on any page, before or after those of other modes and users."""
    fake = Fake(directory + "/s")
    pages = []

    def models(op, message):
        if op == "models":
            page = int(message.get("from", 0))
            listed = [("mode", "15W"), ("uid", 7)] + ([("next", page + 1)] if page + 1 < len(pages) else [])
            for i, (name, mode, uid, state, phases, samples) in enumerate(pages[page]):
                listed += [(f"model.{i}.{key}", value) for key, value in (
                    ("name", name), ("mode", mode), ("uid", uid), ("state", state), ("phases", phases),
                    ("samples", samples))]
            return listed
        if op == "surface":
            return [("state", "none"), ("phase", "run"), ("current", "-1"), ("cpu_hz", "1"), ("gpu_hz", "1"),
                    ("mem_hz", "0"), ("row.0.0", "0:0:0:0:0:0:0")]
        return False

    fake.behave = models
    config = directory + "/conf"
    with open(config, "w", encoding="utf-8") as file:
        file.write("[model m]\ncommand = exit 3\n")
    own, admin = ("m", "15W", 7, "learning", "prefill,decode", 3), ("m", "15W", 0, "ready", "prefill,run", 9)
    other_mode, other_user = ("m", "30W", 7, "ready", "run", 20), ("m", "15W", 8, "ready", "decode,run", 30)
    for pages[:], state, samples, phases, background in (
            ([[other_mode, own, admin, other_user]], "learning", 3, "prefill,decode", "failed with status 3"),
            ([[other_mode, other_user, ("n", "15W", 7, "none", "", 0)], [admin, other_user]], "ready", 9, "prefill,run",
             "m is ready, 9 operating points known"),
            ([[other_mode, other_user]], None, 0, None, "failed with status 3")):
        out = ctl("--socket", directory + "/s", "profile", "m", "--", "true", status=0 if state else 1)[0]
        contains(out, f"m: {state}, {samples} operating points" if state else "m: nothing was measured")
        contains(ctl("--socket", directory + "/s", "profile", "m", "--background", "--config", config,
                     status=1 if "failed" in background else 0)[1], background)
        out = ctl("--socket", directory + "/s", "surface", "m")[0]
        contains(out, f"Measured: --phase {phases}." if phases else "was not measured yet. Requests")
    fake.close()


def run_silent(directory, replies, *command, status=0):
    """run --report where flamed does not reply to the question after these."""
    fake = Fake(directory + "/s")
    fake.behave = lambda op, m: None if op == "tally" and len(fake.ops("tally")) == replies + 1 else False
    out, errors = ctl("--socket", directory + "/s", "run", "--model", "m", "--deadline", "33ms", "--report",
                      directory + "/page.html", "--", *command, status=status)
    equal((out, len(fake.ops("tally"))), ("out\n", replies + 1), errors)
    contains(errors, "flamed did not answer during the run: no summary")
    fake.close()


@test
def run_late_reply(directory):
    """It asks no more once a reply did not come: a late one would be taken for that of the next message."""
    run_silent(directory, 2, "sh", "-c", "sleep 1; echo out; exit 4", status=4)


@test
def run_late_report(directory):
    """The command runs also if flamed stops answering just before."""
    run_silent(directory, 1, "echo", "out")


@test
def report_late_reply(directory):
    """report: a reply that comes late is not taken for the next one."""
    fake = Fake(directory + "/s")
    text = lambda pairs: "".join(f"{k}={v}\n" for k, v in [("errno", 0), *pairs])

    def late(op, message):
        if op == "status":
            return None
        if op == "explain" and len(fake.connections) == 1:
            return (text([("text", "the late one")]) + "\n" + text([("text", "of explain")]) + "\n").encode()
        return [("text", "of explain")] if op == "explain" else False

    fake.behave = late
    path = directory + "/report.tar"
    ctl("--socket", directory + "/s", "report", path, "--sysroot", directory, "--config", "/dev/null", "--log",
        "/dev/null")
    with tarfile.open(path) as tar:
        found = {name: tar.extractfile(name + ".txt").read().decode() for name in ("status", "explain")}
    equal(found, {"status": "no answer\n", "explain": "errno=0\ntext=of explain\n"})
    fake.close()


@test
def verify(directory):
    """verify: an apply is tried when idle, compared with the values read back, and restored."""
    path = directory + "/s"
    fake = Fake(path)
    contains(ctl("--socket", directory + "/none", "verify", status=1)[0], "FAILED  socket", "systemctl start flamed")
    applied = []

    def move(op, message):
        if op == "begin":
            applied.append(len(fake.connections))
        if op == "status" and applied:
            mine = len(fake.connections) == applied[0]
            changed = {"clock.cpu.owner": "flamed", "clock.gpu.owner": "flamed", "clock.cpu.cur_hz": 1344000000,
                       "clock.gpu.cur_hz": 510000000}
            return [(k, changed.get(k, v) if mine else v) for k, v in fake.reply("status", {})]
        return False

    fake.behave = move
    out = ctl("--socket", path, "verify")[0]
    contains(out, f"flamed {VERSION} answers", "running, pid 412", "set to 1344 MHz and read back",
             "set to 510 MHz and read back",
             "released, and the journal is empty", "All checks passed")
    equal((fake.ops("open")[-1]["model"], fake.ops("begin")[-1]["wait"], fake.ops("end")), ("flamed-verify", "1", []))
    broken = {"keeper.state": "absent", "clock.cpu.state": "refused"}
    fake.behave = lambda op, m: [(k, broken.get(k, v)) for k,
                                 v in fake.reply("status", {})] if op == "status" else False
    out = ctl("--socket", path, "verify", status=1)[0]
    contains(out, "FAILED  keeper", "journalctl", "FAILED  cpu", "checks failed")
    fake.close()


@test
def verify_layers(directory):
    """verify: the layers for OpenCL and for engines on the CPU, where they work, and why they do not."""
    fake = Fake(directory + "/s")
    library = directory + "/libOpenCL.so.1"  # of an OpenCL loader, independent of this machine
    engines, opencl = (f"{BUILD}/libflamed-{name}.so" for name in ("engines", "opencl"))
    os.symlink(os.path.abspath(engines), library)
    there = {"FLAMED_OPENCL_LAYER": opencl, "FLAMED_ENGINES_LAYER": engines, "LD_LIBRARY_PATH": directory,
             "OCL_ICD_VENDORS": directory}

    def lines(status=0, **environment):
        out = ctl("--socket", directory + "/s", "verify", status=status, **{**there, **environment})[0]
        return {name: " ".join(line.split()) for line in out.splitlines() for name in ("opencl", "engines")
                if line.split()[1:2] == [name]}

    apis = {"opencl": "OpenCL", "engines": "llama.cpp, or ONNX Runtime by its C API (Python does not), on the CPU"}
    works = {name: f"ok {name} flamectl run governs programs that use {api}" for name, api in apis.items()}
    equal(lines(), works)
    equal(lines(FLAMED_OPENCL_LAYER="/none", FLAMED_ENGINES_LAYER="/nor"),
          {"opencl": "note opencl not installed: there is no /none",
           "engines": "note engines not installed: there is no /nor"})
    os.mkdir(directory + "/empty")
    none = {name: f"note opencl no driver for OpenCL: none is in OCL_ICD_VENDORS={directory}/{name}"
            for name in ("empty", "none.icd")}
    for name, said in none.items():
        equal(lines(OCL_ICD_VENDORS=f"{directory}/{name}")["opencl"], said)
    equal(lines(OCL_ICD_VENDORS=library), works)
    equal(lines(OCL_ICD_VENDORS=directory + "/empty", OCL_ICD_FILENAMES="/none:libOpenCL.so.1"), works)
    with open(directory + "/text.so", "w", encoding="utf-8") as file:
        file.write("no library\n")
    for name, variable in (("opencl", "FLAMED_OPENCL_LAYER"), ("engines", "FLAMED_ENGINES_LAYER")):
        said = lines(status=1, **{variable: directory + "/text.so"})
        contains(said.pop(name), f"FAILED {name} cannot be loaded: {directory}/text.so: ")
        equal(said, {other: line for other, line in works.items() if other != name}, "the other one")
    os.unlink(library)
    with open(library, "w", encoding="utf-8") as file:
        file.write("no library\n")
    said = lines()
    contains(said["opencl"], f"note opencl OpenCL not found: {library}: ")
    equal(said["engines"], works["engines"], "needs no API")
    fake.close()


main()
