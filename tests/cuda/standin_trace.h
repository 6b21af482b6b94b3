/* SPDX-License-Identifier: MIT */
/* Messages of the stand-in driver to the stand-in CUPTI; the real ones have a private
 * interface. */
#ifndef TESTS_CUDA_STANDIN_TRACE_H
#define TESTS_CUDA_STANDIN_TRACE_H

#include <stdint.h>

struct standin_trace {
	/* A launch by the entry point of this callback number has begun. Returns its correlation number. */
	uint32_t (*launching)(unsigned number);
	/* A kernel of it has run. */
	void (*executed)(uint32_t correlation, uint64_t start_ns, uint64_t end_ns);
};

void standin_set_trace(const struct standin_trace *trace);

#endif
