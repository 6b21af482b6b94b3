#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The recipes of contrib/ except metrics: the drop-in by systemd's own check, and its command."""

import os
import re
import shutil
import subprocess

from tap import BUILD, ROOT, Skip, contains, equal, main, test

DROP_IN = os.path.join(ROOT, "contrib/systemd/flamed-run.conf")


@test
def drop_in_is_valid(directory):
    """systemd-analyze verify is silent about a service with the drop-in."""
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze: apt-get install systemd")
    with open(DROP_IN, encoding="utf-8") as file:
        text = file.read().replace("/usr/bin/flamectl", BUILD + "/flamectl")
    units = directory + "/units"
    os.makedirs(units + "/camera.service.d")
    files = {"camera.service": "[Service]\nType=notify\nExecStart=/bin/true\n", "camera.service.d/flamed.conf": text,
             "flamed.service": "[Service]\nExecStart=/bin/true\n"}
    for name, content in files.items():
        with open(f"{units}/{name}", "w", encoding="utf-8") as file:
            file.write(content)
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=one", units + "/camera.service"]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": units + ":"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    equal((done.returncode, done.stdout + done.stderr), (0, ""))
    with open(units + "/camera.service.d/flamed.conf", "a", encoding="utf-8") as file:
        file.write("KillMod=mixed\n")
    contains(subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60).stderr, "KillMod")


@test
def llama_is_valid(directory):
    """It accepts the proxy's unit too, and the proxy accepts its command."""
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze: apt-get install systemd")
    unit = os.path.join(ROOT, "contrib/systemd/flamed-llama.service")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit], capture_output=True,
                          text=True, timeout=60)
    equal((done.returncode, done.stdout + done.stderr), (0, ""))
    with open(unit, encoding="utf-8") as file:
        words = re.search(r"^ExecStart=/usr/bin/python3 (.*)$", file.read(), re.M)[1].split()
    done = subprocess.run(["/usr/bin/python3", *words, "--help"], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": ROOT + "/lib/python"})
    equal(done.returncode, 0, done.stderr)


@test
def drop_in_runs(directory):
    ("Its command, with systemd's variables filled in, is one that flamectl takes; "
     "without flamed the program runs as it is.")
    with open(DROP_IN, encoding="utf-8") as file:
        line = re.search(r"^ExecStart=/usr/bin/(flamectl .*) -- ", file.read(), re.M)[1]
    line = line.replace("${FLAMED_MODEL}", "camera").replace("${FLAMED_DEADLINE}", "33ms").replace("flamectl",
                        BUILD + "/flamectl")
    done = subprocess.run([*line.split(), "--", "echo", "ran"], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "FLAMED_SOCKET": directory + "/none"})
    equal((done.returncode, done.stdout), (0, "ran\n"), done.stderr)
    contains(done.stderr, "runs without it")


main()
