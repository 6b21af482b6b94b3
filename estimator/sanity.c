/* SPDX-License-Identifier: MIT */
/* Plausibility: samples that contradict the physical envelope (bound.h) of the measured points, and models that
 * contradict themselves. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "state.h"

/* inferences that a cell needs to count as evidence; the first ones are warm-up */
#define EVIDENCE     4
#define CELLS_LOOKED 256  /* cells checked at most: about 10 us */
#define CONTEXT_SAME 0.25 /* in log: contexts within this distance share an envelope */
/* log 4: further under the envelope than a board that was slow while it was learned explains */
#define TOO_FAST      1.386294361
#define TOO_SLOW      2.079441542 /* log 8: further over it than any contention explains */
#define ABSURD        4.158883083 /* log 64 */
#define REFUTED       64          /* total weight of successive contradictions after which the model itself is wrong, */
#define WEIGHT_ABSURD 16          /* weight of an absurd sample, */
#define WEIGHT_FAST   4           /* and of one that is too fast, which contention does not explain */

/* Log of the range of a latency at `point`, given a cell elsewhere. */
static void envelope_of(const struct cell *cell, struct op_point point, double *low, double *high)
{
	double slower = 1, faster = 1;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		if (!point.hz[c] || !cell->point.hz[c])
			continue;
		double ratio = (double)cell->point.hz[c] / (double)point.hz[c];
		slower = fmax(slower, ratio);
		faster = fmin(faster, ratio);
	}
	*high = cell->mean + log(slower);
	*low = cell->mean + log(faster);
}

static bool is_evidence(const struct cell *cell, enum phase phase, uint32_t context)
{
	return cell->phase == phase && cell->n >= EVIDENCE &&
	       (cell->context == context || fabs(context_log(cell->context) - context_log(context)) <= CONTEXT_SAME);
}

/* By how much a latency is above (or, negative, below) the range that every cell allows; 0: within. */
static double excess(const struct model *model, enum phase phase, uint32_t context, struct op_point point,
		     double log_ns)
{
	double low = -INFINITY, high = INFINITY, l, h;

	for (uint32_t i = 0; i < model->cells.count && i < CELLS_LOOKED; i++) {
		if (!is_evidence(&model->cells.cell[i], phase, context))
			continue;
		envelope_of(&model->cells.cell[i], point, &l, &h);
		low = fmax(low, l);
		high = fmin(high, h);
	}
	if (log_ns > high)
		return log_ns - high;
	return log_ns < low ? log_ns - low : 0;
}

/* excess() of a latency that is none, or of no phase. */
static double excess_of(const struct model *model, enum phase phase, uint32_t context, struct op_point point,
			uint64_t latency_ns)
{
	if (latency_ns < LATENCY_NS_MIN || phase >= PHASE_COUNT)
		return -INFINITY;
	return excess(model, phase, context, point, log((double)latency_ns));
}

static bool in_reach(double over)
{
	return over >= -TOO_FAST && over <= TOO_SLOW;
}

bool model_plausible(const struct model *model, enum phase phase, uint32_t context, struct op_point point,
		     uint64_t latency_ns)
{
	return in_reach(excess_of(model, phase, context, point, latency_ns));
}

bool model_allows(struct model *model, enum phase phase, uint32_t context, struct op_point point, uint64_t latency_ns)
{
	double over = excess_of(model, phase, context, point, latency_ns);

	if (in_reach(over)) {
		model->against = 0;
		return true;
	}
	model->rejected++;
	if (isfinite(over)) /* else it contradicts no model, but all */
		model->against += fabs(over) > ABSURD ? WEIGHT_ABSURD : over < 0 ? WEIGHT_FAST : 1;
	return false;
}

void model_reject(struct model *model)
{
	model->rejected++;
}

uint64_t model_rejected(const struct model *model)
{
	return model->rejected;
}

bool model_refuted(const struct model *model)
{
	return model->against >= REFUTED;
}

bool model_consistent(const struct model *model, struct op_point *a, struct op_point *b)
{
	uint32_t count = model->cells.count < CELLS_LOOKED ? model->cells.count : CELLS_LOOKED;
	double low, high;

	for (uint32_t i = 0; i < count; i++) {
		const struct cell *cell = &model->cells.cell[i];

		for (uint32_t k = 0; k < count && cell->n >= EVIDENCE; k++) {
			const struct cell *other = &model->cells.cell[k];

			/* for most pairs this comparison is enough: no envelope is below its own cell */
			if (cell->mean <= other->mean + TOO_SLOW || !is_evidence(other, cell->phase, cell->context))
				continue;
			envelope_of(other, cell->point, &low, &high);
			if (cell->mean <= high + TOO_SLOW)
				continue;
			*a = cell->point;
			*b = other->point;
			return false;
		}
	}
	return true;
}

void model_forget(struct model *model)
{
	uint64_t rejected = model->rejected;

	model_shed(model);
	for (int p = 0; p < PHASE_COUNT; p++) {
		memset(&model->phase[p], 0, sizeof(model->phase[p]));
		memset(model->cells.first[p], 0, model->grid.points * sizeof(uint32_t));
	}
	layer_store_free(&model->layers);
	model->cells.count = 0;
	correct_init(&model->correct);
	model->rejected = rejected;
	model->against = 0;
	model->forgotten++;
}
