#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# What one client, or one user, can do to another: the rows of docs/trust.md that need the real daemon.
import re
import subprocess

from daemonlib import *

USERS = os.geteuid() == 0  # other users are played by their peer credentials


def expiry_is_answered():
    """A begin that waits for a keeper which hangs: its error comes when it expires, then the answers
    to what is behind it."""
    d = Daemon(config="[flamed]\nrequest_expiry = 500 ms\n")
    keeper = d.keeper_pid()
    c = d.client(timeout=30)
    session = c.open("net")
    os.kill(keeper, signal.SIGSTOP)
    try:
        c.send(op="begin", session=session, deadline_ns=20000000, wait=1)
        c.send(op="hello")
        c.send(op="end", request=4242, ack=1)
        first, second, third = c.reply(), c.reply(), c.reply()
        ok(first["errno"] == "110" and first["message"].startswith("request:"), "an expired begin is answered", first)
        ok("protocol" in second, "the reply behind it is that of its own message", second)
        ok(third["errno"] == "2" and "4242" in third["message"], "so is the one behind that", third)
        exercise = subprocess.Popen([os.path.join(BUILD, "tests/client/exercise")], stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, text=True, bufsize=1)

        def call(*words):
            exercise.stdin.write(" ".join(map(str, words)) + "\n")
            return exercise.stdout.readline().split()
        call("open", d.socket)
        call("session", "net", 20000000, 10 ** 9)
        ok(call("wait", 0, 20000000, 3 * 10 ** 10)[0] == "-110", "libflamed: the expired begin says so")
    finally:
        os.kill(keeper, signal.SIGCONT)
    answer = call("wait", 0, 20000000, 3 * 10 ** 10)
    ok(int(answer[0]) > 0 and answer[1:3] == ["applied=1", "feasible=1"], "libflamed: and the next one is right",
       answer)
    ok(call("end", answer[0], 9000000) == ["0"] and wait_for(lambda: call("counts", 0)[1:] == ["1", "0"]),
       "libflamed: so is its end")
    exercise.stdin.close()
    exercise.wait()
    d.end()


def requests(c, session, count, latency, deadline_ms=60, **kw):
    """Run `count` whole requests; returns the last begin and how many were late."""
    missed = 0
    for _ in range(count):
        begun, ended = c.request(session, deadline_ms, latency, **kw)
        missed += ended["missed"] == "1"
    return begun, missed


def slowdown(c, model="net"):
    return float(c.ask(op="surface", model=model)["slowdown"])


def poisoned_by_another():
    """Another user runs a model of the same name, and reports false latencies."""
    d = Daemon(config="[flamed]\nsave_interval = 1 s\n")
    victim, other = d.client_of(1001), d.client_of(1002)
    session = victim.open("net")
    requests(victim, session, 60, latency_ns, 14)
    lie = other.open("net")
    for _ in range(400):
        begun = other.ask(op="begin", session=lie, deadline_ns=3600 * 10 ** 9)
        other.ask(op="end", request=begun["request"], total_ns=1, ack=1)
    _, missed = requests(victim, session, 120, latency_ns, 14)
    ok(missed <= 6, f"another user's lies about a model of the same name: {missed} of 120 missed", missed)
    ok(slowdown(victim) < 1.2, "and no slow-down", slowdown(victim))
    models = other.ask(op="models")
    own = next((k[:-4] for k in models if k.endswith(".uid") and models[k] == "1002"), "")
    ok(int(models.get(own + ".rejected", 0)) > 0 and models.get(own + ".samples") == "0",
       "they are counted and not learned", models)
    ok("1001" not in [v for k, v in models.items() if k.endswith(".uid")], "a user sees no other user's models", models)
    lies = d.client_of(1002)
    # Plausible lies: each is a thousandth of what the victim's inferences take.
    requests(lies, lies.open("net"), 200, lambda begun: latency_ns(begun) / 1000, 3600000)
    for c in (victim, other, lies):
        c.close()
    ok(wait_for(lambda: "net@MAXN_SUPER@1001.csv" in os.listdir(d.state + "/models")),
       "a file for each user", os.listdir(d.state + "/models"))
    d.stop()
    d.start()
    victim = d.client_of(1001)
    session = victim.open("net")
    _, missed = requests(victim, session, 120, latency_ns, 14)
    ok(missed <= 6, f"nor after a restart: {missed} of 120 missed", missed)
    victim.close()
    d.end()


