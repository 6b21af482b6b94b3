#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
# Work that takes longer than a request may wait: a helper process reads and saves files of models, or fits layers.
import random
import re
import select

from daemonlib import *

MODE, LESS, MEM_HZ = "MAXN_SUPER", "25W", 3199000000
STATUS = "/var/lib/nvpmodel/status"
POINTS, LAYERS = 16, 1024  # all the layers of one model that the daemon keeps
ROWS = 4000                # nearly all its samples
SESSIONS = 30              # that go over to another power mode
AHEAD = 20                 # requests that are served while the helper process stands still


def grid_points(d):
    """The clocks of the CPU and of the GPU at the points of the board's grid."""
    axes = [[int(f) * scale for f in d.read(path).split()] for path, scale in (
        ("/sys/devices/system/cpu/cpufreq/policy0/scaling_available_frequencies", 1000),
        (glob.glob(d.sys + "/sys/devices/**/17000000.gpu/devfreq/*/available_frequencies",
                   recursive=True)[0][len(d.sys):], 1))]
    return [(c, g) for c in axes[0] for g in axes[1]]


def write_samples(d, name, uid, mode):
    """A large file of a model's samples. Returns its path."""
    path = f"{d.state}/models/{name}@{mode}@{uid}.csv"
    points = grid_points(d)
    os.makedirs(d.state + "/models", exist_ok=True)
    with open(path, "w") as samples:
        samples.write("phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n,sd_ns,max_ns,power_uw\n")
        for i in range(ROWS):
            cpu, gpu = points[i % len(points)]
            context = round(100 * 1.25 ** (i // len(points)))
            took_ns = 3 * latency_ns({"cpu_hz": cpu, "gpu_hz": gpu}) * (1 + context / 1e5)
            samples.write(f"decode,{context},{cpu},{gpu},{MEM_HZ},{took_ns:.0f},5,1000,0,9000000\n")
    return path


def write_model(d, name, uid=0, mode=MODE):
    """A model's files: totals and layers at points of the board's grid."""
    stem = f"{d.state}/models/{name}@{mode}" + (f"@{uid}" if uid else "")
    pick = random.Random(1)
    launch = [pick.uniform(1e6, 8e6) for _ in range(LAYERS)]
    execute = [pick.uniform(1e6, 9e6) for _ in range(LAYERS)]
    os.makedirs(d.state + "/models", exist_ok=True)
    with open(stem + ".csv", "w") as samples, \
            open(stem + ".layers.csv", "w") as layers:
        samples.write("phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n,sd_ns,max_ns,power_uw\n")
        layers.write("phase,context,cpu_hz,gpu_hz,mem_hz,rep,layer,cpu_ns,gpu_ns,sync\n")
        for cpu, gpu in pick.sample(grid_points(d), POINTS):
            cpus = [1e9 / cpu * c * pick.uniform(0.95, 1.05) for c in launch]
            gpus = [1e9 / gpu * g * pick.uniform(0.98, 1.02) for g in execute]
            total = sum(map(max, cpus, gpus))
            samples.write(f"run,0,{cpu},{gpu},{MEM_HZ},{total:.0f},5,{total / 100:.0f},0,0\n")
            for i in range(LAYERS):
                layers.write(f"run,0,{cpu},{gpu},{MEM_HZ},0,{i},{cpus[i]:.0f},{gpus[i]:.0f},{int(i == LAYERS - 1)}\n")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(child) for child in f.read().split()]


def helper_for(d, client, within_s=10, **message):
    """The helper process for a client's message, stopped; None: it was too quick."""
    known = children(d.process.pid)
    client.send(**message)
    for _ in range(within_s * 5000):
        new = [child for child in children(d.process.pid) if child not in known]
        if new:
            os.kill(new[0], signal.SIGSTOP)
            return new[0]
        time.sleep(0.0002)
    return None


def has_reply(client):
    return bool(select.select([client.s], [], [], 0)[0])


def served_meanwhile(client, session):
    ended = [client.request(session, 50, latency_ns)[1]["errno"] for _ in range(AHEAD)]
    ok(ended == ["0"] * AHEAD, "another client's requests are served meanwhile", ended)


def processor_s(pid):
    """Processor time of a process, and of those children of it that were waited for."""
    with open(f"/proc/{pid}/stat") as f:
        times = f.read().rsplit(")", 1)[1].split()[11:15]
    ticks = [int(t) / os.sysconf("SC_CLK_TCK") for t in times]
    return ticks[0] + ticks[1], ticks[2] + ticks[3]


def processor_s_without_helpers(d, known):
    """The same once its helper processes are counted: flamed does not wait for their end."""
    wait_for(lambda: not set(children(d.process.pid)) - set(known))
    return processor_s(d.process.pid)


def left_to_helpers(d, known, before, what):
    """Since `before`, most processor time for that was a helper process's."""
    own, helped = (now - was for now, was in zip(processor_s_without_helpers(d, known), before))
    print(f"# | {what}: {1000 * helped:.0f} ms in helper processes, {1000 * own:.0f} ms in flamed", flush=True)
    ok(own < helped, f"flamed has no part in {what}", f"{own} {helped}")


def run_ns(pid):
    """Processor time of a process of one thread, exactly."""
    with open(f"/proc/{pid}/schedstat") as f:
        return int(f.read().split()[0])


def bytes_read(pid):
    """Bytes that a process has read, of files and of all else."""
    with open(f"/proc/{pid}/io") as f:
        return int(re.search(r"rchar: (\d+)", f.read())[1])


def layered(surface):
    """Regimes of a surface that rests on layers come with the time that the GPU idles."""
    rows = [cell.split(":") for key, row in surface.items() if key.startswith("row.") for cell in row.split(",")]
    return len(rows) > 0 and any(float(cell[6]) > 0 for cell in rows)


def nobody_waits_for_a_fit():
    d = Daemon(start=False)
    write_model(d, "deep")
    d.start()
    other, asker = d.client(), d.client()
    session = other.open("quick")
    asker.open("deep")
    known, before = children(d.process.pid), processor_s(d.process.pid)
    helper = helper_for(d, asker, op="surface", model="deep")
    if ok(helper is not None, "the layers of a full model are fitted by a helper process"):
        served_meanwhile(other, session)
        ok(not has_reply(asker), "the question waits for it")
        os.kill(helper, signal.SIGCONT)
        surface = asker.reply()
        ok(surface["errno"] == "0" and layered(surface), "and is answered from the layers", surface.get("state"))
        left_to_helpers(d, known, before, f"a fit of {POINTS} x {LAYERS} layers")
    d.end()


def nobody_waits_for_surfaces():
    """Of a model of many samples, and for the points of its profile."""
    if os.geteuid() != 0:
        skip("surfaces of a full model", "only root can play other users")
        return
    d = Daemon(start=False)
    for name in ("net", "more"):
        write_samples(d, name, 1501, MODE)
    d.start()
    other, asker = d.client(), d.client_of(1501)
    session = other.open("quick")
    other.request(session, 50, latency_ns)
    known = children(d.process.pid)
    helper = helper_for(d, asker, op="open", model="net", phase="decode", context=1000)
    os.kill(helper, signal.SIGCONT)
    opened = asker.reply()["session"]
    begun, _ = asker.request(opened, 200, lambda begun: 3 * latency_ns(begun), context=1000)
    ok(int(begun["predicted_ns"]) > 0, "a model that a helper process reads is known at once", begun)
    before = processor_s_without_helpers(d, known)
    for what, message in (("a surface", {"op": "surface", "context": 3000}), ("a profile", {"op": "profile"})):
        time.sleep(1.1)  # pays the debt for the question before
        helper = helper_for(d, asker, **message, model="net", phase="decode")
        if ok(helper is not None, what + " beside another user's session is made by a helper process"):
            served_meanwhile(other, session)
            os.kill(helper, signal.SIGCONT)
            reply = asker.reply()
            ok(reply["errno"] == "0" and (reply.get("state", "none") != "none" or "profile" in reply),
               "and who asked has it", reply)
    left_to_helpers(d, known, before, "a surface and a plan")
    d.end()


def every_question_is_answered():
    """Whatever contexts were asked for before, and however many ask: a model keeps few surfaces."""
    d = Daemon(start=False)
    os.rename(write_samples(d, "net", 0, MODE), f"{d.state}/models/net@{MODE}.csv")
    d.start()
    c = d.client()
    asked = (500, 2000, 8000, 500, 60, 700, 500, 30000, 2000, 500)
    states = [c.ask(op="surface", model="net", phase="decode", context=context).get("state") for context in asked]
    ok(all(state in ("learning", "ready") for state in states), "questions about one context after the other", states)
    many = [d.client() for _ in range(60)]
    for i, client in enumerate(many):
        client.send(op="surface", model="net", phase="decode", context=3000 * (1 + i % 3))
    states = [client.reply().get("state") for client in many]
    ok(all(state in ("learning", "ready") for state in states), "and of sixty clients at once", states)
    d.end()


def not_even_the_only_user():
    """Surfaces for contexts that come nearer, and a plan: the user's own requests run meanwhile."""
    d = Daemon(start=False)
    os.rename(write_samples(d, "net", 0, MODE), f"{d.state}/models/net@{MODE}.csv")
    d.start()
    c, profiler, known = d.client(), d.client(), children(d.process.pid)
    session = c.open("net", phase="decode", context=1000)

    def served(context):
        begun, ended = c.request(session, 200, lambda begun: 3 * latency_ns(begun), context=context)
        return begun["errno"] == ended["errno"] == "0" and int(begun["predicted_ns"]) > 0
    ok(served(1000), "a model that a helper process reads is known at once")
    wait_for(lambda: children(d.process.pid) == known)
    begun = c.ask(op="begin", session=session, deadline_ns=200000000, context=3000)
    helper = helper_for(d, c, op="end", request=begun["request"], total_ns=20000000, ack=1)
    if ok(helper is not None, "after a request a helper process prepares for the next ones, also for the only user"):
        c.reply()
        met = [served(3000) for _ in range(AHEAD)]
        ok(all(met), "whose next requests are served, with a prediction, while it stands still", met)
        os.kill(helper, signal.SIGCONT)
        ok(wait_for(lambda: children(d.process.pid) == known), "it ends")
    helper = helper_for(d, profiler, op="profile", model="net", phase="decode")
    if ok(helper is not None, "a plan is made by a helper process as well"):
        met = [served(1000) for _ in range(AHEAD)]
        ok(all(met), "and the user's requests are served", met)
        os.kill(helper, signal.SIGCONT)
        reply = profiler.reply()
        ok("profile" in reply or "done" in reply, "who asked has it", reply)
    d.end()


def nobody_waits_for_few_samples():
    """A fit of a few samples takes milliseconds too: beside another user's sessions no request makes one."""
    if os.geteuid() != 0:
        skip("fits of few samples beside another user", "only root can play other users")
        return
    d = Daemon()
    other, c = d.client(), d.client_of(1501)
    session, mine = other.open("quick"), c.open("new")
    known = children(d.process.pid)

    def fit_after(factor):
        """The helper process that fits after a request, once the debt for the fit before it is paid."""
        for _ in range(30):
            begun = c.ask(op="begin", session=mine, deadline_ns=60000000, wait=1)
            helper = helper_for(d, c, within_s=1, op="end", request=begun["request"],
                                total_ns=int(factor * latency_ns(begun)), ack=1)
            if helper:
                return helper
            c.reply()
        return None

    def predicted_ns(factor):
        begun, _ = c.request(mine, 60, lambda begun: factor * latency_ns(begun))
        return int(begun.get("predicted_ns", 0))

    def goes_on(helper):
        os.kill(helper, signal.SIGCONT)
        return wait_for(lambda: helper not in children(d.process.pid))
    helper = fit_after(1)
    if ok(helper is not None, "the fit of the first sample is a helper process's"):
        c.reply()
        served_meanwhile(other, session)
        ok(predicted_ns(1) == 0, "until it ends the model is unknown")
        ok(goes_on(helper) and predicted_ns(1) > 0, "and then known")
    helper = fit_after(1.2)
    if ok(helper is not None, "and so are the next ones"):
        c.reply()
        served_meanwhile(other, session)
        ok(predicted_ns(1.2) > 0, "while one stands still the fit before it is used")
        ok(goes_on(helper), "and it ends")
    d.end()


def nobody_waits_for_files():
    d = Daemon(start=False)
    write_model(d, "deep", uid=0)
    for name in ("more", "last"):  # the first models are read before there is a client
        write_model(d, name, uid=1501)
    d.start()
    if os.geteuid() != 0:
        skip("a full model that is opened", "only root can play other users")
        d.end()
        return
    other, asker, third = d.client(), d.client_of(1501), d.client_of(1501)
    session = other.open("quick")
    known, before = children(d.process.pid), processor_s(d.process.pid)
    helper = helper_for(d, asker, op="open", model="more")
    if ok(helper is not None, "a full model's files are read by a helper process"):
        served_meanwhile(other, session)
        third.send(op="profile", model="last", budget=1)
        os.kill(helper, signal.SIGCONT)
        opened, point = asker.reply(), third.reply()
        ok(opened["errno"] == "0" and opened["surface"] != "none", "who opens it waits, and finds it known", opened)
        ok("done" in point or "profile" in point, "and so does who profiles another", point)
        after = processor_s_without_helpers(d, known)
        print(f"# | reading a full model twice: {1000 * (after[1] - before[1]):.0f} ms in helper processes, "
              f"{1000 * (after[0] - before[0]):.0f} ms in flamed, with {AHEAD} requests", flush=True)
        listed = d.client().ask(op="models")
        found = {listed[f"model.{i}.name"]: (listed[f"model.{i}.samples"], listed[f"model.{i}.layers"])
                 for i in range(4)}
        ok(found["more"] == found["last"] == (str(POINTS), "1"), "all of both is there", found)
    asker.close()
    third.close()
    d.end()


def nobody_waits_for_imports():
    """Measurements of other boards, and none of this one."""
    d = Daemon(start=False)
    os.rename(write_samples(d, "net", 0, MODE), f"{d.state}/models/net@{MODE}.inherited")
    d.start()
    other, asker = d.client(), d.client_of(1501) if os.geteuid() == 0 else d.client()
    session = other.open("quick")
    known, before = children(d.process.pid), bytes_read(d.process.pid)
    helper = helper_for(d, asker, op="open", model="net", phase="decode")
    if ok(helper is not None, "a large import is read by a helper process"):
        served_meanwhile(other, session)
        os.kill(helper, signal.SIGCONT)
        opened = asker.reply()
        wait_for(lambda: not set(children(d.process.pid)) - set(known))
        # a process that was waited for counts too
        own, size = bytes_read(d.process.pid) - before, os.path.getsize(f"{d.state}/models/net@{MODE}.inherited")
        ok(opened["errno"] == "0" and size < own < 1.5 * size, "and by nobody else", (opened, own, size))
        for _ in range(3):
            asker.request(opened["session"], 100, lambda begun: 3.03 * latency_ns(begun), context=1000)
        asker.ask(op="surface", model="net", phase="decode", context=1000)
        listed = asker.ask(op="models")
        own = next(k[:-4] for k in listed if k.endswith(".name") and listed[k] == "net")
        ok(int(listed[own + "inherited_permille"]) > 0, "predictions rest on it", listed)
    d.end()


def has_opened(pid, path):
    """Has a helper process opened the file, or read as much?"""
    try:
        opened = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        return path in opened or bytes_read(pid) >= os.path.getsize(path)
    except OSError:
        return False


class Imports:
    """A model with a few samples of its own, a large import, and another import that changes predictions."""

    def __init__(self):
        self.d = d = Daemon(start=False)
        self.inherited = f"{d.state}/models/net@{MODE}.inherited"
        os.rename(write_samples(d, "net", 0, MODE), self.inherited)
        with open(self.inherited) as rows:
            header, *rows = [next(rows).strip() for _ in range(40)]
        rows = [row.split(",") for row in rows]
        with open(f"{d.state}/models/net@{MODE}.csv", "w") as own:
            own.write("\n".join([header] + [",".join(row) for row in rows[::8]]) + "\n")
        for row in rows:  # another board, which is slower at some points
            row[5] = f"{1.3 * float(row[5]):.0f}"
        self.lines = {f"line.{i}": line for i, line in enumerate([header] + [",".join(row) for row in rows])}
        d.start()
        self.other = self.surface(self.opened())
        self.restart()

    def restart(self):
        self.d.stop()
        self.d.start()
        self.admin = self.d.client()
        self.board = self.admin.ask(op="status")["board.name"]

    def opened(self):
        asker = self.d.client_of(1501)
        asker.open("net", phase="decode")
        return asker

    @staticmethod
    def surface(client):
        return client.ask(op="surface", model="net", phase="decode", context=100)

    def message(self, model="net"):
        return {"op": "import", "model": model, "board": self.board, "mode": MODE, "format": 1, "other_versions": 1,
                **self.lines}

    def beside(self, helper, asker, what):
        """An import while a helper process stands still for `asker`: what is predicted when that goes on is what a new
        daemon predicts."""
        reply = self.admin.ask(**self.message())
        ok(reply["errno"] == "0" and int(reply["points"]) >= ROWS, "an import comes meanwhile", reply)
        os.kill(helper, signal.SIGCONT)
        ok(asker.reply()["errno"] == "0" and wait_for(lambda: helper not in children(self.d.process.pid)),
           "the helper process goes on")
        meanwhile = self.surface(asker)
        self.restart()
        after = self.surface(self.opened())
        ok(meanwhile == after != self.other, what, [[s.get(key) for s in (self.other, meanwhile, after)]
           for key in after if not self.other.get(key) == meanwhile.get(key) == after.get(key)][:3])


def an_import_beside_a_reader():
    """It comes while a helper process reads the file that it replaces."""
    if os.geteuid() != 0:
        skip("an import while earlier ones are read", "only root can play other users")
        return
    i = Imports()
    asker = i.d.client_of(1501)
    helper = helper_for(i.d, asker, op="open", model="net", phase="decode")
    if ok(helper is not None, "a helper process reads earlier imports"):
        for _ in range(10000):
            if has_opened(helper, i.inherited) or helper not in children(i.d.process.pid):
                break
            os.kill(helper, signal.SIGCONT)
            time.sleep(0.0002)
            os.kill(helper, signal.SIGSTOP)
        print(f"# | it was stopped {'while' if has_opened(helper, i.inherited) else 'not while'} it read", flush=True)
        i.beside(helper, asker, "and the model rests on all imports, as after a restart")
    i.d.end()


def an_import_beside_a_fit():
    """It comes while a helper process makes a fit without it."""
    if os.geteuid() != 0:
        skip("an import during a fit", "only root can play other users")
        return
    i = Imports()
    known, asker = children(i.d.process.pid), i.opened()
    wait_for(lambda: children(i.d.process.pid) == known)
    helper = helper_for(i.d, asker, op="surface", model="net", phase="decode", context=3000)
    if ok(helper is not None, "a helper process makes a surface"):
        i.beside(helper, asker, "and the next surface rests on the import, as after a restart")
    i.d.end()


def nobody_waits_for_an_import():
    if os.geteuid() != 0:
        skip("requests of another user during an import", "only root can play other users")
        return
    i = Imports()
    other, second, known = i.d.client_of(1501), i.d.client(), children(i.d.process.pid)
    session = other.open("quick")
    helper = helper_for(i.d, i.admin, **i.message())
    if ok(helper is not None, "an import is read, and stored, by a helper process"):
        second.send(**i.message("more"))
        served_meanwhile(other, session)
        ok(not has_reply(i.admin) and not has_reply(second), "two imports wait")
        os.kill(helper, signal.SIGCONT)
        first, later = i.admin.reply(), second.reply()
        ok(int(first.get("points", 0)) >= ROWS and int(later.get("points", 0)) == len(i.lines) - 1,
           "and are answered, the second from its own rows", (first, later))
        wrong = i.admin.ask(**{**i.message("more"), "line.7": "decode,100,9"})
        ok(wrong["errno"] != "0" and "line 8" in wrong["message"] and
           i.admin.ask(**i.message("more")).get("points") == later.get("points"),
           "an error names the line, and nothing is stored", wrong)
        wait_for(lambda: children(i.d.process.pid) == known)
        helper = helper_for(i.d, second, **i.message("third"))
        second.close()
        os.kill(helper, signal.SIGCONT)
        ok(wait_for(lambda: children(i.d.process.pid) == known) and
           os.path.exists(f"{i.d.state}/models/third@{MODE}.inherited"), "it is stored without its client as well")
        helper = helper_for(i.d, i.admin, **i.message("fourth"))
        os.kill(helper, signal.SIGKILL)
        reply = i.admin.reply()
        ok(reply["errno"] != "0" and "was ended" in reply["message"], "if its process is killed, the client is told",
           reply)
    i.d.end()


def samples_of(d, uid):
    """Number of samples of each of a user's models in the mode LESS."""
    c, found, page = d.client(), {}, {"next": 0}
    while "next" in page:
        page = c.ask(op="models", **{"from": page["next"]})
        for key in page:
            if key.endswith(".name") and page[key[:-4] + "uid"] == str(uid) and page[key[:-4] + "mode"] == LESS:
                found[page[key]] = int(page[key[:-4] + "samples"])
    c.close()
    return found


def nobody_waits_for_a_power_mode():
    """Many sessions go over to another mode's models, none of which is in memory."""
    if os.geteuid() != 0:
        skip("a power mode with large models", "only root can play other users")
        return
    d = Daemon(start=False, config="[flamed]\nsave_interval = 1 s\n")
    path = [write_samples(d, f"m{i}", 1501, LESS) for i in range(SESSIONS)]
    for name, uid in (("held", 1502), ("one", 1503)):
        write_samples(d, name, uid, MODE)
    write_model(d, "admins", mode=LESS)
    d.start()
    pid = d.process.pid
    other, many, asker, one = d.client(), d.client_of(1501), d.client_of(1502), d.client_of(1503)
    session = other.open("quick")

    before = run_ns(pid), bytes_read(pid)
    helper = helper_for(d, one, op="open", model="one")
    if not ok(helper is not None, "a helper process"):
        d.end()
        return
    os.kill(helper, signal.SIGKILL)
    one.reply()
    read_ns, size = run_ns(pid) - before[0], os.path.getsize(path[0])
    own = bytes_read(pid) - before[1]
    ok(own >= size, "without it flamed reads the file itself", (own, size))

    sessions = [many.ask(op="open", model=f"m{i}", phase="decode", context=100)["session"] for i in range(SESSIONS)]
    helper = helper_for(d, asker, op="open", model="held")
    if not ok(helper is not None, "a helper process stands still"):
        d.end()
        return
    begun = other.ask(op="begin", session=session, deadline_ns=50000000)
    d.write(STATUS, "pmode:0001 fmode:quiet")
    before = run_ns(pid), bytes_read(pid)
    other.ask(op="end", request=begun["request"], total_ns=20000000, ack=1)
    end_ns, end_bytes = run_ns(pid) - before[0], bytes_read(pid) - before[1]
    print(f"# | an end that finds another power mode, with {SESSIONS} sessions: {end_ns / 1e6:.1f} ms of flamed; "
          f"reading one of their files: {read_ns / 1e6:.1f} ms", flush=True)
    ok(end_bytes < size / 4, "no file is read for an end that finds another power mode", f"{end_bytes} {size}")
    served_meanwhile(other, session)
    unknown = many.request(sessions[0], 50, latency_ns, context=100)
    ok([r["errno"] for r in unknown] == ["0", "0"] and unknown[0]["bound_ns"] == "0",
       "and those of a model that is not read yet, as of an unknown one", unknown)
    time.sleep(3)  # saves, if anything of it is to be saved
    ok(os.path.getsize(path[0]) > 40 * ROWS and sum(samples_of(d, 1501).values()) == 0,
       "nothing is learned of it, so that its file stays", samples_of(d, 1501))
    os.kill(helper, signal.SIGCONT)
    ok(asker.reply()["errno"] == "0", "the helper process goes on")
    full = lambda: [name for name, samples in samples_of(d, 1501).items() if samples == ROWS]
    ok(wait_for(lambda: len(full()) == 4, 60), "and reads as many of the new mode's as there is room for", full())
    took_ns = []

    def rests():
        begin_ns = run_ns(pid)
        time.sleep(0.3)
        took_ns.append(run_ns(pid) - begin_ns)
        return took_ns[-1] < read_ns
    ok(wait_for(rests) and len(full()) == 4, "which ends", took_ns)
    i = int(full()[0][1:])
    begun, ended = many.request(sessions[i], 50, lambda begun: 30000000, context=100)
    ok(begun["errno"] == ended["errno"] == "0" and int(begun["bound_ns"]) > 20000000, "these are known", begun)

    helper = helper_for(d, asker, op="surface", model="admins")
    if ok(helper is not None, "who asks about the administrator's model has it read by a helper process"):
        served_meanwhile(other, session)
        os.kill(helper, signal.SIGCONT)
        surface = asker.reply()
        ok(surface["errno"] == "0" and surface["state"] != "none", "and is answered from its files", surface["state"])
    for c in (many, one):
        c.close()
    rows = lambda: [sum(1 for _ in open(p)) for p in path]
    time.sleep(2)
    ok(min(rows()) > ROWS, "all that was on disk is still there", rows())
    d.end()


def nobody_waits_for_saves():
    """As many models as one user may have in memory, none of them saved, and one more."""
    if os.geteuid() != 0:
        skip("a full table of models", "only root can play other users")
        return
    d = Daemon(config="[flamed]\nsave_interval = 10 min\n")  # none is saved before it has to be
    other, asker = d.client(), d.client_of(1501)
    session = other.open("quick")
    for i in range(64):
        of_it = asker.open(f"m{i}")
        asker.request(of_it, 50, latency_ns)
        asker.ask(op="close", session=of_it)
    ok(not glob.glob(d.state + "/models/*.csv"), "models that are not saved", os.listdir(d.state + "/models"))
    helper = helper_for(d, asker, op="open", model="more")
    if ok(helper is not None, "one that needs their place has them saved by a helper process"):
        served_meanwhile(other, session)
        os.kill(helper, signal.SIGCONT)
        opened = asker.reply()
        ok(opened["errno"] == "0", "and is opened when that is done", opened)
        saved = glob.glob(d.state + "/models/m*@1501.csv")
        ok(len(saved) == 64, "none of them is lost", len(saved))
    d.end()


def saves_are_not_put_off():
    """By measurements that follow one another."""
    d = Daemon(config="[flamed]\nsave_interval = 1 s\n")
    prof, point, model, end = d.client(), {}, 0, time.monotonic() + 20
    saved = lambda: glob.glob(d.state + "/models/*.csv")
    while time.monotonic() < end and not saved():
        if "cpu_hz" not in point:  # the one before is done
            model += 1
            point = prof.ask(op="profile", model=f"net{model}", budget=20)
        time.sleep(0.1)
        point = prof.ask(op="sample", profile=point["profile"], latency_ns=int(latency_ns(point)), n=5)
    ok(saved(), "models are saved while there is always more to save", model)
    d.end()


def a_profile_goes_over_to_a_power_mode():
    """What it measures there has large files."""
    d = Daemon(start=False)
    write_model(d, "deep", mode=LESS)
    d.start()
    other, prof = d.client(), d.client()
    session = other.open("quick")
    point = prof.ask(op="profile", model="deep", budget=4)
    d.write(STATUS, "pmode:0001 fmode:quiet")
    helper = helper_for(d, prof, op="sample", profile=point["profile"], latency_ns=int(latency_ns(point)), n=5)
    if ok(helper is not None, "the new mode's model of a profile is read by a helper process"):
        served_meanwhile(other, session)
        os.kill(helper, signal.SIGCONT)
        point = prof.reply()
        ok(point["errno"] == "0" and point["step"] == "0", "and it goes on there, with its whole budget", point)
    d.end()


def users_take_turns():
    """Four clients of one user and one of another wait for the helper process."""
    if os.geteuid() != 0:
        skip("two users who wait", "only root can play other users")
        return
    d = Daemon(start=False)
    for name, uid in [("other", 1502)] + [(f"m{i}", 1501) for i in range(4)]:
        write_samples(d, name, uid, MODE)
    d.start()
    other, many = d.client_of(1502), [d.client_of(1501) for _ in range(4)]
    answered = []
    helper = helper_for(d, many[0], op="open", model="m0")
    if ok(helper is not None, "a helper process"):
        for i in (1, 2, 3):
            many[i].send(op="open", model=f"m{i}")
        other.send(op="open", model="other")
        d.status()  # all have been looked at
        os.kill(helper, signal.SIGCONT)
        waiting = {c.s: uid for c, uid in [(other, 1502)] + [(c, 1501) for c in many]}
        while waiting:
            for s in select.select(list(waiting), [], [], 20)[0] or [next(iter(waiting))]:
                answered.append((waiting.pop(s), b"errno=0" in s.recv(65536)))
        ok(answered.index((1502, True)) <= 1, "the other user is served as the second at the latest", answered)
    d.end()


def an_ended_reader():
    """Killed: flamed reads the files itself."""
    if os.geteuid() != 0:
        skip("a killed reader", "only root can play other users")
        return
    d = Daemon(start=False)
    write_model(d, "deep", uid=1501)
    d.start()
    asker = d.client_of(1501)
    helper = helper_for(d, asker, op="open", model="deep")
    if ok(helper is not None, "a helper process"):
        os.kill(helper, signal.SIGKILL)
        opened = asker.reply()
        ok(opened["errno"] == "0" and opened["surface"] != "none", "its end loses nothing", opened)
    d.end()


def an_ended_helper():
    """Killed, as one that overruns is: the model goes on with what was measured end to end."""
    d = Daemon(start=False)
    write_model(d, "deep")
    d.start()
    asker = d.client()
    session = asker.open("deep")
    helper = helper_for(d, asker, op="surface", model="deep")
    if ok(helper is not None, "a helper process"):
        os.kill(helper, signal.SIGKILL)
        surface = asker.reply()
        ok(surface["errno"] == "0" and not layered(surface), "its end is an answer too", surface.get("state"))
        begun, ended = asker.request(session, 50, latency_ns)
        ok(begun["errno"] == "0" and ended["errno"] == "0", "requests are served", begun)
        ok(wait_for(lambda: "model deep: the process that fits its layers was ended" in d.text()), "it is logged",
           d.text())
    asker.close()
    d.end()


def a_board_that_changes():
    """The GPU goes while a helper process works: the models are loaded again for the board that is left, and who
    waited for the helper process is answered from those."""
    d = Daemon(start=False)
    write_model(d, "deep")
    d.start()
    asker, gpu = d.client(), glob.glob(d.sys + "/sys/devices/**/devfreq/17000000.gpu", recursive=True)[0]
    helper = helper_for(d, asker, op="surface", model="deep")
    if ok(helper is not None, "a helper process"):
        os.rename(gpu, d.dir + "/gpu")
        d.process.send_signal(signal.SIGHUP)
        ok(wait_for(lambda: "operating points now" in d.text()), "the board is another one", d.text()[-500:])
        try:
            answered = "errno" in asker.reply()
        except TimeoutError:
            answered = False
        ok(answered, "and the question is answered")
    d.end()


def gone_before_the_answer():
    """The client that waits for a fit goes, and then flamed does: no process is left behind."""
    d = Daemon(start=False)
    write_model(d, "deep")
    d.start()
    for end in ("client", "daemon"):
        asker, known = d.client(), children(d.process.pid)
        helper = helper_for(d, asker, op="surface", model="deep")
        if not ok(helper is not None, "a helper process"):
            break
        if end == "client":
            asker.close()
            os.kill(helper, signal.SIGKILL)
            ok(wait_for(lambda: children(d.process.pid) == known) and d.up(), "without its client it ends as ever")
            d.stop()
            d.start()
        else:
            ok(d.stop() == 0, "flamed ends")
            ok(wait_for(lambda: not os.path.exists(f"/proc/{helper}")), "and the helper process with it")
    d.end()


# A helper process that lives for some ten milliseconds is seen in time, however busy the machine is.
real_time(policy=os.SCHED_FIFO | os.SCHED_RESET_ON_FORK)
nobody_waits_for_a_fit()
nobody_waits_for_surfaces()
every_question_is_answered()
not_even_the_only_user()
nobody_waits_for_few_samples()
nobody_waits_for_files()
nobody_waits_for_imports()
an_import_beside_a_reader()
an_import_beside_a_fit()
nobody_waits_for_an_import()
nobody_waits_for_a_power_mode()
nobody_waits_for_saves()
saves_are_not_put_off()
a_profile_goes_over_to_a_power_mode()
users_take_turns()
an_ended_reader()
an_ended_helper()
a_board_that_changes()
gone_before_the_answer()
done()
