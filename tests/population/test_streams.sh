#!/bin/sh
# SPDX-License-Identifier: MIT
# The daemon with streams of tokens on boards drawn at random, in virtual time; three boards of each kind.
export VTIME_SHIM="$RELEASE_DIR/tests/vtime/shim.so"
# Arithmetic of the boards by the billion: optimised in either build.
exec "$RELEASE_DIR/tests/population/streams" --runs 24
