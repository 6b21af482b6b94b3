/* SPDX-License-Identifier: MIT */
/* Texts of sysfs files: frequency tables and amdgpu levels. */
#include <stdlib.h>
#include <string.h>
#include "../../probes/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	uint64_t hz[GRID_AXIS_MAX];
	static const uint64_t unit[] = {1, 1000, 1000000};
	struct dpm_table table;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	for (int i = 0; i < 4; i++) {
		size_t n = i < 3 ? freq_table_parse(text, unit[i], hz, GRID_AXIS_MAX) : dpm_table_parse(text, &table);
		if (i == 3)
			memcpy(hz, table.hz, sizeof(hz));
		if (n > GRID_AXIS_MAX)
			abort();
		for (size_t k = 0; k < n; k++)
			if (hz[k] == 0 || (k && hz[k] <= hz[k - 1]))
				abort();
	}
	free(text);
	return 0;
}
