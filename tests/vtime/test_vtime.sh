#!/bin/sh
# SPDX-License-Identifier: MIT
# flamed and its keeper in closed loop, in virtual time.
export VTIME_SHIM="$BUILD_DIR/tests/vtime/shim.so"
exec "$BUILD_DIR/tests/vtime/vtime"
