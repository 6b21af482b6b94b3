# SPDX-License-Identifier: MIT
# Sourced. Runs "$@"; its TAP is that of the second run when the first had a
# failure, and says so: what a busy machine does to processes that are scheduled
# in real time (a keeper kept waiting past its timers) does not repeat.
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
"$@" >"$out"
status=$?
if [ $status -ne 0 ] || grep -q '^not ok' "$out"; then
	sed -n 's/^not ok [0-9]* - /# | first of two runs, failed: /p' "$out"
	"$@" >"$out"
	status=$?
fi
cat "$out"
