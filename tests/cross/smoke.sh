#!/bin/sh
# SPDX-License-Identifier: MIT
# In the root of tools/cross: packages of another architecture are installed, flamed serves a client on a
# board in a directory, and they are removed again. Prints TAP.
# usage: tests/cross/smoke.sh QEMU DIR-OF-PACKAGES
set -u
qemu=$1
packages=$2
dir=$(mktemp -d) || exit 1
log=$dir/log
# shellcheck source=tests/result.sh
. "$(dirname "$0")/../result.sh"

# wait_for SECONDS COMMAND ...
wait_for() {
	tries=$(($1 * 10))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.1
	done
}

board='' flamed=''
trap 'kill $flamed $board 2>/dev/null; rm -rf "$dir"' EXIT

find "$packages" -name '*.deb' ! -name '*-dbgsym*' -printf '%f\n' | sed 's/_.*//' | LC_ALL=C sort | tr '\n' ' ' >"$log"
[ "$(cat "$log")" = 'flamed flamed-exporter flamed-layers libflamed-dev libflamed0 python3-flamed ' ]
result $? "there are six packages"
# shellcheck disable=SC2046
dpkg -i $(find "$packages" -name '*.deb' ! -name '*-dbgsym*' ! -name '*_all.deb') >"$log" 2>&1
result $? "those of the architecture install"
# It depends on the root's own architecture, which has Python and no flamed.
dpkg -i --force-depends "$packages"/python3-flamed_*_all.deb >"$log" 2>&1 &&
	python3 -c 'import flamed; assert flamed.seconds("33ms") == 0.033' >>"$log" 2>&1
result $? "python3-flamed installs, and is imported"
for program in /usr/sbin/flamed /usr/libexec/flamed/flamed-keeper /usr/bin/flamectl \
	/usr/bin/flamed-board /usr/bin/flamed-probe /usr/bin/flamed-exporter; do
	"$qemu" $program --help >"$log" 2>&1
	result $? "$program --help"
done
getent passwd flamed >"$log" 2>&1
result $? "the user flamed is there"

# Where the kernel does not run foreign programs by itself, flamed's keeper is a script beside it.
cp /usr/sbin/flamed "$dir/flamed"
printf '#!/bin/sh\nexec %s /usr/libexec/flamed/flamed-keeper "$@"\n' "$qemu" >"$dir/flamed-keeper"
chmod 755 "$dir/flamed-keeper"
"$qemu" /usr/bin/flamed-board "$dir/board" --board orin-nano >"$log" 2>&1 &
board=$!
wait_for 30 test -e "$dir/board/board.page"
limits() {
	(cd "$dir/board" &&
		find . -name 'scaling_*_freq' -o -name 'm[ai][nx]_freq' | sort | xargs grep .) 2>/dev/null |
		grep -v cur_freq
}
as_found() {
	limits | cmp -s - "$dir/before"
}
limits >"$dir/before"
"$qemu" "$dir/flamed" --sysroot "$dir/board" --runtime-dir "$dir/run" --state-dir "$dir/state" >"$log" 2>&1 &
flamed=$!
wait_for 30 "$qemu" /usr/bin/flamectl --socket "$dir/run/flamed.sock" status
result $? "flamed serves a board in a directory"

host=$(dpkg-query -W -f '${Architecture}\n' flamed)
"$(dpkg-architecture -a"$host" -qDEB_HOST_GNU_TYPE 2>/dev/null)-gcc" /usr/share/doc/libflamed-dev/examples/example.c \
	-lflamed -o "$dir/example" >"$log" 2>&1
result $? "the example builds with the installed library"
FLAMED_SOCKET=$dir/run/flamed.sock "$qemu" "$dir/example" 20 >"$log" 2>&1 &&
	grep -Eq '^example: 20 inferences, [0-9]+ of (19|20) under flamed' "$log"
result $? "its inferences are requests under flamed" # the last may end unacknowledged
kill $flamed && wait $flamed 2>"$log"
result $? "flamed ends"
test -s "$dir/before" && wait_for 30 as_found # flamed does not wait for its keeper
result $? "every limit is as it was found"
dpkg -P python3-flamed flamed-exporter flamed flamed-layers libflamed-dev libflamed0 >"$log" 2>&1 &&
	! find /etc/flamed /usr/libexec/flamed /usr/sbin/flamed /usr/bin/flamectl 2>/dev/null | grep . >"$log"
result $? "purging them leaves nothing"
exit $fail
