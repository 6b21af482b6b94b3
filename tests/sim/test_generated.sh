#!/bin/sh
# SPDX-License-Identifier: MIT
# The estimator against 200 generated models (optimised: it is arithmetic by the billion).
exec "${RELEASE_DIR:-build/release}/tests/sim/generated" 200
