/* SPDX-License-Identifier: MIT */
/* Times of launches by CUPTI instead of events, while a program is profiled or traced with FLAMED_CUPTI set (`flamectl
 * profile --cupti`). */
#ifndef LAYERS_CUDA_PROFILER_H
#define LAYERS_CUDA_PROFILER_H

#include "layer.h"

/* About to launch, in no capture. False: events are to be used. */
bool profiler_before(struct launch_token *token);
/* Launched. False: no times. */
bool profiler_after(struct launch_token *token);
bool profiler_has(const struct launch_token *token);
bool profiler_times(const struct launch_token *token, struct launch_times *out);
bool profiler_on(void);

#endif
