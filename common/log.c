/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "hash.h"

#define FIRST_KEYS_MAX 256
#define LOG_TEXT_MAX   1024

static struct {
	enum log_level level;
	const char *ident;
	bool prefixed;
	void (*sink)(enum log_level level, const char *text);
	size_t keys;
	uint64_t key[FIRST_KEYS_MAX]; /* hashes of the faults logged so far */
} logger = {.level = LOG_LEVEL_INFO, .prefixed = true};

void log_init(enum log_level level, const char *ident, bool prefixed)
{
	logger.level = level;
	logger.ident = ident;
	logger.prefixed = prefixed;
}

void log_set_level(enum log_level level)
{
	logger.level = level;
}

void log_set_sink(void (*sink)(enum log_level level, const char *text))
{
	logger.sink = sink;
}

void log_write(enum log_level level, const char *format, ...)
{
	int saved = errno;
	char text[LOG_TEXT_MAX];
	va_list args;

	if (level > logger.level)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (logger.sink) {
		logger.sink(level, text);
	} else {
		char prefix[8] = "";

		if (logger.prefixed)
			snprintf(prefix, sizeof(prefix), "<%d>", (int)level);
		/* one write for each line, so that lines of several processes are not mixed */
		fprintf(stderr, "%s%s%s%s\n", prefix, logger.ident ? logger.ident : "", logger.ident ? ": " : "", text);
	}
	errno = saved;
}

bool log_first(const char *key)
{
	uint64_t hash = hash_bytes(HASH_FIRST, key, strlen(key));

	for (size_t i = 0; i < logger.keys; i++)
		if (logger.key[i] == hash)
			return false;
	if (logger.keys < FIRST_KEYS_MAX)
		logger.key[logger.keys++] = hash;
	return true;
}

void log_forget(const char *key)
{
	uint64_t hash = hash_bytes(HASH_FIRST, key, strlen(key));

	for (size_t i = 0; i < logger.keys; i++)
		if (logger.key[i] == hash)
			logger.key[i] = logger.key[--logger.keys];
}
