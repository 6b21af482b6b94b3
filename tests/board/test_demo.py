# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""tools/demo: beside two busy processes it runs to its last line, keeps its promise and draws its pictures; one that is
interrupted or killed leaves neither processes nor files; an ordinary user can run it."""
import fcntl, os, pty, re, select, shutil, signal, struct, subprocess, sys, tempfile, termios, time
import xml.etree.ElementTree as xml

sys.path.insert(0, os.path.dirname(__file__))
from boardlib import ok, say, done

RELEASE = "build/release"
EACH = 26            # requests of each deadline that count, by default
REQUESTS = 5 * EACH  # of all of them
NOBODY = 65534


def start(dir, *args, **more):
    return subprocess.Popen(["/usr/bin/python3", "-u", "tools/demo", *args], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, env={**os.environ, "TMPDIR": dir},
                            start_new_session=True, **more)


def running(dir):
    """Processes whose command line names the directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                text = f.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if dir in text:
            found.append(text)
    return found


def gone(dir, seconds=20):
    end = time.monotonic() + seconds
    while running(dir) and time.monotonic() < end:
        time.sleep(0.05)
    return not running(dir)


def all_run(dir, seconds=30):
    end = time.monotonic() + seconds
    while len(running(dir)) < 4 and time.monotonic() < end:
        time.sleep(0.05)
    return len(running(dir)) >= 4


def main():
    dir = tempfile.mkdtemp(prefix="flamed-test-")
    for signo in (signal.SIGINT, signal.SIGTERM):
        process = start(dir)
        first = process.stdout.readline()
        ok(first.startswith("flamed on an emulated NVIDIA Jetson AGX Orin"), "it starts", first)
        ok(all_run(dir), "board, flamed, keeper and workload run", running(dir))
        process.send_signal(signo)
        out = process.communicate(timeout=30)[0]
        ok(process.returncode == 130, f"{signal.Signals(signo).name} ends it", out)
        ok(gone(dir) and os.listdir(dir) == [], "no process and no file is left", (running(dir), os.listdir(dir)))
    process = start(dir)
    process.stdout.readline()
    all_run(dir)
    process.kill()
    process.communicate(timeout=30)
    ok(gone(dir), "killed, it leaves no process either", running(dir))
    shutil.rmtree(dir)
    os.mkdir(dir)
    ends(dir)
    shutil.rmtree(dir)


def marks(path, tag):
    return [e for e in xml.parse(path).iter("{http://www.w3.org/2000/svg}" + tag)]


def ends(dir):
    """A whole one, beside two busy processes: what this machine was late for counts for no policy."""
    pictures = tempfile.mkdtemp(prefix="flamed-test-pictures-")
    busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2)]
    try:
        process = start(dir, "--pictures", pictures)
        out = process.communicate(timeout=600)[0]
    finally:
        for other in busy:
            other.kill()
            other.wait()
    last = out.strip().split("\n")[-1]
    ok(process.returncode == 0, "beside two busy processes it runs to its end", out)
    found = re.fullmatch(r"demo: requests=(\d+) missed=(\d+) power_vs_max=([\d.]+) power_vs_optimum=([\d.]+) "
                         r"governor_missed=(\d+) power_vs_governor=([\d.]+)", last)
    ok(found is not None and int(found.group(1)) == REQUESTS, "its last line counts the same requests for each policy",
       out)
    ok(found is not None and int(found.group(2)) <= 0.01 * REQUESTS, "at most 1 % are missed after learning", out)
    ok(found is not None and float(found.group(4)) <= 1.06, "power is within 1.06 of the cheapest", out)
    ok(found is not None and float(found.group(3)) < 1, "less power than full clocks", last)
    said = re.findall(r"(?:At full clocks the board|governor it|Under flamed it) draws ([\d.]+) W and misses "
                      r"([\d.]+) % of (\d+)", out.replace("\n", " "))
    ok(len(said) == 3 and {n for _, _, n in said} == {str(REQUESTS)}, "three sentences with watts and misses", out)
    ok(found is not None and abs(float(said[1][1]) - int(found.group(5)) / REQUESTS * 100) < 0.06,
       "which agree with the last line", (said, last))
    wide = [line for line in out.split("\n") if len(line) > 80 and not line.startswith(("demo: ", "pictures: "))]
    ok(wide == [], "no other line is wider than 80 columns", wide)
    titles = [e.find("{http://www.w3.org/2000/svg}title") for e in xml.parse(pictures + "/demo-power.svg").iter()]
    ok(sum(t is not None and bool(t.text) for t in titles) == 15, "one picture has a mark for each policy and deadline")
    # 24 requests of the new model, then those to learn and those that count: every one of them is in a dot
    titles = [e.find("{http://www.w3.org/2000/svg}title") for e in marks(pictures + "/demo-surface.svg", "circle")]
    dots = [int(title.text.split()[0]) for title in titles]
    ok(sum(dots) == 24 + 2 * EACH, "the other one shows where each request ran", dots)
    ok(gone(dir) and os.listdir(dir) == [], "and it leaves nothing else", (running(dir), os.listdir(dir)))
    shutil.rmtree(pictures)
    say(last + " (beside two busy processes)")


