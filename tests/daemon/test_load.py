#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# Many connections and sessions, a client that floods, memory over time. The
# release build is measured: this is about what users run.
import os
import subprocess

from daemonlib import *

LOAD = os.path.join(BUILD, "tests/load")
REQUESTS = int(os.environ.get("LOAD_REQUESTS", "100000"))


def load(*args):
    p = subprocess.run([LOAD, *map(str, args)], capture_output=True, text=True, timeout=600)
    return p.returncode, dict(line.split("=") for line in p.stdout.split()), p.stderr


def rss_kb(pid):
    return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))


def cpu_s(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


d = Daemon(build=RELEASE)
before = d.knobs()
pid = d.process.pid
rc, _, err = load("many", d.socket, 1000, 250, 5000)
ok(rc == 0, "1,000 connections, 250 sessions: every reply is there and its own", err)
warm = rss_kb(pid)
used = cpu_s(pid)
rc, r, err = load("many", d.socket, 1000, 250, REQUESTS)
used = cpu_s(pid) - used
ok(rc == 0, f"{REQUESTS} more requests: every reply is there and its own", err)
grown = rss_kb(pid) - warm
ok(grown < 1024, f"memory is flat over them (grown by {grown} kB)", grown)
ok(d.restored(before), "after the load: every knob as found", d.difference(before))
print(f"# | load: {REQUESTS} begin/end pairs on 1,000 connections, 250 sessions: {r.get('requests_per_s')} a second as the client saw it,")
print(f"# |       {REQUESTS / used if used else 0:.0f} a second of the daemon's own processor time; resident memory grew by {grown} kB")

ratios = []
for _ in range(5):
    _, alone, _ = load("pace", d.socket, 1000)
    flood = subprocess.Popen([LOAD, "flood", d.socket, "2"], stdout=subprocess.PIPE)
    rc, crowded, err = load("pace", d.socket, 1000)
    flood.communicate()
    ok(rc == 0 and flood.returncode == 0, "a polite client is served beside one that floods", err)
    ratios.append(float(crowded["p99_us"]) / float(alone["p99_us"]))
ratios.sort()
print(f"# | flood: 99th percentile of begin beside a flooding client over that alone, five pairs: median {ratios[2]:.2f} ({ratios[0]:.2f} to {ratios[4]:.2f})")
ok(d.end() == 0, "exit 0")
done()
