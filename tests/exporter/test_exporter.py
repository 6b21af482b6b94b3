#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
# The figures that flamed counts, as text in both formats, over HTTP, through promtool, and through a real Prometheus.
import json
import re
import urllib.error
import urllib.request

import os
import sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../daemon"))
from daemonlib import *  # noqa: E402,F403
import dashboard  # noqa: E402

PROMETHEUS = os.path.join(ROOT, "build/unpacked/usr/bin/prometheus")
PROMTOOL = os.path.join(ROOT, "build/unpacked/usr/bin/promtool")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
MODELS_PER_UID_MAX = 64   # of common/limits.h
SCRAPE_TIMEOUT_S = 10     # Prometheus's default
MODEL_SERIES, OTHER_SERIES = 43, 31  # most, as man/flamed-exporter.8 says
CONTRIB = os.path.join(ROOT, "contrib")


def samples(text):
    """{name{labels}: value} of an exposition; every line has to be a sample or a comment of a known kind."""
    out = {}
    for line in text.splitlines():
        if line.startswith("#"):
            if not re.match(r"# (TYPE|HELP|UNIT) flamed_[a-z_]+ .+$|# EOF$", line):
                raise ValueError(line)
            continue
        match = re.match(r"(flamed_[a-z_]+(?:\{[^}]*\})?) (-?[0-9.e+]+)$", line)
        if not match or match[1] in out:
            raise ValueError(line)
        out[match[1]] = float(match[2])
    return out


def families(text):
    """Every family is announced once, before its samples, which stand together."""
    seen, current = set(), None
    for line in text.splitlines():
        name = line.split()[2] if line.startswith("# TYPE") else None
        if name:
            if name in seen:
                return False
            seen.add(name)
            current = name
        elif not line.startswith("#") and not line.startswith(current):
            return False
    return True


def paged(client, between):
    """The exposition page by page, with a call of `between` after each page but the last; and the number of pages."""
    lines, start, pages = [], "0", 0
    while start:
        page = client.ask(op="metrics", **{"from": start})
        lines += [page[f"text.{i}"] for i in range(sum(key.startswith("text.") for key in page))]
        start, pages = page.get("next"), pages + 1
        if start:
            between(pages)
    return "\n".join(lines) + "\n", pages