def own_lies():
    """False latencies of the user's own are limited by the physical envelope; a model that learned them recovers."""
    d = Daemon()
    c = d.client()
    session = c.open("net")
    requests(c, session, 60, latency_ns, 14)
    before = slowdown(c)
    requests(c, session, 3, lambda begun: latency_ns(begun) * 10 ** 6, 14)
    ok(slowdown(c) <= 8 and abs(slowdown(c) - before) < 0.2,
       "a latency a million times what clocks explain slows nothing", (before, slowdown(c)))
    liar = c.open("lied")
    requests(c, liar, 60, lambda begun: 5000, 3600000)
    _, missed = requests(c, liar, 120, latency_ns, 14)
    _, late = requests(c, liar, 60, latency_ns, 14)
    ok(missed <= 40 and late <= 3, f"a model that was first taught falsehoods is learned again: {missed} of 120 "
                                   f"missed, then {late} of 60", (missed, late))
    ok("measurements contradict the learned model" in d.text(), "which is logged", d.text()[-500:])
    d.end()


def poisoned_file():
    """A samples file in which the lowest clocks are the fastest, as version 0.1 could be made to write."""
    d = Daemon(start=False)
    os.makedirs(d.state + "/models")
    with open(d.state + "/models/net@MAXN_SUPER.csv", "w") as f:
        f.write("phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n,sd_ns,max_ns,power_uw\n")
        f.write("run,0,115200000,306000000,0,1,400,0,1,0\n")
        f.write("run,0,1728000000,1020000000,0,9600000,80,90000,9900000,0\n")
    d.start()
    names = os.listdir(d.state + "/models")
    ok("net@MAXN_SUPER.csv.damaged" in names, "a file that contradicts itself is set aside", names)
    ok("contradicts that at" in d.text(), "the log says which rows", d.text())
    c = d.client()
    opened = c.ask(op="open", model="net")
    _, missed = requests(c, opened["session"], 120, latency_ns, 14)
    ok(opened["surface"] == "none" and missed <= 10, f"and the model is learned again: {missed} of 120 missed", opened)
    d.end()


def shared_model():
    d = Daemon(config="[model net]\nshared = yes\nteach = 1001\n[model own]\nshared = no\n")
    admin, teacher, user = d.client(), d.client_of(1001), d.client_of(1002)
    requests(teacher, teacher.open("net"), 40, latency_ns, 30)
    known = admin.ask(op="models")
    ok(known["model.0.name"] == "net" and known["model.0.uid"] == "0" and int(known["model.0.samples"]) > 0,
       "a shared model is one, and taught by whom the administrator lets", known)
    opened = user.ask(op="open", model="net")
    ok(opened["surface"] != "none", "others use it", opened)
    requests(user, opened["session"], 40, lambda begun: 3 * latency_ns(begun), 90)
    ok(slowdown(user) < 1.05, "and do not teach it", slowdown(user))
    refused = user.ask(op="profile", model="net")
    ok(refused["errno"] == "1" and refused["message"].startswith("model:"), "nor profile it", refused)
    for c in (admin, teacher, user):
        c.close()
    bad = Daemon(start=False, config="[model net]\nshared = yes\nteach = nobody-at-all\n")
    r = subprocess.run(bad.command("--check-config"), capture_output=True, text=True)
    ok(r.returncode == 2 and "teach" in r.stderr and "nobody-at-all" in r.stderr, "a teacher who is no user is named",
       r.stderr)
    bad.end()
    d.end()


def begins_with_admins():
    d = Daemon(config="[flamed]\nsave_interval = 1 s\n")
    admin = d.client()
    requests(admin, admin.open("net"), 60, latency_ns, 30)
    admin.close()
    wait_for(lambda: os.path.exists(d.state + "/models/net@MAXN_SUPER.csv"))
    kept = open(d.state + "/models/net@MAXN_SUPER.csv").read()
    user = d.client_of(1001)
    opened = user.ask(op="open", model="net")
    ok(opened["surface"] != "none", "a user's model begins with the administrator's", opened)
    requests(user, opened["session"], 60, lambda begun: 2 * latency_ns(begun), 60)
    user.close()
    ok(wait_for(lambda: os.path.exists(d.state + "/models/net@MAXN_SUPER@1001.csv")), "and is saved apart",
       os.listdir(d.state + "/models"))
    ok(open(d.state + "/models/net@MAXN_SUPER.csv").read() == kept, "the administrator's stays as it was")
    d.end()


