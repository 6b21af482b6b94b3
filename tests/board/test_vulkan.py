#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# alone: judges wall-clock time
"""The board's Vulkan layer under an unmodified program: same results, the board's times,
query results too, its error measured."""
import csv, os, re, shutil, subprocess, sys, tempfile

sys.path.insert(0, os.path.dirname(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../vulkan"))
import manifest
from boardlib import BUILD, RELEASE, Board, ok, skip, say, done

FOLDERS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d")
DRIVER = next((f"{folder}/{name}" for folder in FOLDERS if os.path.isdir(folder) for name in os.listdir(folder)
               if name.startswith("lvp_icd")), None)
WORDS = "runs=16 kernels=6 rounds=1500"
scratch = tempfile.mkdtemp(prefix="flamed-board-vulkan-")


def run(words, tree=RELEASE, layer=True, **env):
    full = dict(os.environ, VK_ICD_FILENAMES=DRIVER, MESA_SHADER_CACHE_DIR=scratch, ASAN_OPTIONS="detect_leaks=0",
                XDG_DATA_DIRS=os.path.abspath(tree) + "/share:/usr/share", **env)
    if layer:
        full["VK_INSTANCE_LAYERS"] = full.get("VK_INSTANCE_LAYERS", "") + "VK_LAYER_FLAMED_board"
    r = subprocess.run([tree + "/tests/vulkan/engine", *words.split()], capture_output=True, text=True, timeout=240,
                       env=full)
    found = re.search(r"^hash (\w+)", r.stdout, re.M)
    return r.returncode, found and found.group(1), r.stdout + r.stderr


def median(values):
    return sorted(values)[len(values) // 2]


def waits(board, words, **env):
    path = board.path("/waits.csv")
    rc, _, text = run(words, FLAMED_BOARD=board.root, FLAMED_BOARD_WAITS=path, **env)
    rows = list(csv.DictReader(open(path))) if os.path.exists(path) else []
    return rc, [int(r["total_ns"]) / 1e6 for r in rows], [int(r["due_ns"]) / 1e6 for r in rows], text


def executions(board, top):
    """The times of the submissions of an inference, in ms, by the calibration file and the layer's rule, for as
    many as at the top clocks."""
    base = [dict(zip(("key", "host_runs", "exec_runs", "host_ns", "exec_ns"), line.split(","))) for line in
            board.read("/vulkan-calibration.csv").split("\n")[1:]]
    _, exec_slow, m = board.page.opencl
    ratio = [board.page.max_hz[c] / board.page.hz[c] for c in range(3)]
    stretch = (((1 - m) * ratio[1]) ** 3 + (m * ratio[2]) ** 3) ** (1 / 3) / ((1 - m) ** 3 + m ** 3) ** (1 / 3)
    return sum(float(e["exec_ns"]) for e in base if int(e["exec_runs"]) >= top) * exec_slow * stretch / 1e6


def felt(board):
    ok(os.path.exists(board.path("/vulkan-calibration.csv")), "calibrated")
    for point in ((2201600000, 1300500000, 3199000000), (2201600000, 510000000, 3199000000),
                  (883200000, 306000000, 204000000)):
        board.pin(*point)
        rc, total, due, text = waits(board, WORDS)
        want, name = executions(board, 12), "/".join(str(hz // 1000000) for hz in point) + " MHz"
        # The host's own work comes on top of it: recording and submitting, at the board's CPU clock.
        ok(rc == 0 and len(due) >= 10 and 0.98 * want < median(due) < 1.5 * want + 20,
           f"takes what the clocks allow, {name}", (median(due or [0]), want))
        ok(total and all(a >= 0.98 * b for a, b in zip(total, due)), f"and is really waited for, {name}", (total, due))
        say(f"{name}: an inference is due after {median(due):.1f} ms and took {median(total):.1f}; "
            f"{text.strip().splitlines()[-1]}")


def told(board):
    """Timestamps as the program, and flamed's layer above the board's, read them."""
    trace = os.path.join(scratch, "trace.csv")
    spent = []
    for point in ((2201600000, 1300500000, 3199000000), (2201600000, 306000000, 3199000000)):
        board.pin(*point)
        rc, _, text = run(WORDS, FLAMED_BOARD=board.root, FLAMED_VULKAN="1", FLAMED_TRACE=trace, FLAMED_TIMESTAMPS="on",
                          FLAMED_SUMMARY="2")
        reps = {}
        for row in csv.DictReader(open(trace)):
            reps.setdefault(row["rep"], []).append(int(row["gpu_ns"]) / 1e6)
        found = re.search(r"^inferences=(\d+) missed=\d+ median_ns=(\d+)", text, re.M)
        ok(rc == 0 and found and int(found.group(1)) == 13, "flamed's layer above it finds every inference", text)
        spent.append(median([sum(rep) for rep in reps.values()]) if reps else 0)
        ok(0 < spent[-1] < int(found.group(2)) / 1e6 * 1.05, "net layers within the inference", (spent, text))
        os.unlink(trace)
    ok(1.3 < spent[1] / spent[0] < 8, "query results move with the clocks", spent)


def main():
    if not DRIVER:
        skip("the board's Vulkan layer", "no software Vulkan driver")
        return
    rc, result, text = run(WORDS, layer=False)
    ok(rc == 0 and result, "the program by itself", text)
    rc, same, text = run(WORDS)
    ok(rc == 0 and same == result and text.count("nothing is slowed down") == 1,
       "without a board it runs unchanged, with one message", text)
    b = Board("agx-orin")
    b.pin(2201600000, 1300500000, 3199000000)
    for words in ("", "wait=poll", "wait=timeline", "wait=timelinepoll submit2", "wait=queue resubmit",
                  "wait=part submits=3", "secondary reset upload",
                  "devices=2 wait=device", "flight=2"):
        short = "runs=6 kernels=6 rounds=300 " + words
        _, result, _ = run(short, layer=False)
        rc, same, text = run(short, FLAMED_BOARD=b.root)
        ok(rc == 0 and same == result, f"results are bit-identical, {words or 'fence'}", text)
    for words in ("", " submit2"):  # few, so that felt() does not take them for those of WORDS
        parts = "runs=3 kernels=6 rounds=300 batch submits=3 wait=timelineparts" + words
        _, result, _ = run(parts, layer=False)
        rc, same, text = run(parts, FLAMED_BOARD=b.root)
        ok(rc == 0 and same == result is not None and "launches" in text,
           f"a part of one call is over before the rest, which the program has not let begin{words}", text)
    folder = manifest.write(os.path.join(scratch, "explicit"), "VK_LAYER_TEST_below",
                            f"{RELEASE}/tests/vulkan/libbelow.so")
    below = {"VK_INSTANCE_LAYERS": "VK_LAYER_TEST_below", "FLAMED_BELOW": "queues",
             "VK_LAYER_PATH": f"{folder}:{os.path.abspath(RELEASE)}/share/vulkan/explicit_layer.d"}
    _, result, text = run("runs=6 kernels=6 rounds=300 aside", layer=False, **below)
    below["VK_INSTANCE_LAYERS"] = "VK_LAYER_FLAMED_board:VK_LAYER_TEST_below"
    rc, same, text = run("runs=6 kernels=6 rounds=300 aside", layer=False, FLAMED_BOARD=b.root, **below)
    ok(rc == 0 and same == result is not None and "launches" in text,
       "a submission of another queue is over before one that the program has not let begin", text)
    nested = "runs=6 kernels=6 rounds=300 devices=2 nested"
    _, result, _ = run(nested, layer=False)
    rc, same, text = run(nested, FLAMED_BOARD=b.root)
    ok(rc == 0 and same == result is not None and "launches" in text,
       "launches of another queue are over before those that the program has not let begin", text)
    rc, same, text = run("runs=6 kernels=6 rounds=300 flight=2 wait=poll", tree=BUILD, FLAMED_BOARD=b.root)
    ok(rc == 0 and "Sanitizer" not in text and "runtime error" not in text, "with ASan too", text)
    felt(b)
    told(b)
    rc, _, text = run(WORDS, FLAMED_BOARD=b.root)
    ok(re.search(r"flamed-board-vulkan: \d+ launches; ends reported late by \d+ us", text) is not None,
       "the layer prints its own error", text)
    if os.path.exists("/usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json"):
        rc, _, text = run("runs=6 submits=2", FLAMED_BOARD=b.root,
                          VK_INSTANCE_LAYERS="VK_LAYER_FLAMED_board:VK_LAYER_KHRONOS_validation:")
        ok(rc == 0 and "Validation" not in text, "validation has nothing to say of it", text)
    else:
        skip("validation", "vulkan-validationlayers is not installed")
    b.write("/vulkan-calibration.csv", "key,host_runs\nx,y")
    rc, _, text = run("runs=6", FLAMED_BOARD=b.root)
    ok(rc == 0 and "calibrating again" in text, "a damaged calibration is reported and replaced", text)
    b.close()


main()
shutil.rmtree(scratch, ignore_errors=True)
done()