class Exporter:
    def __init__(self, daemon):
        self.log = os.path.join(daemon.dir, "exporter.log")
        self.process = tied(subprocess.Popen([os.path.join(daemon.build, "flamed-exporter"), "--listen", "127.0.0.1:0",
                                              "--socket", daemon.socket], stderr=open(self.log, "w")))
        wait_for(lambda: "listening" in open(self.log).read() or self.process.poll() is not None)
        found = re.search(r"port (\d+)", open(self.log).read())
        self.port = int(found[1]) if found else 0

    def get(self, path, accept=None, method="GET"):
        """(status, content type, text)"""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": accept}
                                         if accept else {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, reply.headers["Content-Type"], reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read().decode()

    def end(self):
        self.process.terminate()
        return self.process.wait(20)


def promtool(*args, text=None):
    out = subprocess.run([PROMTOOL, *args], input=text, capture_output=True, text=True, timeout=60,
                         cwd=os.path.join(CONTRIB, "prometheus"))
    return out.returncode == 0 and not out.stderr.replace("SUCCESS", "").strip(), out.stdout + out.stderr


d = Daemon(config="[flamed]\nrelease_after = 1 h\n[model other]\ndeadline = 50 ms\n")
for path, bits in ((d.dir, 0o755), (d.run, 0o755), (d.socket, 0o666)):
    os.chmod(path, bits)
c = d.client()
session = c.open("net")
missed = covered = explored = powered_s = 0
powered = False
points = []
for i in range(40):
    took_ns = 5e6 if i % 10 else 95e6

    def runs(begun):
        global explored
        why = c.ask(op="explain", session=session)
        explored += why["trial"] == "1" or why["late_once"] == "1"
        return took_ns

    begun, ended = c.request(session, 33, runs)
    missed += int(ended["missed"])
    covered += took_ns <= int(begun["bound_ns"])
    # the first may not be measured: its clocks come up for as long as the machine takes
    powered = powered or int(c.ask(op="status").get("session.0.power_uw", 0)) > 0
    powered_s += took_ns * 1e-9 * powered
    points.append([begun[f"{clock}_hz"] for clock in ("cpu", "gpu", "mem")])
other = c.open("other")
infeasible = 0
for _ in range(5):
    begun = c.request(other, 0.001, lambda begun: 8e6)[0]
    infeasible += begun["feasible"] == "0"
    points.append([begun[f"{clock}_hz"] for clock in ("cpu", "gpu", "mem")])
mode = re.search(r'model="net",uid="0"(,mode="[^"]+")?', subprocess.run(
    [os.path.join(BUILD, "flamectl"), "--socket", d.socket, "metrics"], capture_output=True, text=True).stdout)[1] or ""
label = f'{{model="net",uid="0"{mode}}}'

ctl = subprocess.run([os.path.join(BUILD, "flamectl"), "--socket", d.socket, "metrics"], capture_output=True, text=True)
text, status = ctl.stdout, d.status()
ok(ctl.returncode == 0 and text.endswith("# EOF\n"), "flamectl metrics prints OpenMetrics to its end", ctl.stderr)
values = samples(text)
ok(families(text), "each family stands together and is announced once")
ok(values[f"flamed_requests_total{label}"] == 40 and values[f"flamed_requests_missed_total{label}"] == 4 == missed,
   "requests and misses are those that were made", text)
ok(values[f'flamed_late_ratio{label}'] == 0.1, "the late share is that of these")
ok(values[f'flamed_requests_infeasible_total{{model="other",uid="0"{mode}}}'] == infeasible > 0,
   "a deadline that nothing can meet is counted")
bucket = lambda name, le: values[f'flamed_{name}_bucket{{model="net",uid="0"{mode},le="{le}"}}']
ok([bucket("request_latency_seconds", le) for le in ("0.002", "0.005", "0.05", "0.1", "+Inf")] == [0, 36, 36, 40, 40],
   "the latency histogram holds each request once", text)
ok([bucket("request_deadline_ratio", le) for le in ("0.25", "1.0", "2.0", "+Inf")] == [36, 36, 36, 40],
   "and so does the one relative to the deadline")
ok(abs(values[f"flamed_request_latency_seconds_sum{label}"] - (36 * 0.005 + 4 * 0.095)) < 1e-6,
   "its sum is the time they took")
ok(values['flamed_clock_owner{clock="gpu",owner="flamed"}']
   + values['flamed_clock_owner{clock="gpu",owner="kernel"}'] == 1,
   "each clock has one owner")
ok(values[f"flamed_requests_covered_total{label}"] == covered and 0 < covered <= 40,
   "requests within the bound of their begin", covered)
ok(values[f"flamed_requests_explored_total{label}"] == explored > 0,
   "those that explain calls a trial", explored)
watts = int(status["power.uw"]) * 1e-6  # of a sensor that stands still
ok(abs(values[f"flamed_energy_joules_total{label}"] - watts * powered_s) < 1e-3 < watts * powered_s,
   "joules are the sensor's watts times their time", (watts, powered_s))
moves = {clock: sum(a[i] != b[i] for a, b in zip(points, points[1:])) for i, clock in enumerate(("cpu", "gpu", "mem"))}
ok(all(values[f'flamed_clock_moves_total{{clock="{clock}"}}'] == n > 0 for clock, n in moves.items()),
   "each clock has moved as often as its hertz differ from one begin to the next", (moves, text))
ok(all(abs(values[f'flamed_clock_transition_seconds{{clock="{clock}"}}']
           - int(status[f"clock.{clock}.settle_ns"]) * 1e-9) <= 1e-6 for clock in moves),
   "transition seconds are those of status", text)
ok(values[f'flamed_build_info{{version="{status["version"]}",board="{status["board.name"]}"}}'] == 1
   and "Orin Nano" in status["board.name"], "the build names the version and the board")
ok(all(values[f'flamed_clock_frequency_hertz{{clock="{clock}"}}'] == int(status[f"clock.{clock}.cur_hz"]) > 0
       for clock in moves), "hertz are those of status", text)
ok(abs(values[f'flamed_board_power_watts{{rail="{status["power.sensor"]}"}}'] - watts) < 1e-3 < watts
   and abs(values[f'flamed_temperature_celsius{{zone="{status["temperature.zone"]}"}}']
           - int(status["temperature.millidegree_c"]) / 1000) < 0.1,
   "and so are the board's watts and temperature", text)
ok(values["flamed_keeper_up"] == 1 and values["flamed_degraded"] == 0 and values["flamed_sessions"] == 2,
   "state of the daemon")

if os.getuid() == 0:
    # A model of that name that another user has is another series, however often either is used.
    stranger = os.fork()
    if not stranger:
        try:
            os.setgroups([])
            os.setresgid(61001, 61001, 61001)
            os.setresuid(61001, 61001, 61001)
            c = Client(d.socket)
            c.request(c.open("net"), 33, lambda b: 5e6)
        finally:
            os._exit(sys.exc_info()[0] is not None)
    os.waitpid(stranger, 0)
    both = samples(subprocess.run([os.path.join(BUILD, "flamectl"), "--socket", d.socket, "metrics"],
                                  capture_output=True, text=True).stdout)
    theirs = f'flamed_requests_total{{model="net",uid="61001"{mode}}}'
    ok(both[f"flamed_requests_total{label}"] == 40 and both.get(theirs) == 1,
       "models of one name and two owners are two series", both)
else:
    skip("models of one name and two owners are two series", "only root may become another user")

x = Exporter(d)
status, kind, text = x.get("/metrics", OPENMETRICS)
ok(status == 200 and kind.startswith("application/openmetrics-text") and text.endswith("# EOF\n"),
   "HTTP: OpenMetrics where asked for", kind)
status, kind, plain = x.get("/metrics")
ok(status == 200 and kind.startswith("text/plain; version=0.0.4") and "# EOF" not in plain
   and "# TYPE flamed_requests_total counter" in plain,
   "HTTP: the older format otherwise", plain[:500])
ok(samples(plain).keys() == samples(text).keys(), "both hold the same series")
ok(x.get("/healthz")[0] == 200, "healthz says ok")
with socket.create_connection(("127.0.0.1", x.port), timeout=60) as connection:
    connection.sendall(b"HEAD /healthz HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    replies = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
head, get, body = replies.split("\r\n\r\n")
ok(all(reply.startswith("HTTP/1.1 200") and "\r\nContent-Length: 3" in reply for reply in (head, get)) and
   body == "ok\n", "the reply to HEAD has no body, but its length", replies)
ok(x.get("/nothing")[0] == 404 and x.get("/metrics", method="DELETE")[0] in (405, 501),
   "what is not there is 404, what is not allowed is refused")
with socket.socket() as listener:  # as systemd's socket unit passes it; LISTEN_PID is known to a shell that becomes it
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    activated = subprocess.Popen(["sh", "-c", 'exec 3<&"$1"; shift; LISTEN_PID=$$ exec "$@"', "sh",
                                  str(listener.fileno()), os.path.join(BUILD, "flamed-exporter"), "--socket", d.socket],
                                 pass_fds=[listener.fileno()], env={**os.environ, "LISTEN_FDS": "1"},
                                 stderr=subprocess.PIPE, text=True)
try:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=20) as reply:
        answer = (reply.status, reply.read())
except OSError as error:
    answer = error
activated.terminate()
said = activated.communicate(timeout=20)[1]
ok(answer == (200, b"ok\n") and activated.returncode == 0 and "listening" not in said,
   "it serves a socket passed by the service manager, and opens no other", (answer, said))
second = subprocess.run([os.path.join(BUILD, "flamed-exporter"), "--listen", "nowhere"], capture_output=True, text=True)
ok(second.returncode == 2 and "nowhere" in second.stderr, "a bad address is named", second.stderr)

board = json.load(open(os.path.join(CONTRIB, "grafana/flamed.json")))
maybe = ['flamed_clock_ceiling_hertz{clock="gpu"}']  # there while others limit a clock
wrong = dashboard.faults(board, values, maybe)
asked = dashboard.queries(board)
ok(not wrong and len(asked) >= 10, "the dashboard: panels, variables, metrics and labels are right", wrong)
for was, to, fault in (("requests_missed_total", "requests_mist_total", "no such metric"),
                       ("by (model)", "by (colour)", "no such label"), ("${datasource}", "mine", "data source"),
                       ("increase(flamed_energy_joules_total", "increase(flamed_board_power_watts", "no counter"),
                       ("by (le, model)", "by (model)", "without le"), ("$instance", "$board", "nobody sets"),
                       ('"x": 12', '"x": 11', "lies on"), ("label_values(flamed_up, instance)",
                                                          "label_values(flamed_up, model)", "no label model")):
    text = json.dumps(board, ensure_ascii=False).replace(was, to)
    ok(any(fault in line for line in dashboard.faults(json.loads(text), values, maybe)),
       f"one with {to} would be found", dashboard.faults(json.loads(text), values, maybe))

if os.path.exists(PROMTOOL):
    ok(*(lambda r: (r[0], "promtool check metrics is clean", r[1]))(promtool("check", "metrics", text=plain)))
    ok(*(lambda r: (r[0], "promtool check rules", r[1]))(promtool("check", "rules", "flamed.rules.yml")))
    ok(*(lambda r: (r[0], "promtool test rules", r[1]))(promtool("test", "rules", "flamed.rules.test.yml")))
    config = os.path.join(d.dir, "prometheus.yml")
    with open(config, "w") as f:
        f.write(f"global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: flamed\n    static_configs: "
                f"[{{targets: ['127.0.0.1:{x.port}']}}]\n")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    server = subprocess.Popen([PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={d.dir}/tsdb",
                               f"--web.listen-address=127.0.0.1:{port}"],
                              stdout=subprocess.DEVNULL, stderr=open(os.path.join(d.dir, "prometheus.log"), "w"))

    def query(expression):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query="
                                        f"{urllib.request.quote(expression)}", timeout=60) as reply:
                result = json.load(reply)["data"]["result"]
                return float(result[0]["value"][1]) if result else None
        except (OSError, ValueError):
            return None

    ok(wait_for(lambda: query(f"flamed_requests_total{label}") == 40, 60), "a real Prometheus scrapes it: 40 requests",
       open(os.path.join(d.dir, "prometheus.log")).read()[-2000:])
    quantile = f"histogram_quantile(0.5, flamed_request_latency_seconds_bucket{label})"
    ok(query('up{job="flamed"}') == 1 and 0.002 < query(quantile) < 0.005,
       "and understands the histogram", query(quantile))
    rules = os.path.join(d.dir, "dashboard.yml")
    with open(rules, "w") as f:
        json.dump({"groups": [{"name": "dashboard", "rules": [{"record": f"panel:{i}", "expr": dashboard.filled(e)}
                                                              for i, (_, e, _) in enumerate(asked)]}]}, f)
    ok(*(lambda r: (r[0], "promtool takes each of its queries", r[1]))(promtool("check", "rules", rules)))

    def series(expression):
        url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.request.quote(dashboard.filled(expression))}"
        try:
            with urllib.request.urlopen(url, timeout=60) as reply:
                return [one["metric"] for one in json.load(reply)["data"]["result"]]
        except urllib.error.HTTPError:
            return []

    for where, expression, legend in asked:
        if "ceiling" in expression:
            continue
        wait_for(lambda: series(expression), 20)
        found, named = series(expression), set(re.findall(r"\{\{(\w+)\}\}", legend))
        ok(found and all(named <= set(labels) for labels in found), f"{where}: Prometheus answers, with its legend",
           (expression, found))
    server.terminate()
    server.wait(30)
