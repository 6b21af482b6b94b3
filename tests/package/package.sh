#!/bin/sh
# SPDX-License-Identifier: MIT
# The packages, built twice in different environments from the same source, are the same bytes. An
# undeclared change of symbols fails the build, and so do lint errors.
# usage: tests/package/package.sh    leaves the first build in build/deb
set -u
cd "$(dirname "$0")/../.." || exit 1
second=$(mktemp -d) || exit 1
trap 'rm -rf "$second"' EXIT
first=''
trap '[ -z "$first" ] || kill -s TERM -- "-$first"; wait; exit 130' INT TERM HUP
# shellcheck source=tests/result.sh
. tests/result.sh

mkdir -p build
LC_ALL=C TZ=UTC setsid sh -c 'umask 022 && exec tools/deb' >build/deb.log 2>&1 &
first=$! # a process group that can be ended

# At the same time, in another folder of another depth: other file times, another umask, locale, zone, home and number
# of processors.
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
status=$?
wait $first
built=$?
first=''
result $built "the packages build, lintian finds no error" build/deb.log
[ $fail -eq 0 ] || exit 1
result $status "and build in another place" "$second/log"

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

# The library exports exactly the symbols of the symbols file.
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

# The oldest system that the packages' symbols need: Ubuntu 22.04. Jansson is left out: Debian calls all of its symbols
# 2.14, which gave them a version.
for floor in libc6:2.35 libevent-core-2.1-7:2.1.12 libevent-extra-2.1-7:2.1.12 libsystemd0:249 libinih1:53 \
	libncursesw6:6.3 libsqlite3-0:3.37 libgstreamer1.0-0:1.20 libglib2.0-0:2.72; do
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

# PACKAGE SOURCE FOLDER: documents and examples are in the package, compressed or not, as the tree has them.
while read -r package source folder; do
	mkdir -p "$second/$package"
	[ -d "$second/$package/usr" ] || dpkg-deb -x build/deb/"${package}"_*.deb "$second/$package"
	file=$second/$package/usr/share/$folder/${source##*/}
	[ ! -e "$file.gz" ] || gunzip "$file.gz"
	cmp "$file" "$source" >"$second/log" 2>&1
	result $? "$package has $source" "$second/log"
done <<'LIST'
flamed README.md doc/flamed
flamed docs/trust.md doc/flamed
flamed docs/protocol.md doc/flamed
flamed docs/estimator.md doc/flamed
flamed docs/containers.md doc/flamed
flamed docs/estimator.svg doc/flamed
flamed contrib/containers/kubernetes.yaml doc/flamed/containers
flamed contrib/nvml/flamed-keeper.conf doc/flamed/nvml
flamed contrib/systemd/flamed-run.conf doc/flamed/systemd
flamed-exporter contrib/prometheus/flamed.rules.yml flamed-exporter/prometheus
flamed-exporter contrib/grafana/flamed.json flamed-exporter/grafana
libflamed-dev lib/examples/example.c doc/libflamed-dev/examples
python3-flamed lib/examples/camera.py doc/python3-flamed/examples
python3-flamed lib/examples/pytorch.py doc/python3-flamed/examples
LIST
exit $fail
