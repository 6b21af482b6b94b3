#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# Start, reload, learning across restarts, expiry, boards that lack things, the
# service manager's protocol, and a configuration that is wrong.
import glob
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

from daemonlib import *


def configuration():
    d = Daemon(start=False)
    for text, line, word in (("[flamed]\nnope = 1\n", 2, "nope"), ("[flamed]\n\nmem_dwell = 2\n", 3, "unit"),
                             ("[flamed]\nmargin = 1.5\n", 2, "from 0 to 1"),
                             ("[nothing]\nx = 1\n", 2, "unknown key"), ("[flamed\n", 1, "not a [section]"),
                             ("[flamed]\nlog_level = loud\n", 2, "one of"),
                             ("[flamed]\nmargin = 0\nmargin = 0\n", 3, "twice"), ("[limits]\ncpu_max = 2\n", 2, "unit"),
                             ("[model a/b]\ndeadline = 1ms\n", 2, "model name"),
                             ("[power]\nsensor = maybe\n", 2, "yes or no"),
                             ("[model]\ndeadline = 3ms\n", 2, "needs a name")):
        with open(d.config, "w") as f:
            f.write(text)
        p = subprocess.run(d.command("--check-config"), capture_output=True, text=True)
        ok(p.returncode == 2 and f"{d.config}:{line}:" in p.stderr and word in p.stderr,
           f"{text!r}: file:line and what is accepted", p.stderr)
        ok(subprocess.run(d.command(), capture_output=True, text=True).returncode == 2,
           "and flamed does not start with it")
    with open(d.config, "w"):
        pass
    p = subprocess.run(d.command("--check-config"), capture_output=True, text=True)
    ok(p.returncode == 0, "an empty configuration means defaults", p.stderr)
    os.chmod(d.config, 0o666)
    p = subprocess.run(d.command("--check-config"), capture_output=True, text=True)
    ok(p.returncode == 2 and "world-writable" in p.stderr, "a world-writable configuration is refused", p.stderr)
    os.chmod(d.config, 0o644)
    p = subprocess.run(d.command("--check-config", "--config", d.dir), capture_output=True, text=True)
    ok(p.returncode == 2 and d.dir in p.stderr, "an unreadable configuration is named", p.stderr)
    for args in (["--nope"], ["stray"], ["--config"]):
        ok(subprocess.run(d.command(*args), capture_output=True).returncode == 2, f"usage error: {args}")
    d.end()


def reload():
    d = Daemon()
    c = d.client()
    s = c.open(replay=1)  # total times without the wait for the clocks
    with open(d.config, "w") as f:
        f.write("[limits]\ncpu_max = 1 GHz\n[flamed]\nnope = 1\n")
    d.process.send_signal(signal.SIGHUP)
    ok(wait_for(lambda: f"{d.config}:4: unknown key nope" in d.text()), "a wrong configuration at SIGHUP: file:line",
       d.text()[-500:])
    begun, _ = c.request(s, 9, latency_ns)
    ok(begun["cpu_hz"] == "1728000000", "the old one stays, the session too", begun)
    with open(d.config, "w") as f:
        f.write("[limits]\ncpu_max = 1 GHz\n")
    d.process.send_signal(signal.SIGHUP)
    ok(wait_for(lambda: "configuration reloaded" in d.text()), "a right one is taken")
    begun, _ = c.request(s, 9, latency_ns)
    ok(begun["cpu_hz"] == "960000000", "a limit between table entries means the entry below", begun)
    c.close()
    d.end()


def quantile():
    """The configured quantile counts from the start, and another one from a reload on: all at one point."""
    config = "[limits]\ncpu_max = 120 MHz\ngpu_max = 310 MHz\n[flamed]\nquantile = "
    bounds = []
    for first in ("0.6", "0.9999"):
        d = Daemon(config=f"{config}{first}\n")
        c = d.client()
        s = c.open("net")
        for _ in range(30):
            c.request(s, 60, latency_ns)
        for now in (first, "0.9999"):
            with open(d.config, "w") as f:
                f.write(f"{config}{now}\n")
            reloads = d.text().count("configuration reloaded")
            d.process.send_signal(signal.SIGHUP)
            wait_for(lambda: d.text().count("configuration reloaded") > reloads)
            begun, _ = c.request(s, 60000, latency_ns)
            bounds.append(int(begun["bound_ns"]) / int(begun["predicted_ns"]))
        c.close()
        d.end()
    ok(bounds[0] < bounds[1], "a greater quantile from a reload on: a bound further above what is predicted", bounds)
    ok(bounds[0] < bounds[2], "as from the start", bounds)


