#!/bin/sh
# SPDX-License-Identifier: MIT
# How far predictions are off: on measured boards, on made-up ones, on generated models. The tables, then figures of
# those that need no recordings.
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
CMOCKA_MESSAGE_OUTPUT=TAP "$RELEASE_DIR/tests/unit/test_accuracy" >"$out" &&
	"$RELEASE_DIR/tests/sim/generated" 200 >>"$out" || exit 1
sed -n 's/^# |//p' "$out"
awk '
	function most(a, b) { return a + 0 > b + 0 ? a : b }
	/^# [|] made up, / { set = /eight at once/ ? "eight_at_once" : "one_at_a_time" }
	/^# [|] mean of / {
		printf "%s_mean_percent=%s %%\n", set, $(NF - 5)
		printf "%s_beyond_10_percent=%.1f %%\n", set, 100 - $(NF - 3)
		printf "%s_above_bound_percent=%s %%\n", set, $(NF - 2)
		printf "%s_bound=%s x\n", set, $(NF - 1)
		printf "%s_power_percent=%s %%\n", set, $NF
	}
	/ mean % / { set = $3 " " $4 }
	/^# [|]   timeline / && set == "all generated" {
		printf "generated_timeline_mean_percent=%s %%\n", $(NF - 3)
		printf "generated_timeline_p95_percent=%s %%\n", $(NF - 1)
	}
	/^# [|]   end-to-end / && set == "all generated" {
		printf "generated_end_to_end_mean_percent=%s %%\n", $(NF - 3)
	}
	/^# [|]   (timeline|end-to-end) / && set ~ /^(decode|prefill),/ { language = most(language, $(NF - 3)) }
	/^# [|]   above the bound/ && set ~ /^(all generated|decode,|prefill,)/ {
		gsub(/,/, "")
		above = most(above, most($11, $(NF - 2)))
		bound = most(bound, most($13, $NF))
	}
	END {
		printf "language_mean_percent=%s %%\n", language
		printf "generated_above_bound_percent=%s %%\ngenerated_bound=%s x\n", above, bound
	}' "$out"
