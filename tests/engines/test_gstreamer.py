#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The GStreamer tracer under gst-launch-1.0: each buffer through a named element is a request,
with any kind of element."""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
for room in ("../daemon", "../opencl"):
    sys.path.insert(0, os.path.join(HERE, room))
from daemonlib import RELEASE, Daemon, done, ok, skip  # noqa: E402
import fakeflamed  # noqa: E402

PLUGINS = os.path.join(RELEASE, "gstreamer-1.0")
FEW = 8  # of which each is a request however late flamed replies
N = 20
BUSY = 16  # of which FEW at most are requests of an element that is chosen after ten
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


WAITING = f"videotestsrc num-buffers={N} ! queue ! fakesink"
PICTURES = "videotestsrc pattern=ball num-buffers=%d ! video/x-raw,width=64,height=48 ! "
SOURCE, SHORT = PICTURES % N, PICTURES % FEW
for name, pipeline in (("a filter", SHORT + "identity name=net sleep-time=5000 ! fakesink"),
                       ("a sink", SHORT + "fakesink name=net"),
                       ("a sink that waits for the clock", SHORT.replace("width=64", "width=64,framerate=200/1")
                        + "fakesink name=net sync=true"),
                       ("a queue", SHORT + "queue name=net ! identity sleep-time=2000 ! fakesink"),
                       ("one that drops all",
                        SHORT + "valve name=net drop=true drop-mode=forward-sticky-events ! fakesink async=false"),
                       ("one that drops some",
                        SHORT + "identity name=net drop-probability=0.5 ! fakesink async=false"),
                       ("behind a queue", SHORT + "queue ! identity name=net sleep-time=1000 ! queue ! fakesink")):
    opens, begins, ends, rc, err = served(name.replace(" ", "-"), pipeline, "flamed(element=net,deadline=33ms)")
    ok(rc == 0 and not err and [o["model"] for o in opens] == ["net"] and opens[0]["deadline_ns"] == "33000000"
       and len(begins) == len(ends) == FEW,
       f"{name}: {FEW} buffers are {FEW} requests, each ended", (opens, len(begins), len(ends), rc, err))
    if name == "a filter":
        totals = [int(e["total_ns"]) for e in ends]
        ok(all(t >= 5 * 10 ** 6 for t in totals), "the time inside the element is counted", totals)

opens, begins, ends, rc, err = served("full", SOURCE + "queue name=net ! identity sleep-time=2000 ! fakesink",
                                      "flamed(element=net,deadline=33ms)")
ok(rc == 0 and not err and FEW <= len(begins) == len(ends) <= N,
   "more buffers inside than are followed: each request ends", (len(begins), len(ends), rc, err))

# Which buffers come out of an element that drops some is seen by their pictures; requests are numbered as they begin.
# All of them are followed, should the source be done before the first comes out.


def pictures(path, size):
    data = open(path, "rb").read()
    return [data[at:at + size] for at in range(0, len(data), size)]


launch(SHORT + f"filesink location={folder.name}/all", None)
size = os.path.getsize(folder.name + "/all") // FEW
every = pictures(folder.name + "/all", size)
ok(len(set(every)) == FEW, "pictures that differ", size)
for name, element in (("a queue that drops old buffers", "queue name=net leaky=downstream max-size-buffers=2"),
                      ("a queue that drops new buffers", "queue name=net leaky=upstream max-size-buffers=2"),
                      ("an element that drops some", "identity name=net drop-probability=0.5")):
    opens, begins, ends, rc, err = served("leaky", SHORT + f"{element} ! identity sleep-time=20000 ! "
                                          f"filesink location={folder.name}/some", "flamed(element=net,deadline=33ms)")
    out = [every.index(picture) for picture in pictures(folder.name + "/some", size)]
    ended = [i for i, end in enumerate(sorted(ends, key=lambda end: int(end["request"]))) if "withdraw" not in end]
    ok(rc == 0 and not err and len(begins) == len(ends) == FEW and ended == out,
       f"{name}: those that come out are counted, the others are withdrawn", (ended, out, len(ends), rc, err))

HALF = (PICTURES % (FEW // 2)).rstrip(" !")
for name, pipeline in (
        ("an element that two threads enter", "funnel name=net ! identity sleep-time=2000 ! fakesink "
         f"{HALF} ! queue ! net. {HALF} ! queue ! net."),
        ("one that two threads are in at the same time", "( name=net identity name=a sleep-time=10000 ! f. "
         "identity name=b sleep-time=40000 ! f. funnel name=f ) f. ! fakesink "
         f"{HALF} ! identity sleep-time=10000 ! a. {HALF} ! identity sleep-time=25000 ! b."),
        ("one with a thread that invents timestamps but the first", "( name=net queue name=a ! "
         f"identity name=b datarate=1000000000 sleep-time=2000 ) {SHORT} a. b. ! fakesink"),
        ("one in which others overtake a buffer", "( name=net queue name=a ! identity sleep-time=400000 ! f. "
         f"queue name=b ! f. funnel name=f ) f. ! fakesink {PICTURES % 1} a. "
         + (PICTURES % 4).replace("pattern", "timestamp-offset=1000000000 pattern")
         + "identity sleep-time=50000 ! b.")):
    opens, begins, ends, rc, err = served("bin", pipeline, "flamed(element=net,deadline=33ms)")
    ok(rc == 0 and not err and len(begins) == len(ends) == (5 if "overtake" in name else FEW)
       and not any("withdraw" in end for end in ends), f"{name}: each buffer is counted", (ends, len(begins), rc, err))

opens, begins, ends, rc, err = served("rate", SHORT + "identity name=net ! fakesink",
                                      "flamed(element=net,rate=30fps,model=detector)")
ok(rc == 0 and (opens[0]["model"], opens[0]["rate_mhz"]) == ("detector", "30000") and len(begins) == FEW
   and "deadline_ns" not in begins[0], "a rate opens a stream", (opens, err))
opens, begins, ends, rc, err = served("env", SHORT + "identity name=net ! fakesink", "flamed(element=net)",
                                      FLAMED_MODEL="mine", FLAMED_DEADLINE_NS="20000000")
ok(rc == 0 and (opens[0]["model"], opens[0]["deadline_ns"]) == ("mine", "20000000") and len(ends) == FEW,
   "model and deadline of flamectl run", (opens, err))
opens, begins, ends, rc, err = served("two", SHORT + "identity name=a ! identity name=b ! fakesink",
                                      "flamed(element=a,deadline=33ms);flamed(element=b,deadline=20ms)")
ok(rc == 0 and sorted(o["model"] for o in opens) == ["a", "b"] and len(begins) == len(ends) == 2 * FEW,
   "two elements, two models", (opens, len(begins), err))

# With no element named: the one that works most, though the sink waits for the clock, and the queue for the sink.
BUSIEST = (PICTURES.replace("width=64", "width=64,framerate=100/1") % BUSY
           + "identity name=light ! queue max-size-buffers=1 ! "
           "identity name=heavy sleep-time=3000 ! queue max-size-buffers=1 ! fakesink sync=true")
opens, begins, ends, rc, err = served("busiest", BUSIEST, "flamed", FLAMED_DEADLINE_NS="20000000")
ok(rc == 0 and not err and [o["model"] for o in opens] == ["heavy"] and opens[0]["deadline_ns"] == "20000000"
   and BUSY - 12 <= len(begins) == len(ends) <= BUSY - 8,
   "no element named: the one that works most, after ten buffers",
   (opens, len(begins), len(ends), rc, err))
opens, begins, ends, rc, err = served("none", WAITING, "flamed(deadline=33ms)")
ok(rc == 0 and not err and not opens, "... and none where all of them only wait", (opens, rc, err))
opens, begins, ends, rc, err = served("both", BUSIEST, "flamed(element=light,deadline=30ms);flamed(deadline=33ms)")
ok(rc == 0 and not err and [o["model"] for o in opens] == ["light"]
   and FEW <= len(begins) == len(ends) <= BUSY,
   "... and none where inferences are seen already", (opens, len(begins), rc, err))

for tracer, words in (("flamed(element=net,deadline=soon)", "deadline=soon"),
                      ("flamed(element=net,colour=red)", "colour=red"),
                      ("flamed(element=net)", "no deadline for model net"),
                      ("flamed(element=none,deadline=33ms)", "no buffer went through an element named none")):
    opens, begins, ends, rc, err = served("bad", SOURCE + "identity name=net ! fakesink", tracer)
    ok(rc == 0 and words in err and not begins and err.count("\n") == 1, f"{tracer}: one clear line, the pipeline runs",
       (rc, err))


def content(tracer, name, pause_us=0, **kw):
    path = f"{folder.name}/{name}.raw"
    rc, err = launch(SOURCE + f"videoconvert name=net ! identity sleep-time={pause_us} ! filesink location={path}",
                     tracer, **kw)
    return rc, hashlib.sha256(open(path, "rb").read()).hexdigest(), err


plain = content(None, "plain")
ok(plain[0] == 0 and not plain[2], "the pipeline alone", plain)
with fakeflamed.Server(folder.name + "/same"):
    traced = content("flamed(element=net,deadline=33ms)", "traced", socket=folder.name + "/same")
    ok(traced == plain, "the same bytes with the tracer, and no message", (traced, plain))
alone = content("flamed(element=net,deadline=33ms)", "alone")
ok(alone[:2] == plain[:2], "the same bytes with no daemon", (alone, plain))
ok(alone[2] == "flamed-gstreamer: flamed is not running; the pipeline runs without it until it is there\n",
   "... and one line of log", alone[2])
long = content("flamed(element=net,deadline=33ms)", "long", socket="/" + 200 * "s")
ok(long[:2] == plain[:2] and long[2].startswith("flamed-gstreamer: no connection to flamed: ") and
   long[2].count("\n") == 1, "a socket's path that cannot be: the same bytes, and one line", long)


def ctl(*words, **env):
    """flamectl with the plugin that is built here, under the real daemon: its messages."""
    full = {k: v for k, v in os.environ.items() if not k.startswith(("FLAMED_", "GST_", "LD_PRELOAD"))}
    full.update({"GST_REGISTRY": folder.name + "/registry", "FLAMED_OPENCL_LAYER": "/none",
                 "FLAMED_CUDA_LAYER": "/none", "FLAMED_ENGINES_LAYER": "/none",
                 "FLAMED_GSTREAMER_LAYER": os.path.abspath(PLUGINS) + "/libgstflamed.so", **env})
    out = subprocess.run([RELEASE + "/flamectl", "--socket", d.socket, *words], env=full, capture_output=True,
                         text=True, timeout=60)
    return out.returncode, out.stdout + out.stderr


def run(pipeline, *words, **env):
    return ctl("run", "--model", "net", *words, "--", "gst-launch-1.0", "-q", *pipeline.split(), **env)


d = Daemon(build=RELEASE, config="[model due]\ndeadline = 30ms\n[model paced]\nrate = 100/s\n")
before = d.knobs()
asker = d.client()
for model, figures in (("due", {"deadline_ns": "30000000"}), ("paced", {"stream.rate_mhz": "100000"})):
    asker.ask(op="tally", tag=model)
    rc, err = launch(SOURCE + "identity name=net sleep-time=2000 ! fakesink", f"flamed(element=net,model={model})",
                     d.socket, FLAMED_TAG=model, FLAMED_SUMMARY=f"{folder.name}/{model}")
    counted = asker.ask(op="tally", tag=model)
    saw = re.search(r"inferences=(\d+) ", open(f"{folder.name}/{model}").read()).group(1)
    ok(rc == 0 and not err and 0 < int(saw) <= N and {"requests": saw, **figures}.items() <= counted.items(),
       f"without a deadline: that of flamed.conf, {figures}", (err, saw, counted))
asker.close()
rc, said = run(BUSIEST, "--deadline", "20ms")
SEEN = re.compile(r"net under 20.0 ms: (\d+) inferences.*gstreamer saw (\d+) inferences", re.S)
seen = SEEN.search(said)
ok(rc == 0 and seen is not None and seen.group(1) == seen.group(2) and 0 < int(seen.group(1)) <= BUSY - 8,
   "flamectl run sets the tracer, and says that it saw something", said)
rc, said = run(SOURCE + "identity name=a ! identity name=heavy sleep-time=1000 ! fakesink", "--deadline", "20ms",
               GST_TRACERS="stats;flamed(element=a,deadline=30ms)", GST_PLUGIN_PATH="/nowhere")
seen = SEEN.search(said)
ok(rc == 0 and seen is not None and seen.group(1) == seen.group(2) and 0 < int(seen.group(1)) <= N,
   "... keeping the user's own, which names another element", said)
rc, said = run(BUSIEST, "--rate", "100/s")
ok(rc == 0 and "net at 100.0/s: " in said and "gstreamer saw " in said, "... at a rate", said)
rc, said = run(WAITING, "--deadline", "20ms")
ok(rc == 0 and "no inference of gst-launch-1.0 was seen" in said
   and "gstreamer was loaded, but saw no launch" in said, "... and says where it saw nothing", said)
for env, words in (({}, "ok +gstreamer +flamectl run governs programs that use GStreamer"),
                   ({"FLAMED_GSTREAMER_LAYER": "/none"}, "note +gstreamer +not installed: there is no /none")):
    said = ctl("verify", **env)[1]
    ok(re.search(words, said) is not None, f"verify: {words}", said)
ok(d.restored(before), "every knob is as it was found", d.difference(before))
d.end()

SAYS = {"rubbish": "the connection to flamed broke", "mute": "flamed does not answer",
        "refuse": "flamed refused a session for net"}
for how, words in SAYS.items():
    with fakeflamed.Server(f"{folder.name}/{how}") as server:
        setattr(server, how, True)
        rc, same, err = content("flamed(element=net,deadline=33ms)", how, socket=server.path)
        ok((rc, same) == plain[:2] and words in err and err.count("\n") == 1,
           f"a daemon that is bad ({how}): the same bytes, and one line", err)
with fakeflamed.Server(folder.name + "/dies") as server:
    server.dies_at = 6
    # Requests are sent without waiting: the pipeline must still run when a busy machine's daemon has died.
    rc, same, err = content("flamed(element=net,deadline=33ms)", "dies", pause_us=50000, socket=server.path)
    ok((rc, same) == plain[:2] and len(server.log) > 6 and "the connection to flamed broke" in err
       and err.count("\n") == 1, "a daemon that dies amid the run: the same bytes, and one line", (err, server.log))
done()
