/* SPDX-License-Identifier: MIT */
/* The service manager. Only notify.c includes libsystemd; every call does nothing when there is no
 * service manager. */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <stdint.h>

void notify_ready(void);
void notify_reloading(void); /* with MONOTONIC_USEC, as Type=notify-reload requires */
void notify_stopping(void);
void notify_status(const char *format, ...) __attribute__((format(printf, 1, 2)));
void notify_watchdog(void);

/* Interval for calls of notify_watchdog(): half the manager's timeout; 0: no watchdog. */
uint64_t notify_watchdog_ns(void);

/* The request socket passed by the manager: a listening SOCK_STREAM Unix socket, -1 when there is
 * none, or a negative errno when the descriptor is not such a socket. Call it once. */
int notify_socket(void);

#endif