def on_terminal(dir, home, *args, **more):
    """Under a terminal of 80 columns: the exit status, and the lines it drew, without colours and movements."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    process = subprocess.Popen(["/usr/bin/python3", "-u", "tools/demo", *args], stdin=slave, stdout=slave, stderr=slave,
                               env={**os.environ, "TMPDIR": dir, "HOME": home}, start_new_session=True, **more)
    os.close(slave)
    out, end = b"", time.monotonic() + 300
    while time.monotonic() < end:
        if select.select([master], [], [], 1)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:  # EIO: all of its processes have closed the terminal
                break
            out += data
    else:
        process.terminate()
    os.close(master)
    return process.wait(), re.sub(r"\033\[\d*[A-Z]", "", out.decode()).replace("\r", "").split("\n")


def panel():
    """The live panel, by an ordinary user, who may not be allowed to see this tree: from a copy of it."""
    dir = tempfile.mkdtemp(prefix="flamed-test-")
    copy, own, home = dir + "/copy", dir + "/own", dir + "/home"  # PoCL keeps kernels in the latter
    os.makedirs(copy + "/" + RELEASE)
    os.mkdir(own)
    os.mkdir(home)
    shutil.copytree("tools", copy + "/tools")
    shutil.copytree(RELEASE + "/boards", copy + f"/{RELEASE}/boards")
    for entry in os.scandir(RELEASE):
        if entry.is_file():
            shutil.copy(entry.path, copy + "/" + RELEASE)
    who = {}
    if os.geteuid() == 0:
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        for path in (dir, own, home):
            shutil.chown(path, NOBODY, NOBODY)
    status, lines = on_terminal(own, home, "--requests", "2", "--details", "--pictures", own + "/pictures",
                                cwd=copy, **who)
    ok(status == 0 and any(line.startswith("demo: requests=10 ") for line in lines),
       "an ordinary user without sudo can run it on a terminal", lines[-30:])
    ok(gone(own) and os.listdir(own) == ["pictures"], "and it leaves nothing else", (running(own), os.listdir(own)))
    details = next((i for i, line in enumerate(lines) if "energy, J/inference" in line), 0)
    wide = [line for line in lines[:details] if len(line) > 80]
    ok(details and wide == [], "no line is wider than the terminal", wide)
    heads = [line for line in lines if "cpu/gpu/mem MHz" in line]
    bars = [line for line in lines if re.search(r"\d ms +\d+/ *\d+/ *\d+ .* W ", line)]
    columns = {line.rindex("|") for line in heads + bars}
    ok(heads and bars and len(columns) == 1, "the deadline is in one column, of the heading and of every bar",
       (columns, heads[-1:], bars[-3:]))
    column = min(columns, default=0)
    ok(all(line[column - 10:column].strip(" =") == "" and line[column + 1:].strip("=") == "" for line in bars),
       "and nothing but the bar is around it", bars[-3:])
    said = " ".join(lines)
    ok("Kernels ran on " in said and "two threads and a queue" not in said, "the kernels ran on OpenCL",
       said[-2000:])
    shutil.rmtree(dir)


def packages():
    """`make demo` for such a user where a package is missing: what to run, and nothing else."""
    dir = tempfile.mkdtemp(prefix="flamed-test-")
    os.chmod(dir, 0o755)
    for tool in os.listdir("/usr/bin"):
        if tool not in ("sudo", "dpkg-query"):
            os.symlink("/usr/bin/" + tool, f"{dir}/{tool}")
    with open(dir + "/dpkg-query", "w") as f:
        f.write('#!/bin/sh\nfor name; do :; done\n[ "$name" = pocl-opencl-icd ] || printf installed\n')
    os.chmod(dir + "/dpkg-query", 0o755)
    shutil.copytree("tools", dir + "/copy/tools")
    who = {} if os.geteuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    run = subprocess.run(["sh", "tools/install-deps", "build", "demo"], cwd=dir + "/copy", capture_output=True,
                         text=True, env={"PATH": dir, "HOME": dir}, **who)
    ok(run.returncode == 1 and run.stdout == "" and
       run.stderr == "run as root: apt-get install -y --no-install-recommends pocl-opencl-icd\n",
       "without sudo and a package it says what to run as root", run)
    shutil.rmtree(dir)


main()
panel()
packages()
done()