def file_names():
    """Models `vic` and `vic.layers` where no power mode is known; and what version 0.1 made of the
    first one's layers."""
    d = Daemon(tree="raspberry-pi-4", start=False, config="[flamed]\nsave_interval = 1 s\n")
    os.makedirs(d.state + "/models")
    with open(d.state + "/models/old.layers.csv", "w") as f:
        f.write("phase,context,cpu_hz,gpu_hz,mem_hz,rep,layer,cpu_ns,gpu_ns,sync\n"
                "run,0,1000000000,0,0,0,0,1000,20000,1\n")
    d.start()
    names = os.listdir(d.state + "/models")
    ok(names == ["old@.layers.csv"], "layers as version 0.1 named them are taken over", names)
    c = d.client()
    vic, layers = c.open("vic"), c.open("vic.layers")
    for i in range(20):
        for session, ns in ((vic, 9000000), (layers, 5000000)):
            begun = c.ask(op="begin", session=session, deadline_ns=60000000, wait=1)
            c.ask(op="end", request=begun["request"], total_ns=ns, layers="1000000:7000000,200000:900000:s", ack=1)
    c.close()
    wait_for(lambda: len(os.listdir(d.state + "/models")) == 5)
    d.stop()
    d.start()
    models = d.client().ask(op="models")
    got = {models[f"model.{i}.name"]: models[f"model.{i}.samples"] for i in range(9) if f"model.{i}.name" in models}
    ok(got.get("vic", "0") != "0" and got.get("vic.layers", "0") != "0", "vic and vic.layers share no file",
       (got, os.listdir(d.state + "/models")))
    ok("damaged" not in d.text(), "and none is damaged", d.text())
    d.end()


def shares():
    """64 sessions x 8 begins of one user: others are served within their share."""
    d = Daemon()
    greedy, other = d.client_of(1001, timeout=60), d.client_of(1002)
    got = [greedy.ask(op="open", model=f"m{i}") for i in range(300)]
    ok([r["errno"] for r in got[:64]] == ["0"] * 64 and got[64]["errno"] == "122",
       "a user's models are bounded by a quota error", (got[63:66]))
    sessions = [r["session"] for r in got if r["errno"] == "0"]
    begun = [greedy.ask(op="begin", session=s, deadline_ns=3600 * 10 ** 9) for s in sessions for _ in range(8)]
    refused = [r for r in begun if r["errno"] != "0"]
    ok(len(begun) - len(refused) == 256 and refused[0]["errno"] == "122", "so are its requests in flight",
       (len(refused), refused[:1]))
    more = [other.ask(op="open", model=f"n{i}") for i in range(64)]
    ok(all(r["errno"] == "0" for r in more), "another user has its whole share of models",
       [r for r in more if r["errno"] != "0"][:2])
    begun, ended = other.request(more[0]["session"], 60, latency_ns)
    ok(begun["errno"] == ended["errno"] == "0", "and of requests", (begun, ended))
    d.end()


def reported_time():
    """A client that reports ten hours for each request: another's time stays real."""
    d = Daemon()
    replay, live = d.client_of(1001), d.client_of(1002)
    session, lie = live.open("net"), replay.open("long")
    for _ in range(20):
        begun = live.ask(op="begin", session=session, deadline_ns=10 ** 9)
        late = replay.ask(op="begin", session=lie, deadline_ns=3600 * 10 ** 9)
        replay.ask(op="end", request=late["request"], total_ns=36000 * 10 ** 9, ack=1)
        time.sleep(0.005)
        live.ask(op="end", request=begun["request"], ack=1)
    status = d.status()
    mean = next(int(status[f"session.{i}.mean_ns"]) for i in range(2) if status[f"session.{i}.uid"] == "1002")
    ok(5e6 <= mean <= 10 ** 9, f"ten hours that another reports move nobody else's time: mean {mean / 1e6:.1f} ms",
       mean)
    d.end()


def forgotten():
    """A begin with an hour's deadline and a silent profile: both end, and the clocks are the kernel's."""
    d = Daemon(config="[flamed]\nrequest_expiry = 100 ms\nrelease_after = 200 ms\n")
    before = d.knobs()
    c = d.client()
    begun = c.ask(op="begin", session=c.open("net"), deadline_ns=3600 * 10 ** 9)
    ok(d.knobs() != before or wait_for(lambda: d.knobs() != before), "the clocks move for it")
    ok(d.restored(before), "a request with an hour's deadline expires by request_expiry's cap", d.difference(before))
    ok(c.ask(op="end", request=begun["request"], ack=1)["errno"] == "2", "its end is told so")
    point = c.ask(op="profile", model="other", budget=4)
    other = d.client()
    ok("profile" in point and other.ask(op="profile", model="other")["errno"] == "16", "one profile at a time")
    ok(wait_for(lambda: "profile.0.id" not in d.status()), "a silent one times out")
    gone = c.ask(op="sample", profile=point["profile"], latency_ns=9000000, n=5)
    ok(gone["errno"] == "2", "which its client is told", gone)
    ok("profile" in other.ask(op="profile", model="other"), "and the next is served")
    d.end()


