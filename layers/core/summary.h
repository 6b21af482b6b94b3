/* SPDX-License-Identifier: MIT */
/* Output for people: one line at exit (FLAMED_SUMMARY), and the times of every kernel
 * (FLAMED_TRACE) as a layers CSV. */
#ifndef LAYERS_CORE_SUMMARY_H
#define LAYERS_CORE_SUMMARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trace_row {
	uint64_t kernel, gap_ns, call_ns, wait_ns, run_ns;
	bool sync;
};

void summary_inference(uint64_t total_ns, bool missed);
void summary_point(uint64_t cpu_hz, uint64_t gpu_hz, uint64_t mem_hz);
void summary_model(const char *model);
/* Profiling ended, with 0 or an error; written at once. */
void summary_done(int rc);
uint64_t summary_inferences(void);
void summary_write(void);
void trace_inference(const struct trace_row *rows, size_t count);

#endif
