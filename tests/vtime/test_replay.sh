#!/bin/sh
# SPDX-License-Identifier: MIT
# The same with a client that replays: it reports what each request would have taken, and ends it twenty times sooner.
export VTIME_SHIM="$RELEASE_DIR/tests/vtime/shim.so"
exec "$RELEASE_DIR/tests/vtime/vtime" --replay
