/* SPDX-License-Identifier: MIT */
/* The joint timeline of launches and executions, over many settings at once. */
#include <math.h>
#include <string.h>
#include "schedule.h"

#define LANES SCHEDULE_LANES

static inline float larger(float a, float b)
{
	return a > b ? a : b; /* unlike fmaxf() one instruction, and vectorised */
}

/* Loops of constant length over lanes: every one becomes a few vector instructions. */
void schedule_lanes(const struct launch_schedule *s, size_t lane0, float end[LANES])
{
	float history[SCHEDULE_SEGMENTS_MAX][LANES], cpu[LANES] = {0}, lead[LANES], last[LANES] = {0};
	bool limited = s->queue < s->segments;

	for (size_t i = 0; i < s->segments; i++) {
		const struct segment *segment = &s->segment[i];
		const float *total = s->gpu_total + i * s->stride + lane0;
		const float *rest = s->gpu_rest + segment->path * s->stride + lane0;
		float launch = s->cpu_lead[segment->path] + s->delay;

		for (size_t j = 0; j < LANES; j++)
			lead[j] = launch + rest[j];
		for (size_t p = 1; p < segment->paths; p++) {
			rest += s->stride;
			launch = s->cpu_lead[segment->path + p] + s->delay;
			for (size_t j = 0; j < LANES; j++)
				lead[j] = larger(lead[j], launch + rest[j]);
		}
		for (size_t j = 0; j < LANES; j++) {
			last[j] = larger(last[j] + total[j], cpu[j] + lead[j]);
			cpu[j] += s->cpu_total[i];
		}
		if (limited && i >= s->queue) {
			const float *freed = history[i - s->queue];
			for (size_t j = 0; j < LANES; j++) {
				last[j] = larger(last[j], freed[j] + s->delay + total[j]);
				cpu[j] = larger(cpu[j], freed[j]);
			}
		}
		if (limited)
			memcpy(history[i], last, sizeof(last));
		if (segment->sync)
			for (size_t j = 0; j < LANES; j++)
				cpu[j] = larger(cpu[j], last[j]);
	}
	memcpy(end, last, sizeof(last));
}

/* Which layers j of a segment can be on the longest path: the first, the last,
 * and the one that rises most above the line between them. */
static uint8_t choose_paths(const double *cpu_ns, const double *gpu_ns, const struct segment *segment,
			    uint32_t *path_layer)
{
	double launched = 0, left = 0, rise = 0, total_cpu = 0, total_gpu = 0;
	uint32_t highest = 0;

	path_layer[0] = segment->first;
	if (segment->count == 1)
		return 1;
	for (uint32_t i = 0; i < segment->count; i++) {
		total_cpu += i ? cpu_ns[segment->first + i] : 0;
		total_gpu += i + 1 < segment->count ? gpu_ns[segment->first + i] : 0;
	}
	left = total_gpu;
	for (uint32_t i = 1; i + 1 < segment->count; i++) {
		launched += cpu_ns[segment->first + i];
		left -= gpu_ns[segment->first + i - 1];
		double above = launched / fmax(total_cpu, 1e-9) + left / fmax(total_gpu, 1e-9) - 1;
		if (above > rise) {
			rise = above;
			highest = i;
		}
	}
	path_layer[1] = segment->first + segment->count - 1;
	if (!highest)
		return 2;
	path_layer[2] = segment->first + highest;
	return 3;
}

size_t schedule_cut(const double *cpu_ns, const double *gpu_ns, const bool *sync, size_t layers,
		    struct segment *segment, uint32_t *path_layer, size_t *paths)
{
	size_t syncs = 0, length = 1, segments = 0;

	for (size_t i = 0; i + 1 < layers; i++)
		syncs += sync[i];
	bool keep_syncs = syncs < SCHEDULE_SEGMENTS_MAX / 2;
	size_t room = SCHEDULE_SEGMENTS_MAX - (keep_syncs ? syncs + 1 : 0);
	if (layers > SCHEDULE_SEGMENTS_MAX)
		length = (layers + room - 1) / room;
	*paths = 0;
	for (size_t i = 0; i < layers; segments++) {
		struct segment *s = &segment[segments];

		*s = (struct segment){.first = (uint32_t)i, .path = (uint32_t)*paths};
		do {
			s->count++;
			s->sync = sync[i++];
		} while (i < layers && s->count < length && !(keep_syncs && s->sync));
		s->paths = choose_paths(cpu_ns, gpu_ns, s, path_layer + *paths);
		*paths += s->paths;
	}
	return segments;
}
