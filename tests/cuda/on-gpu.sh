#!/bin/sh
# SPDX-License-Identifier: MIT
# The CUDA layer on a real GPU, within five minutes: the scripts of tests/cuda with kernels in PTX text that the driver
# compiles, so that no toolkit is needed. Prints one table; exits with 1 where a result differs or an inference is not
# found. Runs nothing but tests/cuda/engine, with and without the layer, and nsys where there is one.
# usage: tests/cuda/on-gpu.sh      (after `make all test-programs`; no root, no daemon)
set -u
cd "$(dirname "$0")/../.." || exit 2
B=$PWD/build/release
ENGINE=$B/tests/cuda/engine LAYER=$B/libflamed-cuda.so
[ -x "$ENGINE" ] && [ -r "$LAYER" ] || { echo "on-gpu: run: make all test-programs" >&2; exit 2; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
failed=0
export FLAMED_SOCKET="$tmp/absent"
[ -n "${CUDA_HOME:-}" ] || [ ! -d /usr/local/cuda ] || export CUDA_HOME=/usr/local/cuda

# A program that hangs must not take the rest with it.
engine() {
	timeout -k 5 60 env "$@"
}
device=$(engine "$ENGINE" tests/cuda/scripts/plain device 2>"$tmp/why") ||
	{ echo "on-gpu: no CUDA device:" >&2; cat "$tmp/why" >&2; exit 2; }
case $device in
*stand-in*) [ -n "${ON_GPU_STANDIN:-}" ] || { echo "on-gpu: this is the stand-in driver" >&2; exit 2; } ;;
esac
echo "$device"
echo
printf '| %-28s | %9s | %9s | %-9s |\n| %-28s | %9s | %9s | %-9s |\n' program inferences found results --- ---: ---: ---

ptx=ptx
[ -z "${ON_GPU_STANDIN:-}" ] || ptx=
# run SCRIPT PREFIX WORD...: with and without the layer; at most PREFIX inferences may pass before the first is found
run() {
	script=$1 prefix=$2
	shift 2
	engine "$ENGINE" "tests/cuda/scripts/$script" $ptx "$@" >"$tmp/plain" 2>"$tmp/plain.err"
	plain=$?
	engine LD_PRELOAD="$LAYER" FLAMED_SUMMARY=2 \
		"$ENGINE" "tests/cuda/scripts/$script" $ptx "$@" >"$tmp/layer" 2>"$tmp/layer.err"
	rc=$?
	truth=$(sed -n 's/^truth=//p' "$tmp/layer.err")
	found=$(sed -n 's/^inferences=\([0-9]*\).*/\1/p' "$tmp/layer.err")
	results=identical
	cmp -s "$tmp/plain" "$tmp/layer" && [ $plain -eq 0 ] && [ $rc -eq 0 ] || results=DIFFERENT
	note=
	[ "${found:-0}" -ge $((${truth:-0} - prefix)) ] && [ "${found:-0}" -le "${truth:-0}" ] || note=" MISSED"
	if [ "$results$note" != identical ]; then
		failed=1
		sed 's/^/    /' "$tmp/plain.err" "$tmp/layer.err" | head -12 >&2
	fi
	printf '| %-28s | %9s | %9s | %-9s |%s\n' "$script $*" "$truth" "$found" "$results" "$note"
}
run plain 5 runs=200
run plain 5 runs=200 ptsz
run plain 20 runs=100 threads=4
run pytorch-item 5 runs=200
run tensorrt-enqueue 5 runs=200
run tensorrt-trtexec 5 runs=200
run onnxruntime-run 5 runs=200
run llama-decode 12 runs=200 # seven tokens run eagerly, each once
run graph-replay 5 runs=200
run synchronous 5 runs=200
run double-buffer 8 runs=100
run host-function 28 runs=200

# The lower quartile of 200 runs of 400 launches, in turns; what else the machine does matters little.
quartile() {
	engine "$@" "$ENGINE" tests/cuda/scripts/overhead $ptx runs=200 times 2>&1 >/dev/null | sed -n 's/^times: //p' |
		sort -n | sed -n 50p
}
for _ in 1 2 3 4 5; do
	a=$(quartile) b=$(quartile LD_PRELOAD="$LAYER" FLAMED_SUMMARY=/dev/null)
	echo "$a $b"
done | awk '{ printf "%d %d\n", $1 / 400, ($2 - $1) / 400 }' | sort -k2n | sed -n 3p | {
	read -r alone more
	printf '\nlaunch: %s ns alone, %s ns more with the layer (median of 5 pairs)\n' "$alone" "$more"
}

# Times of kernels by the layer's events, beside those of CUPTI: by the layer itself, and as nsys records them.
plain="$ENGINE tests/cuda/scripts/plain $ptx runs=60"
mean() {
	awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) col[$i] = i; next } { n++; sum += $col["gpu_ns"] }
		END { if (n) printf "%.1f", sum / n / 1000; else printf "no" }' "$1"
}
# shellcheck disable=SC2086
engine LD_PRELOAD="$LAYER" FLAMED_SUMMARY=/dev/null FLAMED_TRACE="$tmp/events.csv" $plain >/dev/null 2>&1
echo "kernels: $(mean "$tmp/events.csv") us in the mean by events"
# shellcheck disable=SC2086
engine LD_PRELOAD="$LAYER" FLAMED_SUMMARY=/dev/null FLAMED_CUPTI=1 FLAMED_TRACE="$tmp/cupti.csv" \
	$plain >/dev/null 2>"$tmp/cupti.err"
if grep 'no CUPTI' "$tmp/cupti.err"; then
	echo "kernels: no comparison with CUPTI"
else
	echo "kernels: $(mean "$tmp/cupti.csv") us in the mean by CUPTI"
fi
# shellcheck disable=SC2086
if command -v nsys >/dev/null &&
	timeout 90 nsys profile -t cuda -o "$tmp/nsys" $plain >/dev/null 2>&1 &&
	timeout 60 nsys export --type sqlite -o "$tmp/nsys.sqlite" "$tmp/nsys.nsys-rep" >/dev/null 2>&1; then
	if "$B/flamectl" import "$tmp/nsys.sqlite" --samples "$tmp/s.csv" --layers "$tmp/l.csv"; then
		echo "kernels: $(mean "$tmp/l.csv") us in the mean as nsys records them"
	else
		failed=1
	fi
else
	echo "kernels: nsys is not installed, or may not record"
fi
exit $failed
