#!/bin/sh
# SPDX-License-Identifier: MIT
# tools/bench fails where a figure that does not depend on the machine is missed or missing, and only there; it tells
# those over the promised limit from those over the held one too. The limits of the population are those of its test.
# shellcheck source=tests/result.sh
. "${0%/*}/../result.sh"
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
log=$dir/log figures=$dir/figures limits=tests/bench.limits
sed -n 's/^\([a-z0-9_]*=[0-9.]*\)[! ].*/\1 x/p' $limits >"$figures"
hard=$(sed -n 's/^\([a-z0-9_]*\)=[0-9.]*![0-9.]* .*/\1/p' $limits)
soft=$(sed -n 's/^\([a-z0-9_]*\)=[0-9.]* .*/\1/p' $limits)
# `name promised held` where these differ
sed -n 's/^\([a-z0-9_]*\)=\([0-9.]*\)!\([0-9.]*\) .*/\1 \2 \3/p' $limits | awk '$2 != $3' >"$dir/differ"

# judged WITH: the exit status of tools/bench over the figures as this sed script changes them
judged() {
	sed "$1" "$figures" >"$dir/changed"
	tools/bench "$dir/changed" >"$log" 2>&1
	echo $?
}

[ -n "$hard" ] && [ -n "$soft" ] && [ "$(judged '')" -eq 0 ] && ! grep -q 'MISSED\|OVER\|NOT MEASURED' "$log"
result $? "every figure as promised: exit status 0, and none is marked"
bad=
for name in $hard; do
	[ "$(judged "s/^$name=.*/$name=1000000 x/")" -eq 1 ] &&
		grep -q "^$name .*OVER$" "$log" || bad="$bad $name"
done
[ -z "$bad" ]
result $? "any held figure over its limit: exit status 1, and marked${bad:+; not:$bad}"
bad=
while read -r name promised held; do
	[ "$(judged "s/^$name=.*/$name=$held x/")" -eq 1 ] &&
		grep -q "^$name .*<= $promised  *<= $held .*MISSED$" "$log" || bad="$bad $name"
done <"$dir/differ"
[ -s "$dir/differ" ] && [ -z "$bad" ]
result $? "any held figure over the promised limit alone: exit status 1, and marked as such${bad:+; not:$bad}"
name=${hard%%[!a-z0-9_]*}
[ "$(judged "/^$name=/d")" -eq 1 ] && grep -q "^$name .*NOT MEASURED$" "$log"
result $? "a held figure not measured: exit status 1"
[ "$(judged "s/^$name=.*/# $name is not measured: only root may/")" -eq 0 ] &&
	grep -q "^$name .*NOT MEASURED: only root may$" "$log"
result $? "one that its benchmark cannot measure here: exit status 0, and the reason"
name=${soft%%[!a-z0-9_]*}
[ "$(judged "s/^$name=.*/$name=1000000 x/")" -eq 0 ] && grep -q "^$name .*MISSED$" "$log"
result $? "one that depends on the machine over the promised figure: exit status 0, and marked"

# A part's first row in daemon.c is of promise[], its second of held[]; 0 is no limit.
awk -F '[][{},= \t]+' '
	BEGIN { split("missed_percent power_mean power_p90 power_worst first_30_missed stuck_percent", name, " ") }
	/^[ \t]+\[(ALONE|COMPANY|ENERGY|LONG)\] = \{/ {
		for (i = 1; i <= 6; i++) {
			value = $(i + 2) * (name[i] ~ /percent/ ? 100 : 1)
			key = tolower($2) "_" name[i]
			if (!($2 in seen)) promised[key] = value
			else if (value > 0) print key, promised[key], value
		}
		seen[$2] = 1
	}' tests/population/daemon.c | sort >"$dir/tested"
sed -n 's/^\(alone\|company\|energy\|long\)\(_[a-z0-9_]*\)=\([0-9.]*\)!\([0-9.]*\) .*/\1\2 \3 \4/p' $limits |
	awk '{ print $1, $2 + 0, $3 + 0 }' | sort >"$dir/judged"
[ -s "$dir/tested" ] && diff "$dir/judged" "$dir/tested" >"$log"
result $? "the limits of the population are those of its test"
echo "1..$n"
exit $fail
