#!/bin/sh
# SPDX-License-Identifier: MIT
# Power predicted from few samples, over many kinds of boards (optimised: it is arithmetic by the billion).
exec "${RELEASE_DIR:-build/release}/tests/sim/prior"
