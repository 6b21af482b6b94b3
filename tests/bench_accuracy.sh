#!/bin/sh
# SPDX-License-Identifier: MIT
# How far predictions are off: on measured boards, on made-up ones, on generated models.
CMOCKA_MESSAGE_OUTPUT=TAP "$RELEASE_DIR/tests/unit/test_accuracy" | sed -n 's/^# |//p'
"$RELEASE_DIR/tests/sim/generated" 200 | sed -n 's/^# |//p'
