/* SPDX-License-Identifier: MIT */
#include "boundary.h"

#include <errno.h>
#include <string.h>
#include "../../common/hash.h"
#include "../../common/limits.h"
#include "../../common/units.h"

#define TUNING_LAUNCHES_MAX 64 /* an autotuner launches a kernel at most this often before it waits */

uint64_t boundary_hash(uint64_t seed, const void *data, size_t size)
{
	return hash_bytes(seed ? seed : HASH_FIRST, data, size);
}

int boundary_parse(const char *text, struct boundary_config *out)
{
	uint64_t count;

	*out = (struct boundary_config){.rule = BOUNDARY_AUTO};
	if (!text || !*text)
		return 0;
	if (strcmp(text, "read") == 0) {
		out->rule = BOUNDARY_READ;
	} else if (strcmp(text, "finish") == 0) {
		out->rule = BOUNDARY_FINISH;
	} else if (strncmp(text, "kernel:", 7) == 0 && text[7]) {
		out->rule = BOUNDARY_KERNEL;
		out->kernel = boundary_hash(0, text + 7, strlen(text + 7));
	} else if (strncmp(text, "nvtx:", 5) == 0 && text[5]) {
		out->rule = BOUNDARY_RANGE;
		out->range = text + 5;
	} else if (strncmp(text, "count:", 6) == 0 && parse_u64(text + 6, &count) == 0 && count >= 1 &&
		   count <= LAYERS_MAX) {
		out->rule = BOUNDARY_COUNT;
		out->count = (uint32_t)count;
	} else {
		return -EINVAL;
	}
	return 0;
}

void boundary_init(struct boundary *boundary, const struct boundary_config *config)
{
	*boundary = (struct boundary){.config = *config, .patience = BOUNDARY_PATIENCE};
}

uint64_t boundary_announced(const struct boundary *boundary)
{
	return boundary->announced;
}

uint64_t boundary_ended(const struct boundary *boundary)
{
	return boundary->ended;
}

const char *boundary_why(const struct boundary *boundary)
{
	return boundary->why;
}

/* The i-th segment back in time; 0 is the last one closed. */
static const struct boundary_segment *back(const struct boundary *boundary, size_t i)
{
	return &boundary->history[(boundary->count - 1 - i) % BOUNDARY_HISTORY];
}

const struct boundary_segment *boundary_last(const struct boundary *boundary)
{
	return back(boundary, 0);
}

/* In a cycle of several segments, uploads also distinguish segments that are otherwise equal. */
static bool alike(const struct boundary_segment *a, const struct boundary_segment *b, size_t period)
{
	return a->hash == b->hash && (period == 1 || a->upload == b->upload);
}

/* Number of recent segments that equal the segment `period` before them. */
static size_t matched(const struct boundary *boundary, size_t period)
{
	size_t kept = boundary->count < BOUNDARY_HISTORY ? boundary->count : BOUNDARY_HISTORY, n = 0;

	while (n + period < kept && alike(back(boundary, n), back(boundary, n + period), period))
		n++;
	return n;
}

/* Repeated launches of a single kernel count as an autotuner, unless there are more of them than any autotuner
 * makes. */
static size_t repeats_needed(const struct boundary *boundary, size_t period)
{
	for (size_t i = 0; i < period; i++)
		if (!back(boundary, i)->single || back(boundary, i)->launches > TUNING_LAUNCHES_MAX ||
		    back(boundary, i)->kernel != back(boundary, 0)->kernel)
			return BOUNDARY_REPEATS;
	return BOUNDARY_TUNING_REPEATS;
}

/* The shortest cycle at the end of the history that was repeated often enough. A cycle that would
 * have missed the last break needs more repetitions. */
static size_t find_period(const struct boundary *boundary)
{
	size_t max = boundary->config.rule >= BOUNDARY_KERNEL ? 1 : BOUNDARY_PERIOD_MAX;

	for (size_t period = 1; period <= max && period * 2 <= boundary->count; period++) {
		size_t n = matched(boundary, period) + period, need = repeats_needed(boundary, period);

		if (boundary->breaks > 0 && boundary->count - boundary->broken_at >= n && need < boundary->patience)
			need = boundary->patience;
		if (n >= need * period)
			return period;
	}
	return 0;
}

/* A cycle starts with its only upload; otherwise after its longest pause, if one stands out;
 * otherwise where the repetition was first seen. */
