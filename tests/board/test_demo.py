# SPDX-License-Identifier: MIT
"""tools/demo: a short one runs to its last line and draws its pictures; one that is interrupted or killed leaves
neither processes nor files."""
import os, re, shutil, signal, subprocess, sys, tempfile, time
import xml.etree.ElementTree as xml

sys.path.insert(0, os.path.dirname(__file__))
from boardlib import ok, say, done


def start(dir, *args):
    process = subprocess.Popen(["/usr/bin/python3", "-u", "tools/demo", *args], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, "TMPDIR": dir}, start_new_session=True)
    return process


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


def gone(dir, seconds=5):
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
    """A short one: six requests a deadline, which is mostly learning."""
    pictures = tempfile.mkdtemp(prefix="flamed-test-pictures-")
    process = start(dir, "--requests", "6", "--pictures", pictures)
    out = process.communicate(timeout=300)[0]
    last = out.strip().split("\n")[-1]
    ok(process.returncode == 0, "a short demo runs to its end", out)
    found = re.fullmatch(r"demo: requests=(\d+) missed=(\d+) power_vs_max=([\d.]+) power_vs_optimum=([\d.]+) "
                         r"governor_missed=(\d+) power_vs_governor=([\d.]+)", last)
    ok(found is not None and int(found.group(1)) == 30, "its last line counts the same requests for each policy", out)
    ok(found is not None and float(found.group(3)) < 1, "less power than full clocks", last)
    said = re.findall(r"(?:At full clocks the board|governor it|Under flamed it) draws ([\d.]+) W and misses "
            r"([\d.]+) % of (\d+)",
                      out.replace("\n", " "))
    ok(len(said) == 3 and {n for _, _, n in said} == {"30"}, "three sentences with watts and misses", out)
    ok(found is not None and abs(float(said[1][1]) - int(found.group(5)) / 30 * 100) < 0.06,
            "which agree with the last line", (said, last))
    wide = [line for line in out.split("\n") if len(line) > 80 and not line.startswith(("demo: ", "pictures: "))]
    ok(wide == [], "no other line is wider than 80 columns", wide)
    titles = [e.find("{http://www.w3.org/2000/svg}title") for e in xml.parse(pictures + "/demo-power.svg").iter()]
    ok(sum(t is not None and bool(t.text) for t in titles) == 15, "one picture has a mark for each policy and deadline")
    # 24 requests of the new model, then 6 to learn and 6 that count: every one of them is in a dot
    titles = [e.find("{http://www.w3.org/2000/svg}title") for e in marks(pictures + "/demo-surface.svg", "circle")]
    dots = [int(title.text.split()[0]) for title in titles]
    ok(sum(dots) == 24 + 6 + 6, "the other one shows where each request ran", dots)
    ok(gone(dir) and os.listdir(dir) == [], "and it leaves nothing else", (running(dir), os.listdir(dir)))
    shutil.rmtree(pictures)
    say(last + " (6 requests a deadline: mostly learning)")


main()
done()
