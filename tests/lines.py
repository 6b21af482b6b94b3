# SPDX-License-Identifier: MIT
"""TAP: a line for each check, and the plan at the end; processes that do not outlive the test, and their priority."""
import atexit
import os
import signal
import sys

count = failed = 0
# A test that is ended early still unmounts what it mounted and ends its daemons: `finally` and atexit run.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def ok(right, name, detail=""):
    """One check; the detail is for the log, where it fails. Returns whether it was right."""
    global count, failed
    count += 1
    failed += not right
    print(f"{'ok' if right else 'not ok'} {count} - {name}", flush=True)
    if not right and detail != "":
        print("  # " + str(detail).replace("\n", "\n  # "), flush=True)
    return bool(right)


def skip(name, why):
    """Report a check that cannot be made here, and the reason."""
    global count
    count += 1
    print(f"ok {count} - {name} # SKIP {why}", flush=True)


def tied(process):
    """A daemon (subprocess.Popen) that ends with the test, also where an exception ends that."""
    atexit.register(lambda: process.poll() is None and process.kill())
    return process


def real_time(pid=0, policy=os.SCHED_FIFO):
    """Real-time priority where that is permitted: times are the process's own, not the scheduler's. Returns whether
    it is."""
    try:
        os.sched_setscheduler(pid, policy, os.sched_param(1))
    except PermissionError:
        return False
    return True


def done():
    """Ends the program: status 1 where a check failed."""
    print(f"1..{count}", flush=True)
    sys.exit(1 if failed else 0)