static size_t cycle_start(const struct boundary *boundary, size_t period)
{
	size_t start = (period - matched(boundary, period) % period) % period, longest = 0, uploads = 0, upload = 0;
	uint64_t best = 0, second = 0;

	for (size_t i = 0; i < period; i++) {
		uint64_t gap = back(boundary, period - 1 - i)->gap_ns;

		if (back(boundary, period - 1 - i)->upload) {
			uploads++;
			upload = i;
		}
		if (gap > best) {
			second = best;
			best = gap;
			longest = i;
		} else if (gap > second) {
			second = gap;
		}
	}
	if (uploads == 1)
		return upload;
	return period > 1 && best > 2 * second ? longest : start;
}

static void remember_variant(struct boundary *boundary, const struct boundary_segment *segment, uint32_t seen)
{
	size_t oldest = 0;

	for (size_t i = 0; i < BOUNDARY_VARIANTS; i++) {
		if (boundary->variant[i].seen && boundary->variant[i].segment.hash == segment->hash) {
			boundary->variant[i].seen += seen;
			boundary->variant[i].last = boundary->count;
			return;
		}
		if (boundary->variant[i].last < boundary->variant[oldest].last)
			oldest = i;
	}
	boundary->variant[oldest].segment = *segment;
	boundary->variant[oldest].seen = seen;
	boundary->variant[oldest].last = boundary->count;
}

static unsigned give_up(struct boundary *boundary, const char *why)
{
	boundary->why = why;
	boundary->begun = false;
	boundary->period = 0;
	return MARK_OFF;
}

static uint64_t cycle_hash(const struct boundary *boundary)
{
	uint64_t hash = 0;

	for (size_t i = 0; i < boundary->period; i++)
		hash = boundary_hash(hash, &boundary->cycle[i].hash, sizeof(hash));
	return hash;
}

static uint64_t variant_name(uint64_t hash)
{
	return boundary_hash(0, &hash, sizeof(hash));
}

static unsigned lock_cycle(struct boundary *boundary)
{
	size_t period = find_period(boundary), start;

	if (period == 0)
		return MARK_NONE;
	start = cycle_start(boundary, period);
	for (size_t i = 0; i < period; i++)
		boundary->cycle[i] = *back(boundary, period - 1 - (start + i) % period);
	boundary->period = period;
	boundary->position = (period - start) % period;
	if (period == 1)
		remember_variant(boundary, back(boundary, 0), 2);
	boundary->announced = period == 1 ? variant_name(back(boundary, 0)->hash) : cycle_hash(boundary);
	return MARK_LOCKED;
}

/* The known segment that begins with this launch, the latest one of several. */
static const struct boundary_segment *predict_segment(const struct boundary *boundary, uint64_t first)
{
	const struct boundary_segment *best = NULL;
	size_t last = 0;

	for (size_t i = 0; i < BOUNDARY_VARIANTS; i++)
		if (boundary->variant[i].seen >= 2 && boundary->variant[i].segment.first == first &&
		    boundary->variant[i].last >= last) {
			best = &boundary->variant[i].segment;
			last = boundary->variant[i].last;
		}
	return best;
}

static unsigned begin(struct boundary *boundary)
{
	const struct boundary_segment *next;

	if (boundary->period == 0 || boundary->begun || boundary->position != 0)
		return MARK_NONE;
	if (boundary->period == 1) {
		next = predict_segment(boundary, boundary->now.first);
		if (!next)
			return MARK_NONE;
		boundary->announced = variant_name(next->hash);
	} else {
		if (boundary->now.first != boundary->cycle[0].first)
			return MARK_NONE;
		boundary->announced = cycle_hash(boundary);
	}
	boundary->begun = true;
	return MARK_BEGIN;
}

/* The cycle found was wrong: drop the inference in progress and continue the search over the same history. */
static unsigned break_cycle(struct boundary *boundary)
{
	unsigned mark = boundary->begun ? MARK_END | MARK_CHANGED : MARK_NONE;

	boundary->begun = false;
	boundary->ended = 0;
	boundary->period = boundary->position = 0;
	boundary->broken_at = boundary->count - 1;
	boundary->patience *= 2;
	boundary->quiet = 0;
	if (++boundary->breaks > BOUNDARY_BREAKS_MAX)
		return mark | give_up(boundary, "the sequence of kernels keeps changing");
	return mark;
}