else:
    for name in ("promtool check metrics", "promtool check rules", "promtool test rules", "scrape", "histogram",
                 "the dashboard's queries"):
        skip(name, "no build/unpacked/usr/bin/promtool: Debian's prometheus could not be unpacked")

d.stop()
status, kind, text = x.get("/metrics")
ok(status == 200 and samples(text) == {"flamed_up": 0}, "with flamed gone: flamed_up 0", text)
ok(x.get("/healthz")[0] == 503, "and healthz says so")
d.start()
ok(x.get("/metrics")[2].startswith("# TYPE flamed_up gauge") and samples(x.get("/metrics")[2])["flamed_up"] == 1,
   "back again without a restart of the exporter")
d.stop()
d.start()
ok(x.get("/healthz")[0] == 200, "nor does healthz notice a restart between two pages")
ok(x.end() == 0, "ends with 0 on SIGTERM")
d.end()

# Models that are opened between two pages.
d = Daemon()
c = d.client()
first = [f"first{i}" for i in range(12)]
for name in first:
    c.open(name)
text, pages = paged(d.client(), lambda page: page <= 3 and c.open(f"later{page}"))
names = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
repeated = sorted({name for name in names if names.count(name) > 1})
ok(pages > 3 and not repeated, f"{pages} pages, a model opened after each of the first 3: no sample is repeated",
   repeated)
