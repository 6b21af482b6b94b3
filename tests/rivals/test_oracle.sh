#!/bin/sh
# SPDX-License-Identifier: MIT
# The reference of every figure of the population: the oracle meets the limits at its own power.
"$RELEASE_DIR/tests/rivals/rivals" --rival "an oracle" --runs 64 --company 32 | awk -F ' *[|] *' '
	$2 == "an oracle" {
		n++
		printf "# | an oracle: missed %s %%, power over itself %s\n", $3, $5
		printf "%sok %d - the oracle misses at most 0.3 %%, at its own price\n", \
			($3 <= 0.3 && $5 == "1.000") ? "" : "not ", n
	}
	END { print "1.." n; exit n != 2 }'
