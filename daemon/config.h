/* SPDX-License-Identifier: MIT */
/* /etc/flamed.conf: one table names every key with its type, range and default. Tests check
 * flamed.conf(5) and the shipped file against it. */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "../common/limits.h"
#include "../common/log.h"
#include "../common/point.h"
#include "../governor/governor.h"

#define CONFIG_TEXT_MAX     256
#define CONFIG_MODELS_MAX   32
#define CONFIG_TEACHERS_MAX 16
#define CONFIG_TEACH_ALL    ((uid_t)-1)
#define CONFIG_MESSAGE_MAX  512

struct config_model {
	char name[MODEL_NAME_MAX + 1];
	uint64_t deadline_ns;          /* for sessions that set none; 0: none */
	uint64_t rate_mhz, first_ns;   /* schedule of a stream that names none; 0: no stream, one period */
	char command[CONFIG_TEXT_MAX]; /* run to profile the model in the background; "": none */
	char working_directory[CONFIG_TEXT_MAX];
	uint32_t priority; /* 1 to 10; 0: as by default, 5 */
	uint32_t budget;   /* measurements of a profile; 0: profile_budget */
	bool shared;       /* one model of the administrator for all users; otherwise each user has its own */
	/* users besides the administrator whose requests a shared model learns from: names or uids,
	 * comma separated, or all */
	char teach[CONFIG_TEXT_MAX];
	size_t teachers;
	uid_t teacher[CONFIG_TEACHERS_MAX]; /* `teach` as uids; CONFIG_TEACH_ALL: every user */
};

enum config_mode { MODE_GOVERN, MODE_SHADOW /* decide and learn, write nothing */ };

enum clock_use { CLOCK_MANAGE, CLOCK_LEAVE /* never touched */ };

struct config {
	enum config_mode mode;
	enum objective objective;
	double margin;
	double quantile;
	double ready_width;
	double miss_target;
	double learning_misses;
	double power_max_w; /* 0: none */
	uint64_t mem_dwell_ns;
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

enum config_type {
	CONFIG_DURATION,
	CONFIG_DEADLINE,
	CONFIG_RATE,
	CONFIG_FREQUENCY,
	CONFIG_NUMBER,
	CONFIG_COUNT,
	CONFIG_BOOL,
	CONFIG_CHOICE,
	CONFIG_STRING
};

struct config_key {
	const char *section, *key;
	enum config_type type;
	size_t offset;       /* in struct config, or in struct config_model for [model NAME] */
	const char *initial; /* as it would be written; "": not set */
	double min, max;     /* of numbers, in the field's unit */
	const char *choices; /* CONFIG_CHOICE: "power|energy", numbered from 0 */
};

extern const struct config_key config_keys[];
extern const size_t config_key_count;

void config_default(struct config *config);

/* Read a file on top of the defaults. An empty file leaves the defaults, and so does a missing one
 * when `optional`. Returns 0 or a negative errno with `message`, which begins with FILE:LINE where
 * one line is at fault; the contents of `config` are then undefined. */
int config_load(struct config *config, const char *path, bool optional, char message[CONFIG_MESSAGE_MAX]);

/* Like config_load(), from a string; `path` is for messages. */
int config_parse(struct config *config, const char *text, const char *path, char message[CONFIG_MESSAGE_MAX]);

/* The [model NAME] section, or NULL. */
const struct config_model *config_model_find(const struct config *config, const char *name);

/* Whether `model` learns from measurements of this uid. A user's own model always does; a shared one by `teach`. */
bool config_teaches(const struct config_model *model, uid_t uid);

#endif
