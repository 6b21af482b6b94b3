# SPDX-License-Identifier: MIT
# alone: installs, and builds in build/release, which other tests run
"""The files that `make install` puts where a developer looks: header, library, pkg-config
file, example, Python binding, completion."""

import os
import pty
import re
import shutil
import site
import socket
import subprocess
import sys
import tempfile
import time

from fake import Fake
from tap import ROOT, VERSION, Skip, contains, equal, main, test, until

TREE = tempfile.mkdtemp(prefix="flamed-install-")
LIB = TREE + "/usr/local/lib"
PYTHON_DIR = next(d for d in site.getsitepackages() if d.startswith("/usr/local/"))
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("FLAMED_", "MAKE", "MFLAGS"))}


def run(*words, status=0, cwd=None, **environment):
    done = subprocess.run(words, capture_output=True, text=True, env={**CLEAN, **environment}, cwd=cwd, timeout=300)
    equal(done.returncode, status, f"exit status of {words}: {done.stdout}{done.stderr}")
    return done.stdout


def files():
    return sorted(os.path.relpath(os.path.join(d, f), TREE) for d, _, names in os.walk(TREE) for f in names)


def compiler_flags():
    return run("pkg-config", "--cflags", "--libs", "libflamed", PKG_CONFIG_PATH=LIB + "/pkgconfig",
               PKG_CONFIG_SYSROOT_DIR=TREE).split()


def build_example(directory, *options):
    program = directory + "/example"
    run("cc", "-Wall", "-Wextra", "-pedantic", "-Werror", *options, TREE + "/usr/local/share/flamed/example.c",
        *compiler_flags(), "-o", program)
    return program


# Of Ubuntu 22.04, as its packages say.
UBUNTU = {"libevent_core": "2.1.12-stable", "libsystemd": "249", "inih": "undefined", "ncursesw": "6.3.20211021",
          "OpenCL": "3.0", "vulkan": "1.3.204", "sqlite3": "3.37.2", "jansson": "2.13.1"}


@test
def libraries(directory):
    """The libraries of Ubuntu 22.04 will do; an older one, or one that is not there, is named."""
    def require(changed, status):
        for name, version in {**UBUNTU, **changed}.items():
            if os.path.exists(f"{directory}/{name}.pc"):
                os.unlink(f"{directory}/{name}.pc")
            if version:
                with open(f"{directory}/{name}.pc", "w", encoding="utf-8") as file:
                    file.write(f"Name: {name}\nDescription: none\nVersion: {version}\n")
        done = subprocess.run([ROOT + "/tools/install-deps", "--require", "build"], capture_output=True, text=True,
                              env={**CLEAN, "PKG_CONFIG_LIBDIR": directory, "CC": "cc"}, timeout=60)
        equal(done.returncode, status, done.stderr)
        return done.stderr.split("\n")[0]
    equal(require({}, 0), "")
    for name, version, word in (("libevent_core", "2.1.11-stable", "libevent_core (2.1.12 or newer)"),
                                ("libsystemd", "248", "libsystemd (249 or newer)"),
                                ("vulkan", "1.3.203", "vulkan (1.3.204 or newer)"), ("inih", None, "inih"),
                                ("jansson", None, "jansson")):
        equal(require({name: version}, 1), f"flamed needs these to build, and they are not here: {word}")


@test
def install(_):
    """make install DESTDIR: the files are where they belong."""
    run("make", "install", "DESTDIR=" + TREE, cwd=ROOT)
    for name in ("bin/flamectl", "lib/libflamed.so.0", "lib/libflamed.so", "lib/pkgconfig/libflamed.pc",
                 "include/flamed.h",
                 "share/bash-completion/completions/flamectl", "share/flamed/example.c", "share/man/man1/flamectl.1",
                 "share/man/man3/libflamed.3"):
        equal(os.path.exists(f"{TREE}/usr/local/{name}"), True, name)
    equal(os.path.exists(TREE + PYTHON_DIR + "/flamed.py") or os.path.exists(TREE + PYTHON_DIR + "/flamed/__init__.py"),
          True, "the Python module")
    equal(os.readlink(LIB + "/libflamed.so"), "libflamed.so.0")
    contains(run(TREE + "/usr/local/bin/flamectl", "--version"), "flamectl " + VERSION)


