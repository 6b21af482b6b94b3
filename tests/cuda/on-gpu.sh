#!/bin/sh
# SPDX-License-Identifier: MIT
# The CUDA layer on a real GPU, within five minutes. The scripts of tests/cuda run with kernels in PTX text that the
# driver compiles, so that no toolkit is needed; where nvcc or NVRTC is present, with kernels in CUDA C, too, and with
# nvcc a program of the CUDA runtime. Prints one table; exits with 1 where a result differs or an inference is not
# found. Runs nothing but these programs, with and without the layer, and nsys where there is one.
# usage: make on-gpu      (no root, no daemon; a driver of CUDA 12 or later)
set -u
cd "$(dirname "$0")/../.." || exit 2
B=$PWD/build/release
ENGINE=$B/tests/cuda/engine LAYER=$B/libflamed-cuda.so
[ -x "$ENGINE" ] && [ -r "$LAYER" ] || { echo "on-gpu: run: make on-gpu" >&2; exit 2; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' INT TERM
failed=0
end=$(($(date +%s) + 285))
export FLAMED_SOCKET="$tmp/absent"
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}" # one: each start of CUDA takes longer with more
[ -n "${CUDA_HOME:-}" ] || [ ! -d /usr/local/cuda ] || export CUDA_HOME=/usr/local/cuda

# A time limit of SECONDS, at most what is left of the five minutes: a program that hangs must not stop the other tests.
limited() {
	seconds=$1 left=$((end - $(date +%s)))
	shift
	[ $left -ge 1 ] || left=1
	[ "$seconds" -le $left ] || seconds=$left
	timeout -k 2 "$seconds" env "$@"
}
engine() {
	limited 30 "$@"
}
device=$(engine "$ENGINE" tests/cuda/scripts/plain device 2>"$tmp/why") ||
	{ echo "on-gpu: no CUDA device:" >&2; cat "$tmp/why" >&2; exit 2; }
form=ptx n=200
case $device in
*stand-in*)
	[ -n "${ON_GPU_STANDIN:-}" ] || { echo "on-gpu: this is the stand-in driver" >&2; exit 2; }
	form='' n=40
	;;
esac

row() {
	printf '| %-34s | %10s | %6s | %s |\n' "$@"
}
echo "$device; $(uname -srm); flamed $(git describe --always --dirty 2>/dev/null || echo "?")"
echo
row program inferences found result
row --- ---: ---: ---

# compare NAME PREFIX COMMAND...: with and without the layer; PREFIX inferences at most may be none that are found
compare() {
	name=$1 prefix=$2
	shift 2
	engine "$@" >"$tmp/plain" 2>"$tmp/plain.err"
	plain=$?
	engine LD_PRELOAD="$LAYER" FLAMED_SUMMARY=2 "$@" >"$tmp/layer" 2>"$tmp/layer.err"
	rc=$?
	truth=$(sed -n 's/^truth=//p' "$tmp/layer.err")
	found=$(sed -n 's/^inferences=\([0-9]*\).*/\1/p' "$tmp/layer.err")
	result=identical
	cmp -s "$tmp/plain" "$tmp/layer" && [ $plain -eq 0 ] && [ $rc -eq 0 ] && [ -s "$tmp/plain" ] ||
		result="DIFFERENT (status $plain and $rc)"
	[ "${found:-0}" -ge $((${truth:-0} - prefix)) ] && [ "${found:-0}" -le "${truth:-0}" ] ||
		result="$result, NOT FOUND"
	if [ "$result" != identical ]; then
		failed=1
		sed 's/^/    /' "$tmp/plain.err" "$tmp/layer.err" | head -12 >&2
	fi
	row "$name" "${truth:-?}" "${found:-?}" "$result"
}
run() {
	script=$1 prefix=$2
	shift 2
	# shellcheck disable=SC2086 # no form is no word
	compare "$script $*" "$prefix" "$ENGINE" "tests/cuda/scripts/$script" $form "$@"
}
run plain 5 runs=$n
run plain 5 runs=$n ptsz
run plain 5 runs=$n resolve=dlsym module
run plain 20 runs=$n threads=4
run pytorch-item 5 runs=$n
run tensorrt-enqueue 5 runs=$n
run tensorrt-trtexec 5 runs=$n
run onnxruntime-run 5 runs=$n
run llama-decode 12 runs=$n # of 200 tokens seven run eagerly, each once
run graph-replay 5 runs=$n
run two-graphs 10 runs=$n
run capture-joined 5 runs=$n
run capture-beside 5 runs=$n
run synchronous 5 runs=$n
run double-buffer 8 runs=$n
run host-function 28 runs=$n

# Kernels in CUDA C: a small convolution network, and the steps of a decoder, eager and from a graph.
compute=compute_$(echo "$device" | sed 's/.*capability \([0-9]*\)\.\([0-9]*\).*/\1\2/')
nvcc=$(command -v nvcc || echo "${CUDA_HOME:-/nonexistent}/bin/nvcc")
compiler=none
if [ -x "$nvcc" ] && limited 60 "$nvcc" -ptx -arch="$compute" -o "$tmp/k.ptx" tests/cuda/kernels.cu 2>"$tmp/why"; then
	compiler=nvcc
