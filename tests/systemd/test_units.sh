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

# exposed UNIT MOST NAME
exposed() {
	SYSTEMD_UNIT_PATH="$(dirname "$1"):" systemd-analyze security --offline=yes --no-pager "$1" >"$log" 2>&1
	exposure=$(sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p' "$log")
	awk -v e="${exposure:-99}" -v most="$2" 'BEGIN { exit !(e <= most) }'
	result $? "$3: exposure ${exposure:-unknown}, at most $2"
	echo "# | $3: exposure $exposure"
}
for unit in "$RELEASE_DIR"/systemd/*.service; do
	exposed "$unit" 1.2 "$(basename "$unit")"
done

# The drop-in for GPUs that are set through NVML opens device nodes and one capability.
mkdir "$dir/flamed-keeper.service.d"
cp contrib/nvml/flamed-keeper.conf "$dir/flamed-keeper.service.d/nvml.conf"
(cd "$dir" && SYSTEMD_UNIT_PATH="$dir:" systemd-analyze verify --man=no ./flamed-keeper.service) >"$log" 2>&1
status=$?
[ ! -s "$log" ] || status=1
result $status "and with the drop-in for NVML"
sed '/^#/d; /^\[Service\]$/d' contrib/nvml/flamed-keeper.conf | sort >"$log"
printf '%s\n' CapabilityBoundingSet=CAP_SYS_ADMIN 'DeviceAllow=/dev/nvidia0 rw' 'DeviceAllow=/dev/nvidiactl rw' \
	MemoryMax=128M PrivateDevices=no | cmp -s - "$log"
result $? "which opens one GPU and nothing else"
exposed "$dir/flamed-keeper.service" 1.4 "flamed-keeper.service with the drop-in for NVML"

user=$(grep -x 'User=.*' "$RELEASE_DIR/systemd/flamed.service")
[ -n "$user" ] && grep -qxF -- "$user" "$RELEASE_DIR/systemd/flamed-profile@.service" &&
	! grep -q '^DynamicUser=' "$RELEASE_DIR/systemd/flamed-profile@.service"
result $? "flamed-profile@.service has flamed's user: what it measures is the administrator's"

# UNIT LINE: lines that prevent a user from stopping the service, the keeper from outliving it, access of a command in
# the background to flamed's memory, models and keeper, and access to the metrics from other machines.
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
flamed-keeper.service ReadWritePaths=-/sys/devices/17000000.ga10b
flamed-keeper.service ReadWritePaths=-/sys/devices/pci0000:00
flamed-keeper.service ReadWritePaths=-/sys/devices/pci0000:40
flamed-profile@.service PrivateUsers=yes
flamed-profile@.service InaccessiblePaths=-/var/lib/flamed
flamed-profile@.service TemporaryFileSystem=/run/flamed:ro
flamed-profile@.service BindReadOnlyPaths=/run/flamed/flamed\.sock
flamed-profile@.service SystemCallFilter=~process_vm_readv process_vm_writev
flamed-exporter.socket ListenStream=127\.0\.0\.1:9756
LINES
exit $fail
