#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The RPMs, built by rpmbuild from a tarball of this tree: every file that `make install` installs is in one of them,
and the installed programs run. Fedora's macros, which Debian's rpm lacks, are defined as in Fedora."""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests"))
from lines import done, ok, skip  # noqa: E402
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "ASAN_", "UBSAN_"))}
PYTHON = "/usr/lib/python%d.%d/site-packages" % sys.version_info[:2]
PACKAGES = ("flamed", "flamed-layers", "flamed-exporter", "flamed-libs", "flamed-devel", "python3-flamed")
PATHS = {"PREFIX": "/usr", "SBINDIR": "/usr/sbin", "LIBDIR": "/usr/lib64", "LIBEXECDIR": "/usr/libexec/flamed",
         "UNITDIR": "/usr/lib/systemd/system", "SYSUSERSDIR": "/usr/lib/sysusers.d",
         "TMPFILESDIR": "/usr/lib/tmpfiles.d", "PYTHONDIR": PYTHON}
MACROS = {"_prefix": "/usr", "_sbindir": "/usr/sbin", "_libdir": "/usr/lib64", "_libexecdir": "/usr/libexec",
          "_unitdir": PATHS["UNITDIR"], "_sysusersdir": PATHS["SYSUSERSDIR"], "_tmpfilesdir": PATHS["TMPFILESDIR"],
          "python3_sitelib": PYTHON, "_smp_mflags": "-j2",
          "build_cflags": "-O1 -flto=auto", "build_ldflags": "-flto=auto",
          "systemd_requires": "Requires(post): systemd", "systemd_post()": "systemctl preset %{?*}",
          "systemd_preun()": "systemctl disable --now %{?*}",
          "systemd_postun_with_restart()": "systemctl try-restart %{?*}"}


def run(*words, **more):
    return subprocess.run(words, capture_output=True, text=True, env=CLEAN, timeout=1200, **more)


def tarball(version, path):
    """The tree as in a release, with uncommitted changes."""
    names = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    names = "\0".join(name for name in names.split("\0") if name and os.path.exists(os.path.join(ROOT, name)))
    done = run("tar", "-C", ROOT, "--null", "-T", "-", "--transform", f"s,^,flamed-{version}/,S", "-czf", path,
               input=names)
    return names and done.returncode == 0


def files_below(top):
    return {os.path.join(folder, name)[len(top):] for folder, _, names in os.walk(top) for name in names}


def packaged(top):
    """{package: (its path, its version, its files, links included)}"""
    out = {}
    for path in glob.glob(top + "/RPMS/*/*.rpm"):
        name, version = run("rpm", "-qp", "--qf", "%{NAME} %{VERSION}", path).stdout.split()
        modes = [line.split(" ", 1) for line in run("rpm", "-qp", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\n]",
                                                     path).stdout.splitlines()]
        out[name] = (path, version, [file for mode, file in modes if not mode.startswith("d")])
    return out


def contents(rpms, top, version):
    """Compare with the files that make install installs from the same build."""
    source = glob.glob(f"{top}/BUILD/**/flamed-{version}/Makefile", recursive=True)[0]
    words = [f"{key}={value}" for key, value in PATHS.items()]
    # With the flags of the build, nothing is compiled again.
    done = run("make", "install", "DESTDIR=" + top + "/installed", "V=1", "CFLAGS=-O1", "LDFLAGS=", *words,
               cwd=os.path.dirname(source))
    installed = files_below(top + "/installed")
    ok(done.returncode == 0 and len(installed) > 40, "make install, of what rpmbuild built",
       (len(installed), done.stderr))
    extra = re.compile(r"/usr/share/(doc|licenses)/|/usr/lib/\.build-id/")
    unzipped = lambda file: re.sub(r"(/man/.*)\.gz$", r"\1", file)
    listed = [unzipped(file) for *_, files in rpms.values() for file in files if not extra.match(file)]
    example = {"/usr/share/flamed/example.c"}  # among the documents of flamed-devel
    ok(set(listed) == installed - example, "all of it is in a package, and nothing else",
       (sorted(installed - example - set(listed)), sorted(set(listed) - installed)))
    ok(len(listed) == len(set(listed)), "and in one only", sorted(f for f in listed if listed.count(f) > 1))
    documents = {name: {os.path.basename(file) for file in files if extra.match(file)}
                 for name, (*_, files) in rpms.items()}
    ok({"README.md", "trust.md", "protocol.md", "estimator.md", "flamed-llama.service", "flamed-keeper.conf",
        "compose.yaml"} <= documents["flamed"]
       and {"example.c", "camera.py"} <= documents["flamed-devel"]
       and {"flamed.rules.yml", "flamed.json"} <= documents["flamed-exporter"],
       "documentation, examples, alert rules and the dashboard are in them", documents)


def headers(rpms):
    query = lambda name, *words: run("rpm", "-qp", *words, rpms[name][0]).stdout
    kept = query("flamed", "-c").split()
    ok("/etc/flamed.conf" in kept and len(kept) > 3 and all(file.startswith("/etc/") for file in kept),
       "what the administrator edits is configuration", kept)
    ok(query("python3-flamed", "--qf", "%{ARCH}") == "noarch"
       and "flamed-libs" in query("python3-flamed", "--requires"),
       "the Python module is for every machine, and needs the library")
    needs = query("flamed", "--requires")
    ok("libOpenCL" not in needs and "libgst" not in needs and "libevent" in needs, "flamed needs no OpenCL loader",
       needs)
    scripts = query("flamed", "--scripts")
    ok("systemd-sysusers /usr/lib/sysusers.d/flamed.conf" in scripts and "preset flamed.socket" in scripts
       and "preset flamed-exporter.socket" in query("flamed-exporter", "--scripts"),
       "they make the user and hand the units to systemd", scripts)
    bad = {name: text for name in rpms if "%" in (text := query(name, "--scripts"))}
    ok(not bad, "no macro is left in a script", bad)


def runs(rpms, top):
    """Installed into a folder, and removed from it."""
    root = top + "/root"
    os.makedirs(root)
    # A folder's own database, and no scripts: they would be this machine's.
    rpm = ("rpm", "--root", root, "--dbpath", "/var/lib/rpm", "--noscripts", "--nodeps")
    done = run(*rpm, "-i", *(path for path, *_ in rpms.values()))
    if not ok(done.returncode == 0, "rpm installs them together", done.stderr):
        return
    out = run(root + "/usr/bin/flamectl", "--version")
    ok(out.returncode == 0 and out.stdout.startswith("flamectl "), "flamectl runs", out.stderr)
    out = run(root + "/usr/sbin/flamed", "--help")
    ok(out.returncode == 0 and "(default /etc/flamed.conf)" in out.stdout, "flamed has Fedora's paths", out.stdout)
    # -B: Fedora's rpmbuild compiles Python and packages that, Debian's does not, and root would leave it here.
    out = run("env", "LD_LIBRARY_PATH=" + root + "/usr/lib64", "PYTHONPATH=" + root + PYTHON, "/usr/bin/python3", "-Bc",
              "import flamed.llama; print(flamed.Flamed('/nowhere').connected)")
    ok(out.stdout == "False\n", "the Python module finds its library", out.stderr)
    done = run(*rpm, "-e", *rpms)
    left = {file for file in files_below(root) if not file.startswith("/var/lib/rpm/")}
    ok(done.returncode == 0 and not left, "and removes them without a rest", (done.stderr, left))


def main():
    why = None if shutil.which("rpmbuild") else "no rpmbuild: apt-get install rpm"
    why = why or (None if os.getuid() == 0 else "only root installs with rpm")
    if why:
        skip("RPMs", why)
        done()
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        version = re.search(r"^VERSION := (.*)$", file.read(), re.M)[1]
    with tempfile.TemporaryDirectory(prefix="flamed-rpm-") as top:
        os.makedirs(top + "/SOURCES")
        ok(tarball(version, f"{top}/SOURCES/flamed-{version}.tar.gz"), "a tarball of the tree")
        # The libraries are there, as Debian's packages, which rpm cannot see.
        defines = [word for key, value in {"_topdir": top, **MACROS}.items() for word in ("--define", f"{key} {value}")]
        built = run("rpmbuild", "-bb", "--nodeps", "--noclean", *defines, os.path.join(ROOT, "contrib/rpm/flamed.spec"))
        if ok(built.returncode == 0, "rpmbuild builds the spec", built.stderr):
            rpms = packaged(top)
            ok(sorted(rpms) == sorted(PACKAGES) and {of for _, of, _ in rpms.values()} == {version},
               "six packages, of this tree's version", rpms)
            contents(rpms, top, version)
            headers(rpms)
            runs(rpms, top)
    done()


main()
