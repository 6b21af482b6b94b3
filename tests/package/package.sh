#!/bin/sh
# SPDX-License-Identifier: MIT
# The packages, built twice with nothing alike but the source: the same bytes. A
# symbol that comes or goes unannounced fails the build, lint errors too.
# usage: tests/package/package.sh    leaves the first build in build/deb
set -u
cd "$(dirname "$0")/../.." || exit 1
second=$(mktemp -d) || exit 1
trap 'rm -rf "$second"' EXIT
# shellcheck source=tests/result.sh
. tests/result.sh

mkdir -p build
(umask 022 && LC_ALL=C TZ=UTC tools/deb) >build/deb.log 2>&1
result $? "the packages build, lintian finds no error" build/deb.log
[ $fail -eq 0 ] || exit 1

# Another folder of another depth, other file times, another umask, locale, zone, home and number of processors.
mkdir -p "$second/another/tree"
git ls-files -z | xargs -0 cp --parents -t "$second/another/tree"
find "$second/another/tree" -exec touch -h -d '2001-02-03 04:05:06' {} +
(
	cd "$second/another/tree" || exit 1
	git init -q . && git add -A . || exit 1
	umask 077
	export LC_ALL=C.UTF-8 LANG=C.UTF-8 TZ=Pacific/Kiritimati HOME="$second" DEB_BUILD_OPTIONS=parallel=1
	tools/deb "$second/deb"
) >"$second/log" 2>&1
result $? "and build in another place" "$second/log"

for deb in build/deb/*.deb; do
	name=$(basename "$deb")
	cmp "$deb" "$second/deb/$name" >"$second/differ" 2>&1
	same=$?
	if [ $same -ne 0 ]; then # which file of it
		for side in first second; do
			if [ $side = first ]; then from=$deb; else from=$second/deb/$name; fi
			rm -rf "${second:?}/$side"
			dpkg-deb -R "$from" "$second/$side" && dpkg-deb -c "$from" >"$second/$side/listing"
		done
		diff -rq "$second/first" "$second/second" >>"$second/differ" 2>&1
		diff "$second/first/listing" "$second/second/listing" >>"$second/differ" 2>&1
	fi
	result $same "$name is the same, byte by byte" "$second/differ"
done

# What the library exports is what the symbols file says, no more and no less.
symbols=$second/deb/src/debian/libflamed0.symbols
cp "$symbols" "$second/symbols"
check_symbols() {
	(cd "$second/deb/src" && DEB_BUILD_OPTIONS="" debian/rules override_dh_makeshlibs) >"$second/log" 2>&1
}
check_symbols
result $? "the symbols file says what the library exports" "$second/log"
grep -v ' flamed_end@' "$second/symbols" >"$symbols"
! check_symbols
result $? "a symbol that the file does not know fails the build" "$second/log"
{ cat "$second/symbols" && echo ' flamed_gone@FLAMED_0 0.0.9'; } >"$symbols"
! check_symbols
result $? "and so does one that is gone" "$second/log"

# The oldest system that the packages' symbols ask for: Ubuntu 22.04.
for floor in libc6:2.35 libevent-core-2.1-7:2.1.12 libevent-extra-2.1-7:2.1.12 libsystemd0:249 libinih1:53; do
	newest=$(for deb in build/deb/*.deb; do dpkg-deb -f "$deb" Depends; done | tr ',|' '\n\n' |
		sed -n "s/^ *${floor%:*} (>= \([^)]*\)).*/\1/p" | sort -V | tail -1)
	dpkg --compare-versions "${newest:-0}" le "${floor#*:}" && [ -n "$newest" ]
	result $? "no newer interface of ${floor%:*} than ${floor#*:} has is used (${newest:-not used})" /dev/null
done

files=$(dpkg-deb --info build/deb/flamed_*.deb conffiles 2>"$second/log")
echo "$files" | grep -qx /etc/flamed.conf
result $? "/etc/flamed.conf is a conffile" "$second/log"
grep -q . build/deb/src/debian/libflamed0/DEBIAN/symbols
result $? "libflamed0 carries its symbols file"
exit $fail