@test
def exported(_):
    """libflamed.so.0 exports flamed_* alone, under its soname, and needs nothing but libc."""
    symbols = [line.split()[-1] for line in run("nm", "-D", "--defined-only", LIB + "/libflamed.so.0").splitlines()]
    names = [s.split("@")[0] for s in symbols if not s.startswith("FLAMED_0")]
    equal([n for n in names if not n.startswith("flamed_")], [])
    header = open(TREE + "/usr/local/include/flamed.h", encoding="utf-8").read()
    equal(sorted(names), sorted(set(re.findall(r"FLAMED_API [^(]*?(flamed_\w+)\(", header))), "the header's functions")
    dynamic = run("readelf", "-d", LIB + "/libflamed.so.0")
    contains(dynamic, "soname: [libflamed.so.0]")
    equal([n for n in re.findall(r"Shared library: \[(.*?)\]", dynamic)
           if not n.startswith(("libc.", "libm.", "libpthread."))], [])


@test
def documented(_):
    """libflamed(3) describes every function of the header."""
    header = open(TREE + "/usr/local/include/flamed.h", encoding="utf-8").read()
    page = open(TREE + "/usr/local/share/man/man3/libflamed.3", encoding="utf-8").read()
    for name in set(re.findall(r"(flamed_\w+)\(", header)) - {"flamed_infer_fn"}:
        contains(page, f".Nm {name}")
        equal(bool(re.search(rf"\.F[no] {name}\b", page)), True, f"synopsis of {name}")


@test
def example(directory):
    """The example, as C99 from the installed tree: without a daemon, with one, under flamectl run."""
    program = build_example(directory, "-std=c99")
    equal(run(program, "5", LD_LIBRARY_PATH=LIB, FLAMED_SOCKET=directory + "/none").split(" (")[0],
          "example: 5 inferences, 0 of 0 under flamed late")
    fake = Fake(directory + "/s")
    contains(run(program, "5", LD_LIBRARY_PATH=LIB, FLAMED_SOCKET=directory + "/s"), "5 inferences")
    equal([m["model"] for m in fake.ops("open")], ["example"])
    until(lambda: len(fake.ops("end")) == 5, "five ends")
    equal(len(fake.ops("begin")), 5)
    run(TREE + "/usr/local/bin/flamectl", "--socket", directory + "/s", "run", "--model", "of.run", "--deadline", "7ms",
        "--", program, "3", LD_LIBRARY_PATH=LIB)
    opened = fake.ops("open")[-1]
    equal((opened["model"], opened["deadline_ns"], opened["tag"]), ("of.run", "7000000", fake.ops("tally")[0]["tag"]))
    fake.close()


@test
def languages(directory):
    """flamed.h compiles as C99, C17 and C++11 with every warning on."""
    source = directory + "/use.c"
    with open(source, "w", encoding="utf-8") as out:
        out.write("#include <flamed.h>\nint use(struct flamed *f);\nint use(struct flamed *f) { return flamed_end(f, "
                  "flamed_begin(f, 0, 1000), 0); }\n")
    for words in (("cc", "-std=c99"), ("cc", "-std=c17"), ("c++", "-x", "c++", "-std=c++11")):
        run(*words, "-Wall", "-Wextra", "-pedantic", "-Werror", "-Wstrict-prototypes"
            if words[0] == "cc" else "-Wold-style-cast", "-fsyntax-only",
            *[f for f in compiler_flags() if f.startswith("-I")], source)


PYTHON = """
import sys
sys.path.insert(0, sys.argv[1])
import flamed
with flamed.Flamed() as governor:
    session = governor.session("resnet50", deadline=0.033)
    with session.request():
        pass
    request, decision = session.begin_wait(0.02)
    session.end(request, 0.019)
    session.phase("decode", 5)
    print(governor.connected, session.state == flamed.READY, decision.cpu_hz, decision.applied)
    calls = []
    try:
        print(governor.profile(calls.append, "m"), len(calls))
    except OSError as error:
        print(error.errno)
    try:
        governor.session("not a name")
    except ValueError as error:
        print(error)
"""


@test
def python_binding(directory):
    """flamed.py: with a daemon and without."""
    words = (sys.executable, "-c", PYTHON, TREE + PYTHON_DIR)
    fake = Fake(directory + "/s")
    out = run(*words, LD_LIBRARY_PATH=LIB, FLAMED_SOCKET=directory + "/s").splitlines()
    equal(out[:2], ["True True 1344000000 1", "3 12"])
    contains(out[2], "not a name")
    until(lambda: len(fake.ops("end")) >= 2, "two ends")
    equal(fake.ops("end")[1]["total_ns"], "19000000")
    fake.close()
    out = run(*words, LD_LIBRARY_PATH=LIB, FLAMED_SOCKET=directory + "/none").splitlines()
    equal(out[:2], ["False False 0 0", "107"])


