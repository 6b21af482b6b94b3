# SPDX-License-Identifier: MIT
"""TAP for the clients' tests: @test functions, run in order by main()."""

import os
import re
import sys
import time
import tempfile
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BUILD_DIR", os.path.join(ROOT, "build/asan"))
with open(ROOT + "/Makefile", encoding="utf-8") as makefile:
    VERSION = re.search(r"^VERSION := (.*)$", makefile.read(), re.M).group(1)
RELEASE = os.environ.get("RELEASE_DIR", os.path.join(ROOT, "build/release"))
tests = []


class Skip(Exception):
    pass


def test(function):
    tests.append(function)
    return function


def equal(actual, expected, what=""):
    if actual != expected:
        raise AssertionError(f"{what or 'value'}: {actual!r}, expected {expected!r}")


def within(actual, low, high, what=""):
    if not low <= actual <= high:
        raise AssertionError(f"{what or 'value'}: {actual!r}, expected {low!r} to {high!r}")


def contains(text, *parts):
    for part in parts:
        if part not in text:
            raise AssertionError(f"{part!r} is not in: {text!r}")


def until(condition, what, seconds=20):
    """Wait for an effect of another thread or process."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def main():
    """Each test gets a directory of its own that is removed afterwards."""
    failed = 0
    for number, function in enumerate(tests, 1):
        name = (function.__doc__ or function.__name__).split("\n")[0].rstrip(".")
        try:
            with tempfile.TemporaryDirectory(prefix="flamed-client-") as directory:
                function(directory)
            print(f"ok {number} - {name}", flush=True)
        except Skip as reason:
            print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {number} - {name}", flush=True)
            for line in traceback.format_exc().splitlines():
                print(f"# {line}", flush=True)
    print(f"1..{len(tests)}")
    sys.exit(1 if failed else 0)
