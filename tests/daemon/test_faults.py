#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# flamed without memory at each allocation in turn, without descriptors, and with
# a full state directory: it logs the fault, continues to serve, and leaves nothing behind.
import concurrent.futures
import glob
import os
import subprocess
import tempfile

from daemonlib import *

if os.access("/dev/shm", os.W_OK):
    tempfile.tempdir = "/dev/shm"  # many hundred small trees
SHIM = os.path.join(BUILD, "tests/keeper/shim.so")


def exercise(d):
    """Every operation of a client, once. Returns the bad replies: those with an errno other than 0 and ENOMEM."""
    bad = []

    def ask(**kw):
        r = c.ask(**kw)
        if r["errno"] not in ("0", "12"):
            bad.append((kw, r))
        return r
    try:
        c = d.client()
        session = ask(op="open", model="net").get("session")
        for i in range(6 if session else 0):
            begun = ask(op="begin", session=session, deadline_ns=30000000, wait=1)
            if "request" in begun:
                ask(op="end", request=begun["request"], total_ns=9000000 + i * 1000, layers="1000:20000,2000:30000:s",
                    ack=1)
        point = ask(op="profile", model="other", budget=2)
        if "profile" in point:
            ask(op="sample", profile=point["profile"], latency_ns=9000000, n=5, sd_ns=0)
            ask(op="close", profile=point["profile"])
        for query in ("status", "models", "explain"):
            if session or query != "explain":
                ask(op=query)
        if session:
            ask(op="surface", model="net")
        c.close()
    except (Closed, OSError):
        pass  # a connection that no memory is left for is closed
    return bad


def newcomer(d, model):
    """A connection and its session, at the second try at the latest: one failure is all there is."""
    for last in (False, True):
        c = d.client()
        try:
            return c, c.open(model)
        except (Closed, KeyError, OSError):
            c.close()
            if last:
                raise


def served(c, session):
    """Is a request of this session begun and ended without an error?"""
    begun = c.ask(op="begin", session=session, deadline_ns=60000000, wait=1)
    return begun["errno"] == "0" and c.ask(op="end", request=begun["request"], total_ns=20000000, ack=1)["errno"] == "0"


def starved(position):
    """One failed allocation. Returns the faults, the last stage reached, and the number of allocations."""
    # A group's name is looked up by glibc, which crashes by itself where it finds no memory for that.
    d = Daemon(build=RELEASE, start=False, config="[flamed]\nsocket_group =\n")
    counted = os.path.join(d.dir, "count")
    before = d.knobs()
    d.env = {"LD_PRELOAD": SHIM, "SHIM_ROOT": d.sys, "SHIM_STATE": d.state, "SHIM_COUNT": counted,
             "SHIM_PROGRAM": "flamed"}
    if position:
        d.env["SHIM_FAIL"] = f"alloc:{position}:1:12"
    wrong, came = [], "ended"
    try:
        d.start()
        other, session = newcomer(d, "bystander")
        wrong += exercise(d) + exercise(d)  # a model that is new, and one that is known
        if not served(other, session) and not served(other, session):
            wrong.append("another's session suffered")
        other.close()
        other, session = newcomer(d, "after")
        if not served(other, session) and not served(other, session):
            wrong.append("not healed")
        other.close()
        came = "served"
    except (Closed, OSError, KeyError) as e:
        # Too early to serve: it has logged the fault and exited.
        wait_for(lambda: d.process.poll() is not None)
        if d.process.poll() in (None, 0):
            wrong.append((repr(e), d.process.poll()))
    text = d.text()
    status = d.stop()
    if status not in ((0, 1) if came == "served" else (1,)):
        wrong.append(f"exit status {status}")
    if came == "ended" and not text.strip():
        wrong.append("it ended without a word")
    if not d.restored(before):
        wrong.append(d.difference(before))
    calls = 0
    if os.path.exists(counted):
        with open(counted) as f:
            calls = max([int(line.split()[1]) for line in f if line.startswith("alloc")] or [0])
    if wrong:
        wrong.append(d.text()[-400:])
    d.end()
    return wrong, came, calls


