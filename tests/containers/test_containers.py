#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The statements of docs/containers.md, in namespaces of the test: an unprivileged client in namespaces of its
own, with the uid of the host as flamed sees it and the group of the socket; flamed itself with a read-only /sys. The
packages that it names are those that flamectl needs. And the recipes are valid."""
import contextlib
import copy
import ctypes
import os
import re
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../daemon"))
import schemas  # noqa: E402
from daemonlib import BUILD, RELEASE, ROOT, Client, Daemon, done, ok, skip, wait_for  # noqa: E402

CTL = os.path.join(RELEASE, "flamectl")
INSIDE = "/tmp/flamed-inside-%d.sock"
GROUP = 61988  # the socket's, on the host
FIRST = 200000  # on the host, of the ids of a namespace
PACKAGES = {"libinih.so.1": "libinih1", "libncursesw.so.6": "libncursesw6", "libtinfo.so.6": "libtinfo6",
            "libsqlite3.so.0": "libsqlite3-0", "libjansson.so.4": "libjansson4"}  # of Debian
EVERYWHERE = {"libc.so.6", "libm.so.6", "ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2"}


def namespaces():
    """None, or why none can be made."""
    out = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "true"],
                         capture_output=True, text=True)
    return None if out.returncode == 0 else out.stderr.strip()


def inside(daemon, script, uid):
    """Run in user, mount, pid and network namespaces of its own, as a user without a name on the host, who keeps the
    socket's group; the socket is bind-mounted."""
    mount = f"touch {INSIDE % uid}; mount --bind {daemon.socket} {INSIDE % uid}; {script}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "--mount-proc", "sh",
               "-c", mount]
    return subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={GROUP}", *command],
                          capture_output=True, text=True, timeout=60, cwd="/")


@contextlib.contextmanager
def remapped(gid_map=f"0 {FIRST} 65536"):
    """The pid of a process in a user namespace with ids of its own, as --userns-remap makes it."""
    holder = subprocess.Popen(["unshare", "--user", "sleep", "60"])
    try:
        own = os.readlink("/proc/self/ns/user")
        wait_for(lambda: os.readlink(f"/proc/{holder.pid}/ns/user") != own)
        for name, text in (("uid_map", f"0 {FIRST} 65536"), ("gid_map", gid_map)):
            with open(f"/proc/{holder.pid}/{name}", "w") as file:
                file.write(text)
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()


def asks(pid, path, *options):
    """flamectl status as uid 1000 of the namespace of pid (None: of the host), by setpriv's options."""
    enter = ["nsenter", f"--target={pid}", "--user", "--setuid=0", "--setgid=0"] if pid else []
    out = subprocess.run([*enter, "setpriv", "--reuid=1000", "--regid=1000", *options, CTL, "--socket", path, "status"],
                         capture_output=True, text=True, timeout=60, cwd="/")
    return "allowed" if out.returncode == 0 else "refused" if "no permission for" in out.stderr else out.stderr


