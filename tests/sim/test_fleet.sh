#!/bin/sh
# SPDX-License-Identifier: MIT
# Samples of ten boards, imported by the eleventh of their kind, over 60 kinds (optimised: it is arithmetic by the
# billion).
exec "${RELEASE_DIR:-build/release}/tests/sim/fleet"