def company():
    """A request that is never ended does not count as concurrent for ever: a new model beside it is learned."""
    d = Daemon(config="[flamed]\nrequest_expiry = 5 s\n")
    silent, c = d.client(), d.client()
    silent.ask(op="begin", session=silent.open("silent"), deadline_ns=10 ** 8)
    session = c.open("new")
    time.sleep(0.7)
    requests(c, session, 40, latency_ns, 60)
    models = c.ask(op="models")
    own = next(k[:-5] for k in models if k.endswith(".name") and models[k] == "new")
    ok(int(models[own + ".samples"]) > 1, "a model beside a forgotten request is learned", models)
    d.end()


def files_are_bounded():
    d = Daemon(config="[flamed]\nsave_interval = 1 s\n")
    c = d.client_of(1001) if USERS else d.client()
    for i in range(300):
        session = c.open(f"name{i}")
        c.request(session, 60, latency_ns)
        c.request(session, 60, latency_ns)
        c.ask(op="close", session=session)
    c.close()
    d.stop()
    files = [n for n in os.listdir(d.state + "/models") if n.startswith("name")]
    names = [n for n in files if n.endswith(".csv")]
    ok(0 < len(names) <= 128, f"300 new names leave {len(names)} models", len(names))
    ok({n.rsplit(".", 1)[0] for n in files} == {n[:-4] for n in names}, "and no file of the others", files)
    ok(any(n.startswith("name299@") for n in names) and not any(n.startswith("name0@") for n in names),
       "those used last", sorted(names)[:5])
    d.end()


def accounts_are_bounded():
    """In shadow mode a model whose requests are no samples has an account and nothing else on disk."""
    d = Daemon(config="[flamed]\nmode = shadow\n[clocks]\nmem = leave\n")
    c = d.client_of(1001) if USERS else d.client()
    for i in range(150):
        session = c.open(f"name{i}")
        begun = c.ask(op="begin", session=session, deadline_ns=60000000)
        c.ask(op="end", request=begun["request"], total_ns=10, ack=1)
        c.ask(op="close", session=session)
    c.close()
    d.stop()
    names = [n for n in os.listdir(d.state + "/models") if n.startswith("name")]
    ok(0 < len(names) <= 128 and all(n.endswith(".savings") for n in names),
       f"150 names that nothing is learned of leave {len(names)} accounts", sorted(names)[:5])
    ok(any(n.startswith("name149@") for n in names) and not any(n.startswith("name0@") for n in names),
       "those used last", sorted(names)[:5])
    kept = [n for n in names if n.startswith("name149@")][0]
    with open(os.path.join(d.state, "models", kept), "ab") as f:
        f.truncate(9 << 20)
    d.start()
    c = d.client_of(1001) if USERS else d.client()
    c.open("name149")
    ok(os.path.exists(os.path.join(d.state, "models", kept + ".damaged")),
       "one that is too large to be read is set aside", d.text()[-300:])
    c.close()
    d.end()


def log_is_bounded():
    d = Daemon()
    c = d.client()
    begin = time.monotonic()
    for i in range(400):
        begun = c.ask(op="profile", model=f"m{i % 50}", budget=1)
        if "profile" in begun:
            c.ask(op="sample", profile=begun["profile"], latency_ns=9000000, n=5)
    lines = d.text().count("profiled with")
    most = 22 + time.monotonic() - begin  # twenty at once, then one a second
    ok(0 < lines <= most, "400 profiles are few lines of log", (lines, most))
    d.end()


