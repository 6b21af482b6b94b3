#!/bin/sh
# SPDX-License-Identifier: MIT
# libflamed against a daemon that is slow, restarts, refuses and sends rubbish: a million calls.
dir=$(mktemp -d) || exit 1
"$BUILD_DIR/tests/client/calls" "$dir" 1000000 1
status=$?
rm -rf "$dir"
exit $status
