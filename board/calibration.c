/* SPDX-License-Identifier: MIT */
#include "calibration.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../common/csv.h"
#include "../common/file.h"
#include "../common/hash.h"
#include "../common/units.h"

#define FILE_MAX    (4U << 20)
#define LINE_MOST   120
#define COST_NS_MAX 1e11

uint64_t calibration_key(uint64_t previous, const void *what, size_t size)
{
	uint64_t hash = hash_bytes(hash_bytes(HASH_FIRST, &previous, sizeof(previous)), what, size);

	return hash ? hash : 1;
}

struct calibration_entry *calibration_find(struct calibration *calibration, uint64_t key)
{
	for (size_t i = 0; i < CALIBRATION_MAX; i++) {
		struct calibration_entry *entry = &calibration->entry[(key + i) % CALIBRATION_MAX];

		if (entry->key == key)
			return entry;
		if (entry->key != 0)
			continue;
		if (calibration->count >= CALIBRATION_MAX * 3 / 4)
			return NULL;
		calibration->count++;
		entry->key = key;
		return entry;
	}
	return NULL;
}

static void learn(uint32_t *runs, double *least_ns, double ns)
{
	if (*runs == 0 || ns < *least_ns)
		*least_ns = ns;
	++*runs;
}

void calibration_host(struct calibration *calibration, struct calibration_entry *entry, double ns)
{
	if (entry->host_runs >= CALIBRATION_RUNS)
		return;
	learn(&entry->host_runs, &entry->host_ns, ns);
	calibration->changed = true;
}

void calibration_exec(struct calibration *calibration, struct calibration_entry *entry, double ns)
{
	if (entry->exec_runs >= CALIBRATION_RUNS)
		return;
	learn(&entry->exec_runs, &entry->exec_ns, ns);
	calibration->changed = true;
}

static int column_u64(const struct csv *csv, const char *name, uint64_t *out)
{
	int column = csv_column(csv, name);

	return column < 0 ? -EINVAL : parse_u64(csv->field[column], out);
}

static int load_row(struct calibration *calibration, const struct csv *csv)
{
	uint64_t key, host_runs, exec_runs, host_ns, exec_ns;
	struct calibration_entry *entry;

	if (column_u64(csv, "key", &key) || column_u64(csv, "host_runs", &host_runs) ||
	    column_u64(csv, "exec_runs", &exec_runs) || column_u64(csv, "host_ns", &host_ns) ||
	    column_u64(csv, "exec_ns", &exec_ns) || key == 0 || (double)host_ns > COST_NS_MAX ||
	    (double)exec_ns > COST_NS_MAX)
		return -EINVAL;
	entry = calibration_find(calibration, key);
	if (!entry)
		return -ENOSPC;
	entry->host_runs = host_runs < CALIBRATION_RUNS ? (uint32_t)host_runs : CALIBRATION_RUNS;
	entry->exec_runs = exec_runs < CALIBRATION_RUNS ? (uint32_t)exec_runs : CALIBRATION_RUNS;
	entry->host_ns = (double)host_ns;
	entry->exec_ns = (double)exec_ns;
	return 0;
}

int calibration_load(struct calibration *calibration, const char *path)
{
	CLEANUP_MEM char *text = NULL;
	struct csv csv;
	int rc = file_read(path, FILE_MAX, &text, NULL);

	if (rc)
		return rc;
	rc = csv_open(&csv, text);
	while (rc == 0 && (rc = csv_next(&csv)) == 1)
		rc = load_row(calibration, &csv);
	if (rc)
		memset(calibration, 0, sizeof(*calibration));
	return rc;
}

int calibration_save(const struct calibration *calibration, const char *path)
{
	size_t size = (calibration->count + 1) * LINE_MOST, len;
	CLEANUP_MEM char *text = malloc(size);

	if (!text)
		return -ENOMEM;
	len = (size_t)snprintf(text, size, "key,host_runs,exec_runs,host_ns,exec_ns\n");
	for (size_t i = 0; i < CALIBRATION_MAX; i++) {
		const struct calibration_entry *entry = &calibration->entry[i];

		if (entry->key)
			len += (size_t)snprintf(text + len, size - len, "%" PRIu64 ",%u,%u,%.0f,%.0f\n", entry->key,
						entry->host_runs, entry->exec_runs, entry->host_ns, entry->exec_ns);
	}
	return file_replace(path, text, len, 0644);
}
