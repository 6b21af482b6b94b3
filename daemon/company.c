/* SPDX-License-Identifier: MIT */
/* The interference that the governor learned between models, stored with each of them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../common/kv.h"
#include "library.h"
#include "model_files.h"

#define NAME_FORMAT "%64[^@ ]" /* MODEL_NAME_MAX */

/* Where the entry of a pair's other model is, in the same power mode. SIZE_MAX: it is not in memory. */
static size_t index_of(const struct library *library, const char *name, const char *mode, uid_t owner)
{
	for (size_t i = 0; i < library->count; i++) {
		const struct entry *entry = &library->entry[i];
		if (entry->owner == owner && strcmp(entry->name, name) == 0 && strcmp(entry->mode, mode) == 0)
			return i;
	}
	return SIZE_MAX;
}

void company_format(struct kv_out *out, const struct entry *entry)
{
	const struct library *library = entry->library;
	const struct governor *governor = library->governor;
	uint32_t id = (uint32_t)(entry - library->entry);
	char key[32];
	size_t pairs = 0;

	if (!governor)
		return;
	for (size_t i = 0; i < library->count * COMPANY_PAIRS_MAX; i++) {
		const struct interference *p = &governor->pair[i / COMPANY_PAIRS_MAX][i % COMPANY_PAIRS_MAX];
		if (!p->n || (p->model != id && p->other != id))
			continue;
		const struct entry *other = &library->entry[p->model == id ? p->other : p->model];
		snprintf(key, sizeof(key), "pair.%zu", pairs++);
		kv_add(out, key, "%s@%u %s %s %.6g %.6g %" PRIu32, other->name, other->owner,
		       p->model == id ? "slows" : "slowed", p->before ? "first" : "second", (double)p->log_theta,
		       (double)p->var, p->n);
	}
	if (pairs || governor->alone[id])
		kv_add_u64(out, "alone", governor->alone[id]);
	if (out->len)
		kv_end(out);
}

static bool read_pair(const struct entry *entry, const char *value)
{
	struct library *library = entry->library;
	char name[MODEL_NAME_MAX + 1], role[8], order[8];
	uint32_t id = (uint32_t)(entry - library->entry);
	struct interference pair = {0};
	unsigned owner;
	int end = 0;

	if (sscanf(value, NAME_FORMAT "@%u %7s %7s %f %f %" SCNu32 "%n", name, &owner, role, order, &pair.log_theta,
		   &pair.var, &pair.n, &end) != 7 ||
	    value[end])
		return false;
	size_t other = index_of(library, name, entry->mode, owner);
	if (other == SIZE_MAX)
		return true; /* its own file holds the pair too */
	pair.model = strcmp(role, "slows") == 0 ? id : (uint32_t)other;
	pair.other = pair.model == id ? (uint32_t)other : id;
	pair.before = strcmp(order, "first") == 0;
	return !library->governor || governor_model_pair(library->governor, &pair);
}

int company_parse(const struct entry *entry, char *text, char *message, size_t size)
{
	struct library *library = entry->library;
	static struct kv kv;
	uint64_t alone = 0;
	size_t line;

	if (kv_parse(text, strlen(text), &kv, &line) < 0) {
		snprintf(message, size, "line %zu is not key=value", line);
		return -EINVAL;
	}
	for (size_t i = 0; i < kv.count; i++)
		if (strncmp(kv.pair[i].key, "pair.", 5) == 0 && !read_pair(entry, kv.pair[i].value)) {
			snprintf(message, size, "%s: not a pair of models: %.64s", kv.pair[i].key, kv.pair[i].value);
			return -EINVAL;
		}
	if (kv_u64(&kv, "alone", 0, UINT16_MAX, &alone) < 0) {
		snprintf(message, size, "alone: not a count: %.32s", kv_get(&kv, "alone"));
		return -EINVAL;
	}
	if (library->governor)
		library->governor->alone[entry - library->entry] = (uint16_t)alone;
	return 0;
}
