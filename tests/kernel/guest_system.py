# SPDX-License-Identifier: MIT
# The package and the service manager: installed, seen from inside the sandbox, reloaded, removed.
import glob
import grp
import json
import os
import pwd
import stat
import urllib.error
import urllib.request

from guest_lib import *


def install(flamed="/flamed-tests/flamed_*.deb"):
    return run("dpkg -i --force-confdef --force-confold /flamed-tests/libflamed0_*.deb " + flamed)


def newer():
    """The same package as a later version with another /etc/flamed.conf."""
    rc, out = run("cd /tmp && dpkg-deb -R /flamed-tests/flamed_*.deb next && sed -i 's/^Version: .*/&+next/' "
                  "next/DEBIAN/control && "
                  "echo '# of the newer version' >>next/etc/flamed.conf && dpkg-deb -Znone -b next next.deb")
    ok(rc == 0, "a newer package, with another configuration file", out)
    return "/tmp/next.deb"


def installation():
    before = knobs()
    rc, out = install()
    ok(rc == 0, "the packages install", out)
    ok(wait_for(lambda: unit("flamed.service", "ActiveState") == "active", 40), "the service is ready",
       run("systemctl status flamed.service")[1])
    ok(unit("flamed.service", "NRestarts") == "0", "at the first start")
    st = os.stat(SOCKET)
    ok(stat.S_IMODE(st.st_mode) == 0o660 and st.st_gid == grp.getgrnam("flamed").gr_gid,
       "the socket is 0660, group flamed", oct(st.st_mode))
    ok(pwd.getpwuid(os.stat(f"/proc/{main_pid('flamed.service')}").st_uid).pw_name == "flamed",
       "flamed runs unprivileged")
    for name in ("flamed.socket", "flamed-keeper.socket", "flamed.service"):
        ok(run(["systemctl", "is-enabled", name])[1] == "enabled", f"{name} is enabled",
           run(["systemctl", "is-enabled", name])[1])
    ok(unit("flamed.socket", "ActiveEnterTimestampMonotonic") <= unit("flamed.service",
                                                                      "ActiveEnterTimestampMonotonic"),
       "the socket is there before the daemon")
    ok(knobs() == before, "installing touches no knob", difference(before))


def users():
    run("useradd -M -G flamed inside; useradd -M outside")
    rc, out = run("runuser -u inside -- flamectl status")
    ok(rc == 0, "a member of the group is served", out)
    rc, out = run("runuser -u outside -- flamectl status")
    ok(rc == 1 and "flamed" in out and "group" in out, "another user gets the name of the group", out)
    code = ("import sys; sys.path.insert(0, '/flamed-tests'); from guest_lib import *; c = Client(); "
            "print(c.begin(c.open('user-net'), 400))")
    rc, out = run(["runuser", "-u", "inside", "--", "/usr/bin/python3", "-c", code])
    ok(rc == 0 and "'errno': '0'" in out, "and gets a session and a request", out)


def reload():
    pid = main_pid("flamed.service")
    good = read("/etc/flamed.conf")
    write("/etc/flamed.conf", good + "\n[flamed]\nno_such_key = 1\n")
    run("systemctl reload flamed.service")
    ok(wait_for(lambda: "no_such_key" in journal_text()), "a broken configuration is named at reload",
       journal_text()[-800:])
    ok(re.search(r"flamed\.conf:\d+", journal_text()) is not None, "with file and line", journal_text()[-800:])
    ok(main_pid("flamed.service") == pid and status()["errno"] == "0", "and the daemon goes on with the old one")
    write("/etc/flamed.conf", "[limits]\ncpu_max = 1500 MHz\n")
    taken = journal_text().count("configuration reloaded")
    run("systemctl reload flamed.service")
    wait_for(lambda: journal_text().count("configuration reloaded") > taken)
    client = Client()
    begun = client.begin(client.open("limited-net"), 90)  # of which nothing is known: as fast as may be
    ok(int(begun["cpu_hz"]) == 1200000000, "a good one is taken: a limit between table entries means the entry below",
       begun)
    client.close()
    write("/etc/flamed.conf", good)
    run("systemctl reload flamed.service")


def journal_fields():
    rows = [json.loads(line) for line in run("journalctl -u flamed -o json --no-pager")[1].splitlines()]
    ok(rows and all(r.get("_SYSTEMD_UNIT") for r in rows), "journal lines carry the unit")
    levels = {r.get("PRIORITY") for r in rows}
    ok(len(levels) > 1 and "3" in levels, "and their own level", levels)
    ok(not any(str(r.get("MESSAGE", "")).startswith("<") for r in rows), "without a raw prefix")


