#!/bin/sh
# SPDX-License-Identifier: MIT
# The daemon over boards drawn at random, in virtual time; $SEED draws others than the tests do.
export VTIME_SHIM="$BUILD_DIR/tests/vtime/shim.so"
"$RELEASE_DIR/tests/population/daemon" --figures --seed "${SEED:-1}" &&
	"$RELEASE_DIR/tests/population/streams" --figures --seed "${SEED:-1}" --runs 64
