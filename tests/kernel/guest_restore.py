# SPDX-License-Identifier: MIT
# Processes end in every way; the knobs are compared before and after, and no journal is left.
import contextlib
import os
import signal
import subprocess
import sys
import time

from guest_lib import *

CLIENT = """
import sys, time
sys.path.insert(0, "/flamed-tests")
from guest_lib import *
client, session = busy_client()
print("busy", flush=True)
time.sleep(600 if sys.argv[1] == "stay" else 0)
"""


def other_process(mode):
    p = subprocess.Popen([sys.executable, "-c", CLIENT, mode], stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline().strip() == "busy"
    return p


def moved(before):
    return knobs() != before


def check(before, name):
    ok(restored(before), f"restored after: {name}", difference(before))


def clients(before):
    p = other_process("exit")
    p.wait()
    check(before, "client exits")
    p = other_process("stay")
    ok(moved(before), "a client of another process moved the clocks")
    p.send_signal(signal.SIGKILL)
    p.wait()
    check(before, "client killed")


def running():
    return wait_for(lambda: unit("flamed.service", "ActiveState") == "active" and os.path.exists(SOCKET), 40)


def signals(before):
    for name, pids in (("SIGKILL of flamed", ["flamed.service"]), ("SIGKILL of the keeper", ["flamed-keeper.service"]),
                       ("SIGKILL of both", ["flamed.service", "flamed-keeper.service"])):
        client, _ = busy_client()
        ok(moved(before), f"clocks moved before: {name}")
        targets = [main_pid(u) for u in pids]
        for pid in targets:
            with contextlib.suppress(ProcessLookupError): # the keeper restores and ends if flamed is killed first
                os.kill(pid, signal.SIGKILL)
        if "flamed.service" not in pids:
            time.sleep(0.5)
        client.close()
        check(before, name)
        ok(running(), f"flamed runs again after: {name}", unit("flamed.service", "ActiveState"))


def killed(name):
    """Kill the main process of a unit, or if it ends by itself just then, the next one. Its pid; 0: none ran within
    two minutes."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        pid = main_pid(name)
        try:
            if pid:
                os.kill(pid, signal.SIGKILL)
                return pid
        except ProcessLookupError:
            pass
        time.sleep(0.05)
    return 0


def kills_in_a_row(before):
    """One more than the five starts in ten seconds that the service manager allows by default."""
    for name in ("flamed.service", "flamed-keeper.service"):
        limit = unit(name, "StartLimitIntervalUSec")
        ok(limit == "0", f"no limit on starts of {name}, which an emulated processor may be too slow to reach", limit)
        running()  # flamed starts the keeper
        for i in range(6):
            pid = killed(name)
            if not ok(pid and wait_for(lambda: main_pid(name) not in (0, pid), 120),
                      f"{name} runs again after kill {i + 1} of 6", unit(name, "Result")):
                return
    ok(running(), "flamed runs after all of them", unit("flamed.service", "Result"))
    check(before, "six kills in a row")


def watchdog(before):
    client, _ = busy_client()
    os.kill(main_pid("flamed.service"), signal.SIGSTOP)
    ok(restored(before, 90), "restored after: SIGSTOP until the watchdog strikes", difference(before))
    client.close()
    ok(running(), "flamed runs again after the watchdog")


def service_manager(before):
    for command in ("stop", "restart", "kill -s KILL", "kill -s TERM"):
        client, _ = busy_client()
        ok(moved(before), f"clocks moved before: systemctl {command}")
        run(f"systemctl {command} flamed.service")
        ok(restored(before), f"restored after: systemctl {command}", difference(before))
        client.close()
        said = run("systemctl start flamed.service")[1]
        ok(running(), f"flamed runs again after: systemctl {command}",
           said + run("systemctl status flamed.service flamed.socket")[1])


def disk(before):
    """A full or read-only state directory: no journal can be saved, so nothing is written."""
    for name, mount in (("full disk", "mount -t tmpfs -o size=4k,mode=0700 none /var/lib/flamed-keeper && head -c "
                                      "8192 /dev/zero > /var/lib/flamed-keeper/fill"),
                        ("read-only state directory", "mount -t tmpfs -o ro,mode=0700 none /var/lib/flamed-keeper")):
        run("systemctl stop flamed.service flamed-keeper.service")
        run(mount)
        run("systemctl start flamed.service")
        running()
        client = Client()
        begun = client.begin(client.open(), 400)
        ok(begun.get("errno") == "0", f"{name}: the request is answered", begun)
        ok(knobs() == before, f"{name}: no knob is written without a journal", difference(before))
        shown = client.ask(op="status")
        ok(shown.get("keeper.journal_errno") not in (None, "0"), f"{name}: status says so",
           {k: v for k, v in shown.items() if "keeper" in k})
        client.close()
        run("systemctl stop flamed.service flamed-keeper.service")
        run("umount /var/lib/flamed-keeper")
        run("systemctl start flamed.service")
        running()
    check(before, "full and read-only disk")


def run_all():
    before = knobs()
    for test in (clients, signals, kills_in_a_row, watchdog, service_manager, disk):
        test(before)