def fetch(page, accept="text/plain"):
    """Status and body of a page of the exporter; status 0: no connection."""
    asked = urllib.request.Request("http://127.0.0.1:9756" + page, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()
    except (urllib.error.URLError, OSError) as e:
        return 0, str(e)


def exporter():
    """flamed-exporter behind its socket: started by the first scrape, unprivileged, on loopback alone."""
    name = "flamed-exporter.service"
    rc, out = run("dpkg -i /flamed-tests/flamed-exporter_*.deb")
    ok(rc == 0, "the exporter installs", out)
    ok(fetch("/healthz")[0] == 0, "which opens no port by itself", fetch("/healthz"))
    rc, out = run("systemctl enable --now flamed-exporter.socket")
    ok(rc == 0 and unit(name, "ActiveState") == "inactive", "its socket is enabled, and starts nothing", out)
    listening = [line.split()[1] for line in read("/proc/net/tcp").splitlines()[1:] if line.split()[3] == "0A"]
    ok("0100007F:261C" in listening and not any(at.startswith("00000000:261C") for at in listening),
       "it listens on 127.0.0.1 port 9756 alone", listening)

    client, session = busy_client()
    code, text = fetch("/metrics", "application/openmetrics-text; version=1.0.0")
    ok(code == 200 and re.search(r"^flamed_up 1$", text, re.M) and text.endswith("# EOF\n")
       and re.search(r'^flamed_requests_total\{model="vm-net".*\} [1-9]', text, re.M),
       "a scrape starts it and gets the requests of a model", (code, text[-800:], journal_text("flamed-exporter")))
    ok(unit(name, "ActiveState") == "active", "the service is active: it has told systemd that it is ready",
       unit(name, "ActiveState"))
    ok(fetch("/healthz") == (200, "ok\n"), "/healthz is ok", fetch("/healthz"))
    client.close()

    pid = main_pid(name)
    facts = dict(line.split(":\t", 1) for line in read(f"/proc/{pid}/status").splitlines() if ":\t" in line)
    ok("0" not in facts["Uid"].split() and facts["CapEff"].strip("0") == "" and facts["NoNewPrivs"] == "1"
       and facts["Seccomp"] == "2", "it runs as a user without capabilities, under a filter of system calls", facts)
    ok(os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net"), "in a network of its own")
    out = run(f"systemd-analyze security --no-pager {name}")[1]
    exposure = re.search(r"Overall exposure level for \S+ ([0-9.]+)", out)
    ok(exposure and float(exposure.group(1)) <= 1.2, "systemd-analyze security: at most 1.2", out[-200:])

    run("systemctl restart flamed.service")
    ok(fetch("/healthz")[0] == 200, "it goes on after a restart of flamed", fetch("/healthz"))
    run("systemctl stop flamed.socket flamed.service")
    ok(fetch("/healthz")[0] == 503 and re.search(r"^flamed_up 0$", fetch("/metrics")[1], re.M),
       "without flamed it says so", (fetch("/healthz"), fetch("/metrics")))
    run("systemctl start flamed.socket flamed.service")
    ok(fetch("/healthz")[0] == 200 and main_pid(name) == pid, "and goes on once flamed is back", fetch("/healthz"))


TRY = r"""
import ctypes, errno, mmap, os, socket, sys
def attempt(name, f):
    try:
        f(); print(name + "=done")
    except OSError as e:
        print(name + "=" + errno.errorcode.get(e.errno, str(e.errno)))
def write(path, text=None):
    def f():
        old = open(path).read()
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, (text or old).encode())
        os.close(fd)
    return f
libc = ctypes.CDLL(None, use_errno=True)
def unshare():
    if libc.unshare(0x20000) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
attempt("cpu_knob", write("/sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq"))
attempt("gpu_knob", write("/sys/devices/platform/17000000.gpu/devfreq/17000000.gpu/max_freq"))
attempt("etc", lambda: open("/etc/flamed-try", "w"))
attempt("proc_sys", write("/proc/sys/kernel/panic"))
attempt("other_sysfs", write("/sys/module/printk/parameters/time"))
attempt("power_state", lambda: os.write(os.open("/sys/power/pm_test", os.O_WRONLY), b"none"))
attempt("network", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
attempt("namespace", unshare)
attempt("wx_memory", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))
"""


def sandbox():
    with open("/flamed-tests/try.py", "w") as f:
        f.write(TRY)
    os.chmod("/flamed-tests/try.py", 0o644)
    for name, knob in (("flamed-keeper", "done"), ("flamed", None), ("flamed-exporter", None)):
        text = read(f"/lib/systemd/system/{name}.service")
        text = re.sub(r"(?m)^(Type|ExecStart|ExecStopPost|ExecReload|WatchdogSec|Restart|RestartSec|"
                      r"RefuseManualStart|Requires|Wants|After|Also|StateDirectory|RuntimeDirectory|"
                      r"RuntimeDirectoryPreserve)=.*$", "", text)
        text = text.replace("[Service]", "[Service]\nType=oneshot\nExecStart=/usr/bin/python3 /flamed-tests/try.py")
        with open(f"/run/systemd/system/try-{name}.service", "w") as f:
            f.write(text)
        run("systemctl daemon-reload")
        run(["systemctl", "start", f"try-{name}.service"])
        out = run(["journalctl", "-u", f"try-{name}", "-o", "cat", "--no-pager"])[1]
        seen = dict(line.split("=", 1) for line in out.splitlines() if re.match(r"^[a-z_]+=", line))
        for key in ("cpu_knob", "gpu_knob"):
            ok((seen.get(key) == "done") == (knob == "done"),
               f"{name}: {key} {'is writable' if knob else 'is not writable'} inside the sandbox", out)
        for key in ("etc", "proc_sys", "other_sysfs", "power_state", "network", "namespace", "wx_memory"):
            ok(seen.get(key) not in (None, "done"), f"{name}: {key} is refused", out)


SERVED = """
import os, signal, sys
sys.path.insert(0, "/flamed-tests")
from guest_lib import *
client = Client()
client.open(os.environ["FLAMED_MODEL"])
signal.signal(signal.SIGTERM, lambda *_: (print("asked to stop"), sys.exit(0)))
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
    manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
signal.pause()
"""


def sessions(model):
    """[(pid, uid)] of the model's sessions in status."""
    shown = status()
    return [tuple(int(shown[key.replace(".model", word)]) for word in (".pid", ".uid"))
            for key, value in shown.items() if re.match(r"session\.\d+\.model$", key) and value == model]


def served():
    """A service with contrib's drop-in: it runs under flamectl run, and has the group that the socket asks for."""
    create("/flamed-tests/served.py", SERVED)
    create("/run/systemd/system/camera.service", "[Service]\nType=notify\nDynamicUser=yes\nExecStart=/bin/false")
    drop_in = read("/flamed-tests/flamed-run.conf").replace("/usr/bin/my-inference --camera 0",
                                                            "/usr/bin/python3 -u /flamed-tests/served.py")
    create("/run/systemd/system/camera.service.d/flamed.conf", drop_in)
    run("systemctl daemon-reload")
    rc, out = run("systemctl start camera.service")
    ok(rc == 0 and unit("camera.service", "ActiveState") == "active", "a service with the drop-in starts",
       out + journal_text("camera"))
    held, main = sessions("camera"), main_pid("camera.service")
    ok(len(held) == 1 and held[0][0] != main and read(f"/proc/{main}/comm") == "flamectl"
       and f"PPid:\t{main}\n" in read(f"/proc/{held[0][0]}/status"),
       "its program, a child of flamectl, has a session under the unit's name", (held, main, status()))
    ok(held and held[0][1] != 0 and "camera" in run("flamectl status")[1], "which flamectl status shows, as a user's",
       run("flamectl status")[1])
    run("systemctl stop flamed.service")
    ok(unit("camera.service", "ActiveState") == "active", "without flamed the service stays")
    run("systemctl start flamed.service")
    rc, out = run("systemctl stop camera.service")
    ok(rc == 0 and unit("camera.service", "Result") == "success"
       and journal_text("camera").count("asked to stop") == 1, "it is asked to stop once, and does",
       out + journal_text("camera"))


def nvml_sandbox():
    """contrib's drop-in for GPUs that are set through NVML: of all capabilities the keeper has the one it needs, and
    the other knobs are still moved and given back."""
    before = knobs()
    create("/run/systemd/system/flamed-keeper.service.d/nvml.conf", read("/flamed-tests/flamed-keeper.conf"))
    run("systemctl daemon-reload && systemctl restart flamed.service")
    ok(wait_for(lambda: main_pid("flamed-keeper.service") > 0), "the keeper runs with the drop-in for NVML",
       journal_text("flamed-keeper"))
    has = re.search(r"CapBnd:\t([0-9a-f]+)", read(f"/proc/{main_pid('flamed-keeper.service')}/status"))
    ok(has and int(has[1], 16) == 1 << 21, "with CAP_SYS_ADMIN and no other capability", has)
    client, _ = busy_client()
    ok(knobs() != before, "and moves the clocks")
    client.close()
    ok(restored(before), "which it gives back", difference(before))
    os.unlink("/run/systemd/system/flamed-keeper.service.d/nvml.conf")
    run("systemctl daemon-reload && systemctl restart flamed.service")


def upgrade_from_01():
    """State that version 0.1 left when it was killed: samples, layers under its name for them, a journal of this
    boot."""
    models = "/var/lib/flamed/models"
    run("systemctl stop flamed.socket flamed-keeper.socket flamed.service flamed-keeper.service")
    run(f"rm -rf {models}; install -d -o flamed -g flamed -m 750 {models}")
    before = knobs()
    knob = os.path.realpath(CPU + "/policy0/scaling_max_freq")
    gpus = [int(hz) for hz in read(GPU + "/available_frequencies").split()]
    points = [(cpu, gpu) for cpu in (400000000, 1200000000, 2000000000) for gpu in (min(gpus), max(gpus))]
    with open(models + "/old-net.csv", "w") as f:
        f.write("phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n,sd_ns,max_ns,power_uw\n")
        for cpu, gpu in points:
            f.write(f"run,0,{cpu},{gpu},0,{latency_ns(cpu, gpu):.0f},30,100000,,\n")
    with open(models + "/old-net.layers.csv", "w") as f:
        f.write("phase,context,cpu_hz,gpu_hz,mem_hz,rep,layer,cpu_ns,gpu_ns,sync\n")
        for cpu, gpu in points:
            for layer in range(4):
                f.write(f"run,0,{cpu},{gpu},0,0,{layer},{2e7 * 2e9 / cpu:.0f},{2.5e7 * 1.02e9 / gpu:.0f},"
                        f"{layer // 3}\n")
    run(f"chown flamed:flamed {models}/*")
    with open(JOURNAL, "w") as f:
        f.write(f"flamed-journal 1\nboot {read('/proc/sys/kernel/random/boot_id')}\n"
                f"save 0 {knob} ={read(knob)}\nheld 0 =1200000\n")
    write(knob, 1200000)
    ok(knobs() != before, "version 0.1 was killed with a clock moved", difference(before))
    run("systemctl start flamed.socket flamed-keeper.socket flamed.service")
    ok(wait_for(lambda: unit("flamed.service", "ActiveState") == "active", 40), "this version starts over its state",
       journal_text()[-1500:])
    ok(restored(before), "and gives back the clock", difference(before))
    client = Client()
    known = client.ask(op="models")
    index = [k.split(".")[1] for k, v in known.items() if v == "old-net"][0:1]
    ok(index and known[f"model.{index[0]}.samples"] == str(len(points)) and known[f"model.{index[0]}.layers"] != "0",
       "samples and layers are known", known)
    begun = client.begin(client.open("old-net"), 400)
    expected = latency_ns(int(begun["cpu_hz"]), int(begun["gpu_hz"]))
    ok(0.8 < int(begun["predicted_ns"]) / expected < 1.25, "and a request is predicted from them", (begun, expected))
    client.close()
    ok(sorted(os.listdir(models)) == ["old-net.csv", "old-net@.layers.csv"], "under the names of this version",
       os.listdir(models))
    ok(restored(before), "every knob as found", difference(before))


def package():
    before = knobs()
    client, session = busy_client()
    for _ in range(20):
        request(client, session, 300)
    write("/etc/flamed.conf", read("/etc/flamed.conf") + "\n# edited by the administrator\n")
    rc, out = install(newer())
    ok(rc == 0, "upgraded under load", out)
    ok("edited by the administrator" in read("/etc/flamed.conf"), "an edited conffile survives the upgrade", out)
    ok(os.path.exists("/etc/flamed.conf.dpkg-dist"), "and the newer one lies beside it", out)
    rc, out = install()
    ok(rc == 0, "and the first one over it", out)
    ok("edited by the administrator" in read("/etc/flamed.conf"), "which leaves the edited conffile too", out)
    ok(wait_for(lambda: unit("flamed.service", "ActiveState") == "active", 40), "and runs again")
    ok(restored(before), "an upgrade under load restores every knob", difference(before))
    client.close()
    ok("vm-net" in run("flamectl models")[1], "what was learned is still known", run("flamectl models")[1])
    rc, out = run("dpkg -P flamed-exporter")
    ok(rc == 0 and fetch("/healthz")[0] == 0, "the exporter is removed, and its port closed", out)
    client, _ = busy_client()
    rc, out = run("dpkg -r flamed")
    ok(rc == 0, "removed under load", out)
    ok(restored(before), "removal restores every knob", difference(before))
    ok(not os.path.exists(SOCKET), "and takes the socket away")
    client.close()
    rc, out = run("dpkg -P flamed")
    ok(rc == 0 and not os.path.exists("/etc/flamed.conf") and not os.path.exists("/var/lib/flamed"),
       "purged: no configuration and no state left",
       out + str(glob.glob("/var/lib/flamed*") + glob.glob("/etc/flamed*")))


def run_all():
    for test in (users, reload, journal_fields, exporter, sandbox, served, nvml_sandbox, upgrade_from_01, package):
        test()
