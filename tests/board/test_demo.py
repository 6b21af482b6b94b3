# SPDX-License-Identifier: MIT
"""tools/demo: a short one runs to its last line; one that is interrupted or killed leaves nothing running, and no files."""
import os, re, shutil, signal, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(__file__))
from boardlib import ok, say, done


def start(dir, *args):
    process = subprocess.Popen(["/usr/bin/python3", "-u", "tools/demo", *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
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
        ok(first.startswith("flamed on a board in a directory: NVIDIA Jetson AGX Orin"), "it starts", first)
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
    process = start(dir, "--requests", "6")
    out = process.communicate(timeout=300)[0]
    last = out.strip().split("\n")[-1]
    ok(process.returncode == 0, "a short demo runs to its end", out)
    found = re.fullmatch(r"demo: requests=(\d+) missed=(\d+) power_vs_max=([\d.]+) power_vs_optimum=([\d.]+)", last)
    ok(found is not None and int(found.group(1)) == 66, "its last line", out)
    ok(found is not None and float(found.group(3)) < 1, "less power than full clocks", last)
    ok(gone(dir) and os.listdir(dir) == [], "and leaves nothing", (running(dir), os.listdir(dir)))
    os.rmdir(dir)
    say(last + " (6 requests a row: mostly learning)")


main()
done()
