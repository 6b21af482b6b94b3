#!/bin/sh
# SPDX-License-Identifier: MIT
# The daemon over some 600 runs on boards drawn at random, alone and in company, in virtual time.
export VTIME_SHIM="$RELEASE_DIR/tests/vtime/shim.so"
# Arithmetic of the boards by the billion: optimised in either build.
exec "$RELEASE_DIR/tests/population/daemon"
