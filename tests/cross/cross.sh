#!/bin/sh
# SPDX-License-Identifier: MIT
# Another architecture: the unit tests and a small population run on it through qemu-user, and its packages, which are
# everything else, are built, installed and used. Prints TAP.
# usage: tests/cross/cross.sh [ARCH]     arm64; make check-cross
set -u
cd "$(dirname "$0")/../.." || exit 1
arch=${1:-arm64}
log=$(mktemp) || exit 1
trap 'rm -f "$log" "$log.skips"' EXIT
# shellcheck source=tests/result.sh
. tests/result.sh

if ! tools/cross "$arch" true >"$log" 2>&1; then
	if [ "$(id -u)" = 0 ]; then
		why="no Debian root could be made: $(tail -1 "$log")"
	else
		why="making a Debian root needs root"
	fi
	echo "ok 1 - $arch # SKIP $why"
	exit 0
fi
# shellcheck disable=SC2016
tools/cross "$arch" sh -c '
	triplet=$(dpkg-architecture -a"$1" -qDEB_HOST_GNU_TYPE 2>/dev/null)
	exec make -j"$(nproc)" B="build/$1" CC="$triplet-gcc" PKG_CONFIG="$triplet-pkg-config" \
		unit "build/$1/tests/population/population"' sh "$arch" >"$log" 2>&1
result $? "the unit tests and the population build for $arch"
[ $fail -eq 0 ] || exit 1

qemu=qemu-$(sed -n "s/^$arch //p" <<-END
	arm64 aarch64
	riscv64 riscv64
	END
)-static
logs=build/$arch/logs
rm -rf "$logs"
mkdir -p "$logs"
# shellcheck disable=SC2016 # of the shell that runs one test
find build/"$arch"/tests/unit -name 'test_*' ! -name '*.[od]' -printf '%f\n' | xargs -P "$(nproc)" -I '{}' sh -c '
	tools/cross "$1" env CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 10 1500 \
		"$2" "build/$1/tests/unit/$4" >"$3/$4.log" 2>&1
	echo $? >"$3/$4.status"' sh "$arch" "$qemu" "$logs" '{}'
for status in "$logs"/test_*.status; do
	of=${status%.status}.log test=$(basename "$status" .status)
	sed -i -f tests/cmocka.sed "$of"
	[ "$(cat "$status")" = 0 ] && grep -q '^ok ' "$of" && ! grep -q '^not ok' "$of"
	result $? "$test: $(grep '^ok ' "$of" | grep -cv '# SKIP') passed" "$of"
	sed -n 's/^ok [0-9]* - \(.* # SKIP .*\)/\1/p' "$of" >"$log.skips"
	while IFS= read -r skipped; do
		result 0 "$test: $skipped"
	done <"$log.skips"
done

# The same boards and arrivals on both: only the last bit of logarithms differs.
power() { sed -n 's/.* all .* power \([0-9.]*\) .*/\1/p' "$1"; }
misses() {
	sed -n 's|.* missed \([0-9]*\)/[0-9]* early \([0-9]*\)$|\1 \2|p' "$1" |
		awk '{ n += $1 + $2 } END { if (NR) print n }'
}
make --no-print-directory -s build/release/tests/population/population >"$log" 2>&1 &&
	build/release/tests/population/population --list --runs 16 >"$log.native" 2>>"$log" &&
	tools/cross "$arch" "$qemu" "build/$arch/tests/population/population" --list --runs 16 >"$log" 2>&1
result $? "16 boards drawn at random in closed loop"
awk -v a="$(power "$log.native")" -v b="$(power "$log")" 'BEGIN { exit !(a > 0 && b > 0 && (a - b) ^ 2 <= 0.01 ^ 2) }'
result $? "mean power over the optimum: $(power "$log"), here $(power "$log.native"), within 0.01"
here=$(misses "$log.native") there=$(misses "$log")
[ -n "$here" ] && [ -n "$there" ] && [ $((here - there)) -le 2 ] && [ $((there - here)) -le 2 ]
result $? "deadlines missed, the first 30 included: $there, here $here, at most two apart"
rm -f "$log.native"

tools/deb "build/deb-$arch" "$arch" >"$log" 2>&1
result $? "the packages build for $arch, lintian finds no error"
[ $fail -eq 0 ] || exit 1
tools/cross "$arch" tests/cross/smoke.sh "$qemu" "build/deb-$arch" >"$log" 2>&1
status=$?
sed "s/^ok /ok $n./; s/^not ok /not ok $n./" "$log"
[ $status -eq 0 ] || fail=1
exit $fail
