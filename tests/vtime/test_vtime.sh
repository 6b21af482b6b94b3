#!/bin/sh
# SPDX-License-Identifier: MIT
# flamed and its keeper in closed loop, in virtual time. The boards are simulated, optimised in either build.
export VTIME_SHIM="$RELEASE_DIR/tests/vtime/shim.so"
exec "$RELEASE_DIR/tests/vtime/vtime"
