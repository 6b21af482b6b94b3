# SPDX-License-Identifier: MIT
# cmocka prints a skip as a failure, without a reason. With that of tests/unit/skip.h, in a line before it, it becomes
# `ok N - name # SKIP reason`. A skip without a reason stays a failure.
/^# SKIP /{
	h
	d
}
/^not ok [0-9]* # SKIP /{
	G
	s/^not ok \([0-9]*\) # SKIP \(.*\)\n# SKIP \(.*\)/ok \1 - \2 # SKIP \3/
	s/\n$//
	x
	s/.*//
	x
}
