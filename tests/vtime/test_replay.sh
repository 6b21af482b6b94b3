#!/bin/sh
# SPDX-License-Identifier: MIT
# The same against the wall clock: a client that reports at once what each request would have taken.
exec "$BUILD_DIR/tests/vtime/vtime" --real
