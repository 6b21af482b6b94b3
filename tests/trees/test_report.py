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
sys.path[:0] = [os.path.join(HERE, "..", "daemon"), os.path.join(HERE, "..", "keeper")]
from daemonlib import *
from keeper import Keeper, differences, snapshot

# (what is written in the configuration and the log, the part of it that no report may contain)
LEAKS = (
    ("wintermute: started", "wintermute"),
    ("my-wintermute-laptop", "wintermute"),
    ("net_wintermute-2", "wintermute"),
    ("WINTERMUTE", "wintermute"),
    ("wintermute23", "wintermute"),
    ("for ada-lovelace, who runs /opt/secret/net", "ada-lovelace"),
    ("ran /home/ada-lovelace/run.sh --token-file=/opt/secret/hunter2", "hunter2"),
    ("file:///home/grace/secret-plan", "secret-plan"),
    ("https://wiki.acme.example/net", "acme"),
    ("//srv/nas/weights", "nas/weights"),
    ("/_vault/x", "vault/x"),
    ("/über/x", "über"),
    ("-I/headers/x", "headers/x"),
    ("/system-of-acme/x", "acme"),
    ("/run/flamed/../../home/grace", "grace"),
    ("/run/flamed.old/x", "old/x"),
    ("/sys/class/drm:/home/grace", "grace"),
    ('"/home/grace/My Documents/secret4.txt"', "secret4"),
    ("cat '/home/grace/My Documents/secret5.txt'", "secret5"),
    ("/home/grace/My\\ Documents/secret6.txt", "secret6"),
    ("write to grace.h+flamed@acme.example.", "grace.h"),
    ("grace@163.com", "grace@"),
    ("192.168.71.14:8080", "192.168.71"),
    ("[2001:db8:71::14]:8080", "db8:71"),
    ("fe80::1%eth0", "fe80::"),
    ("hid-d4:a3:3d:12:34:56-battery", "d4:a3"),
    ("dev_D4_A3_3D_12_34_56", "d4_a3"),
)
SECRETS = {secret for _, secret in LEAKS} | {"Ada Lovelace", "/home/", "/opt/secret"}
# what a reader of the report needs
KEPT = ("/sys/devices/17000000.gp[0-9]*/devfreq/*/cur_freq", "/sys/devices/gpu@ff9a0000/x", "/etc/flamed.conf:12: no",
        "0000:01:00.0", "12:34:56", "net@1001", "its 1/2 of 30/s", "flamed 0.1.0.")
CONFIG = "[flamed]\n" + "".join(f"# {line}\n" for line, _ in LEAKS) + """save_interval = 1 s
[model net]
command = /home/ada-lovelace/run.sh --token-file=/opt/secret/hunter2
"""
BATTERY = "sys/class/power_supply/hid-d4:a3:3d:12:34:56-battery"


def report(d, path, **env):
    args = [os.path.join(BUILD, "flamectl"), "--socket", d.socket, "report", path, "--sysroot", d.sys, "--config",
            d.config, "--log", d.log]
    host = ["unshare", "--uts", "sh", "-c", 'hostname wintermute && exec "$@"',
            "sh"] if os.geteuid() == 0 and shutil.which("unshare") else []
    run = subprocess.run(host + args, env={**os.environ, "USER": "ada-lovelace", **env}, capture_output=True, text=True)
    if host and "unshare" in run.stderr:
        run = subprocess.run(args, env={**os.environ, "USER": "ada-lovelace", **env}, capture_output=True, text=True)
    return run


PASSWD = "/etc/passwd"


def with_accounts(accounts, args):
    """A command that sees an /etc/passwd of these lines; None where nothing may be mounted."""
    names = os.path.join(d.dir, "passwd")
    with open(names, "w") as f:
        f.writelines(line + "\n" for line in accounts)
    mount = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount", "sh", "-c",
             f'mount --bind "$0" {PASSWD} && exec "$@"', names]
    if shutil.which("unshare") and subprocess.run([*mount, "true"], capture_output=True).returncode == 0:
        return [*mount, *args]
    return None


def with_unreadable_etc(args):
    """A command of an ordinary user who sees a flamed.conf that only others may read; None where nothing may be
    mounted."""
    etc = os.path.join(d.dir, "etc")
    os.mkdir(etc)
    shutil.copy(PASSWD, etc)
    with open(etc + "/flamed.conf", "w") as f:
        f.write("[flamed]\n")
    os.chmod(etc + "/flamed.conf", 0)
    user = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount", "sh", "-c",
            'mount --bind "$0" /etc && exec unshare --user "$@"', etc]
    if shutil.which("unshare") and subprocess.run(
            [*user, "sh", "-c", "test -e /etc/flamed.conf && ! test -r /etc/flamed.conf"],
            capture_output=True).returncode == 0:
        return [*user, *args]
    return None


