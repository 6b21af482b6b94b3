# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# TAP for scripts: sourced. `n` lines so far, `fail` is 1 once one has failed.
n=0
fail=0

# result STATUS NAME [LOG]    with the end of LOG, else of $log, after a failure
result() {
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else
		echo "not ok $n - $2"
		tail -30 "${3:-${log:-/dev/null}}" | sed 's/^/  # /'
		fail=1
	fi
}
