/* SPDX-License-Identifier: MIT */
/* /etc/flamed.conf: one table names every key with its type, range and
 * default; the man page and the shipped file are checked against it. */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../common/limits.h"
#include "../common/log.h"
#include "../common/point.h"
#include "../governor/governor.h"

#define CONFIG_TEXT_MAX 256
#define CONFIG_MODELS_MAX 32
#define CONFIG_MESSAGE_MAX 512

struct config_model {
	char name[MODEL_NAME_MAX + 1];
	uint64_t deadline_ns; /* of a session that names none; 0: none */
	char command[CONFIG_TEXT_MAX]; /* run to profile the model in the background; "": none */
	char working_directory[CONFIG_TEXT_MAX];
	uint32_t budget; /* measurements of a profile; 0: profile_budget */
};

enum clock_use { CLOCK_MANAGE, CLOCK_LEAVE /* never touched */ };

struct config {
	enum objective objective;
	double margin;
	double quantile;
	double ready_width;
	double gain_min;
	uint64_t mem_dwell_ns;
	uint32_t hold_requests;
	uint64_t release_after_ns; /* without a request */
	uint64_t request_expiry_ns;
	uint64_t save_interval_ns;
	uint32_t profile_budget;
	enum log_level log_level;
	char socket_group[64];
	char keeper_socket[108];
	char boards_dir[CONFIG_TEXT_MAX];
	uint64_t min_hz[CLOCK_COUNT]; /* 0: none */
	uint64_t max_hz[CLOCK_COUNT]; /* UINT64_MAX: none */
	enum clock_use use[CLOCK_COUNT];
	bool power_sensor;
	uint64_t power_sample_ns;
	size_t models;
	struct config_model model[CONFIG_MODELS_MAX];
};

enum config_type { CONFIG_DURATION, CONFIG_FREQUENCY, CONFIG_NUMBER, CONFIG_COUNT, CONFIG_BOOL, CONFIG_CHOICE, CONFIG_STRING };

struct config_key {
	const char *section, *key;
	enum config_type type;
	size_t offset;       /* in struct config, or in struct config_model for [model NAME] */
	const char *initial; /* as it would be written; "": not set */
	double min, max;     /* of numbers, in the unit of the field */
	const char *choices; /* CONFIG_CHOICE: "power|energy", numbered from 0 */
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

void config_default(struct config *config);

/* Read a file over the defaults. An empty file means defaults; so does a
 * missing one when `optional`. Returns 0 or -errno with `message`, which begins
 * with FILE:LINE where a line is at fault; `config` is then to be thrown away. */
int config_load(struct config *config, const char *path, bool optional, char message[CONFIG_MESSAGE_MAX]);

/* Same from a text; `path` is for messages. */
int config_parse(struct config *config, const char *text, const char *path, char message[CONFIG_MESSAGE_MAX]);

/* The [model NAME] section, or NULL. */
const struct config_model *config_model_find(const struct config *config, const char *name);

#endif
