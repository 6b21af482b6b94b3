/* SPDX-License-Identifier: MIT */
/* Device change events from the kernel: CPU hotplug, a GPU driver. */
#ifndef KEEPER_UEVENT_H
#define KEEPER_UEVENT_H

#include <stdbool.h>
#include <stddef.h>

/* A non-blocking descriptor, or a negative errno if uevents are not available. */
int uevent_open(void);

/* Read all pending events. True if a clock's device may have appeared or disappeared. */
bool uevent_drain(int fd);

/* One message: "ACTION@/devices/...", then KEY=VALUE strings, each ended by a NUL. */
bool uevent_matters(const char *text, size_t len);

#endif
