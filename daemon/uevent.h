/* SPDX-License-Identifier: MIT */
/* The kernel's word that a device came or went: CPU hotplug, a GPU driver. */
#ifndef DAEMON_UEVENT_H
#define DAEMON_UEVENT_H

#include <stdbool.h>
#include <stddef.h>

/* A non-blocking descriptor, or -errno where there is none to be had. */
int uevent_open(void);

/* Read all that is there. True when a clock's device may have come or gone. */
bool uevent_drain(int fd);

/* One message: "ACTION@/devices/...", then KEY=VALUE, a NUL after each. */
bool uevent_matters(const char *text, size_t len);

#endif