def memory():
    wrong, _, calls = starved(0)
    ok(not wrong and calls > 300, f"with all its memory nothing goes wrong ({calls} allocations)", wrong)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:  # most of a run is waiting
        runs = list(pool.map(starved, range(1, calls + 1)))
    bad = [(p, wrong) for p, (wrong, _, _) in enumerate(runs, 1) if wrong]
    ok(not bad, f"each of {calls} allocations fails in turn: flamed says so and ends, or goes on, is healed and "
                f"disturbs nobody else", bad[:5])
    came = [came for _, came, _ in runs]
    ok(came.count("served") > calls // 2, "most of them it outlives", came.count("served"))
    print(f"# | one allocation fails, each of {calls} in turn: {came.count('served')} times flamed went on, "
          f"{came.count('ended')} times it "
          f"ended with an error")


def no_memory():
    """All allocations fail from some point on. Which reply is the first to lack memory depends on the machine; a
    question of state needs none, a new model does."""
    d = Daemon(build=RELEASE, start=False, config="[flamed]\nsocket_group =\n")
    counted = os.path.join(d.dir, "count")
    d.env = {"LD_PRELOAD": SHIM, "SHIM_ROOT": d.sys, "SHIM_STATE": d.state, "SHIM_COUNT": counted,
             "SHIM_PROGRAM": "flamed"}
    d.start()
    c = d.client()
    served(c, c.open())
    c.close()
    d.stop()
    with open(counted) as f:
        calls = max(int(line.split()[1]) for line in f if line.startswith("alloc"))
    d.env["SHIM_FAIL"] = f"alloc:{calls + 20}:1000000000:12"
    d.start()
    c = d.client(timeout=20)
    session = c.open("other")
    ok(served(c, session), "before memory ends, a session is served")
    replies = [c.ask(op="open", model=f"m{i}") for i in range(60)]
    ends = [r["errno"] for r in replies].index("12")
    ok(all(r["errno"] == "12" and "message" in r and len(r) == 2 for r in replies[ends:]),
       "without any, an open that needs some is refused with a message", replies[ends:ends + 2])
    ok(served(c, session), "and an established session is served")
    c.close()
    ok(d.end() == 0, "exit 0")


def descriptors():
    d = Daemon(build=RELEASE, start=False)
    d.wrapper = ["prlimit", "--nofile=48:48"]
    d.start()
    before = d.knobs()
    c = d.client()
    session = c.open()
    crowd = [d.client() for _ in range(100)]
    ok(wait_for(lambda: "cannot accept connections" in d.text()), "out of descriptors: it says so", d.text()[-400:])
    begun, ended = c.request(session, 50, latency_ns)
    ok(begun["errno"] == "0" and ended["errno"] == "0", "who is connected is served", (begun, ended))
    used = [int(x) for x in open(f"/proc/{d.process.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]]
    time.sleep(1)
    now = [int(x) for x in open(f"/proc/{d.process.pid}/stat").read().rsplit(")", 1)[1].split()[11:13]]
    ok(sum(now) - sum(used) < 20, "and it does not spin", (used, now))
    for other in crowd:
        other.close()
    ok(d.client().ask(op="hello")["errno"] == "0", "those who waited are served when others end")
    c.close()
    ok(d.restored(before), "every knob as found", d.difference(before))
    ok(d.end() == 0, "exit 0")


def fill(path):
    with open(path, "ab", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass


def full():
    """A state directory of a page or two: files that fit are kept, others are reported, requests are served."""
    mounted = tempfile.mkdtemp(prefix="flamed-full-")
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "none", mounted],
                                           capture_output=True).returncode:
        os.rmdir(mounted)
        skip("a state directory that fills", "no tmpfs can be mounted")
        return
    try:
        d = Daemon(start=False, config="[flamed]\nsave_interval = 1 s\n")
        d.state = os.path.join(mounted, "state")
        d.start()
        before = d.knobs()
        c = d.client()
        session = c.open()
        c.request(session, 50, latency_ns)
        moved = d.knobs() != before
        fill(os.path.join(mounted, "fill"))
        good = [c.request(session, 20 + i, latency_ns) for i in range(100)]
        ok(moved and all(b["errno"] == e["errno"] == "0" for b, e in good),
           "the state directory fills while clocks are held: requests are served")
        c.close()
        ok(d.restored(before), "every knob as found, no journal left", d.difference(before))
        fill(os.path.join(mounted, "fill"))  # also the space that the removed journal left
        c = d.client()
        begun, ended = c.request(c.open(), 50, latency_ns)
        shown = d.status()
        ok(begun["errno"] == ended["errno"] == "0" and d.knobs() == before and shown["keeper.journal_errno"] == "28",
           "no room for a journal: served, no knob is moved, and status says ENOSPC",
           (begun, d.difference(before), shown.get("keeper.journal_errno")))
        # Which of the model's files has no room depends on the page that another left free.
        ok(wait_for(lambda: any("/models/net@MAXN_SUPER." in line and "cannot save: No space left on device" in line
                                for line in d.text().split("\n"))),
           "and the log says what else could not be saved", d.text()[-400:])
        os.unlink(os.path.join(mounted, "fill"))
        ok(wait_for(lambda: c.request(c.open(), 50, latency_ns)[0]["errno"] == "0" and d.knobs() != before),
           "room again: knobs are moved again", d.status())
        c.close()
        ok(d.restored(before), "and given back", d.difference(before))
        ok(wait_for(lambda: glob.glob(d.state + "/models/net*.csv")), "and what was learned is saved",
           os.listdir(d.state))
        ok(d.end() == 0, "exit 0")
    finally:
        subprocess.run(["umount", "-l", mounted])
        os.rmdir(mounted)


def state():
    d = Daemon(start=False)
    os.mkdir(d.state)
    models = os.path.join(d.state, "models")
    with open(models, "w"):
        pass  # a file where the directory should be: nothing can be saved
    d.start()
    before = d.knobs()
    c = d.client()
    s = c.open()
    for _ in range(10):
        begun, ended = c.request(s, 50, latency_ns)
    ok(begun["errno"] == "0" and ended["errno"] == "0", "nothing can be saved: requests are served", begun)
    c.close()
    ok(wait_for(lambda: "cannot save" in d.text()), "and the log names the file", d.text()[-400:])
    ok(d.restored(before), "every knob as found", d.difference(before))
    os.unlink(models)
    c = d.client()
    c.request(c.open(), 50, latency_ns)
    c.close()
    ok(os.path.exists(d.state), "the state directory is there", d.text()[-300:])
    ok(wait_for(lambda: glob.glob(models + "/net*.csv")), "the next save succeeds, and nothing learned is lost",
       os.listdir(d.state))
    ok(d.end() == 0, "exit 0")


def samples(c, model):
    """Number of measurements of a model."""
    models = c.ask(op="models")
    return next((int(models[k[:-4] + "samples"]) for k in models if k.endswith(".name") and models[k] == model), 0)


def measured(c, model):
    """Sends samples of a profile until it is done. Returns the last reply."""
    r = c.ask(op="profile", model=model, budget=3)
    for _ in range(10):
        if "profile" in r:
            r = c.ask(op="sample", profile=r["profile"], latency_ns=int(latency_ns(r)), n=r["repeat"])
    return r


def pinned(d, begun):
    """Is the CPU at the clock that the reply names?"""
    return {d.read(f"/sys/devices/system/cpu/cpufreq/policy4/scaling_{m}_freq") for m in ("min", "max")} == {
        str(int(begun["cpu_hz"]) // 1000)}


def served_unlearned(c, model):
    session = c.open(model)
    replies = [r["errno"] for _ in range(10) for r in c.request(session, 50, latency_ns)]
    ok(set(replies) == {"0"} and samples(c, model) == 0, "requests are served, and not learned from",
       (replies, samples(c, model)))
    return session


def no_keeper():
    """While no keeper runs nobody sets the clocks: nothing is learned of them. The next keeper sets them, even if the
    decision is the same."""
    d = Daemon(start=False, config="[flamed]\nrelease_after = 1 min\n")
    d.build = os.path.join(d.dir, "bin")
    os.mkdir(d.build)
    for name in ("flamed", "flamed-keeper"):
        shutil.copy(os.path.join(BUILD, name), d.build)
    d.start()
    before = d.knobs()
    c = d.client()
    session = c.open("net")
    begun, _ = c.request(session, 50, latency_ns)
    ok(pinned(d, begun) and samples(c, "net") == 1, "a request at its clocks is learned", (begun, samples(c, "net")))
    os.chmod(d.build + "/flamed-keeper", 0)
    os.kill(d.keeper_pid(), signal.SIGKILL)
    ok(wait_for(lambda: d.status()["keeper.state"] == "absent"), "the keeper is killed, and none can be started",
       d.status()["keeper.state"])
    late = served_unlearned(c, "late")
    done = measured(c, "profiled")
    ok(done.get("done") == "1" and samples(c, "profiled") == 0, "nor is a profile, which ends",
       (done, samples(c, "profiled")))
    last, _ = c.request(late, 50, latency_ns)
    os.chmod(d.build + "/flamed-keeper", 0o755)
    ok(wait_for(lambda: d.status()["keeper.state"] == "running" and d.knobs() == before, 60),
       "the next keeper finds the clocks released", d.difference(before))
    current = c.ask(op="surface", model="net")["current"]
    ok(current == "-1", "and the last decision, which reached none, is not taken for their point", current)
    begun, _ = c.request(late, 50, latency_ns)
    ok(begun["cpu_hz"] == last["cpu_hz"] and pinned(d, begun), "a request with the same decision has its clocks set",
       (begun, last, d.difference(before)))
    ok(samples(c, "late") == 1, "and is learned", samples(c, "late"))
    c.close()
    ok(d.restored(before), "every knob as found", d.difference(before))
    ok(d.end() == 0, "exit 0")


def no_journal():
    """No knob is written without a journal: nothing is learned of clocks that were not set."""
    d = Daemon()
    before = d.knobs()
    journal = os.path.join(d.state, "journal")
    os.mkdir(journal)
    c = d.client()
    session = c.open("net")
    replies = [r["errno"] for _ in range(10) for r in c.request(session, 50, latency_ns)]
    ok(set(replies) == {"0"} and d.status()["keeper.journal_errno"] == "17" and d.knobs() == before,
       "no journal can be written: requests are served, no knob is moved", (replies, d.difference(before)))
    ok(samples(c, "net") == 0, "and nothing is learned", samples(c, "net"))
    os.rmdir(journal)
    ok(wait_for(lambda: c.request(session, 50, latency_ns)[0]["errno"] == "0" and samples(c, "net") > 0),
       "with one it is", d.status()["state_reason"])
    c.close()
    ok(d.restored(before), "every knob as found", d.difference(before))
    ok(d.end() == 0, "exit 0")


def another_owner():
    """Another program takes a clock over: nothing is learned at its value."""
    d = Daemon(config="[flamed]\nrelease_after = 1 min\n")
    c = d.client()
    c.request(c.open("net"), 50, latency_ns)
    d.write("/sys/devices/system/cpu/cpufreq/policy4/scaling_min_freq", 1036800)
    ok(wait_for(lambda: d.status()["clock.cpu.state"] == "foreign"), "another program writes a limit of a policy",
       d.status()["clock.cpu.state"])
    served_unlearned(c, "beside")
    c.close()
    ok(wait_for(lambda: d.status()["clock.cpu.state"] == "ok"), "its limit is as found for the next session",
       d.status()["clock.cpu.state"])
    c = d.client()
    c.request(c.open("next"), 50, latency_ns)
    ok(samples(c, "next") == 1, "which is learned from", samples(c, "next"))
    c.close()
    ok(d.end() == 0, "exit 0")


for test in (no_keeper, no_journal, another_owner, descriptors, state, full, no_memory, memory):
    test()
done()
