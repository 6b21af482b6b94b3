#!/bin/sh
# SPDX-License-Identifier: MIT
# Every unit is understood by systemd, and no service is exposed by more than 1.2.
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
log=$dir/out
# shellcheck source=tests/result.sh
. "$(dirname "$0")/../result.sh"

cp "$RELEASE_DIR"/systemd/*.service systemd/*.socket "$dir/"
# verify wants the programs to be there.
sed -i -E 's#^(Exec[A-Za-z]*=)[^ ]+#\1/bin/true#' "$dir"/*.service
(cd "$dir" && systemd-analyze verify --man=no ./*.service ./*.socket) >"$log" 2>&1
status=$?
grep -E 'Unknown|Failed to parse|Invalid|not valid' "$log" && status=1
result $status "systemd-analyze verify accepts every unit"

for unit in "$RELEASE_DIR"/systemd/*.service; do
	name=$(basename "$unit")
	systemd-analyze security --offline=yes --no-pager "$unit" >"$log" 2>&1
	exposure=$(sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p' "$log")
	awk -v e="${exposure:-99}" 'BEGIN { exit !(e <= 1.2) }'
	result $? "$name: exposure ${exposure:-unknown}, at most 1.2"
	echo "# | $name: exposure $exposure"
done

# UNIT LINE: what keeps one user from ending the service, the keeper from outliving it, and other machines
# from the metrics.
: >"$log"
while read -r unit line; do
	case $unit in *.socket) file=systemd/$unit ;; *) file=$RELEASE_DIR/systemd/$unit ;; esac
	grep -qxE -- "$line" "$file"
	result $? "$unit: $line"
done <<'LINES'
flamed.service StartLimitIntervalSec=0
flamed.service MemoryMax=[0-9]+M
flamed-keeper.service StartLimitIntervalSec=0
flamed-keeper.service MemoryMax=[0-9]+M
flamed-keeper.service PartOf=flamed.service
flamed-keeper.service ReadWritePaths=.* -/sys/devices/17000000.ga10b .*
flamed-exporter.socket ListenStream=127\.0\.0\.1:9756
LINES
exit $fail
