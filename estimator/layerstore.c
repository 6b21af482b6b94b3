/* SPDX-License-Identifier: MIT */
/* The measured layers of one model: a few inferences at each point and context. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "state.h"

/* By place, then layer. */
static int compare_places(const struct layer *a, const struct layer *b)
{
	if (a->phase != b->phase)
		return a->phase < b->phase ? -1 : 1;
	if (a->context != b->context)
		return a->context < b->context ? -1 : 1;
	for (int c = 0; c < CLOCK_COUNT; c++)
		if (a->point.hz[c] != b->point.hz[c])
			return a->point.hz[c] < b->point.hz[c] ? -1 : 1;
	return (a->layer > b->layer) - (a->layer < b->layer);
}

/* The same, then by precision of the source, then by repetition, so that kept rows precede new ones. */
static int compare_rows(const void *x, const void *y)
{
	const struct layer *a = x, *b = y;
	int order = compare_places(a, b);

	if (!order)
		order = (int)layer_surer(b->source, a->source) - (int)layer_surer(a->source, b->source);
	return order ? order : (a->rep > b->rep) - (a->rep < b->rep);
}

/* Of sorted rows, the first LAYER_REPS_MAX of each layer at each place, renumbered
 * from 0. Returns how many. */
static size_t thin(struct layer *row, size_t count)
{
	size_t kept = 0;
	uint32_t rep = 0;

	for (size_t i = 0; i < count; i++) {
		rep = kept && !compare_places(&row[kept - 1], &row[i]) ? rep + 1 : 0;
		if (rep >= LAYER_REPS_MAX)
			continue;
		row[kept] = row[i];
		row[kept++].rep = rep;
	}
	return kept;
}

static bool one_inference(const struct layer *layers, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (layers[i].rep != layers[0].rep || layers[i].layer <= layers[i - 1].layer ||
		    layers[i].phase != layers[0].phase || layers[i].context != layers[0].context ||
		    !op_point_equal(layers[i].point, layers[0].point))
			return false;
	return true;
}

struct layer layer_store_row(const struct layer_store *store, size_t i)
{
	const struct layer_row *row = &store->row[i];
	const struct layer_place *place = &store->place[row->place];

	return (struct layer){.phase = place->phase,
			      .context = place->context,
			      .point = place->point,
			      .rep = row->rep,
			      .layer = row->layer,
			      .cpu_ns = row->cpu_ns,
			      .gpu_ns = row->gpu_ns,
			      .sync = row->sync,
			      .source = row->source};
}

size_t layer_store_bytes(const struct layer_store *store)
{
	return store->places * sizeof(*store->place) + store->count * sizeof(*store->row);
}

static bool same_place(const struct layer *a, const struct layer *b)
{
	return a->phase == b->phase && a->context == b->context && op_point_equal(a->point, b->point);
}

/* Sorted rows as they are kept. Returns 0 or -ENOMEM. */
static int pack(struct layer_store *store, const struct layer *layers, size_t count)
{
	size_t places = 0;

	for (size_t i = 0; i < count; i++)
		places += !i || !same_place(&layers[i], &layers[i - 1]);
	*store = (struct layer_store){.place = malloc(places * sizeof(*store->place)),
				      .row = malloc(count * sizeof(*store->row))};
	if (!store->place || !store->row) {
		layer_store_free(store);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++) {
		const struct layer *layer = &layers[i];

		if (!i || !same_place(layer, &layers[i - 1]))
			store->place[store->places++] = (struct layer_place){.phase = layer->phase,
									     .context = layer->context,
									     .point = layer->point};
		store->row[store->count++] = (struct layer_row){.cpu_ns = layer->cpu_ns,
								.gpu_ns = layer->gpu_ns,
								.place = (uint32_t)store->places - 1,
								.layer = (uint16_t)layer->layer,
								.rep = (uint8_t)layer->rep,
								.source = layer->source & 127,
								.sync = layer->sync};
	}
	return 0;
}

/* Contexts between the same two knots count as one. */
static bool about_same_place(const struct layer *a, const struct layer *b)
{
	uint32_t low_a, low_b, high;

	context_knots(a->context, &low_a, &high);
	context_knots(b->context, &low_b, &high);
	return low_a == low_b && op_point_equal(a->point, b->point);
}

/* Whether all rows are of one inference, as those of a request are, and add nothing: this place has enough rows, or the
 * store enough places. */
static bool seen_enough(const struct layer_store *store, const struct layer *layers, size_t count)
{
	struct layer last = {0};
	uint32_t here = 0, places = 0;

	if (!one_inference(layers, count))
		return false;
	for (size_t i = 0; i < store->count; i++) {
		struct layer row = layer_store_row(store, i);

		if (row.phase != layers[0].phase || row.layer != layers[0].layer)
			continue;
		here += about_same_place(&row, &layers[0]) && !layer_surer(layers[0].source, row.source);
		places += !places || !about_same_place(&row, &last);
		last = row;
	}
	return here >= LAYER_REPS_MAX || (places >= LAYER_PLACES_MAX && !here);
}

int layer_store_add(struct layer_store *store, const struct layer *layers, size_t count, size_t most,
		    bool added[PHASE_COUNT])
{
	struct layer_store after;
	struct layer *row;
	size_t kept;
	int rc;

	for (size_t i = 0; i < count; i++)
		if (layers[i].phase >= PHASE_COUNT || layers[i].layer >= LAYERS_MAX)
			return -EINVAL;
	if (!count || seen_enough(store, layers, count))
		return 0;
	row = malloc((store->count + count) * sizeof(*row));
	if (!row)
		return -ENOMEM;
	for (size_t i = 0; i < store->count; i++)
		row[i] = layer_store_row(store, i);
	memcpy(row + store->count, layers, count * sizeof(*row));
	for (size_t i = store->count; i < store->count + count; i++) {
		added[row[i].phase] = true;
		if (row[i].rep <= UINT32_MAX - LAYER_REPS_MAX)
			row[i].rep += LAYER_REPS_MAX;
	}
	qsort(row, store->count + count, sizeof(*row), compare_rows);
	kept = thin(row, store->count + count);
	rc = kept > most ? -ENOSPC : pack(&after, row, kept);
	free(row);
	if (rc < 0) {
		memset(added, 0, PHASE_COUNT * sizeof(*added));
		return rc;
	}
	layer_store_free(store);
	*store = after;
	return 0;
}

long layer_store_copy(const struct layer_store *store, struct layer **out)
{
	*out = malloc((store->count + 1) * sizeof(**out));
	if (!*out)
		return -ENOMEM;
	for (size_t i = 0; i < store->count; i++)
		(*out)[i] = layer_store_row(store, i);
	return (long)store->count;
}

void layer_store_free(struct layer_store *store)
{
	free(store->place);
	free(store->row);
	memset(store, 0, sizeof(*store));
}
