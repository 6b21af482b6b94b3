/* SPDX-License-Identifier: MIT */
#ifndef TESTS_CUDA_RANGES_H
#define TESTS_CUDA_RANGES_H

#include <stdbool.h>
#include "script.h"

/* Makes the NVTX call of a line; false: it has none, or the program was built without NVTX. `range` is where the line's
 * named range is kept. */
bool range_call(const struct line *line, void **range);

#endif
