#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The proof with a real program: llama.cpp, unmodified, under the Vulkan layer.
The layer has no special case for it."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "opencl"), os.path.join(HERE, "..")]
import fakeflamed  # noqa: E402
import llamalib  # noqa: E402
from lines import done, ok, skip  # noqa: E402

BUILD = os.environ.get("RELEASE_DIR", "build/release")
KERNELS, SUBMITS, POLLS = 72, 12, 330  # of the engine: at least as many as of a token
OVERHEAD_MAX = 0.02
scratch = tempfile.mkdtemp(prefix="flamed-llama-")


def steps(flamed):
    return [(keys.get("phase", "run"), int(keys.get("context", 0))) for keys in flamed.of("begin")]


def governed(flamed, program, words, **env):
    flamed.clear()
    return llamalib.Program(scratch, program, words, tree=BUILD, FLAMED_SOCKET=flamed.path,
                            FLAMED_DEADLINE_NS="200000000", **env)


def expected(turns, first):
    """Steps from the context `first` on: (prompt, tokens) turn by turn; a turn's first token comes of its prompt."""
    out, context = [], 0
    for i, (prompt, tokens) in enumerate(turns):
        if i:
            out.append(("prefill", prompt))
        context += prompt
        for _ in range(tokens - 1):
            if context >= first:
                out.append(("decode", context))
            context += 1
    return out


def one_model(flamed):
    """A conversation: three prompts and the tokens after each."""
    words = "20 40 70 12 300 10"
    plain = llamalib.Program(scratch, "chat", words)
    ok(plain.rc == 0 and plain.tokens and len(plain.tokens.split()) == 62, "llama.cpp runs on Vulkan",
       plain.out + plain.err)
    run = governed(flamed, "chat", words, FLAMED_MODEL="llm")
    ok(run.rc == 0 and run.tokens == plain.tokens, "tokens are the same with and without the layer", run.out + run.err)
    seen = steps(flamed)
    first = seen[0][1] if seen else 0
    # The first token's pipelines are created amid it, which may split it in two.
    ok(seen and seen[0][0] == "decode" and first in (23, 24),
       f"locked by the third token, the one that compiles apart (context {first} after a prompt of 20)", str(seen[:5]))
    ok({keys["model"] for keys in flamed.of("open")} == {"llm"}, "one model for the whole conversation",
       str(flamed.of("open")))
    wanted = expected(((20, 40), (70, 12), (300, 10)), first)
    missing = [step for step in wanted if step not in seen]
    ok(not [step for step in seen if step not in wanted],
       "phase and context of every step are right: prompts by length, tokens by context",
       f"{[step for step in seen if step not in wanted]} of {seen}")
    # The first step of a new shape compiles pipelines, and may be left out.
    ok(len(missing) <= 3, f"{len(seen)} of {len(wanted)} steps were requests", str(missing))
    ok({("prefill", 70), ("prefill", 300)} <= set(seen),
       "each prompt but the first is distinguished from tokens, with its length", str(seen))
    return run


def one_identity(flamed):
    runs = [governed(flamed, "chat", words, FLAMED_BOUNDARY="") for words in ("20 12", "33 12")]
    names = [run.summary("model") for run in runs]
    ok(names[0] == names[1] and names[0].startswith("vulkan-"),
       "the same identity in a second process, after another prompt", str(names))
    run = governed(flamed, "chat", "20 250", FLAMED_BOUNDARY="")
    seen, opened = steps(flamed), {keys["model"] for keys in flamed.of("open")}
    wanted = expected(((20, 250),), seen[0][1] if seen else 0)
    ok(run.rc == 0 and opened == {names[0]}, "... and as the context outgrows the first block of 256 tokens",
       f"{opened}, not {names[0]}")
    missing = [context for _, context in wanted if ("decode", context) not in seen]
    ok(wanted[-1][1] == 268 and len(missing) <= 3 and set(seen) <= set(wanted),
       f"{len(seen)} of {len(wanted)} tokens on both sides of it were requests", f"{missing} {seen}")