elif limited 60 "$B/tests/cuda/nvrtc" "$compute" tests/cuda/kernels.cu >"$tmp/k.ptx" 2>>"$tmp/why"; then
	compiler=nvrtc
fi
# A driver that is older than the compiler does not know its PTX.
if [ "$compiler" != none ] && [ -n "$form" ]; then
	engine "$ENGINE" tests/cuda/scripts/plain ptx="$tmp/k.ptx" runs=1 >/dev/null 2>>"$tmp/why" || compiler=none
fi
if [ "$compiler" = none ]; then
	row "kernels in CUDA C" "" "" "no nvcc, no NVRTC, or none for this driver"
	sed 's/^/    /' "$tmp/why" | head -4 >&2
else
	[ -z "$form" ] || form=ptx=$tmp/k.ptx
	for script in plain llama-decode eager-then-graph; do
		case $script in plain) prefix=5 ;; *) prefix=24 ;; esac
		# shellcheck disable=SC2086
		compare "$script, kernels by $compiler" $prefix "$ENGINE" tests/cuda/scripts/$script $form runs=$n
	done
	[ -z "$form" ] || form=ptx
fi
if [ "$compiler" = nvcc ] && [ -n "$form" ]; then
	if limited 60 "$nvcc" -o "$tmp/runtime" tests/cuda/runtime.cu 2>"$tmp/why" &&
		engine "$tmp/runtime" conv 1 >/dev/null 2>>"$tmp/why"; then
		for part in conv decode decode-graph; do
			compare "CUDA runtime: $part" 5 "$tmp/runtime" $part $n
		done
	else
		row "CUDA runtime" "" "" "cannot be built, or the driver is older than it"
		sed 's/^/    /' "$tmp/why" | head -4 >&2
	fi
fi

# The lower quartile of 200 runs of 400 launches, in turns, so that other load matters little.
quartile() {
	# shellcheck disable=SC2086
	engine "$@" "$ENGINE" tests/cuda/scripts/overhead $form runs=200 times 2>&1 >/dev/null |
		sed -n 's/^times: //p' | sort -n | sed -n 50p
}
for _ in 1 2 3 4 5; do
	a=$(quartile FLAMED_SUMMARY=) b=$(quartile LD_PRELOAD="$LAYER" FLAMED_SUMMARY=/dev/null)
	echo "${a:-0} ${b:-0}"
done | awk '{ printf "%d %d\n", $1 / 400, ($2 - $1) / 400 }' | sort -k2n | sed -n 3p >"$tmp/launch"
read -r alone more <"$tmp/launch"
row "a launch (median of 5 pairs)" "" "" "$alone ns, and $more ns more with the layer"

# Times of kernels by the layer's events, beside those of CUPTI: by the layer itself, and as nsys records them.
plain="$ENGINE tests/cuda/scripts/plain $form runs=60"
mean() {
	awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) col[$i] = i; next } { n++; sum += $col["gpu_ns"] }
		END { if (n) printf "%.1f us", sum / n / 1000; else printf "NONE" }' "$1"
}
# shellcheck disable=SC2086
engine LD_PRELOAD="$LAYER" FLAMED_SUMMARY=/dev/null FLAMED_TRACE="$tmp/events.csv" $plain >/dev/null 2>&1
row "mean of a kernel, by events" "" "" "$(mean "$tmp/events.csv")"
[ "$(mean "$tmp/events.csv")" != NONE ] || failed=1
# shellcheck disable=SC2086
engine LD_PRELOAD="$LAYER" FLAMED_SUMMARY=/dev/null FLAMED_CUPTI=1 FLAMED_TRACE="$tmp/cupti.csv" \
	$plain >/dev/null 2>"$tmp/cupti.err"
if grep -q 'no CUPTI' "$tmp/cupti.err"; then
	row "mean of a kernel, by CUPTI" "" "" "$(sed -n 's/.*no CUPTI: \(.*\);.*/no CUPTI: \1/p' "$tmp/cupti.err")"
else
	row "mean of a kernel, by CUPTI" "" "" "$(mean "$tmp/cupti.csv")"
	[ "$(mean "$tmp/cupti.csv")" != NONE ] || failed=1
fi
# shellcheck disable=SC2086
if [ -n "$form" ] && command -v nsys >/dev/null &&
	limited 60 nsys profile -t cuda -o "$tmp/nsys" $plain >/dev/null 2>&1 &&
	limited 60 nsys export --type sqlite -o "$tmp/nsys.sqlite" "$tmp/nsys.nsys-rep" >/dev/null 2>&1; then
	if limited 30 "$B/flamectl" import "$tmp/nsys.sqlite" --samples "$tmp/s.csv" --layers "$tmp/l.csv" \
		2>"$tmp/why"; then
		row "mean of a kernel, by nsys" "" "" "$(mean "$tmp/l.csv")"
	else
		failed=1
		row "mean of a kernel, by nsys" "" "" "NOT IMPORTED"
		cat "$tmp/why" >&2
	fi
else
	row "mean of a kernel, by nsys" "" "" "nsys is not installed, or may not record"
fi
[ "$(date +%s)" -lt "$end" ] || { echo "on-gpu: five minutes were not enough" >&2; failed=1; }
exit $failed