@test
def wheel(directory):
    """A wheel of lib/python installs the same module."""
    shutil.copytree(ROOT + "/lib/python", directory + "/python",
                    ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    name = run(sys.executable, "-c", build, directory, cwd=directory + "/python").splitlines()[-1]
    contains(name, f"flamed-{VERSION}-py3-none-any.whl")
    run(sys.executable, "-m", "zipfile", "-e", os.path.join(directory, name), directory + "/site")
    installed = sorted(f for f in os.listdir(TREE + PYTHON_DIR + "/flamed") if f != "__pycache__")
    equal(sorted(os.listdir(directory + "/site/flamed")), installed, "files of the wheel")
    where = run(sys.executable, "-c", "import flamed; print(flamed.__file__)", PYTHONPATH=directory + "/site",
                LD_LIBRARY_PATH=LIB)
    equal(where.strip(), directory + "/site/flamed/__init__.py")


COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
_flamectl; printf '%s\\n' "${COMPREPLY[@]}"
"""


@test
def completion(directory):
    """bash completion: verbs, options, model names, files."""
    fake = Fake(directory + "/s")

    def complete(*words):
        return run("bash", "-uc", COMPLETE, "bash", TREE + "/usr/local/share/bash-completion/completions/flamectl",
                   "flamectl", *words,
                   PATH=TREE + "/usr/local/bin:" + os.environ["PATH"], FLAMED_SOCKET=directory + "/s").split()

    equal(complete("su"), ["surface"])
    equal(complete("--s"), ["--socket"])
    equal(complete("surface", ""), ["resnet50", "qwen2.5-1.5b-q4"])
    equal(complete("--socket", directory + "/s", "surface", "q"), ["qwen2.5-1.5b-q4"])
    equal(complete("surface", "m", "--sh"), ["--show"])
    equal(complete("surface", "m", "--show", "b"), ["bound", "bubble"])
    equal(complete("run", "--model", "res"), ["resnet50"])
    equal(complete("run", "--model", "m", "--d"), ["--deadline"])
    equal(complete("surface", "m", "--svg", TREE + "/usr/local/sh"), [TREE + "/usr/local/share"])
    equal(complete("models", "import", "--other-versions", TREE + "/usr/local/sh"), [TREE + "/usr/local/share"])
    fake.close()
    equal(complete("surface", ""), [], "models without a daemon")
    header = run(TREE + "/usr/local/bin/flamectl", "--help")
    verbs = re.findall(r"^  ([a-z]+) ", header, re.M)
    equal(set(complete("")) - set(re.findall(r"^  (--[a-z]+)", header, re.M)), set(verbs), "verbs that are completed")
    for verb in verbs:
        options = set(re.findall(r"--[a-z-]+", run(TREE + "/usr/local/bin/flamectl", verb, "--help").split("\n")[0]))
        equal(options - set(complete(verb, "--")), set(), f"options of {verb} that are not completed")


@test
def configuration(_):
    """A configuration file that was changed outlives installing and uninstalling, and is named."""
    path = TREE + "/etc/flamed/boards.d/rk3588.ini"
    original = open(path, encoding="utf-8").read()
    with open(path, "w", encoding="utf-8") as out:
        out.write("# mine\n")
    contains(run("make", "install", "DESTDIR=" + TREE, cwd=ROOT), f"kept: {path} differs")
    contains(run("make", "uninstall", "DESTDIR=" + TREE, cwd=ROOT), f"kept: {path} was changed")
    equal((files(), open(path, encoding="utf-8").read()), (["etc/flamed/boards.d/rk3588.ini"], "# mine\n"))
    with open(path, "w", encoding="utf-8") as out:
        out.write(original)
    run("make", "install", "DESTDIR=" + TREE, cwd=ROOT)


@test
def uninstall(_):
    """make uninstall leaves no file, and no folder but those of every /usr/local."""
    for _ in range(2):  # twice: nothing is there any more
        run("make", "uninstall", "DESTDIR=" + TREE, cwd=ROOT)
        equal(files(), [])
    usual = [f"/usr/local/{name}" for name in ("bin", "sbin", "include", "share/man", "share")] + [PYTHON_DIR, "/etc"]
    equal([d for d, _, _ in os.walk(TREE) if not any(u.startswith(d[len(TREE):]) for u in usual)], [])


@test
def of_root(directory):
    """After root has made files again for another PREFIX, an ordinary user can make them again, at a terminal too."""
    if os.geteuid() != 0:
        raise Skip("only root makes files of root")
    os.chmod(directory, 0o755)
    tree, nobody = directory + "/tree", 65534
    shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(".git", "build", "__pycache__"))
    run("chown", "-R", f"{nobody}:{nobody}", tree)
    built = "build/release/"
    made = [built + name for name in ("installation.h", "systemd/flamed.service", "flamed.pc", "ctl/options.o",
                                      "ctl/options.d")]
    terminal, theirs = pty.openpty()
    os.write(terminal, b"n\n")  # to a question whether to overwrite
    for prefix, user in (("/usr/local", nobody), ("/usr", 0), ("/usr/local", nobody)):
        done = subprocess.run(["make", "PREFIX=" + prefix, *made[:-1]], cwd=tree, env=CLEAN, stdin=theirs,
                              capture_output=True, text=True, timeout=300, user=user, group=user, extra_groups=[])
        equal(done.returncode, 0, f"exit status for {prefix}: {done.stdout}{done.stderr}")
        equal([os.stat(f"{tree}/{name}").st_uid for name in made], [user] * len(made), f"owners of {made}")
        contains(open(f"{tree}/{made[0]}", encoding="utf-8").read(), f'#define BINDIR "{prefix}/bin"')
    os.close(terminal)
    os.close(theirs)


@test
def other_prefix(directory):
    """After a plain make, make install PREFIX=/usr installs nothing that names /usr/local."""
    variables = ("PREFIX=/usr", "LIBDIR=/usr/lib/here", "SYSCONFDIR=/usr/etc", "DESTDIR=" + directory)
    jobs = f"-j{os.cpu_count()}"
    try:
        run("make", jobs, *variables, cwd=ROOT)
        run("make", "install", *variables, cwd=ROOT)
        contains(open(directory + "/usr/lib/systemd/system/flamed.service", encoding="utf-8").read(),
                 "ExecStart=/usr/sbin/flamed\n")
        contains(open(directory + "/usr/lib/systemd/system/flamed-keeper.service", encoding="utf-8").read(),
                 "ExecStart=/usr/libexec/flamed/flamed-keeper ")
        contains(open(directory + "/usr/lib/here/pkgconfig/libflamed.pc", encoding="utf-8").read(),
                 "prefix=/usr\nlibdir=/usr/lib/here\n")
        contains(run(directory + "/usr/sbin/flamed", "--help"), "(default /usr/etc/flamed.conf)")
        contains(run(directory + "/usr/libexec/flamed/flamed-keeper", "--help"), "(default /usr/etc/flamed/boards.d)")
        named = [name for name in (os.path.join(d, f) for d, _, names in os.walk(directory) for f in names)
                 if b"/usr/local/" in open(name, "rb").read() and not name.endswith(("/etc/flamed.conf", "/flamectl"))]
        equal(named, [], "files that name /usr/local")
        missing_keeper(directory)
        run("make", "uninstall", *variables, cwd=ROOT)
        equal([os.path.join(d, f) for d, _, names in os.walk(directory + "/usr") for f in names], [])
    finally:
        run("make", jobs, cwd=ROOT)
    contains(run(os.environ["RELEASE_DIR"] + "/flamed", "--help"), "(default /etc/flamed.conf)")


def missing_keeper(directory):
    """Started by hand without its keeper, flamed names the missing file, once, and answers."""
    os.makedirs(directory + "/sys")
    with open(directory + "/log", "wb") as log:
        daemon = subprocess.Popen([directory + "/usr/sbin/flamed", "--sysroot", directory, "--runtime-dir",
                                   directory + "/run",
                                   "--state-dir", directory + "/state"], stderr=log, env=CLEAN)
    try:
        until(lambda: os.path.exists(directory + "/run/flamed.sock"), "a socket")
        time.sleep(1.0)  # three more tries to start it
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(directory + "/run/flamed.sock")
            client.sendall(b"op=status\n\n")
            contains(client.recv(4096).decode(), "errno=0")
    finally:
        daemon.terminate()
        daemon.wait(20)
    text = open(directory + "/log", encoding="utf-8").read()
    equal(text.count("/usr/libexec/flamed/flamed-keeper: No such file or directory"), 1, text)
    equal(text.count("the keeper is gone"), 0, text)


try:
    main()
finally:
    shutil.rmtree(TREE)
