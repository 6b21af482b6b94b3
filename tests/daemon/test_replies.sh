#!/bin/sh
# SPDX-License-Identifier: MIT
# One reply to each message, in order: a million steps against a model of the protocol.
dir=$(mktemp -d) || exit 1
"$BUILD_DIR/tests/daemon/replies" "$dir" 1000000 1
status=$?
rm -rf "$dir"
exit $status
