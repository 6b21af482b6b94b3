#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""flamectl report: all that a bug report needs, nothing that names the machine or a person, and a
golden tree out of it."""
import os
import re
import shutil
import sys
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "daemon"))
from daemonlib import *

SECRETS = ("wintermute", "ada-lovelace", "Ada Lovelace", "/home/", "/opt/secret", "hunter2")
CONFIG = """[flamed]
# for ada-lovelace, who runs /opt/secret/net on wintermute
save_interval = 1 s
[model net]
command = /home/ada-lovelace/run.sh --token-file=/opt/secret/hunter2
"""


def report(d, path, **env):
    args = [os.path.join(BUILD, "flamectl"), "--socket", d.socket, "report", path, "--sysroot", d.sys, "--config",
            d.config, "--log", d.log]
    host = ["unshare", "--uts", "sh", "-c", 'hostname wintermute && exec "$@"',
            "sh"] if os.geteuid() == 0 and shutil.which("unshare") else []
    run = subprocess.run(host + args, env={**os.environ, "USER": "ada-lovelace", **env}, capture_output=True, text=True)
    if host and "unshare" in run.stderr:
        run = subprocess.run(args, env={**os.environ, "USER": "ada-lovelace", **env}, capture_output=True, text=True)
    return run


for name in ("jetson-orin-nano", "amd-apu-discrete", "intel-xe-laptop", "rk3399"):
    d = Daemon(name, config=CONFIG)
    c = d.client()
    before = d.knobs()
    c.request(c.open(), 60, latency_ns)
    c.close()
    wait_for(lambda: d.restored(before))  # in plain files a level table is not to be seen while a mask is written
    with open(d.log, "a") as f:
        f.write("<6>wintermute: ada-lovelace ran /home/ada-lovelace/run.sh, then /opt/secret/net\n")
    path = d.dir + "/report.tar"
    run = report(d, path)
    if not ok(run.returncode == 0 and os.path.exists(path), f"{name}: a report is written", run.stderr):
        d.end()
        continue
    with tarfile.open(path) as tar:
        members = {m.name: m for m in tar}
        text = {n: tar.extractfile(m).read().decode(errors="replace") for n, m in members.items() if m.isfile()}
    ok({"report.txt", "flamed.conf", "status.txt", "models.txt", "explain.txt", "log.txt"} <= set(members),
       f"{name}: with all its parts", sorted(members)[:30])
    ok("board.name=" in text["status.txt"] and "save_interval = 1 s" in text["flamed.conf"]
       and "ready" in text["log.txt"], f"{name}: and what is in them")
    host = os.uname().nodename
    found = [(n, s) for n, t in text.items() for s in (*SECRETS, d.dir) if s in t]
    found += [(n, host) for n, t in text.items() if n.endswith((".txt", ".conf")) and len(host) > 1
              and re.search(r"\b%s\b" % re.escape(host), t)]
    ok(not found, f"{name}: no host name, no user name, no path of others", found)
    ok(all(m.uname == m.gname == "" and m.uid == m.gid == 0 for m in members.values()), f"{name}: nor in the headers")
    ok(all(re.match(r"(sys|proc)/|[a-z.]+\.(txt|conf)$|boards\.d/", n) for n in members),
       f"{name}: no member but of sysfs and ours", sorted(members))
    # the sysfs in it is the board: probed alike
    with tarfile.open(path) as tar:
        (tar.extractall(d.dir + "/again", filter="data") if hasattr(tarfile, "data_filter") else
         tar.extractall(d.dir + "/again"))
    want = {k: v for k, v in d.status().items() if re.match(r"clock\..*\.(devices|method|steps|min_hz|max_hz)$", k)
            or k == "board.name"}
    os.makedirs(d.dir + "/again/proc/sys/kernel/random", exist_ok=True)
    d.stop()
    d.sys, d.state, d.run = d.dir + "/again", d.dir + "/again-state", d.dir + "/again-run"
    d.socket = os.path.join(d.run, "flamed.sock")
    with open(d.sys + "/proc/sys/kernel/random/boot_id", "w") as f:
        f.write("6f1e1d4c-5a0b-4b7e-9a55-0a0a0a0a0aff\n")
    d.start()
    got = d.status()
    ok({k: got.get(k) for k in want} == want, f"{name}: flamed finds the same board in it",
       {k: (want[k], got.get(k)) for k in want if want[k] != got.get(k)})
    d.end()

# a report becomes a golden tree with one command, in a copy of the repository's tests and tools
d = Daemon("rk3399")
report(d, d.dir + "/report.tar")
copy = d.dir + "/copy"
for folder in ("tests/trees", "tests/keeper", "tools"):
    shutil.copytree(os.path.join(ROOT, folder), os.path.join(copy, folder))
run = subprocess.run([sys.executable, copy + "/tools/tree-from-report", d.dir + "/report.tar", "from-report",
                      "A board of a report."],
                     env={**os.environ, "BUILD_DIR": BUILD, "RELEASE_DIR": RELEASE}, capture_output=True, text=True)
trees = copy + "/tests/trees/"
ok(run.returncode == 0 and os.path.exists(trees + "from-report.tree") and "not ok" not in run.stdout,
   "tree-from-report makes a golden tree", run.stdout + run.stderr)


def first_writes(path):
    return [line for line in open(path) if line.startswith("/sys")][:4]


ok(len(first_writes(trees + "from-report.writes")) == 4 and "ff9a0000.gpu/max_freq"
   in open(trees + "from-report.writes").read(),
   "with the writes that the keeper makes on it", open(trees + "from-report.writes").read()[:800])
run = report(d, d.dir + "/report.tar")
ok(run.returncode == 1 and "exists" in run.stderr, "an archive that is there is not written over", run.stderr)
d.end()
done()
