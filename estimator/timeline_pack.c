/* SPDX-License-Identifier: MIT */
/* A timeline as plain bytes, for handing it to another process. */
#include <stdlib.h>
#include <string.h>
#include "timeline_state.h"

static void carry(char **at, void *array, size_t bytes, bool out)
{
	memcpy(out ? *at : array, out ? array : *at, bytes);
	*at += bytes;
}

/* Copy every array to or from `at`. */
static void carry_arrays(struct timeline *t, char *at, bool out)
{
	carry(&at, t->model.fit, t->model.layers * sizeof(*t->model.fit), out);
	carry(&at, t->segment, t->segments * sizeof(*t->segment), out);
	carry(&at, t->path_layer, t->paths * sizeof(*t->path_layer), out);
	for (size_t o = 0; o < t->orders; o++) {
		carry(&at, t->base.total[o], t->segments * t->base.stride * sizeof(float), out);
		carry(&at, t->base.rest[o], t->paths * t->base.stride * sizeof(float), out);
	}
	carry(&at, t->cpu_total, t->grid.count[CLOCK_CPU] * t->segments * sizeof(float), out);
	carry(&at, t->cpu_lead, t->grid.count[CLOCK_CPU] * t->paths * sizeof(float), out);
}

size_t timeline_packed_most(const struct grid *grid, size_t layers)
{
	size_t rows = SCHEDULE_SEGMENTS_MAX * (1 + SCHEDULE_PATHS_MAX);
	size_t floats =
		ORDERS * timeline_padded(grid->count[CLOCK_GPU] * grid->count[CLOCK_MEM]) + grid->count[CLOCK_CPU];

	return sizeof(struct timeline) + layers * sizeof(struct layer_fit) + rows * floats * sizeof(float) +
	       SCHEDULE_SEGMENTS_MAX * (sizeof(struct segment) + SCHEDULE_PATHS_MAX * sizeof(uint32_t));
}

void timeline_pack(struct timeline *t, void *out)
{
	memcpy(out, t, sizeof(*t));
	carry_arrays(t, (char *)out + sizeof(*t), true);
}

/* Do layers, segments and paths lead to each other only, within their counts? */
static bool is_sound(const struct timeline *t)
{
	for (size_t i = 0; i < t->segments; i++) {
		const struct segment *segment = &t->segment[i];
		if (segment->count > t->model.layers || segment->first > t->model.layers - segment->count ||
		    segment->paths > t->paths || segment->path > t->paths - segment->paths)
			return false;
	}
	for (size_t i = 0; i < t->paths; i++)
		if (t->path_layer[i] >= t->model.layers)
			return false;
	return true;
}

struct timeline *timeline_unpack(const struct grid *grid, size_t layers, const void *in)
{
	const struct timeline header = *(const struct timeline *)in, *from = &header;
	struct timeline *t;

	if (from->model.layers > layers || from->segments > SCHEDULE_SEGMENTS_MAX ||
	    from->paths > SCHEDULE_SEGMENTS_MAX * SCHEDULE_PATHS_MAX || from->orders > ORDERS)
		return NULL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->grid = *grid;
	t->model = from->model;
	t->model.fit = calloc(t->model.layers, sizeof(*t->model.fit));
	t->segment = calloc(SCHEDULE_SEGMENTS_MAX, sizeof(*t->segment));
	t->path_layer = calloc(SCHEDULE_SEGMENTS_MAX * SCHEDULE_PATHS_MAX, sizeof(*t->path_layer));
	t->segments = from->segments;
	t->paths = from->paths;
	t->orders = from->orders;
	t->queue = from->queue;
	t->total_error = from->total_error;
	memcpy(t->param, from->param, sizeof(t->param));
	if (!t->model.fit || !t->segment || !t->path_layer || timeline_tables_new(t)) {
		timeline_free(t);
		return NULL;
	}
	carry_arrays(t, (char *)(uintptr_t)in + sizeof(*t), false);
	if (!is_sound(t)) {
		timeline_free(t);
		return NULL;
	}
	return t;
}
