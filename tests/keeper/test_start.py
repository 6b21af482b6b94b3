#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Start of flamed-keeper: its options, the socket from flamed, the socket from systemd,
and the clients that it serves."""
from keeper import *

tap = Tap()
KEEPER = os.path.join(BUILD, "flamed-keeper")


def start(*args, fds=(), **more):
    """Exit status, standard output and standard error of a keeper that ends by itself."""
    done = subprocess.run([KEEPER, *args], capture_output=True, text=True, pass_fds=fds, timeout=60, **more)
    return done.returncode, done.stdout, done.stderr


# LISTEN_PID is the keeper's own: a shell that becomes it knows.
LISTEN = 'exec 3<&"$1"; shift; LISTEN_PID=${PID-$$} exec "$@"'


def listening(path, listener, *args, env=None, **more):
    """A keeper that systemd's socket activation would have started."""
    words = ["sh", "-c", LISTEN, "sh", str(listener.fileno()), KEEPER, "--listen", "--sysroot", path + "/root",
             "--state-dir", path + "/state", "--boards-dir", "/nonexistent", *args]
    return subprocess.Popen(words, pass_fds=[listener.fileno()], env={**os.environ, "LISTEN_FDS": "1", **(env or {})},
                            stderr=subprocess.PIPE, text=True, **more)


status, out, err = start("--help")
tap.ok(status == 0 and out.startswith("usage: flamed-keeper ") and "--listen" in out and not err, "--help", out + err)
status, out, err = start("--version")
tap.ok(status == 0 and out.startswith("flamed-keeper 0."), "--version", out + err)
status, out, err = start("--fd", "three")
tap.ok(status == 2 and "--fd: not a descriptor number: three" in err, "--fd that is no number is named", err)
status, out, err = start("--fd", "4294967299")
tap.ok(status == 2 and "4294967299" in err, "nor is one that is no descriptor", err)
status, out, err = start("--write", "/sys")
tap.ok(status == 2 and "usage:" in err, "an unknown option is a usage error", err)
status, out, err = start("again")
tap.ok(status == 2 and "usage:" in err and not out, "so is an argument", err)
status, out, err = start(stdin=subprocess.DEVNULL)
tap.ok(status == 2 and "descriptor 3 is not a SOCK_SEQPACKET socket" in err, "started by hand it says who starts it",
       err)
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
status, out, err = start("--fd", str(theirs.fileno()), fds=[theirs.fileno()])
tap.ok(status == 2 and f"descriptor {theirs.fileno()} is not a SOCK_SEQPACKET socket" in err,
       "a socket of another kind is refused", err)
status, out, err = start("--listen")
tap.ok(status == 1 and "cannot accept a client" in err, "--listen without a socket", err)

# Slashes at the end of --sysroot are none: the real machine has one lock, and a board directory another.
path = tree("nothing")
try:
    for root in ("/", "//", path + "/root//"):
        keeper = Keeper(root, path + "/state")
        if not keeper.hello and ": /sys is in use by " in keeper.stderr():
            tap.skip(f"--sysroot {root}", "this machine's clocks have a keeper")
            continue
        files = f"/proc/{keeper.process.pid}/fd/"
        held = [os.readlink(files + fd) for fd in os.listdir(files)]
        if root.strip("/"):
            tap.ok(path + "/root/sys" in held, f"--sysroot {root}: owns its sys/", (held, keeper.stderr()))
        else:
            tap.ok("/sys" not in held and ("/run/flamed-keeper/lock" in held or os.getuid() != 0),
                   f"--sysroot {root}: is the real machine, and locked as such", (held, keeper.stderr()))
        tap.equal(keeper.close(), 0, "and ends well")
finally:
    remove(path)

path = tree("jetson-orin-nano")
before = snapshot(path + "/root")
try:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    status, out, err = start("--fd", str(theirs.fileno()), "--state-dir", "/" + "x" * 5000, fds=[theirs.fileno()])
    tap.ok(status == 2 and "--state-dir: path too long" in err, "a state directory with a name that is too long",
           err[:200])

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path + "/keeper.sock")
        listener.listen(1)
        for name, env in (("of another process", {"PID": "1"}), ("of two sockets", {"LISTEN_FDS": "2"}),
                          ("that is no number", {"PID": "x"})):
            keeper = listening(path, listener, env=env)
            err = keeper.communicate(timeout=60)[1]
            tap.ok(keeper.returncode == 1 and "cannot accept a client" in err,
                   "an activation " + name + " is not taken", err)

        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(path + "/keeper.sock")
            keeper = listening(path, listener)
            client.settimeout(60)
            data, ancillary, _, _ = client.recvmsg(REPLY.size, socket.CMSG_SPACE(32 * 4))
            hello = Reply(data, [])
            tap.ok(hello.op == HELLO and hello.magic == MAGIC, "the client of systemd's socket is greeted")
            client.send(REQUEST.pack(MAGIC, APPLY, 1, 0, 306000000, 0))
            while True:
                reply = Reply(client.recv(REPLY.size), [])
                if reply.op == APPLIED:
                    break
            tap.ok(reply.state[1] == OK and differences(before, snapshot(path + "/root")), "and has clocks set")
        status = keeper.wait(60)
        keeper.stderr.close()
        tap.ok(status == 0 and not differences(before, snapshot(path + "/root")),
               "when it hangs up, every knob is as it was", f"status {status}")

        if os.getuid() == 0:
            # Only the user that the socket was made for is served.
            os.chmod(path, 0o755)
            os.chmod(path + "/keeper.sock", 0o777)
            code = ("import socket, sys; c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
                    "c.connect(sys.argv[1]); sys.exit(len(c.recv(9)))")
            stranger = subprocess.Popen([sys.executable, "-c", code, path + "/keeper.sock"], user=65534, group=65534)
            keeper = listening(path, listener)
            err = keeper.communicate(timeout=60)[1]
            tap.ok(keeper.returncode == 1 and "Operation not permitted" in err and stranger.wait(60) == 0,
                   "a client of another user is hung up on, without a word", err)
            os.chown(path + "/keeper.sock", 65534, 65534)
            stranger = subprocess.Popen([sys.executable, "-c", code, path + "/keeper.sock"], user=65534, group=65534)
            keeper = listening(path, listener)
            tap.ok(stranger.wait(60) == 9 and keeper.wait(60) == 0, "the user who owns the socket is served")
            keeper.stderr.close()
finally:
    remove(path)
tap.done()
