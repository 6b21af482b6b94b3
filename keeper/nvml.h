/* SPDX-License-Identifier: MIT */
/* Locked clocks of a desktop or server GPU, by NVIDIA's NVML, as knobs like any other: /nvml/BUS-ID/graphics/lock and
 * /nvml/BUS-ID/memory/lock hold a number of MHz, or "default". The library is loaded at the first write, and only where
 * a board file names such a path. NVML cannot read a lock back, so a knob reads as the value that this process wrote
 * last, at first "default". It is therefore restored to the default, not to the state found (NVML API Reference, Device
 * Commands). Errors: -EPERM, -EOPNOTSUPP, -ENODEV (no such GPU, or it fell off the bus), -EINVAL, -ELIBACC (no library,
 * or one too old), -EIO. */
#ifndef KEEPER_NVML_H
#define KEEPER_NVML_H

#include <stdbool.h>
#include <stdint.h>
#include "../common/limits.h"

#define NVML_DEFAULT "default"

bool nvml_is(const char *path);
int nvml_read(const char *path, char value[KNOB_VALUE_MAX]);
int nvml_write(const char *path, const char *value);

/* A locked clock as the GPU reports it. */
struct nvml_clock {
	uint64_t hz;        /* its clock now */
	bool busy;          /* the GPU reports load: only then its clock shows whether the lock holds */
	const char *slowed; /* why it runs slower than its lock, for a log line; NULL: NVML gives no reason */
};
int nvml_read_clock(const char *path, struct nvml_clock *out);

#endif
