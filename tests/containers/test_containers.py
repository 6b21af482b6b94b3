#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What docs/containers.md says, with namespaces made on the spot: a client without privilege in
namespaces of its own, whose uid flamed sees as the host does; flamed itself where /sys cannot be
written. And that the recipes are what they claim to be."""
import copy
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../daemon"))
import schemas  # noqa: E402
from daemonlib import BUILD, RELEASE, ROOT, Client, Daemon, done, ok, skip, wait_for  # noqa: E402

CTL = os.path.join(RELEASE, "flamectl")
INSIDE = "/tmp/flamed-inside-%d.sock"


def namespaces():
    """None, or why none can be made."""
    out = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "true"],
                         capture_output=True, text=True)
    return None if out.returncode == 0 else out.stderr.strip()


def inside(daemon, script, uid):
    """Run in user, mount, pid and network namespaces of its own, as a user that is nobody on the host;
    the socket is bind-mounted."""
    mount = f"touch {INSIDE % uid}; mount --bind {daemon.socket} {INSIDE % uid}; {script}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--fork", "--mount-proc", "sh",
               "-c", mount]
    return subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command],
                          capture_output=True, text=True, timeout=60, cwd="/")


why = namespaces()
if why or os.getuid() != 0:
    for name in ("asks from inside", "is the host's uid", "two containers are two users", "release is refused",
                 "read-only /sys"):
        skip(name, why or "only root may become several users")
else:
    d = Daemon()
    os.chmod(d.dir, 0o755)
    os.chmod(d.run, 0o755)
    os.chmod(d.socket, 0o666)
    for uid in (61001, 61002):
        out = inside(d, f"exec {CTL} --socket {INSIDE % uid} status", uid)
        ok(out.returncode == 0 and "NVIDIA Jetson Orin Nano" in out.stdout,
           f"uid {uid} in namespaces of its own asks over a mounted socket", out.stderr)
    # Root inside is nobody's root outside.
    program = (f"exec /usr/bin/python3 -c \"import sys; sys.path.insert(0, '{ROOT}/tests/daemon'); from daemonlib "
               f"import Client; import os; assert os.getuid() == 0; "
               f"c = Client(sys.argv[1]); s = c.open('boxed'); c.request(s, 50, lambda b: 9e6); "
               f"print(c.ask(op='release')['errno'], flush=True); "
               "sys.stdin.readline()\" ")
    boxes = []
    for uid in (61001, 61002):
        mount = f"touch {INSIDE % uid}; mount --bind {d.socket} {INSIDE % uid}; {program}{INSIDE % uid}"
        boxes.append(subprocess.Popen(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "unshare",
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

    # What one takes is not taken from the other.
    greedy = (f"exec /usr/bin/python3 -c \"import sys; sys.path.insert(0, '{ROOT}/tests/daemon'); from daemonlib "
              f"import Client; c = Client(sys.argv[1]); opened = [c.ask(op='open', model='boxed')['errno'] "
              f"for _ in range(300)]; print(opened.count('0'), opened[-1], flush=True); sys.stdin.readline()\" ")
    mount = f"touch {INSIDE % 61001}; mount --bind {d.socket} {INSIDE % 61001}; {greedy}{INSIDE % 61001}"
    box = subprocess.Popen(["setpriv", "--reuid=61001", "--regid=61001", "--clear-groups", "unshare", "--user",
                            "--map-root-user", "--mount", "--pid", "--fork", "sh", "-c", mount],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    taken = box.stdout.readline().strip()
    ok(taken == "256 122", "a container that opens 300 sessions gets those of one user (EDQUOT)", taken)
    # Layers and flamectl come in by mounts too; the engine's program knows nothing of them.
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
    # What was asked for was not written; the file that is at fault is named.
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
    ok({m["name"] for c in pod["spec"]["containers"] for m in c["volumeMounts"]} == {v["name"]
                                                                                     for v in pod["spec"]["volumes"]}
       and
       pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False,
       "Kubernetes: the pod has no privilege")
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
            skip(f"{name}: by its schema", "the schema cannot be had here")
            continue
        ok(not found, f"{name}: by its schema", found)
        ok(all(word in " ".join(faults(bad)) for word in words), "which would find " + " and ".join(words), faults(bad))
else:
    for name in ("Compose", "Kubernetes DaemonSet", "Kubernetes pod", "schemas"):
        skip(name, "no PyYAML here")
done()
