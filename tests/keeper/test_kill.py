#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""kill -9 of the keeper at random moments, then its journal is replayed: every knob compared."""
import random
import threading

from keeper import *

MHZ = 10**6
ROUNDS = 120
tap = Tap()
rng = random.Random(20260)
held = {"jetson-orin-nano": 8, "jetson-tx2": 8, "amd-apu": 12}


def torment(name, seed):
    """Send targets until the keeper is killed. Returns the faults found afterwards, and whether a journal was left."""
    mine = random.Random(seed)
    path = tree(name)
    root, state = path + "/root", path + "/state"
    before = snapshot(root)
    env = {"LD_PRELOAD": os.path.join(BUILD, "tests/keeper/shim.so"), "SHIM_ROOT": root, "SHIM_STATE": state,
           "SHIM_SLOW_US": str(mine.choice([0, 100, 1000]))}
    k = Keeper(root, state, binary=os.path.join(RELEASE, "flamed-keeper"), env=env)
    kill = threading.Timer(mine.uniform(0, 0.06), k.process.kill)
    kill.start()
    try:
        while k.process.poll() is None:
            if mine.random() < 0.1:
                k.send(RELEASE_OP)
            k.send(APPLY, mine.randrange(100, 2000) * MHZ, mine.randrange(100, 1300) * MHZ,
                   mine.randrange(0, 3200) * MHZ)
            if mine.random() < 0.7:
                k.receive(5)
    except OSError:
        pass
    kill.join()
    k.process.wait()
    journal = os.path.exists(state + "/journal")
    moved = differences(before, snapshot(root))
    again = Keeper(root, state, binary=os.path.join(RELEASE, "flamed-keeper"))
    status = again.close()
    after, left = differences(before, snapshot(root)), os.listdir(state)
    wrong = []
    if moved and not journal:
        wrong.append(f"knobs moved without a journal: {moved}")
    if after or left or status:
        wrong.append(f"seed {seed}: {after} {left} {status}\n{again.stderr()}")
    remove(path)
    return wrong, bool(moved)


for name in held:
    bad, moved = [], 0
    for _ in range(ROUNDS // len(held)):
        wrong, was_moved = torment(name, rng.randrange(10**9))
        bad += wrong
        moved += was_moved
    tap.ok(not bad, f"{name}: killed {ROUNDS // len(held)} times, every knob is back", "\n".join(bad))
    tap.ok(moved > 0, f"{name}: some of the kills came with knobs moved ({moved})")
tap.done()
