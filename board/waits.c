/* SPDX-License-Identifier: MIT */
#include "waits.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void waits_add(struct waits *waits, const struct wait *wait)
{
	struct wait *grown;

	waits->late_ns += (double)(wait->at_ns - wait->end_ns);
	waits->all_ns += (double)(wait->at_ns - wait->since_ns);
	if (waits->count == waits->size && waits->size < WAITS_MAX) {
		grown = reallocarray(waits->wait, waits->size ? waits->size * 2 : 256, sizeof(*grown));
		if (!grown)
			return;
		waits->wait = grown;
		waits->size = waits->size ? waits->size * 2 : 256;
	}
	if (waits->count < waits->size)
		waits->wait[waits->count++] = *wait;
}

double waits_late_percent(const struct waits *waits)
{
	return waits->all_ns > 0 ? 100 * waits->late_ns / waits->all_ns : 0;
}

void waits_write(const struct waits *waits, const char *path)
{
	FILE *out = path && *path ? fopen(path, "we") : NULL;

	if (path && *path && !out)
		fprintf(stderr, "flamed-board: %s: %s\n", path, strerror(errno));
	if (!out)
		return;
	fputs("at_ns,launches,total_ns,due_ns\n", out);
	for (size_t i = 0; i < waits->count; i++) {
		const struct wait *wait = &waits->wait[i];
		uint64_t due_ns =
			wait->due_ns > wait->first_ns && wait->due_ns < wait->at_ns ? wait->due_ns : wait->at_ns;

		fprintf(out, "%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n", wait->at_ns, wait->launches,
			wait->at_ns - wait->first_ns, due_ns - wait->first_ns);
	}
	if (fclose(out) != 0)
		fprintf(stderr, "flamed-board: %s: %s\n", path, strerror(errno));
}
