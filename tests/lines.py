# SPDX-License-Identifier: MIT
"""TAP: a line for each check, and the plan at the end."""
import sys

count = failed = 0


def ok(right, name, detail=""):
    """One check; the detail is for the log, where it fails. Returns whether it was right."""
    global count, failed
    count += 1
    failed += not right
    print(f"{'ok' if right else 'not ok'} {count} - {name}", flush=True)
    if not right and detail != "":
        print("  # " + str(detail).replace("\n", "\n  # "), flush=True)
    return bool(right)


def skip(name, why):
    """What is not there to be checked."""
    global count
    count += 1
    print(f"ok {count} - {name} # SKIP {why}", flush=True)


def done():
    """Ends the program: status 1 where a check failed."""
    print(f"1..{count}", flush=True)
    sys.exit(1 if failed else 0)
