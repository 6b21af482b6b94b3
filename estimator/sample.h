/* SPDX-License-Identifier: MIT */
/* Measurements and their CSV form: samples (one latency at one operating point) and layers (one step of a model at
 * one operating point). */
#ifndef ESTIMATOR_SAMPLE_H
#define ESTIMATOR_SAMPLE_H

#include <stddef.h>
#include "../common/point.h"

struct sample {
	enum phase phase;
	uint32_t context; /* tokens; 0 for PHASE_RUN */
	struct op_point point;
	uint64_t latency_ns; /* mean (or median) of n inferences; 0: a point without measurement */
	uint32_t n;          /* at least 1 */
	uint64_t sd_ns;      /* 0: unknown */
	uint64_t max_ns;     /* 0: unknown */
	uint64_t power_uw;   /* mean board power while it ran; 0: unknown */
};

/* How the times of a layer were measured (docs/protocol.md, layer_source). An unknown source counts as the device's own
 * timestamps (OpenCL, Vulkan), which have no name. */
enum layer_source { SOURCE_DEVICE, SOURCE_CUPTI, SOURCE_TRACE, SOURCE_EVENTS, SOURCE_WALL, LAYER_SOURCES };

/* Standard deviations of the error of the method for one layer, beside the scatter of repetitions. */
struct layer_trust {
	const char *name;
	double launch_sd_ns, execution_sd_ns;
};
extern const struct layer_trust layer_trust[LAYER_SOURCES];

/* SOURCE_DEVICE for NULL, "" and unknown words. */
enum layer_source layer_source_parse(const char *name);
/* Of two measurements of one layer, the one with the more precise execution time counts. */
static inline bool layer_surer(enum layer_source a, enum layer_source b)
{
	return layer_trust[a].execution_sd_ns < layer_trust[b].execution_sd_ns;
}

struct layer {
	enum phase phase;
	uint32_t context;
	struct op_point point;
	uint32_t rep;    /* which repetition at this point, from 0 */
	uint32_t layer;  /* launch order, from 0 */
	uint64_t cpu_ns; /* host time from the previous launch to this one, without waiting */
	uint64_t gpu_ns; /* execution */
	bool sync;       /* the host waits for its end */
	enum layer_source source;
};

/* Parse a whole CSV text (cut up in place) into a new array the caller frees.
 * `warn` (may be NULL) is called for unknown columns. Returns 0 or -EINVAL, -ENOMEM,
 * -E2BIG with a message naming line, column and value in `message`. Latency and
 * clocks above 1e12, NaN, text and negative values are errors. A missing
 * latency_ns column or field is allowed only with `points_only`. */
int samples_parse(char *text, bool points_only, struct sample **out, size_t *count, char *message, size_t message_size,
		  void (*warn)(void *arg, const char *text), void *arg);
int layers_parse(char *text, struct layer **out, size_t *count, char *message, size_t message_size,
		 void (*warn)(void *arg, const char *text), void *arg);

/* One header line and one line for each sample, in a new string that the caller frees; NULL when out of memory. */
char *samples_format(const struct sample *samples, size_t count);
char *layers_format(const struct layer *layers, size_t count);

#endif
