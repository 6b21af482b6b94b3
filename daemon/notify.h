/* SPDX-License-Identifier: MIT */
/* The service manager. The only file that includes libsystemd is notify.c;
 * every call does nothing where no manager runs. */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <stdint.h>

void notify_ready(void);
void notify_reloading(void); /* with MONOTONIC_USEC, as Type=notify-reload wants it */
void notify_stopping(void);
void notify_status(const char *format, ...) __attribute__((format(printf, 1, 2)));
void notify_watchdog(void);

/* Interval at which notify_watchdog() must be called, half of what the manager
 * waits; 0: no watchdog. */
uint64_t notify_watchdog_ns(void);

/* The request socket that the manager passed: a listening SOCK_STREAM Unix
 * socket, or -1 when there is none, or -errno when what was passed is none. To
 * be asked once. */
int notify_socket(void);

#endif
