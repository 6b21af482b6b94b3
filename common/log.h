/* SPDX-License-Identifier: MIT */
/* Log lines to stderr with the `<N>` level prefix of sd-daemon(3); errno is
 * preserved. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7
};

/* Lines above the level are dropped. `ident` (may be NULL) precedes each message; `prefixed` adds
 * `<N>`. Defaults: INFO, no ident, prefixed. */
void log_init(enum log_level level, const char *ident, bool prefixed);
void log_set_level(enum log_level level);

/* Pass every line within the level to `sink` instead of stderr; NULL restores stderr. The daemon
 * uses it to write to the journal. */
void log_set_sink(void (*sink)(enum log_level level, const char *text));

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...)  log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* For repeated faults: true the first time that `key` is seen since log_forget(key). 256 keys are
 * remembered; beyond that it is always true. */
bool log_first(const char *key);
void log_forget(const char *key);

#endif
