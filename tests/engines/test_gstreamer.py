#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The GStreamer tracer under gst-launch-1.0: each buffer through a named element is a request,
whatever the element does with it."""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
for room in ("../daemon", "../opencl"):
    sys.path.insert(0, os.path.join(HERE, room))
from daemonlib import RELEASE, done, ok, skip  # noqa: E402
import fakeflamed  # noqa: E402

PLUGINS = os.path.join(RELEASE, "gstreamer-1.0")
N = 20
folder = tempfile.TemporaryDirectory(prefix="flamed-gst-")
if not shutil.which("gst-launch-1.0") or not os.path.exists(PLUGINS + "/libgstflamed.so"):
    skip("the GStreamer tracer", "no gst-launch-1.0, or built without GStreamer's headers")
    done()


def launch(pipeline, tracer, socket="/nowhere", **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("FLAMED_", "GST_", "LD_PRELOAD"))}
    env.update(GST_PLUGIN_PATH=PLUGINS, GST_REGISTRY=folder.name + "/registry", FLAMED_SOCKET=socket, **more)
    if tracer:
        env["GST_TRACERS"] = tracer
    out = subprocess.run(["gst-launch-1.0", "-q", *pipeline.split()], env=env, capture_output=True, text=True,
                         timeout=60)
    return out.returncode, out.stderr


def served(name, pipeline, tracer, **more):
    """Messages that the daemon received, and the program's end: (opens, begins, ends, exit status, stderr)."""
    path = f"{folder.name}/{name}"
    with fakeflamed.Server(path) as server:
        rc, err = launch(pipeline, tracer, path, **more)
        return server.of("open"), server.of("begin"), server.of("end"), rc, err


SOURCE = f"videotestsrc num-buffers={N} ! video/x-raw,width=64,height=48 ! "
for name, pipeline in (("a filter", SOURCE + "identity name=net sleep-time=5000 ! fakesink"),
                       ("a sink", SOURCE + "fakesink name=net"),
                       ("a sink that waits for the clock", SOURCE.replace("width=64", "width=64,framerate=200/1")
                        + "fakesink name=net sync=true"),
                       ("a queue", SOURCE + "queue name=net ! identity sleep-time=2000 ! fakesink"),
                       ("one that drops all",
                        SOURCE + "valve name=net drop=true drop-mode=forward-sticky-events ! fakesink async=false"),
                       ("one that drops some",
                        SOURCE + "identity name=net drop-probability=0.5 ! fakesink async=false"),
                       ("behind a queue", SOURCE + "queue ! identity name=net sleep-time=1000 ! queue ! fakesink")):
    opens, begins, ends, rc, err = served(name.replace(" ", "-"), pipeline, "flamed(element=net,deadline=33ms)")
    ok(rc == 0 and not err and [o["model"] for o in opens] == ["net"] and opens[0]["deadline_ns"] == "33000000"
       and len(begins) == len(ends) == N,
       f"{name}: {N} buffers are {N} requests, each ended", (opens, len(begins), len(ends), rc, err))
    if name == "a filter":
        totals = [int(e["total_ns"]) for e in ends]
        ok(all(t >= 5 * 10 ** 6 for t in totals), "the time inside the element is counted", totals)

opens, begins, ends, rc, err = served("rate", SOURCE + "identity name=net ! fakesink",
                                      "flamed(element=net,rate=30fps,model=detector)")
ok(rc == 0 and (opens[0]["model"], opens[0]["rate_mhz"]) == ("detector", "30000") and len(begins) == N
   and "deadline_ns" not in begins[0], "a rate opens a stream", (opens, err))
opens, begins, ends, rc, err = served("env", SOURCE + "identity name=net ! fakesink", "flamed(element=net)",
                                      FLAMED_MODEL="mine", FLAMED_DEADLINE_NS="20000000")
ok(rc == 0 and (opens[0]["model"], opens[0]["deadline_ns"]) == ("mine", "20000000") and len(ends) == N,
   "model and deadline of flamectl run", (opens, err))
opens, begins, ends, rc, err = served("two", SOURCE + "identity name=a ! identity name=b ! fakesink",
                                      "flamed(element=a,deadline=33ms);flamed(element=b,deadline=20ms)")
ok(rc == 0 and sorted(o["model"] for o in opens) == ["a", "b"] and len(begins) == len(ends) == 2 * N,
   "two elements, two models", (opens, len(begins), err))

for tracer, words in (("flamed(deadline=33ms)", "element= is missing"),
                      ("flamed(element=net,deadline=soon)", "deadline=soon"),
                      ("flamed(element=net,colour=red)", "colour=red"),
                      ("flamed(element=none,deadline=33ms)", "no buffer went through an element named none")):
    opens, begins, ends, rc, err = served("bad", SOURCE + "identity name=net ! fakesink", tracer)
    ok(rc == 0 and words in err and not begins and err.count("\n") == 1, f"{tracer}: one clear line, the pipeline runs",
       (rc, err))


def content(tracer, name, **kw):
    path = f"{folder.name}/{name}.raw"
    rc, err = launch(SOURCE + f"videoconvert name=net ! filesink location={path}", tracer, **kw)
    return rc, hashlib.sha256(open(path, "rb").read()).hexdigest(), err


plain = content(None, "plain")
ok(plain[0] == 0 and not plain[2], "the pipeline alone", plain)
with fakeflamed.Server(folder.name + "/same"):
    traced = content("flamed(element=net,deadline=33ms)", "traced", socket=folder.name + "/same")
    ok(traced == plain, "the same bytes with the tracer, and no message", (traced, plain))
alone = content("flamed(element=net,deadline=33ms)", "alone")
ok(alone[:2] == plain[:2], "the same bytes with no daemon", (alone, plain))
ok(alone[2] == "flamed-gstreamer: flamed is not running; the pipeline runs without it until it is\n",
   "... which is said in one line", alone[2])
long = content("flamed(element=net,deadline=33ms)", "long", socket="/" + 200 * "s")
ok(long[:2] == plain[:2] and long[2].startswith("flamed-gstreamer: no connection to flamed: ") and
   long[2].count("\n") == 1, "a socket's path that cannot be: the same bytes, and one line", long)
with fakeflamed.Server(folder.name + "/rubbish") as server:
    server.rubbish = True
    ok(content("flamed(element=net,deadline=33ms)", "rubbish",
               socket=folder.name + "/rubbish")[:2] == plain[:2], "a daemon that answers rubbish")
done()