def second_conversation(flamed):
    """Noticed by the second token after its prompt, as arguments of the kernels are those of a short context again."""
    run = governed(flamed, "chat", "20 12 30 6 30 6 300 6 n33 20", FLAMED_MODEL="llm")
    seen = steps(flamed)
    at = seen.index(("prefill", 33)) if ("prefill", 33) in seen else len(seen)
    wanted = expected(((20, 12), (30, 6), (30, 6), (300, 6)), seen[0][1] if seen else 0)
    ok(run.rc == 0 and len(seen[:at]) > 20 and not [step for step in seen[:at] if step not in wanted],
       "prompts of one length do not begin a new conversation", f"{seen[:at]}, not {wanted}")
    ok([context for _, context in seen[at + 3:]] == list(range(35, 35 + 17)),
       "a second conversation in the same process: its contexts are its own", str(seen[at:]))
    ok({keys["model"] for keys in flamed.of("open")} == {"llm"}, "... of the same model", str(flamed.of("open")))


def second_build(flamed):
    plain = llamalib.Program(scratch, "second", "20 16")
    run = governed(flamed, "second", "20 16", FLAMED_MODEL="llm")
    seen = steps(flamed)
    ok(run.rc == 0 and run.tokens and run.tokens == plain.tokens,
       "another build of llama.cpp: the same tokens with and without", run.out + run.err[-2000:])
    contexts = [context for phase, context in seen if phase == "decode"]
    ok(len(contexts) >= 10 and contexts == list(range(contexts[0], contexts[0] + len(contexts))),
       "... recognised as well, its tokens with their contexts", str(seen))
    ok({keys["model"] for keys in flamed.of("open")} == {"llm"}, "... as one model", str(flamed.of("open")))


def host_us(layer, **env):
    """Processor time of the thread that launches, for an inference of the test engine."""
    full = dict(os.environ, VK_ICD_FILENAMES=llamalib.DRIVER, MESA_SHADER_CACHE_DIR=scratch,
                XDG_DATA_DIRS=os.path.abspath(BUILD) + "/share:/usr/share", FLAMED_DEADLINE_NS="200000000", **env)
    full.pop("FLAMED_VULKAN", None)
    if layer:
        full["FLAMED_VULKAN"] = "1"
    run = subprocess.run([BUILD + "/tests/vulkan/engine", f"kernels={KERNELS}", f"submits={SUBMITS}", "rounds=1",
                          "wait=part", f"polls={POLLS}", "runs=100"], env=full, capture_output=True, text=True,
                         timeout=240)
    said = re.search(r"^host_us ([\d.]+)$", run.stdout, re.M)
    return float(said.group(1)) if said else float("inf")


def overhead(flamed, run):
    """Of the fastest token, the layer may take 2 %. What it takes is measured in processor time, which a busy machine
    changes little, on an engine that makes as many dispatches, submissions and polls: llama.cpp waits for a fence amid
    the token's work, and polls the last one 80 to 330 times. The least of ten runs counts."""
    token_us = 1000 * min(run.ms)
    dispatches = int(run.summary("launches")) / len(run.ms)
    flamed.clear()
    ways, least = {"": "off", "off": "off", "on": "on"}, {}
    for _ in range(10):
        for way, stamps in ways.items():
            us = host_us(way != "", FLAMED_SOCKET=flamed.path, FLAMED_TIMESTAMPS=stamps)
            least[way] = min(us, least.get(way, us))
    ok(dispatches <= KERNELS and len(flamed.of("begin")) >= 20 * 90,
       "overhead: the engine makes as many dispatches as a token, and every inference is a request",
       f"{dispatches} {len(flamed.of('begin'))}")
    for stamps in ("off", "on"):
        added = least[stamps] - least[""]
        ok(added <= OVERHEAD_MAX * token_us,
           f"overhead on a token, timestamps {stamps}: {100 * OVERHEAD_MAX:g} % at most", f"{least} of {token_us} us")
        print(f"# | overhead on a token of {token_us / 1000:.1f} ms, timestamps {stamps}: "
              f"{100 * added / token_us:.2f} %")


def main():
    why = llamalib.install()
    if why:
        skip("llama.cpp under the Vulkan layer", why)
        done()
    with fakeflamed.Server(os.path.join(scratch, "flamed.sock")) as flamed:
        overhead(flamed, one_model(flamed))
        one_identity(flamed)
        second_conversation(flamed)
        second_build(flamed)
    done()


try:
    main()
finally:
    shutil.rmtree(scratch, ignore_errors=True)