def learning():
    # Without a sensor a lower clock is always cheaper, so the cheapest point of all is late.
    d = Daemon(config="[power]\nsensor = no\n")
    before = d.knobs()
    c = d.client()
    s = c.open("learner")
    state, low = set(), 0
    for i in range(60):
        begun, ended = c.request(s, 30, latency_ns)
        low += i >= 30 and ended["missed"] == "1"
        state.add(c.ask(op="models")["model.0.state"])
    ok("learning" in state, "surface: learning", state)
    ok(low == 0, "no miss after 30 requests", low)
    ok(int(begun["cpu_hz"]) < 1728000000 and int(begun["gpu_hz"]) < 1020000000, "comes down from full clocks", begun)
    time.sleep(1)  # in quick succession runners-up are sought once a second
    c.request(s, 30, latency_ns)
    explained = c.ask(op="explain", session=s)
    ok(explained.get("runner_up.refused") and " " in explained["runner_up.text"],
       "explain names a runner-up and why it was refused", explained)
    c.close()
    late = d.client()
    ok(wait_for(lambda: d.status()["sessions"] == "0") and late.ask(op="explain") == {**explained, "closed": "1"},
       "the last decision can be explained after its session was closed", late.ask(op="explain"))
    ok(late.ask(op="explain", session=int(s) + 1)["errno"] == "2", "another session's cannot")
    late.close()
    ok(d.restored(before), "the last session closed: every knob as found", d.difference(before))
    wait_for(lambda: glob.glob(d.state + "/models/learner*.csv"))
    stored = glob.glob(d.state + "/models/learner*.csv")
    ok(len(stored) == 1 and open(stored[0]).readline()
       == "phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n,sd_ns,max_ns,power_uw\n", "samples saved as CSV", stored)
    d.stop()
    d.start()
    c = d.client()
    opened = c.ask(op="open", model="learner")
    ok(opened["surface"] in ("learning", "ready"), "known again after a restart", opened)
    again, _ = c.request(opened["session"], 30, latency_ns)
    ok(int(again["cpu_hz"]) < 1728000000 and int(again["gpu_hz"]) < 1020000000, "and does not start at full clocks",
       again)
    c.close()
    d.stop()
    for name, text in (("broken", "phase,context\nrun"),
                       ("text", "phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns\nrun,0,1,1,1,fast\n"),
                       ("nan", "cpu_hz,gpu_hz,mem_hz,latency_ns\n1728000000,1020000000,0,nan\n"),
                       ("binary", "\0\1\2\3")):
        base = os.path.basename(stored[0]).replace("learner", name)
        with open(os.path.join(d.state, "models", base), "w") as f:
            f.write(text)
    d.start()
    wait_for(lambda: sum(n.endswith(".csv.damaged") for n in os.listdir(d.state + "/models")) == 4)
    names = os.listdir(d.state + "/models")
    for name in ("broken", "text", "nan", "binary"):
        aside = [n for n in names if n.startswith(name) and n.endswith(".csv.damaged")]
        ok(len(aside) == 1 and f"renamed to {d.state}/models/{aside[0]}" in d.text(),
           f"a damaged file ({name}) is set aside and reported", (names, d.text()[-800:]))
    ok(any(n.startswith("learner") and n.endswith(".csv") for n in names), "the good one is kept")
    ok(d.end() == 0, "exit 0")


def told():
    """A surface that is tight where requests ran and mostly extrapolated is not called ready, by anyone."""
    d = Daemon(config="[clocks]\nmem = leave\n")
    c = d.client()

    def words(model, session):
        surface = c.ask(op="surface", model=model)
        cells = [cell.split(":") for key, row in surface.items() if key.startswith("row.") for cell in row.split(",")]
        far = sum(cell[3] == "0" and cell[4] == "0" for cell in cells) / len(cells)
        shown = [subprocess.run([os.path.join(BUILD, "flamectl"), "--socket", d.socket, verb], capture_output=True,
                                text=True).stdout for verb in ("models", "status", "metrics")]
        lines = [next(line for line in text.splitlines() if model in line) for text in shown[:2]]
        counted = re.findall(rf'^flamed_model_state{{model="{model}".*state="(\w+)"}} 1$', shown[2], re.M)
        again = c.ask(op="open", model=model)
        c.ask(op="close", session=again["session"])
        return far, again["surface"], [surface["state"], state(model), *counted,
                     *(re.search(r"\b(learning|extrapolated|ready)\b", line)[1] for line in lines)]

    def state(model):
        models = c.ask(op="models")
        return next(models[key.replace(".name", ".state")] for key in models if models[key] == model)

    # Which points are tried is chance: of several models one has few of them when its bounds are tight.
    for number in range(40):
        model, session = f"far{number}", c.open(f"far{number}")
        for _ in range(60):
            c.request(session, 60 if number % 2 else 30, latency_ns)
            if state(model) != "learning":
                break
        far, opened, said = words(model, session)
        if said[0] == "extrapolated":
            break
        c.ask(op="close", session=session)
    ok(far > 0.5 and said == 5 * ["extrapolated"], "over half has no measurement near: all say so", (far, said))
    ok(opened == "learning", "to a client that opens it, in the three words that it knows, it is still learned", opened)
    asked = c.ask(op="profile", model=model, budget=12)
    while "step" in asked and asked.get("done") != "1":
        asked = c.ask(op="sample", profile=asked["profile"], latency_ns=int(latency_ns(asked)), n=asked["repeat"])
    far, opened, said = words(model, session)
    ok(far <= 0.5 and [opened, *said] == 6 * ["ready"], "measured: all say ready", (far, opened, said))
    c.close()
    d.end()


