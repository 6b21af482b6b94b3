/* SPDX-License-Identifier: MIT */
/* The measured layers of one model, as they came. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "state.h"

static bool same_inference(const struct layer *a, const struct layer *b)
{
	return a->phase == b->phase && a->context == b->context && a->rep == b->rep && op_point_equal(a->point, b->point);
}

/* Repetitions kept of this layer at this place. */
static uint32_t kept(const struct layer_store *store, const struct layer *layer)
{
	uint32_t count = 0;

	for (size_t i = 0; i < store->count; i++) {
		const struct layer *row = &store->row[i];
		count += row->layer == layer->layer && row->phase == layer->phase && row->context == layer->context &&
			 op_point_equal(row->point, layer->point);
	}
	return count;
}

static int make_room(struct layer_store *store, size_t more)
{
	size_t room = store->room ? store->room : 1024;
	struct layer *row;

	if (store->count + more > LAYERS_KEPT_MAX)
		return -ENOSPC;
	while (room < store->count + more)
		room *= 2;
	if (room == store->room)
		return 0;
	row = realloc(store->row, room * sizeof(*row));
	if (!row)
		return -ENOMEM;
	store->row = row;
	store->room = room;
	return 0;
}

int layer_store_add(struct layer_store *store, const struct layer *layers, size_t count, bool added[PHASE_COUNT])
{
	uint32_t rep = 0;
	int rc;

	for (size_t i = 0; i < count; i++)
		if (layers[i].phase >= PHASE_COUNT || layers[i].layer >= LAYERS_MAX)
			return -EINVAL;
	rc = make_room(store, count);
	if (rc)
		return rc;
	for (size_t i = 0; i < count; i++) {
		if (!i || !same_inference(&layers[i], &layers[i - 1]))
			rep = kept(store, &layers[i]);
		if (rep >= LAYER_REPS_MAX)
			continue;
		store->row[store->count] = layers[i];
		store->row[store->count++].rep = rep;
		added[layers[i].phase] = true;
	}
	return 0;
}

long layer_store_copy(const struct layer_store *store, struct layer **out)
{
	*out = malloc((store->count + 1) * sizeof(**out));
	if (!*out)
		return -ENOMEM;
	if (store->count)
		memcpy(*out, store->row, store->count * sizeof(**out));
	return (long)store->count;
}

void layer_store_free(struct layer_store *store)
{
	free(store->row);
	memset(store, 0, sizeof(*store));
}
