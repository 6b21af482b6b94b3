#!/bin/sh
# SPDX-License-Identifier: MIT
# tools/check that is interrupted ends the tests that it runs, and what these have started.
# shellcheck source=tests/result.sh
. "${0%/*}/../result.sh"
dir=$(mktemp -d) || exit 1
trap 'pkill -KILL -f "$dir/"; rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM HUP
log=$dir/log

# sleeper NAME LINE: a test that never ends, with a process of its own
sleeper() {
	printf '#!/bin/sh\n%s\ntail -f /dev/null "%s" &\ntouch "%s"\nwait\n' "$2" "$dir/$1" "$dir/$1.began" >"$dir/$1"
}
sleeper test_a.sh '# one of two side by side'
sleeper test_b.sh '# the other'
sleeper test_c.sh '# alone: so that tools/check runs it itself'
sleeper test_d.sh '# alone: the next'

# interrupted SIGNAL TEST TEST BEGAN ...: a signal to tools/check alone once tests BEGAN have begun
interrupted() {
	signal=$1 tests="$dir/$2 $dir/$3"
	shift 3
	rm -f "$dir"/*.began
	# A job in the background of a shell ignores an interrupt.
	# shellcheck disable=SC2086 # tests are words
	BUILD_DIR=$dir/build RELEASE_DIR=$dir/build env --default-signal=INT tools/check $tests >"$log" 2>&1 &
	check=$!
	for test in "$@"; do
		until [ -e "$dir/$test.began" ]; do sleep 0.1; done
	done
	kill -"$signal" $check
	wait $check
	status=$?
	echo "status $status" >>"$log"
	pgrep -af "$dir/" >>"$log"
	[ $? -eq 1 ] && [ $status -eq 130 ] && [ "$(find "$dir" -name '*.began' | wc -l)" -eq $# ]
	result $? "SIG$signal while $* $([ $# -eq 1 ] && echo runs || echo run): no process is left, exit status 130"
}

for signal in INT TERM HUP; do
	interrupted "$signal" test_a.sh test_b.sh test_a.sh test_b.sh
	interrupted "$signal" test_c.sh test_d.sh test_c.sh
done
echo "1..$n"
exit $fail
