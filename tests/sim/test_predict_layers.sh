#!/bin/sh
# SPDX-License-Identifier: MIT
# flamectl predict, with layers and without, on the files of one generated model.
set -u
bin=${RELEASE_DIR:-build/release}
flamectl=${BUILD_DIR:-build/release}/flamectl
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
n=0 failed=0

result() { # result TEXT: of the last command
	rc=$?
	n=$((n + 1))
	if [ $rc -eq 0 ]; then echo "ok $n - $1"; else echo "not ok $n - $1"; failed=1; fi
}

below() { # below SCORE-FILE PERCENT: mape of the score line
	awk -v limit="$2" '
		/^score:/ { for (i = 1; i <= NF; i++) if (sub("mape=", "", $i)) { seen = 1; bad = $i + 0 > limit } }
		END { exit !seen || bad }' "$1"
}

"$bin/tests/sim/generated" --csv "$dir"
result "a generated model in three files"
"$flamectl" predict --samples "$dir/samples.csv" --points "$dir/points.csv" --score >"$dir/out" 2>"$dir/plain"
result "predict from totals"
below "$dir/plain" 4
result "within 4 %"
"$flamectl" predict --samples "$dir/samples.csv" --layers "$dir/layers.csv" --points "$dir/points.csv" --score \
	>"$dir/out" 2>"$dir/layered"
result "predict from totals and layers"
below "$dir/layered" 2
result "within 2 %"
head -1 "$dir/samples.csv" >"$dir/none.csv"
"$flamectl" predict --samples "$dir/none.csv" --layers "$dir/layers.csv" --points "$dir/points.csv" --score \
	>"$dir/out" 2>"$dir/alone"
result "predict from layers alone"
below "$dir/alone" 6
result "within 6 %"
for what in plain layered alone; do echo "# | $what: $(grep '^score:' "$dir/$what")"; done
echo "run,0,1,1,1,0,7777777,1,1,0" >>"$dir/layers.csv"
"$flamectl" predict --samples "$dir/samples.csv" --layers "$dir/layers.csv" --points "$dir/points.csv" \
	>"$dir/out" 2>"$dir/error"
[ $? -ne 0 ] && grep -q layer "$dir/error"
result "a layer number out of range is an error"
echo "1..$n"
exit $failed
