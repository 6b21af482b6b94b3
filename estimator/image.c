/* SPDX-License-Identifier: MIT */
/* Measurements of a model as plain bytes, for handing them to another process. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

struct image {
	uint32_t cells;
	size_t places, rows;
	uint64_t taught;
	uint8_t any[PHASE_COUNT], layers[PHASE_COUNT]; /* truth values */
};

static char *put(char *at, const void *array, size_t bytes)
{
	if (bytes)
		memcpy(at, array, bytes);
	return at + bytes;
}

static const char *take(const char *at, void *array, size_t bytes)
{
	memcpy(array, at, bytes);
	return at + bytes;
}

size_t model_image_bytes(const struct grid *grid, const struct model_options *options)
{
	return sizeof(struct image) + SAMPLES_MAX * sizeof(struct cell) +
	       PHASE_COUNT * grid->points * sizeof(uint32_t) +
	       options->layers_max * (sizeof(struct layer_place) + sizeof(struct layer_row));
}

void model_image_put(const struct model *model, void *out)
{
	struct image *image = out;
	char *at = (char *)(image + 1);

	*image = (struct image){.cells = model->cells.count,
				.places = model->layers.places,
				.rows = model->layers.count,
				.taught = model->taught};
	at = put(at, model->cells.cell, image->cells * sizeof(*model->cells.cell));
	at = put(at, model->layers.row, image->rows * sizeof(*model->layers.row));
	at = put(at, model->layers.place, image->places * sizeof(*model->layers.place));
	for (int p = 0; p < PHASE_COUNT; p++) {
		image->any[p] = model->phase[p].any;
		image->layers[p] = model->phase[p].layers;
		at = put(at, model->cells.first[p], model->grid.points * sizeof(uint32_t));
	}
}

static bool counts_fit(const struct model *model, const struct image *image)
{
	return image->cells <= SAMPLES_MAX && image->places <= model->options.layers_max &&
	       image->rows <= model->options.layers_max;
}

/* Are chains of cells within the table, and do they end? Each cell leads to an older one. */
static bool cells_sound(const struct model *model)
{
	const struct cells *cells = &model->cells;

	for (uint32_t i = 0; i < cells->count; i++) {
		const struct cell *cell = &cells->cell[i];
		if (cell->next > i || cell->nearest >= model->grid.points || (unsigned)cell->phase >= PHASE_COUNT ||
		    cell->context > CONTEXT_TOKENS_MAX || !isfinite(cell->mean) || !isfinite(cell->var) ||
		    !isfinite(cell->power_uw))
			return false;
	}
	for (int p = 0; p < PHASE_COUNT; p++)
		for (size_t point = 0; point < model->grid.points; point++)
			if (cells->first[p][point] > cells->count)
				return false;
	return true;
}

static bool layers_sound(const struct layer_store *layers)
{
	for (size_t i = 0; i < layers->places; i++)
		if ((unsigned)layers->place[i].phase >= PHASE_COUNT)
			return false;
	for (size_t i = 0; i < layers->count; i++)
		if (layers->row[i].place >= layers->places || layers->row[i].source >= LAYER_SOURCES)
			return false;
	return true;
}

int model_image_take(struct model *model, const void *in)
{
	const struct image header = *(const struct image *)in, *image = &header;
	const char *at = (const char *)in + sizeof(header);
	struct layer_store layers = {.places = image->places, .count = image->rows};

	if (!counts_fit(model, image))
		return -EINVAL;
	layers.row = malloc(image->rows * sizeof(*layers.row) + 1); /* at least a byte: malloc(0) may return NULL */
	layers.place = malloc(image->places * sizeof(*layers.place) + 1);
	if (!layers.row || !layers.place) {
		layer_store_free(&layers);
		return -ENOMEM;
	}
	model->cells.count = image->cells;
	at = take(at, model->cells.cell, image->cells * sizeof(*model->cells.cell));
	at = take(at, layers.row, image->rows * sizeof(*layers.row));
	at = take(at, layers.place, image->places * sizeof(*layers.place));
	for (int p = 0; p < PHASE_COUNT; p++)
		at = take(at, model->cells.first[p], model->grid.points * sizeof(uint32_t));
	if (!cells_sound(model) || !layers_sound(&layers)) {
		model->cells.count = 0;
		for (int p = 0; p < PHASE_COUNT; p++)
			memset(model->cells.first[p], 0, model->grid.points * sizeof(uint32_t));
		layer_store_free(&layers);
		return -EINVAL;
	}
	layer_store_free(&model->layers);
	model->layers = layers;
	model->taught = image->taught;
	for (int p = 0; p < PHASE_COUNT; p++) {
		model->phase[p].any = model->phase[p].stale = image->any[p] != 0;
		model->phase[p].layers = image->layers[p] != 0;
	}
	return 0;
}