announced = re.findall(r"# TYPE (\S+)", text)
ok(families(text) and announced == re.findall(r"# HELP (\S+)", text) and announced[0] == "flamed_up"
   and announced[-1] == "flamed_request_deadline_ratio", "and every family is whole", announced)
lacking = [(block.split()[0], name) for block in text.split("# TYPE ") if 'model="' in block for name in first
           if f'model="{name}"' not in block]
ok(not lacking, "with each of the models that were there", lacking)
d.end()

# However many models a user opens, those in memory are what is shown.
if os.getuid() == 0:
    # They leave in order of use, since there is always a session and nothing is being saved.
    d = Daemon(config="[flamed]\nsave_interval = 1 h\n")
    c = d.client_of(61001)
    session = None
    for i in range(80):
        last, session = session, c.open(f"turn{i}")
        c.request(session, 33, lambda begun: 5e6)
        if last:
            c.ask(op="close", session=last)
    values = samples(paged(d.client(), lambda page: None)[0])
    shown = {re.search(r'model="([^"]+)"', name)[1] for name in values if 'uid="61001"' in name}
    ok(shown == {f"turn{i}" for i in range(80 - MODELS_PER_UID_MAX, 80)},
       f"of 80 models that a user had, the newest {MODELS_PER_UID_MAX} have series", sorted(shown))
    each = [sum(f'model="{name}"' in line for line in values) for name in shown]
    ok(max(each) <= MODEL_SERIES and len(values) <= MODELS_PER_UID_MAX * MODEL_SERIES + OTHER_SERIES,
       f"{len(values)} series, {max(each)} of a model, are within the bound", (len(values), max(each)))

    # one that leaves amid a scrape, and comes back where the scrape has yet to look
    def turnover(page):
        for i in range(40 if page == 1 else 0):
            c.ask(op="close", session=c.open(f"new{i}"))
        if page == 1:
            c.open("turn16")

    text = paged(d.client(), turnover)[0]
    names = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
    stayed, left = (sum(f'model="{name}"' in one for one in names) for name in ("turn79", "turn16"))
    ok(len(names) == len(set(names)) and 0 < left < stayed == max(each),
       "one that is evicted between two pages, and opened again, has no sample twice",
       (stayed, left, sorted({name for name in names if names.count(name) > 1})))
    # one that left and is opened again counts from 0
    c.open("turn0")
    values = samples(paged(d.client(), lambda page: None)[0])
    again = [value for name, value in values.items() if name.startswith('flamed_requests_total{model="turn0",')]
    ok(again == [0], "one that left and comes back counts from 0", again)
    d.end()

    # Another user's session makes each page cost the scraper a multiple of its processor time.
    d = Daemon(build=RELEASE)
    c = d.client_of(61001)
    for i in range(MODELS_PER_UID_MAX):
        c.request(c.open(f"side{i}"), 33, lambda begun: 5e6)
    x = Exporter(d)
    took_s, text = [], ""
    for i in range(5):
        start_s = time.monotonic()
        text = x.get("/metrics")[2]
        took_s.append(time.monotonic() - start_s)
    shown = {re.search(r'model="([^"]+)"', name)[1] for name in samples(text) if 'model="' in name}
    print(f"# | scrapes of {len(samples(text))} series while another user has sessions: "
          f"{', '.join(f'{s:.2f}' for s in took_s)} s")
    ok(families(text) and len(shown) == MODELS_PER_UID_MAX and sorted(took_s)[2] < SCRAPE_TIMEOUT_S,
       f"each is whole, half of them within the {SCRAPE_TIMEOUT_S} s for which Prometheus waits", (len(shown), took_s))
    x.end()
    d.end()
else:
    for name in ("models of a user that have series are bounded", "a scrape beside another user's sessions"):
        skip(name, "only root may become another user")
done()