def mounted_by_ids_of(pid, source, target):
    """Mount a directory with its ids mapped by the user namespace of pid, as hostUsers: false of Kubernetes does.
    False where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    tree = libc.syscall(428, -100, source.encode(), 0x80001)  # open_tree(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
    by = struct.pack("=QQQQ", 0x100000, 0, 0, namespace)  # MOUNT_ATTR_IDMAP
    mapped = tree >= 0 and libc.syscall(442, tree, b"", 0x1000, by, len(by)) == 0  # mount_setattr(AT_EMPTY_PATH)
    mapped = mapped and libc.syscall(429, tree, b"", -100, target.encode(), 4) == 0  # move_mount
    os.close(namespace)
    return mapped


def socket_group(d):
    """Who may open a socket of mode 0660, with and without a map of its group."""
    with_group = f"--groups={GROUP}"
    ok((asks(None, d.socket, "--clear-groups"), asks(None, d.socket, with_group)) == ("refused", "allowed"),
       "with the ids of the host the number of the socket's group opens it")
    with remapped() as pid:
        ok(asks(pid, d.socket, with_group) == "refused", "the same number in a namespace of other ids does not",
           asks(pid, d.socket, with_group))
        acl = struct.pack("<I" + 5 * "HHI", 2, 1, 6, 2**32 - 1, 2, 6, FIRST + 1000, 4, 6, 2**32 - 1, 16, 6, 2**32 - 1,
                          32, 0, 2**32 - 1)
        os.setxattr(d.socket, "system.posix_acl_access", acl)  # setfacl -m u:201000:rw
        found = asks(pid, d.socket, "--clear-groups")
        os.removexattr(d.socket, "system.posix_acl_access")
        ok(found == "allowed", "an access control list of the user's number on the host does", found)
        target = os.path.join(d.dir, "volume")
        os.mkdir(target, 0o755)
        if mounted_by_ids_of(pid, d.run, target):
            found = [asks(pid, os.path.join(target, "flamed.sock"), option) for option in (with_group,
                                                                                           "--clear-groups")]
            subprocess.run(["umount", "--lazy", target], check=True)
            ok(found == ["allowed", "refused"], "and so does the group's number where the mount maps ids too", found)
        else:
            skip("a mount that maps ids", "not with this file system")
    with remapped(f"0 {FIRST} {GROUP}\n{GROUP} {GROUP} 1\n{GROUP + 1} {FIRST + GROUP + 1} 1000") as pid:
        found = [asks(pid, d.socket, option) for option in (with_group, "--clear-groups")]
        ok(found == ["allowed", "refused"], "and where the namespace's map leaves that number alone", found)


why = namespaces()
if why or os.getuid() != 0:
    for name in ("asks from inside", "is the host's uid", "two containers are two users", "release is refused",
                 "the socket's group", "read-only /sys"):
        skip(name, why or "only root may become several users")
else:
    d = Daemon()
    os.chmod(d.dir, 0o755)
    os.chmod(d.run, 0o755)
    os.chown(d.socket, -1, GROUP)
    ok(os.stat(d.socket).st_mode & 0o777 == 0o660, "only the socket's group may open it",
       oct(os.stat(d.socket).st_mode))
    socket_group(d)
    for uid in (61001, 61002):
        out = inside(d, f"exec {CTL} --socket {INSIDE % uid} status", uid)
        ok(out.returncode == 0 and "NVIDIA Jetson Orin Nano" in out.stdout,
           f"uid {uid} in namespaces of its own asks over a mounted socket", out.stderr)
    # Root inside is an unprivileged user outside.
    program = (f"exec /usr/bin/python3 -c \"import sys; sys.path.insert(0, '{ROOT}/tests/daemon'); from daemonlib "
               f"import Client; import os; assert os.getuid() == 0; "
               f"c = Client(sys.argv[1]); s = c.open('boxed'); c.request(s, 50, lambda b: 9e6); "
               f"print(c.ask(op='release')['errno'], flush=True); "
               "sys.stdin.readline()\" ")
    boxes = []
    for uid in (61001, 61002):
        mount = f"touch {INSIDE % uid}; mount --bind {d.socket} {INSIDE % uid}; {program}{INSIDE % uid}"
        boxes.append(subprocess.Popen(["setpriv", f"--reuid={uid}", f"--regid={uid}", f"--groups={GROUP}", "unshare",
                                       "--user", "--map-root-user", "--mount", "--pid", "--fork",
                                       "sh", "-c", mount], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      cwd="/"))
    answers = [box.stdout.readline().strip() for box in boxes]
    status = d.status()
    uids = sorted(v for k, v in status.items() if k.endswith(".uid"))
    ok(uids == ["61001", "61002"], "flamed sees the uids of the host: two containers are two users", uids)
    ok(answers == ["1", "1"], "root inside a container may not release the host's clocks (EPERM)", answers)
    for box in boxes:
        box.stdin.close()
        box.wait(20)
    ok(wait_for(lambda: d.status()["sessions"] == "0"), "the sessions of a container end with it")

    # The resources of one are not taken from the other.
    greedy = (f"exec /usr/bin/python3 -c \"import sys; sys.path.insert(0, '{ROOT}/tests/daemon'); from daemonlib "
              f"import Client; c = Client(sys.argv[1]); opened = [c.ask(op='open', model='boxed')['errno'] "
              f"for _ in range(300)]; print(opened.count('0'), opened[-1], flush=True); sys.stdin.readline()\" ")
    mount = f"touch {INSIDE % 61001}; mount --bind {d.socket} {INSIDE % 61001}; {greedy}{INSIDE % 61001}"
    box = subprocess.Popen(["setpriv", "--reuid=61001", "--regid=61001", f"--groups={GROUP}", "unshare", "--user",
                            "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c", mount],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    taken = box.stdout.readline().strip()
    ok(taken == "256 122", "a container that opens 300 sessions gets those of one user (EDQUOT)", taken)
    # Layers and flamectl come in by mounts too; the engine's program is unmodified.
    run = (f"mount -t tmpfs tmpfs /usr/local/lib && mkdir /usr/local/lib/flamed && mount --bind {RELEASE} "
           f"/usr/local/lib/flamed && cd /usr/local/lib/flamed && exec ./flamectl --socket {INSIDE % 61002} run "
           f"--model boxed --deadline 60ms -- tests/engines/program tests/engines/libaddon.so 8")
    out = inside(d, run, 61002)
    ok(out.returncode == 0 and re.search(r"boxed under 60.0 ms: [1-9]\d* inferences", out.stderr),
       "the other's program runs under a layer that is mounted in, with a deadline", (out.stdout, out.stderr))
    box.stdin.close()
    box.wait(20)
    d.end()

    d = Daemon(start=False)
    d.wrapper = ["unshare", "--mount", "sh", "-c",
                 f'mount --bind -o ro {d.sys} {d.sys} && mount -o remount,bind,ro {d.sys} && exec "$@"', "sh"]
    d.start()
    c = d.client()
    begun, _ = c.request(c.open(), 50, lambda b: 9e6)
    # The requested value was not written; the error names the file.
    said = lambda: d.status()["state"] == "degraded" and ("Read-only" in d.text()
                                                          or "Read-only" in d.status()["state_reason"])
    ok(wait_for(said), "with /sys read-only status is degraded",
       (d.status()["state"], d.status()["state_reason"], d.text()[-800:]))
    ok(all(f"{path}: Read-only file system" in d.text() for path in ("cpufreq/policy0", "cpufreq/policy4",
                                                                     "devfreq/17000000.gpu", "clk/emc")),
       "and each device is named", d.text()[-800:])
    status = d.status()
    ok(all(status[f"clock.{clock}.state"] == "degraded" for clock in ("cpu", "gpu", "mem"))
       and re.search(r" in /sys/\S+: Read-only file system$", status["state_reason"]),
       "status marks each clock, and its reason names one device", status)
    ok("cpu clock: emc" not in d.text(), "as its own, not as another clock's", d.text()[-800:])
    ok(begun["errno"] == "0", "requests go on", begun)
    c.close()
    d.end()

needed = set(re.findall(r"NEEDED.*\[(.*)\]", subprocess.run(["readelf", "--dynamic", CTL], capture_output=True,
                                                              text=True, check=True).stdout))
unknown = needed - set(PACKAGES) - EVERYWHERE
wanted = {PACKAGES[name] for name in needed & set(PACKAGES)}
for name, pattern in (("docs/containers.md", r"apt-get install .*recommends((?: lib[\w-]+)+)"),
                      ("contrib/containers/compose.yaml", r"# libraries:((?: lib[\w-]+)+)$"),
                      ("contrib/containers/kubernetes.yaml", r"# libraries:((?: lib[\w-]+)+)$")):
    with open(os.path.join(ROOT, name), encoding="utf-8") as page:
        found = re.search(pattern, page.read(), re.M)
    ok(not unknown and found and set(found[1].split()) == wanted,
       f"{name}: the packages of the libraries that flamectl needs, and no other", (needed, found and found[1]))

try:
    import yaml
except ImportError:
    yaml = None
if yaml:
    load = lambda name: list(yaml.safe_load_all(open(os.path.join(ROOT, "contrib/containers", name))))
    compose = load("compose.yaml")[0]
    ok(all(v["source"].startswith("/") and set(v) <= {"type", "source", "target", "read_only"}
           for s in compose["services"].values() for v in s["volumes"]) and
       not any(s.get("privileged") for s in compose["services"].values()), "Compose: absolute mounts, no privilege")
    daemonset, pod = load("kubernetes.yaml")
    template = daemonset["spec"]["template"]
    mounts = {m["name"] for c in template["spec"]["containers"] for m in c["volumeMounts"]}
    ok(template["metadata"]["labels"].items() >= daemonset["spec"]["selector"]["matchLabels"].items()
       and mounts == {v["name"] for v in template["spec"]["volumes"]},
       "Kubernetes: the DaemonSet selects its pods, every mount has a volume")
    containers = pod["spec"]["initContainers"] + pod["spec"]["containers"]
    ok({m["name"] for c in containers for m in c["volumeMounts"]} == {v["name"] for v in pod["spec"]["volumes"]}
       and all(c["securityContext"]["allowPrivilegeEscalation"] is False for c in containers),
       "Kubernetes: the pod has no privilege")
    bound = {v["target"]: v["source"] for v in compose["services"]["detector"]["volumes"]}
    copied, volume = pod["spec"]["initContainers"][0]["command"], pod["spec"]["initContainers"][0]["volumeMounts"][0]
    given = {m["mountPath"]: m.get("subPath") for m in pod["spec"]["containers"][0]["volumeMounts"]
             if m["name"] == volume["name"]}
    programs = {path: os.path.basename(path) for path in bound if "/run/" not in path}
    ok(programs == given and set(programs) == set(copied[2:-1]) and copied[-1] == volume["mountPath"]
       and all(path == source for path, source in bound.items()),
       "flamectl and the layers are mounted: the init container copies what the pod mounts", (programs, given, copied))
    broken = copy.deepcopy(compose)
    broken["services"]["detector"]["mountpoints"] = []
    resources = copy.deepcopy([daemonset, pod])
    resources[0]["spec"]["template"]["spec"]["hostPID"] = "yes"
    resources[1]["spec"]["containers"][0]["securityContext"]["privilege"] = False
    for name, faults, good, bad, words in (
            ("Compose", schemas.compose_faults, compose, broken, ("mountpoints",)),
            ("Kubernetes", schemas.kubernetes_faults, [daemonset, pod], resources, ("hostPID", "privilege"))):
        found = faults(good)
        if found is None:
            skip(f"{name}: by its schema", "the schema is not available here")
            continue
        ok(not found, f"{name}: by its schema", found)
        ok(all(word in " ".join(faults(bad)) for word in words), "which would find " + " and ".join(words), faults(bad))
else:
    for name in ("Compose", "Kubernetes DaemonSet", "Kubernetes pod", "schemas"):
        skip(name, "no PyYAML here")
done()
