/* SPDX-License-Identifier: MIT */
/* The keeper's journal, read by a privileged process after a crash. */
#include <stdlib.h>
#include <string.h>
#include "../../keeper/journal.h"
#include "../../keeper/knob.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct journal_text out;

	journal_parse((const char *)data, size, &out);
	if (out.count > KNOBS_MAX)
		abort();
	for (size_t i = 0; i < out.count; i++)
		if (!knob_kind_of(out.entry[i].path) || strncmp(out.entry[i].path, "/sys/", 5) != 0 ||
		    strstr(out.entry[i].path, "/../"))
			abort();
	return 0;
}