def unpack(path, folder):
    with tarfile.open(path) as tar:
        (tar.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(folder))


for name in ("jetson-orin-nano", "amd-apu-discrete", "intel-xe-laptop", "rk3399"):
    d = Daemon(name, config=CONFIG)
    os.makedirs(os.path.join(d.sys, BATTERY))
    with open(os.path.join(d.sys, BATTERY, "type"), "w") as f:
        f.write("Battery\n")
    c = d.client()
    before = d.knobs()
    c.request(c.open(), 60, latency_ns)
    c.close()
    wait_for(lambda: d.restored(before))  # in plain files a level table is not to be seen while a mask is written
    with open(d.log, "a") as f:
        f.writelines(f"<6>{line}\n" for line in (*KEPT, *(line for line, _ in LEAKS)))
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
    found = [(n, s) for n, t in text.items() for s in (*SECRETS, d.dir) if s.lower() in t.lower()]
    found += [n for n in members if "d4:a3" in n]
    found += [(n, host) for n, t in text.items() if n.endswith((".txt", ".conf")) and len(host) > 1
              and re.search(r"\b%s\b" % re.escape(host), t)]
    ok(not found, f"{name}: no host name, no user name, no path of others, no address", found)
    lost = [line for line in KEPT if f"<6>{line}\n" not in text["log.txt"]]
    ok(not lost, f"{name}: our own files and names are kept", lost)
    ok(all(m.uname == m.gname == "" and m.uid == m.gid == 0 for m in members.values()), f"{name}: nor in the headers")
    ok(all(re.match(r"(sys|proc)/|[a-z.]+\.(txt|conf)$|boards\.d/", n) for n in members),
       f"{name}: no member but of sysfs and ours", sorted(members))
    # the archived sysfs gives the same board
    unpack(path, d.dir + "/again")
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



def processors(root):
    """Cooling devices of ACPI processors, told apart by links; one of them is active. And limits below the hardware's,
    of which only that one is explained."""
    sysfs = root + "/sys/"
    for cpu in range(4):
        cooler, acpi = f"thermal/cooling_device1{cpu}", f"devices/LNXSYSTM:00/LNXSYBUS:00/LNXCPU:0{cpu}"
        thermal = "devices/virtual/" + cooler
        for folder in (thermal, acpi, "class/thermal", f"devices/system/cpu/cpu{cpu}", "power/suspend_stats"):
            os.makedirs(sysfs + folder, exist_ok=True)
        for link, target in (("class/" + cooler, "../../" + thermal),
                             (thermal + "/device", "../../../../" + acpi),
                             (acpi + "/physical_node", f"../../../system/cpu/cpu{cpu}"),
                             (f"devices/system/cpu/cpu{cpu}/cpufreq", f"../cpufreq/policy{cpu}")):
            os.path.lexists(sysfs + link) or os.symlink(target, sysfs + link)
        for file, text in ((thermal + "/type", "Processor"), (thermal + "/cur_state", 2 * (cpu == 1)),
                           (f"devices/system/cpu/cpufreq/policy{cpu}/scaling_max_freq", 3000000),
                           ("power/suspend_stats/success", 7)):
            with open(sysfs + file, "w") as f:
                f.write(f"{text}\n")


def keeps(root, state):
    """What a keeper does on a tree: its states and reasons, and the files that it changes."""
    os.mkdir(state)
    before, keeper = snapshot(root), Keeper(root, state)
    reply = keeper.apply(1200 * 10**6)
    changed = differences(before, snapshot(root))
    keeper.close()
    return reply.state, reply.text, changed


d = Daemon("intel-xe-laptop", start=False)
processors(d.sys)
open(d.log, "w").close()
report(d, d.dir + "/report.tar")
again = d.dir + "/again"
unpack(d.dir + "/report.tar", again)
os.makedirs(again + "/proc/sys/kernel/random", exist_ok=True)
shutil.copy(d.sys + "/proc/sys/kernel/random/boot_id", again + "/proc/sys/kernel/random")
want, got = keeps(d.sys, d.dir + "/state-1"), keeps(again, d.dir + "/state-2")
ok("policy1" in want[1] and "cooling_device11" in want[1] and any("policy0/" in line for line in want[2])
   and not any("policy1/" in line for line in want[2]), "only the processor that is cooled waits", want)
