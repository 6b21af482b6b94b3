#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every open, read, write and fsync the keeper makes on knobs and journal fails in turn, with each
plausible errno. It must stay up, leave no ceiling below what was asked, heal with the next success,
and in the end leave every file as it was."""
import errno
from concurrent.futures import ThreadPoolExecutor

from keeper import *

MHZ = 10**6
ERRORS = {  # plausible errors of a knob or the journal
    "open": ["EACCES", "EPERM", "ENOENT", "ENODEV", "EBUSY", "EIO", "EROFS", "EMFILE", "ENOMEM", "EINTR"],
    "read": ["EIO", "EAGAIN", "EINVAL", "ENODEV", "ENXIO", "EBUSY", "EINTR", "ENOMEM"],
    "write": ["EINVAL", "EBUSY", "EACCES", "EPERM", "EIO", "EAGAIN", "ENOSPC", "ENODEV", "EINTR", "ENOMEM"],
    "fsync": ["EIO", "ENOSPC", "EROFS", "EDQUOT", "EINVAL", "EINTR"],
    "alloc": ["ENOMEM"],
}
STEPS = [(400, 306, 665), (1500, 1020, 2133), (960, 612, 2133)]
MAXES = [(CPU0 + "scaling_max_freq", 0, 1000), (CPU4 + "scaling_max_freq", 0, 1000), (ORIN_GPU + "max_freq", 1, 1)]
tap = Tap()


class Fault:
    def __init__(self, name="jetson-orin-nano"):
        self.path = tree(name)
        self.root, self.state = self.path + "/root", self.path + "/state"
        self.before = snapshot(self.root)

    def keeper(self, **settings):
        env = {"LD_PRELOAD": os.path.join(BUILD, "tests/keeper/shim.so"), "SHIM_ROOT": self.root,
               "SHIM_STATE": self.state,
               "SHIM_CROSSED": "1"}
        env.update({"SHIM_" + k.upper(): str(v) for k, v in settings.items()})
        return Keeper(self.root, self.state, binary=os.path.join(RELEASE, "flamed-keeper"), env=env)

    def low_ceilings(self, step):
        """Maxima that are below the requested ones; waits for a transient to end."""
        def low():
            return [p for p, clock, unit in MAXES if int(read(self.root, p) or 0) * unit < step[clock] * MHZ]
        return [] if wait_for(lambda: not low()) else low()


def call_counts():
    """Number of each call in a whole run without faults, and before the first message."""
    f = Fault()
    out = []
    for steps in ([], STEPS):
        k = f.keeper(count=f.path + "/count")
        for step in steps:
            k.apply(*(v * MHZ for v in step))
        k.close()
        out.append({line.split()[0]: int(line.split()[1]) for line in open(f.path + "/count")})
    remove(f.path)
    return out


def healed(f, k):
    k.rescan()
    k.apply(*(v * MHZ for v in STEPS[-1]))
    return wait_for(lambda: read(f.root, CPU4 + "scaling_max_freq") == "960000"
                    and read(f.root, ORIN_GPU + "max_freq") == "612000000" and
                    read(f.root, EMC + "mrq_rate_locked") == "1")


def run(call, position, count, error):
    """One run with a fault. Returns a list of failures."""
    f = Fault()
    wrong = []
    k = f.keeper(fail=f"{call}:{position}:{count}:{getattr(errno, error)}")
    # out of memory, or an unreadable old journal: it reports that, writes nothing, and flamed starts another
    if k.hello is None:
        status = k.process.wait(timeout=20)
        told = call == "alloc" or (call == "open" and "journal" in k.stderr())
        wrong = [] if told and status == 1 else [f"no first message, exit status {status}", k.stderr()]
        wrong += differences(f.before, snapshot(f.root)) + os.listdir(f.state)
        another = f.keeper()
        if another.apply(*(v * MHZ for v in STEPS[0])).state != (OK, OK, OK) or another.close():
            wrong.append("nor does another keeper serve")
        remove(f.path)
        return wrong
    try:
        for step in STEPS:
            if k.apply(*(v * MHZ for v in step)) is None:
                wrong.append("it died")
                break
            wrong += [f"after {step}: ceiling low on {p}" for p in f.low_ceilings(step)]
        if count == 1 and not wrong:
            # A fault during detection hides a device, or its table, until the next detection, which may be
            # this one.
            if not healed(f, k) and not healed(f, k):
                wrong.append("not healed")
        status = k.close()
        if count == 1 and status:
            wrong.append(f"exit status {status}")
    except OSError as e:
        wrong.append(f"{e!r}")
    if wrong:
        wrong += k.stderr().splitlines()[-6:]
    if k.process.poll() is None:
        k.process.kill()
        k.process.wait()
    diff, left = differences(f.before, snapshot(f.root)), os.listdir(f.state)
    if count == 1 and (diff or left):
        wrong.append(f"left behind: {diff} {left}")
    if diff:  # a knob that could not be restored must be in the journal, and the next keeper restores it
        healthy = f.keeper()
        status = healthy.close()
        diff, left = differences(f.before, snapshot(f.root)), os.listdir(f.state)
        if status or diff or left:
            wrong.append(f"not even after a healthy restart: {status} {diff} {left}")
    remove(f.path)
    return wrong


def run_all(jobs):
    """Each of them; most of a run is waiting, so a few at a time."""
    with ThreadPoolExecutor(6) as pool:
        for (call, position, _, error), wrong in zip(jobs, pool.map(lambda job: run(*job), jobs)):
            yield from (f"{call} {position} {error}: {text}" for text in wrong)


if os.access("/dev/shm", os.W_OK):
    tempfile.tempdir = "/dev/shm"  # thousands of small trees
quiet, busy = call_counts()
total = 0
for call, names in ERRORS.items():
    jobs = [(call, position, 1, error) for position in range(1, busy[call] + 1) for error in names]
    bad = list(run_all(jobs))
    total += len(jobs)
    tap.ok(not bad, f"{call}: each of {busy[call]} fails with each of {len(names)} errnos, {len(jobs)} runs",
           "\n".join(bad))

jobs = [(call, position, 3 if i % 3 else 12, ERRORS[call][(i * 5) % len(ERRORS[call])])
        for call in ("open", "read", "write")
        for i, position in enumerate(range(quiet[call] + 1, busy[call] + 1, 4))]
bad = list(run_all(jobs))
tap.ok(not bad, f"bursts of failures at {len(jobs)} places", "\n".join(bad))
tap.table(f"faults: {total + len(jobs)} runs over {sum(busy.values())} calls, {len(set().union(*ERRORS.values()))} "
          f"kinds of error")
tap.done()