static unsigned end_of_variant(struct boundary *boundary, const struct boundary_segment *segment)
{
	bool known = boundary->related, begun = boundary->begun;

	if (boundary->cycle[0].single && boundary->cycle[0].launches <= TUNING_LAUNCHES_MAX && !segment->single) {
		unsigned mark = break_cycle(boundary); /* it was an autotuner, so this is not a break */

		boundary->breaks = 0;
		boundary->patience = BOUNDARY_PATIENCE;
		return mark;
	}
	for (size_t i = 0; i < BOUNDARY_VARIANTS; i++)
		known |= boundary->variant[i].seen && boundary->variant[i].segment.hash == segment->hash;
	remember_variant(boundary, segment, 1);
	if (++boundary->window >= BOUNDARY_WINDOW)
		boundary->window = boundary->strangers = 0;
	if (!known && ++boundary->strangers > BOUNDARY_STRANGERS_MAX)
		return (begun ? MARK_END | MARK_CHANGED : 0U) |
		       give_up(boundary, "nearly every inference has another sequence of kernels");
	boundary->begun = false;
	if (!begun)
		return MARK_NONE;
	boundary->ended = variant_name(segment->hash);
	return MARK_END | (boundary->ended == boundary->announced || boundary->related ? 0U : MARK_CHANGED);
}

static unsigned end_of_step(struct boundary *boundary, const struct boundary_segment *segment)
{
	if (segment->hash != boundary->cycle[boundary->position].hash)
		return break_cycle(boundary);
	boundary->position = (boundary->position + 1) % boundary->period;
	if (boundary->position != 0 || !boundary->begun)
		return MARK_NONE;
	boundary->begun = false;
	boundary->ended = cycle_hash(boundary);
	return MARK_END;
}

static unsigned close_segment(struct boundary *boundary)
{
	struct boundary_segment segment = boundary->now;
	unsigned mark = MARK_NONE;

	boundary->history[boundary->count++ % BOUNDARY_HISTORY] = segment;
	boundary->now = (struct boundary_segment){0};
	if (boundary->period == 1)
		mark = end_of_variant(boundary, &segment);
	else if (boundary->period > 1)
		mark = end_of_step(boundary, &segment);
	boundary->quiet_segments++;
	if (boundary->period > 0)
		boundary->quiet = boundary->quiet_segments = 0;
	if (boundary->period == 0 && !boundary->why)
		mark |= lock_cycle(boundary);
	return mark;
}

unsigned boundary_launch(struct boundary *boundary, uint64_t kernel, uint64_t identity, uint64_t gap_ns, bool upload)
{
	struct boundary_segment *now = &boundary->now;
	const struct boundary_config *config = &boundary->config;
	unsigned mark = MARK_NONE;

	if (boundary->why)
		return MARK_NONE;
	if (now->launches++ == 0) {
		now->first = identity;
		now->single = true;
		now->gap_ns = gap_ns;
		now->upload = upload;
		now->kernel = kernel;
		mark = begin(boundary);
	}
	now->hash = boundary_hash(now->hash, &identity, sizeof(identity));
	now->single &= kernel == now->kernel;
	if (++boundary->quiet > BOUNDARY_LAUNCHES_MAX || boundary->quiet_segments > BOUNDARY_SEGMENTS_MAX)
		return mark | give_up(boundary, now->launches >= BOUNDARY_LAUNCHES_MAX ?
							"the program never waits for what it launches" :
							"no sequence of kernels repeats");
	if ((config->rule == BOUNDARY_KERNEL && kernel == config->kernel) ||
	    (config->rule == BOUNDARY_COUNT && now->launches >= config->count))
		mark |= close_segment(boundary);
	return mark;
}

unsigned boundary_expect(struct boundary *boundary, uint64_t hash)
{
	if (boundary->why || boundary->period != 1 || boundary->begun || boundary->now.launches != 1)
		return MARK_NONE;
	boundary->begun = true;
	boundary->announced = hash ? variant_name(hash) : 0;
	return MARK_BEGIN;
}

bool boundary_closes(const struct boundary *boundary, enum boundary_wait kind)
{
	enum boundary_rule rule = boundary->config.rule;

	return !boundary->why && boundary->now.launches > 0 && rule < BOUNDARY_KERNEL &&
	       (rule != BOUNDARY_READ || kind == WAIT_READ) && (rule != BOUNDARY_FINISH || kind == WAIT_FINISH);
}

uint64_t boundary_now(const struct boundary *boundary)
{
	return boundary->now.hash;
}

unsigned boundary_wait(struct boundary *boundary, enum boundary_wait kind, bool related)
{
	if (!boundary_closes(boundary, kind))
		return MARK_NONE;
	boundary->related = related;
	return close_segment(boundary);
}
