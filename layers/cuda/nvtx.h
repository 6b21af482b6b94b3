/* SPDX-License-Identifier: MIT */
/* Inferences from ranges that the program names (nvtx.c). Tracks number the launches in them, and report the waits of
 * the host. */
#ifndef LAYERS_CUDA_NVTX_H
#define LAYERS_CUDA_NVTX_H

#include "layer.h"

/* Whether FLAMED_BOUNDARY names a range, so that nothing else is a boundary. */
static inline bool nvtx_on(void)
{
	return core.config.boundary.rule == BOUNDARY_RANGE;
}

/* The calling thread launched number `number` of a track. */
void nvtx_launched(size_t track, uint64_t number);
/* The host has waited for everything of a track up to this number. */
void nvtx_waited(size_t track, uint64_t through, bool may_block);

#endif