def profile():
    d = Daemon()
    c = d.client()
    seen, steps = set(), 0
    r = c.ask(op="profile", model="measured", budget=8)
    while "done" not in r and steps < 20:
        ok(r["errno"] == "0" and d.read("/sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq")
           == str(int(r["cpu_hz"]) // 1000),
           f"profile step {r.get('step')}: the clocks are applied", r)
        seen.add((r["cpu_hz"], r["gpu_hz"], r["mem_hz"]))
        steps += 1
        r = c.ask(op="sample", profile=r["profile"], latency_ns=int(latency_ns(r)), n=r["repeat"],
                  sd_ns=int(0.01 * latency_ns(r)))
    ok(1 < steps <= 8 and len(seen) > 1, f"at most 8 measurements at different points ({steps})", (steps, seen))
    ok(r.get("surface", "none") != "none", "done tells the surface's state", r)
    # A deadline request takes precedence.
    p = d.client()
    r = p.ask(op="profile", model="second", budget=4)
    s = c.open("urgent")
    begun = c.ask(op="begin", session=s, deadline_ns=30000000, wait=1)
    paused = p.ask(op="sample", profile=r["profile"], latency_ns=9000000, n=5, sd_ns=0)
    ok(paused.get("pause") == "1", "a deadline request pauses the profile", paused)
    ok(d.status()["profile.0.paused"] == "1", "status says so")
    c.ask(op="end", request=begun["request"], total_ns=9000000, ack=1)
    again = p.ask(op="sample", profile=r["profile"])
    ok([again.get(k) for k in ("cpu_hz", "gpu_hz", "step")] == [r.get(k) for k in ("cpu_hz", "gpu_hz", "step")],
       "the disturbed point is measured again", (r, again))
    other = c.ask(op="profile", model="third")
    ok(other["errno"] == "16", "two profiles at once would disturb each other: EBUSY", other)
    p.close()
    ok(wait_for(lambda: "profile.0.id" not in d.status()), "a profile ends with its connection")
    d.end()


def expiry():
    d = Daemon(config="[flamed]\nrequest_expiry = 1 s\nrelease_after = 2 s\n")
    before = d.knobs()
    c = d.client()
    s = c.open()
    begun = c.ask(op="begin", session=s, deadline_ns=10000000, wait=1)
    ok(d.knobs() != before, "clocks are held")
    ok(wait_for(lambda: d.status()["requests"] == "0"), "a request never ended expires", d.status())
    ok(c.ask(op="end", request=begun["request"])["errno"] == "2", "and can no longer be ended")
    ok(d.restored(before), "without requests the clocks go back though the session is open", d.difference(before))
    c.request(s, 20, latency_ns)
    ok(d.knobs() != before, "and are taken again with the next one")
    c.close()
    d.end()


def prepared():
    d = Daemon(config="[flamed]\nrelease_after = 3 s\n")
    before = d.knobs()
    c = d.client()
    s = c.open("ready")
    ok(d.knobs() == before, "open without a deadline touches nothing", d.difference(before))
    for _ in range(40):
        last, _ = c.request(s, 30, latency_ns)
    c.ask(op="close", session=s)
    ok(d.restored(before), "closed: every knob as found", d.difference(before))
    low = "/sys/devices/system/cpu/cpufreq/policy4/scaling_min_freq"
    high = low.replace("min_freq", "max_freq")
    opened = c.ask(op="open", model="ready", deadline_ns=30000000)
    ok(wait_for(lambda: d.read(low) == d.read(high) != "1728000"),
       "open with its deadline: the clocks are there before the first request",
       (d.read(low), d.read(high), last))
    ready = latency_ns({"cpu_hz": int(d.read(high)) * 1000, "gpu_hz": 1020000000})
    ok(ready < 30e6, "and can meet it", ready)
    begun = c.ask(op="begin", session=opened["session"], deadline_ns=30000000, wait=1)
    ok(begun["feasible"] == "1", "the first request", begun)
    c.ask(op="end", request=begun["request"], total_ns=int(latency_ns(begun)), ack=1)
    c.ask(op="close", session=opened["session"])
    ok(d.restored(before), "closed again: every knob as found", d.difference(before))
    c.ask(op="open", model="ready", deadline_ns=30000000)
    ok(wait_for(lambda: d.knobs() != before), "taken at open")
    ok(d.restored(before), "and given back when no request comes", d.difference(before))
    c.close()
    d.end()


def lacking():
    for tree in ("nothing", "intel-laptop", "amd-apu", "rk3588", "jetson-tx2"):
        d = Daemon(tree=tree)
        before = d.knobs()
        c = d.client()
        s = c.open()
        begun, ended = c.request(s, 50, latency_ns)
        ok(begun["errno"] == "0" and ended["missed"] == "0", f"{tree}: requests are served", (begun, ended))
        for _ in range(20):
            c.request(s, 50, latency_ns)
        r = d.status()
        for clock in ("cpu", "gpu", "mem"):
            ok(r[f"clock.{clock}.controllable"] == "1" or r[f"clock.{clock}.why_not"] != "",
               f"{tree}: {clock} is moved or status says why not", r)
        ok(r["power.sensor"] != "" or r["power.why_not"] != "", f"{tree}: a sensor, or why not")
        if tree == "nothing":
            ok(d.knobs() == before and r["state"] == "degraded", "nothing: touches nothing, says so", r["state_reason"])
        c.close()
        ok(d.restored(before), f"{tree}: every knob as found", d.difference(before))
        ok(d.end() == 0, f"{tree}: exit 0")


def states(pid):
    """The state of each child of a process."""
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        children = f.read().split()
    found = {}
    for child in children:
        try:
            with open(f"/proc/{child}/stat") as f:
                found[int(child)] = f.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            pass
    return found


def keepers_are_reaped():
    """Keepers that close their socket before they exit leave no zombies."""
    d = Daemon(start=False)
    d.build = os.path.join(d.dir, "bin")
    keeper = d.build + "/flamed-keeper"
    os.mkdir(d.build)
    shutil.copy(os.path.join(BUILD, "flamed"), d.build)
    with open(keeper, "w") as f:
        f.write("#!/bin/sh\nexec 3>&-\nsleep 0.2\n")
    os.chmod(keeper, 0o755)
    d.start()
    ok(wait_for(lambda: d.text().count("the keeper exited unexpectedly") >= 4), "keepers exit at once", d.text()[-400:])
    shutil.copy(os.path.join(BUILD, "flamed-keeper"), keeper + ".new")
    os.rename(keeper + ".new", keeper)
    ok(wait_for(lambda: d.status()["state"] == "idle", 60), "the next one serves", d.status())
    left = states(d.process.pid)
    ok(list(left) == [d.keeper_pid()] and "Z" not in left.values(), "it is the only child", left)
    ok(d.end() == 0, "exit 0")


def manager():
    d = Daemon(start=False)
    path = os.path.join(d.dir, "notify")
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(path)
    s.settimeout(30)
    d.env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}
    d.start()

    def heard(word):
        text = ""
        try:
            while word not in text:
                text += s.recv(4096).decode() + "\n"
        except socket.timeout:
            pass
        return word in text
    ok(heard("READY=1"), "READY=1")
    ok(heard("STATUS="), "STATUS=")
    ok(heard("WATCHDOG=1"), "WATCHDOG=1 within its interval")
    d.process.send_signal(signal.SIGHUP)
    ok(heard("RELOADING=1\nMONOTONIC_USEC="), "RELOADING=1 with the time")
    ok(heard("READY=1"), "READY=1 after the reload")
    d.process.send_signal(signal.SIGTERM)
    ok(heard("STOPPING=1"), "STOPPING=1")
    ok(d.process.wait(30) == 0, "exit 0")
    s.close()
    # Socket activation.
    d.env = {}
    os.unlink(d.socket) if os.path.exists(d.socket) else None
    d.wrapper = ["systemd-socket-activate", "-l", d.socket]
    d.start(wait=False)
    ok(wait_for(d.up), "the manager's socket is there before the daemon")
    c = d.client()
    ok(c.ask(op="hello")["errno"] == "0", "the first connection starts the daemon and is served")
    c.close()
    d.stop()
    d.end()
    # Two at once.
    d = Daemon()
    p = subprocess.run(d.command(), capture_output=True, text=True, timeout=60)
    ok(p.returncode == 1 and "another flamed" in p.stderr, "a second flamed on the same socket says so and ends",
       p.stderr)
    ok(d.up(), "the first goes on")
    d.stop(signal.SIGKILL)
    d.start()
    ok(d.up(), "a stale socket is replaced")
    d.end()


for test in (configuration, reload, quantile, learning, told, profile, expiry, prepared, lacking, keepers_are_reaped,
             manager):
    test()
done()
