#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The proof with a real program: llama.cpp, unmodified, under the Vulkan layer.
Nothing in the layer knows its name."""
import os
import shutil
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "opencl"), os.path.join(HERE, "..")]
import fakeflamed  # noqa: E402
import llamalib  # noqa: E402
from lines import done, ok, skip  # noqa: E402

BUILD = os.environ.get("RELEASE_DIR", "build/release")
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
    # The first step of a process is unlike all others, three alike are needed.
    ok(seen and seen[0][0] == "decode" and 20 < first <= 24, f"locked on after three tokens alike (context {first})",
       str(seen[:5]))
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
       "each prompt but the first is told from tokens, with its length", str(seen))
    return run


def one_identity(flamed):
    runs = [governed(flamed, "chat", words, FLAMED_BOUNDARY="") for words in ("20 12", "33 12")]
    names = [run.summary("model") for run in runs]
    ok(names[0] == names[1] and names[0].startswith("vulkan-"),
       "the same identity in a second process, after another prompt", str(names))


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


def main():
    why = llamalib.install()
    if why:
        skip("llama.cpp under the Vulkan layer", why)
        done()
    with fakeflamed.Server(os.path.join(scratch, "flamed.sock")) as flamed:
        one_model(flamed)
        one_identity(flamed)
        second_build(flamed)
    done()


try:
    main()
finally:
    shutil.rmtree(scratch, ignore_errors=True)
