#!/bin/sh
# SPDX-License-Identifier: MIT
# The same against the wall clock: a client that reports at once what each request would have taken.
set -- "$BUILD_DIR/tests/vtime/vtime" --real
. "$(dirname "$0")/twice.sh"
exit $status