ok(got == want, "and so it does in a tree made from a report", (got, want))
success = again + "/sys/power/suspend_stats/success"
ok(os.path.exists(success) and open(success).read() == "7\n", "which has the number of suspends")
d.end()

# a report becomes a golden tree with one command, in a copy of the repository's tests and tools
d = Daemon("rk3399")
report(d, d.dir + "/report.tar")
copy = d.dir + "/copy"
for part in ("tests/trees", "tests/keeper", "tests/lines.py", "tools"):
    take = shutil.copy if part.endswith(".py") else shutil.copytree
    take(os.path.join(ROOT, part), os.path.join(copy, part))
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

# a file that is named has to be there; before that is known no archive is made
words = [os.path.join(BUILD, "flamectl"), "--socket", d.socket, "report", d.dir + "/none.tar", "--sysroot", d.sys]
with open(d.dir + "/large.conf", "w") as f:
    f.write("# 14 characters\n" * (1 << 16) + "#\n")
for option, other, name in (("--config", "--log", "nosuch"), ("--log", "--config", "nosuch"),
                            ("--config", "--log", "large.conf"), ("--log", "--config", "run")):
    path = f"{d.dir}/{name}"
    run = subprocess.run([*words, option, path, other, "/dev/null"], capture_output=True, text=True)
    ok(run.returncode == 1 and path + ": " in run.stderr and not os.path.exists(words[4]),
       f"{option} {name} is an error that names the file", (run.returncode, run.stdout, run.stderr))

# every person's names are replaced: of many accounts, of homed and of directories; not those of services
services = [("root", 0), ("daemon", 1), ("nobody", 65534), ("dyn-first", 61184), ("dyn-last", 65519)]
people = [(f"person{chr(97 + i % 26)}{chr(97 + i // 26)}", 1000 + i) for i in range(40)]
people += [("homed-user", 60513), ("ldap-user", 1234567), ("longest-" + 92 * "x", 1999)]
accounts = [f"{name}:x:{uid}:{uid}:Ms {name[::-1]},room 4:/:/bin/sh" for name, uid in services + people]
accounts += accounts[-3:]
with open(d.dir + "/names.log", "w") as f:
    f.writelines(f"{name} and Ms {name[::-1]} ended\n" for name, _ in services + people)
words[4] = d.dir + "/names.tar"
args = with_accounts(accounts, [*words, "--config", "/dev/null", "--log", d.dir + "/names.log"])
if args:
    run = subprocess.run(args, capture_output=True, text=True, env={**os.environ, "USER": "", "LOGNAME": ""})
    ok(run.returncode == 0, "a report of a machine with 43 accounts", run.stderr)
    with tarfile.open(words[4]) as tar:
        log = tar.extractfile("log.txt").read().decode()
    found = [name for name, _ in people if name in log or name[::-1] in log]
    ok(not found and log.count("PRIVATE and PRIVATE ended") == len(people), "names no person", (found, log))
    kept = [name for name, _ in services if f"{name} and Ms {name[::-1]} ended\n" not in log]
    ok(not kept, "and the services", (kept, log))
else:
    skip("no name of 43 accounts is left", "an /etc/passwd of the test's cannot be mounted here")

# the default configuration that this user may not read is left out, and a named one is an error
words[4] = d.dir + "/user.tar"
args = with_unreadable_etc([*words, "--log", "/dev/null"])
if args:
    run = subprocess.run([*args, "--config", "/etc/flamed.conf"], capture_output=True, text=True)
    ok(run.returncode == 1 and "/etc/flamed.conf: Permission denied" in run.stderr and not os.path.exists(words[4]),
       "--config of a file that may not be read is an error", (run.returncode, run.stdout, run.stderr))
    run = subprocess.run(args, capture_output=True, text=True)
    if ok(run.returncode == 0 and os.path.exists(words[4]), "without it there is a report",
          (run.returncode, run.stdout, run.stderr)):
        with tarfile.open(words[4]) as tar:
            names = tar.getnames()
        ok({"report.txt", "log.txt"} <= set(names) and "flamed.conf" not in names, "of all but the configuration",
           names)
else:
    skip("a report without the configuration", "an /etc of the test's cannot be mounted here")
d.end()
done()