def buffers_are_bounded():
    """Messages that never end, from many connections: a user holds a megabyte of them, and whoever
    sends more is disconnected."""
    d = Daemon()
    bystander = d.client()
    session = bystander.open("net")
    senders = [d.client() for _ in range(150)]
    for c in senders:
        try:
            c.raw(b"op=hello\n" + (b"k=" + b"v" * 1000 + b"\n") * 30)
        except OSError:
            pass
    bystander.ask(op="hello")
    time.sleep(0.5)
    held = [c for c in senders if not c.gone()]
    ok(30 <= len(held) <= 38, "of 150 unfinished messages of 30 KB one user's megabyte is held", len(held))
    ok("messages that are not whole" in d.text(), "the log says why the others were closed")
    ok(bystander.request(session, 60, latency_ns)[0]["errno"] == "0", "and who sends whole messages is served")
    short = [d.client() for _ in range(100)]
    for c in short:
        c.raw(b"op=he")
    time.sleep(0.2)
    try:
        errors = [bystander.ask(op="hello")["errno"], bystander.request(session, 60, latency_ns)[0]["errno"]]
    except (Closed, OSError) as e:
        errors = repr(e)
    ok(errors == ["0", "0"], "also where many short pieces are over it: a connection keeps its own two kilobytes",
       errors)
    d.end()


def tags_belong_to_users():
    """Figures of a tag count the sessions of its own user, and the administrator's tags those of the
    programs it started."""
    d = Daemon()
    mine, other = d.client_of(1234), d.client_of(1235)
    ok(mine.ask(op="tally", tag="t")["errno"] == "0" and other.ask(op="tally", tag="t")["errno"] == "0",
       "two users have a tag of one name")
    other.ask(op="open", model="net", tag="t")
    ok((mine.ask(op="tally", tag="t")["sessions"], other.ask(op="tally", tag="t")["sessions"]) == ("0", "1"),
       "each counts its own sessions")
    admin = d.client()
    admin.ask(op="tally", tag="child")
    other.ask(op="open", model="net", tag="child")
    ok(admin.ask(op="tally", tag="child")["sessions"] == "1",
       "the administrator's counts those of whoever it runs a program as")
    more = [d.client_of(1234) for _ in range(5)]
    errors = [c.ask(op="tally", tag=f"t{i}.{k}")["errno"] for i, c in enumerate(more) for k in range(4)]
    ok(errors == ["0"] * 15 + ["122"] * 5, "a user has sixteen at most", errors)
    d.end()


def models_in_pages():
    """The administrator sees everybody's models, more than one reply holds; each user's own come first."""
    d = Daemon()
    for uid in range(1301, 1306):
        c = d.client_of(uid)
        for i in range(64):
            session = c.ask(op="open", model=f"u{uid}-{i:02}-".ljust(64, "x"))["session"]
            c.request(session, 60, latency_ns)
            c.ask(op="close", session=session)
        c.close()
    names, start, pages = [], 0, 0
    admin = d.client()
    while True:
        page = admin.ask(op="models", **({"from": start} if start else {}))
        names += [v for k, v in page.items() if k.endswith(".name")]
        pages += 1
        if page["errno"] != "0" or "next" not in page or pages > 50:
            break
        start = page["next"]
    ok(pages > 1 and len(names) == len(set(names)) == 320, "320 models of five users, in pages",
       (pages, len(names), page.get("message")))
    page = d.client_of(1303).ask(op="models")
    own = [v for k, v in page.items() if k.endswith(".name")]
    ok(len(own) == 64 and all(n.startswith("u1303-") for n in own) and "next" not in page,
       "a user's own are in one reply", len(own))
    p = subprocess.run([os.path.join(BUILD, "flamectl"), "--socket", d.socket, "models"], capture_output=True,
                       text=True)
    ok(p.returncode == 0 and len(re.findall("^u130", p.stdout, re.M)) == 320, "flamectl models shows all",
       p.stdout[-300:] + p.stderr)
    d.end()


def environment():
    """Under a setuid program the environment is somebody else's: what is linked into programs reads it
    by secure_getenv()."""
    sources = glob.glob(ROOT + "/lib/*.c") + glob.glob(ROOT + "/layers/**/*.c", recursive=True)
    plain = [s for s in sources if re.search(r"(?<![_\w])getenv\(", open(s).read())]
    ok(len(sources) > 10 and not plain, "the library and the layers read no environment of a setuid program's caller",
       plain)


OTHER_USERS = (tags_belong_to_users, models_in_pages, poisoned_by_another, shared_model, begins_with_admins, shares,
               reported_time)

for test in (expiry_is_answered, own_lies, poisoned_file, file_names, forgotten, company, files_are_bounded,
             accounts_are_bounded, log_is_bounded, buffers_are_bounded, environment):
    test()
for test in OTHER_USERS:
    if USERS:
        test()
    else:
        skip(test.__name__, "only root can play other users")
done()
