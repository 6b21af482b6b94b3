#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The layer for engines on the CPU, with llama.cpp and ONNX Runtime as npm ships them, and with
stand-ins of versions that are not packaged."""
import os
import re
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
for room in ("../daemon", "../opencl", "../vulkan"):
    sys.path.insert(0, os.path.join(HERE, room))
from daemonlib import RELEASE, Daemon, done, ok, skip, wait_for  # noqa: E402
import fakeflamed  # noqa: E402
import llamalib  # noqa: E402

LAYER = os.path.join(RELEASE, "libflamed-engines.so")
PROGRAM, ADDON, STRANGE, WAITS1, WAITS2 = (
    os.path.join(RELEASE, "tests/engines", name)
    for name in ("program", "libaddon.so", "libstrange.so", "libwaits1.so", "libwaits2.so"))
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("FLAMED_", "LD_PRELOAD", "ASAN_", "UBSAN_"))}
folder = tempfile.TemporaryDirectory(prefix="flamed-engines-")


def run(command, layer=True, **env):
    """(exit status, stdout, messages of the layer)"""
    full = {**CLEAN, "HOME": folder.name, **({"LD_PRELOAD": LAYER} if layer else {}), **env}
    out = subprocess.run(command, env=full, capture_output=True, text=True, timeout=300)
    return out.returncode, out.stdout, out.stderr


def key(text, name):
    found = re.search(rf"\b{name}=(\S*)", text)
    return found.group(1) if found else ""


# ---- stand-ins ----
plain = run([PROGRAM, ADDON, "5"], layer=False)
ok(plain[0] == 0 and plain[1].count("rc 0") == 5, "the stand-in works alone", plain)
for env in ({}, {"FLAMED_SUMMARY": "2"}, {"FLAMED_DEADLINE_NS": "1000000", "FLAMED_SOCKET": folder.name + "/none"}):
    with_layer = run([PROGRAM, ADDON, "5"], **env)
    ok(with_layer[:2] == plain[:2], f"an old batch goes through whole, from a private add-on: {env}", with_layer)
said = run([PROGRAM, ADDON, "5"], FLAMED_SUMMARY="2")[2]
ok(said.count("unknown ONNX Runtime version 2.0.1: passed through") == 1 and key(said, "inferences") == "5",
   "an unknown version is passed through with one line", said)
plain = run([PROGRAM, WAITS1, "8", WAITS2], layer=False)
with_layer = run([PROGRAM, WAITS1, "8", WAITS2], FLAMED_SUMMARY="2")
# 16 of ONNX Runtime; and of llama.cpp's, those after three of each build have shown that the call is the whole step.
ok(plain[0] == 0 and with_layer[:2] == plain[:2] and plain[1].count("rc 0") == 16
   and 16 < int(key(with_layer[2], "inferences") or 0) <= 26,
   "two builds of each engine in one process, each with a thread: no call goes to the other build", (plain, with_layer))
bound = run([PROGRAM, WAITS1, "8"], FLAMED_SUMMARY="2", BINDS="1")
# 8 runs, 8 with bindings that succeed (as many fail), and of llama.cpp's 5 at most.
ok(bound[0] == 0 and bound[1].count("rc 0") == 8 and 16 <= int(key(bound[2], "inferences") or 0) <= 21,
   "a run of ONNX Runtime with bindings is an inference, unless it fails", bound)
nulls = run([PROGRAM, WAITS1, "8"], FLAMED_SUMMARY="2", NULLS="1")
ok(nulls[0] == 0 and nulls[1].count("rc 0") == 8 and 8 <= int(key(nulls[2], "inferences") or 0) <= 13,
   "NULL for an input, its name, all of them or a path is ONNX Runtime's error, and no inference", nulls)
embeds = run([PROGRAM, WAITS1, "8"], FLAMED_SUMMARY="2", EMBEDS="1")
# 8 of ONNX Runtime, and of llama.cpp's those after three have shown that the call is the whole step.
ok(embeds[0] == 0 and 8 < int(key(embeds[2], "inferences") or 0) <= 13,
   "reading an embedding by its sequence is a wait", embeds)
plain = run([PROGRAM, WAITS1, "8"], layer=False, WAITS_LAST="1")
with_layer = run([PROGRAM, WAITS1, "8"], FLAMED_SUMMARY="2", WAITS_LAST="1")
ok(plain[0] == 0 and with_layer[:2] == plain[:2] and "calls 8 waits 8 " in plain[1],
   "a wait that is the last call of a thread reaches the engine of its context", (plain, with_layer))
plain, with_layer = run([PROGRAM, STRANGE, "5"], layer=False), run([PROGRAM, STRANGE, "5"], FLAMED_SUMMARY="2")
ok(plain[0] == 0 and with_layer[:2] == plain[:2] and plain[1].count("rc 0") == 5
   and with_layer[2].count("unknown version of llama.cpp, whose batches differ: passed through\n") == 1
   and key(with_layer[2], "inferences") == "0", "batches of another layout are passed through whole, with one line",
   with_layer)
with fakeflamed.Server(folder.name + "/stand-in") as server:
    run([PROGRAM, ADDON, "6"], FLAMED_DEADLINE_NS="33000000", FLAMED_MODEL="old",
        FLAMED_SOCKET=folder.name + "/stand-in")
    begins = server.of("begin")
    ok([(b.get("phase"), b.get("context")) for b in begins] == [("prefill", "40")]
       + [("decode", str(40 + i)) for i in range(1, 6)],
       "tokens are counted where the program leaves positions to the engine", begins)
    # The program pauses for 50 ms between steps.
    for rate, starts, name in (("1000", ["1", "", ""], "a prompt in several steps is one start of a stream"),
                               ("200000", ["1", "1", "1"], "prompts with a pause between them are a start each")):
        server.clear()
        run([PROGRAM, ADDON, "6"], PROMPTS="3", FLAMED_RATE_MHZ=rate, FLAMED_MODEL="old", FLAMED_SOCKET=server.path)
        begins = server.of("begin")
        ok([(b.get("phase"), b.get("stream", "")) for b in begins] == [("prefill", start) for start in starts]
           + [("decode", "")] * 3, name, begins)

    server.clear()
    seen = run([PROGRAM, ADDON, "9"], BATCHES="e37 s3 v4 E12 p1 f1 w1 p1 p20", FLAMED_DEADLINE_NS="33000000",
               FLAMED_MODEL="old", FLAMED_SOCKET=server.path)
    opens, begins = server.of("open"), server.of("begin")
    sessions = list(dict.fromkeys(begin["session"] for begin in begins))
    ok(seen[0] == 0 and len(opens) == 3
       and [(sessions.index(b["session"]), b["phase"], b["context"]) for b in begins]
       == [(0, "prefill", "37"), (1, "decode", "8"), (2, "decode", "104"), (0, "prefill", "12"), (0, "decode", "105"),
           (0, "decode", "106"), (0, "decode", "106"), (0, "decode", "106"), (0, "prefill", "20")],
       "a text to be embedded is a prompt, as is one for the encoder; sequences, or drafted tokens, are a step of a "
       "model of their own; tokens of a step that fails are not counted", (seen, begins))
    # The program may be over before the last ones are answered, and so sent.
    ok([end.get("withdraw") for end in server.of("end")][:7] == [None] * 5 + ["2"] * 2,
       "... and its request is withdrawn, its place in a stream given back", server.of("end"))
    server.clear()
    seen = run([PROGRAM, ADDON, "9"], BATCHES="p40 p1 s2 s2 p1 p1 p40 s2 p1", FLAMED_RATE_MHZ="1000",
               FLAMED_MODEL="old", FLAMED_SOCKET=server.path)
    begins = server.of("begin")
    ok(seen[0] == 0 and [begin.get("stream", "") for begin in begins] == ["1", "", "1", "", "1", "", "1", "1", "1"]
       and len({begin["session"] for begin in begins}) == 2,
       "a stream that resumes after another number of sequences, or their prompt, starts again", (seen, begins))

# ---- bad input: the program computes the same, with one message ----
DEADLINE = {"FLAMED_DEADLINE_NS": "33000000", "FLAMED_MODEL": "old"}
plain = run([PROGRAM, ADDON, "12"], layer=False)
LINES = {"absent": "flamed is not running", "rubbish": "the connection to flamed broke",
         "mute": "flamed does not answer", "refuse": "flamed refuses a session for model old",
         "dies": "the connection to flamed broke"}
for how, words in LINES.items():
    with fakeflamed.Server(f"{folder.name}/{how}") as server:
        if how == "dies":
            server.dies_at = 6
        else:
            setattr(server, how, True)
        seen = run([PROGRAM, ADDON, "12"], **DEADLINE, FLAMED_SOCKET=server.path + "x" * (how == "absent"))
        said = [line for line in seen[2].splitlines() if "unknown ONNX Runtime" not in line]
        ok(seen[:2] == plain[:2] and len(said) == 1 and words in said[0] and not server.dies_at,
           f"a daemon that is bad ({how}): told once", (seen, server.log))
with fakeflamed.Server(folder.name + "/amid") as server:
    there = {**DEADLINE, "FLAMED_SOCKET": server.path}
    plain = run([PROGRAM, ADDON, "6"], layer=False, AMID="fork")
    seen = run([PROGRAM, ADDON, "6"], **there, AMID="fork")
    ok(plain[0] == 0 and seen[:2] == plain[:2] and plain[1].count("rc 0") == 7 and len(server.of("begin")) == 6,
       "the child of a fork says nothing", (seen, server.of("begin")))
    server.clear()
    plain = run([PROGRAM, ADDON, "6"], layer=False, AMID="exec")
    seen = run([PROGRAM, ADDON, "6"], **there, AMID="exec")
    sessions = [begin["session"] for begin in server.of("begin")]
    ok(plain[0] == 0 and seen[:2] == plain[:2]
       and [sessions.count(session) for session in dict.fromkeys(sessions)] == [4, 6],
       "after exec it starts afresh, with a session of its own", (seen, sessions))
    server.clear()
    seen = run([PROGRAM, ADDON, "6"], **there, AMID="kill")
    ok(seen[0] == -signal.SIGKILL and len(server.of("begin")) == 4 and server.wait_closed(),
       "killed: its connection is gone", seen)
    server.clear()
    seen = run([PROGRAM, WAITS1, "1"], **there, SLOW_MODEL="1")
    ok(seen[0] == 0 and "child 0\n" in seen[1], "forked amid another thread's call, a child can go on", seen)
    server.clear()
    seen = run([PROGRAM, WAITS1, "8"], **there, NEVER_WAITS="1")
    begins = server.of("begin")
    ok(seen[0] == 0 and len(begins) == 8 and {begin.get("phase", "run") for begin in begins} == {"run"},
       "a program that never waits for llama.cpp: only ONNX Runtime's are requests", (seen, begins))

d = Daemon(tree="raspberry-pi-4", build=RELEASE)
before = d.knobs()
plain = run([PROGRAM, ADDON, "60"], layer=False)
program = subprocess.Popen([PROGRAM, ADDON, "60"], env={**CLEAN, **DEADLINE, "LD_PRELOAD": LAYER,
                                                         "FLAMED_SOCKET": d.socket},
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
moved = wait_for(lambda: not d.restored(before, 0))
d.stop(signal.SIGKILL)
out, err = program.communicate(timeout=60)
ok(moved and (program.returncode, out) == plain[:2] and err.count("the connection to flamed broke") == 1,
   "flamed is killed amid the requests of a program: told once", (moved, out, err))
ok(d.restored(before), "... and every knob is as it was found", d.difference(before))
d.end()

# ---- the real ones ----
why = llamalib.install()
if why:
    for name in ("ONNX Runtime: results", "ONNX Runtime: inferences", "ONNX Runtime: an error",
                 "ONNX Runtime: requests", "llama.cpp: tokens",
                 "llama.cpp: phases and contexts", "llama.cpp: a stream", "llama.cpp: a long prompt",
                 "Raspberry Pi: run", "Raspberry Pi: knobs", "llama.cpp on a GPU"):
        skip(name, why)
    done()
OCR = [llamalib.NODE, os.path.join(HERE, "ocr.mjs"), llamalib.MODULES]
CHAT = [llamalib.NODE, os.path.join(HERE, "chat.mjs"), llamalib.MODULES, llamalib.model(folder.name)]

plain = run([*OCR, "6", "wrong"], layer=False)
with_layer = run([*OCR, "6", "wrong"], FLAMED_SUMMARY="2")
ok(plain[0] == 0 and with_layer[:2] == plain[:2] and "results" in plain[1],
   "ONNX Runtime: the same results with and without", with_layer)
ok(key(with_layer[2], "inferences") == "18", "ONNX Runtime: every inference of three networks was seen", with_layer[2])
ok("error Invalid rank" in with_layer[1], "ONNX Runtime: an error reaches the program, and its request is taken back",
   with_layer[1])
with fakeflamed.Server(folder.name + "/ocr") as server:
    run([*OCR, "6"], FLAMED_DEADLINE_NS="33000000", FLAMED_MODEL="ocr", FLAMED_SOCKET=folder.name + "/ocr")
    opens, begins, ends = server.of("open"), server.of("begin"), server.of("end")
    names = [o["model"] for o in opens]
    ok(len(begins) == len(ends) == 18 and len(names) == len(set(names)) == 3 and names[0] == "ocr"
       and all(n.startswith("ocr.") for n in names[1:]) and
       all(e.get("total_ns") for e in ends), "ONNX Runtime: a model for each network and shape, a request for each "
                                             "inference", (names, len(begins), len(ends)))

plain = run([*CHAT, "20", "40", "2"], layer=False)
with fakeflamed.Server(folder.name + "/chat") as server:
    with_layer = run([*CHAT, "20", "40", "2"], FLAMED_DEADLINE_NS="33000000", FLAMED_MODEL="chat",
                     FLAMED_SOCKET=folder.name + "/chat")
    opens, begins = server.of("open"), server.of("begin")
    ok(plain[0] == 0 and with_layer[:2] == plain[:2] and plain[1].startswith("tokens "),
       "llama.cpp: the same tokens with and without", with_layer)
    seen = [(b["phase"], int(b["context"])) for b in begins]
    at = seen.index(("prefill", 20)) if ("prefill", 20) in seen else 0
    contexts = [context for _, context in seen[:at]]
    ok([o["model"] for o in opens] == ["chat"] and len(contexts) >= 30
       and contexts == list(range(60 - len(contexts), 60)),
       "llama.cpp: one model, each token a request with its context", (opens, seen))
    ok(seen[at + 1:] == [("decode", context) for context in range(21, 60)],
       "... and each of a second conversation, after its prompt", seen)
with fakeflamed.Server(folder.name + "/stream") as server:
    run([*CHAT, "20", "40"], FLAMED_RATE_MHZ="15000", FLAMED_FIRST_NS="800000000", FLAMED_MODEL="chat",
        FLAMED_SOCKET=folder.name + "/stream")
    opens, begins = server.of("open"), server.of("begin")
    ok(opens[0].get("rate_mhz") == "15000" and all("deadline_ns" not in b for b in begins) and len(begins) >= 30,
       "llama.cpp: a stream where a rate is set", opens)
with fakeflamed.Server(folder.name + "/long") as server: # batches of 512
    run([*CHAT, "700", "10", "2"], FLAMED_RATE_MHZ="1000", FLAMED_MODEL="chat", FLAMED_SOCKET=server.path)
    prompts = [(b["context"], b.get("stream")) for b in server.of("begin") if b["phase"] == "prefill"]
    ok(prompts[-2:] == [("512", "1"), ("188", None)], "llama.cpp: a prompt of two batches is one start", prompts)

d = Daemon(tree="raspberry-pi-4", build=RELEASE)
before = d.knobs()
seen = run([os.path.join(RELEASE, "flamectl"), "--socket", d.socket, "run", "--model", "ocr", "--deadline", "250ms",
            "--", *OCR, "12"], layer=False,
           FLAMED_ENGINES_LAYER=LAYER, FLAMED_OPENCL_LAYER="/none", FLAMED_CUDA_LAYER="/none")
ok(seen[0] == 0 and "ocr under 250 ms" in seen[2] and re.search(r"\b(3[0-9]) inferences", seen[2]) is not None,
   "Raspberry Pi: under a deadline by flamectl run", seen)
ok("engines" in seen[2], "Raspberry Pi: the summary says which layer saw them", seen[2])
models = subprocess.run([os.path.join(RELEASE, "flamectl"), "--socket", d.socket, "models"], env=CLEAN,
                        capture_output=True, text=True).stdout
ok("ocr" in models, "Raspberry Pi: the model is known", models)
ok(d.restored(before), "Raspberry Pi: every knob is as it was found", d.difference(before))
d.end()

if llamalib.DRIVER:
    gpu = run([*CHAT, "20", "40"], FLAMED_SUMMARY="2", TEST_GPU="vulkan", VK_ICD_FILENAMES=llamalib.DRIVER,
              GGML_VK_VISIBLE_DEVICES="0",
              MESA_SHADER_CACHE_DIR=os.path.join(llamalib.NPM, "shaders"), LP_NATIVE_VECTOR_WIDTH="128")
    ok(gpu[0] == 0 and "computes on a GPU here" in gpu[2] and int(key(gpu[2], "inferences")) <= 4,
       "llama.cpp on a GPU is left to the layer of its interface", gpu)
else:
    skip("llama.cpp on a GPU", "no software Vulkan driver")
done()
