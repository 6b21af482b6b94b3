/* SPDX-License-Identifier: MIT */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/kv.h"
#include "../common/log.h"
#include "../common/units.h"
#include "../estimator/model.h"
#include "installation.h"

#define CONFIG_BYTES_MAX (256 * 1024)
#define HZ_MIN           1e6
#define HZ_MAX           1e11

#define TEXT(value)     #value
#define TEXT_OF(macro)  TEXT(macro)
#define AT(field)       offsetof(struct config, field)
#define OF_MODEL(field) offsetof(struct config_model, field)

const struct config_key config_keys[] = {
	{"flamed", "mode", CONFIG_CHOICE, AT(mode), "govern", 0, 0, "govern|shadow"},
	{"flamed", "objective", CONFIG_CHOICE, AT(objective), "power", 0, 0, "power|energy"},
	{"flamed", "margin", CONFIG_NUMBER, AT(margin), "0", 0, 1, NULL},
	{"flamed", "quantile", CONFIG_NUMBER, AT(quantile), TEXT_OF(QUANTILE_DEFAULT), 0.51, 0.9999, NULL},
	{"flamed", "ready_width", CONFIG_NUMBER, AT(ready_width), "0.12", 0.01, 1, NULL},
	{"flamed", "miss_target", CONFIG_NUMBER, AT(miss_target), "0.002", 0, 0.5, NULL},
	{"flamed", "learning_misses", CONFIG_NUMBER, AT(learning_misses), "2", 0, 100, NULL},
	{"flamed", "power_max", CONFIG_NUMBER, AT(power_max_w), "0", 0, 10000, NULL},
	{"flamed", "mem_dwell", CONFIG_DURATION, AT(mem_dwell_ns), "2s", 0, 3600e9, NULL},
	{"flamed", "release_after", CONFIG_DURATION, AT(release_after_ns), "5s", 1e6, 3600e9, NULL},
	{"flamed", "request_expiry", CONFIG_DURATION, AT(request_expiry_ns), "10s", 1e6, 3600e9, NULL},
	{"flamed", "save_interval", CONFIG_DURATION, AT(save_interval_ns), "30s", 1e9, 86400e9, NULL},
	{"flamed", "profile_budget", CONFIG_COUNT, AT(profile_budget), "8", 1, 4096, NULL},
	{"flamed", "log_level", CONFIG_CHOICE, AT(log_level), "info", 0, 0, "|||error|warning|notice|info|debug"},
	{"flamed", "socket_group", CONFIG_STRING, AT(socket_group), "flamed", 0, 63, NULL},
	{"flamed", "keeper_socket", CONFIG_STRING, AT(keeper_socket), "/run/flamed/keeper.sock", 0, 107, NULL},
	{"flamed", "boards_dir", CONFIG_STRING, AT(boards_dir), BOARDS_DIR, 0, CONFIG_TEXT_MAX - 1, NULL},
	{"limits", "cpu_min", CONFIG_FREQUENCY, AT(min_hz[CLOCK_CPU]), "", HZ_MIN, HZ_MAX, NULL},
	{"limits", "cpu_max", CONFIG_FREQUENCY, AT(max_hz[CLOCK_CPU]), "", HZ_MIN, HZ_MAX, NULL},
	{"limits", "gpu_min", CONFIG_FREQUENCY, AT(min_hz[CLOCK_GPU]), "", HZ_MIN, HZ_MAX, NULL},
	{"limits", "gpu_max", CONFIG_FREQUENCY, AT(max_hz[CLOCK_GPU]), "", HZ_MIN, HZ_MAX, NULL},
	{"limits", "mem_min", CONFIG_FREQUENCY, AT(min_hz[CLOCK_MEM]), "", HZ_MIN, HZ_MAX, NULL},
	{"limits", "mem_max", CONFIG_FREQUENCY, AT(max_hz[CLOCK_MEM]), "", HZ_MIN, HZ_MAX, NULL},
	{"clocks", "cpu", CONFIG_CHOICE, AT(use[CLOCK_CPU]), "manage", 0, 0, "manage|leave"},
	{"clocks", "gpu", CONFIG_CHOICE, AT(use[CLOCK_GPU]), "manage", 0, 0, "manage|leave"},
	{"clocks", "mem", CONFIG_CHOICE, AT(use[CLOCK_MEM]), "manage", 0, 0, "manage|leave"},
	{"power", "sensor", CONFIG_BOOL, AT(power_sensor), "yes", 0, 0, NULL},
	{"power", "sample_interval", CONFIG_DURATION, AT(power_sample_ns), "50ms", 1e6, 60e9, NULL},
	{"model", "deadline", CONFIG_DEADLINE, OF_MODEL(deadline_ns), "", DEADLINE_NS_MIN, DEADLINE_NS_MAX, NULL},
	{"model", "rate", CONFIG_RATE, OF_MODEL(rate_mhz), "", 1, RATE_MHZ_MAX, NULL},
	{"model", "first", CONFIG_DURATION, OF_MODEL(first_ns), "", DEADLINE_NS_MIN, DEADLINE_NS_MAX, NULL},
	{"model", "command", CONFIG_STRING, OF_MODEL(command), "", 0, CONFIG_TEXT_MAX - 1, NULL},
	{"model", "working_directory", CONFIG_STRING, OF_MODEL(working_directory), "", 0, CONFIG_TEXT_MAX - 1, NULL},
	{"model", "priority", CONFIG_COUNT, OF_MODEL(priority), "", 1, 10, NULL},
	{"model", "budget", CONFIG_COUNT, OF_MODEL(budget), "", 1, 4096, NULL},
	{"model", "shared", CONFIG_BOOL, OF_MODEL(shared), "", 0, 0, NULL},
	{"model", "teach", CONFIG_STRING, OF_MODEL(teach), "", 0, CONFIG_TEXT_MAX - 1, NULL},
};
const size_t config_key_count = sizeof(config_keys) / sizeof(*config_keys);

struct reading {
	struct config *config;
	const char *next;           /* text not yet passed to inih */
	int line, fault;            /* last line passed; the line that `message` is about */
	bool inside;                /* inside a line longer than inih's buffer */
	struct config_model *model; /* of the [model NAME] section being read */
	bool seen[sizeof(config_keys) / sizeof(*config_keys)];
	char message[CONFIG_MESSAGE_MAX];
};

static void *field_of(const struct config_key *key, struct config *config, struct config_model *model)
{
	return (strcmp(key->section, "model") == 0 ? (char *)model : (char *)config) + key->offset;
}

/* The accepted range, in the units that people write. */
static void range_text(const struct config_key *key, char *buf, size_t size)
{
	char low[32], high[32];

	switch (key->type) {
	case CONFIG_DURATION:
		snprintf(buf, size, "a duration with a unit (ns us ms s min h) from %s to %s",
			 key->min > 0 ? format_duration(low, sizeof(low), (uint64_t)key->min) : "0",
			 format_duration(high, sizeof(high), (uint64_t)key->max));
		break;
	case CONFIG_DEADLINE:
		snprintf(buf, size,
			 "a duration with a unit (ns us ms s min h) or a rate (30fps, 60hz, 15/s) from %s to %s",
			 format_duration(low, sizeof(low), (uint64_t)key->min),
			 format_duration(high, sizeof(high), (uint64_t)key->max));
		break;
	case CONFIG_RATE:
		snprintf(buf, size, "a rate with a unit (15/s, 30fps, 60hz) from %g/s to %g/s", key->min / 1e3,
			 key->max / 1e3);
		break;
	case CONFIG_FREQUENCY:
		snprintf(buf, size, "a frequency with a unit (Hz kHz MHz GHz) from %s to %s",
			 format_frequency(low, sizeof(low), (uint64_t)key->min),
			 format_frequency(high, sizeof(high), (uint64_t)key->max));
		break;
	case CONFIG_NUMBER: snprintf(buf, size, "a number from %g to %g", key->min, key->max); break;
	case CONFIG_COUNT: snprintf(buf, size, "a whole number from %.0f to %.0f", key->min, key->max); break;
	case CONFIG_BOOL: snprintf(buf, size, "yes or no"); break;
	case CONFIG_CHOICE: snprintf(buf, size, "one of %s", key->choices + strspn(key->choices, "|")); break;
	case CONFIG_STRING: snprintf(buf, size, "a text of at most %.0f bytes", key->max); break;
	}
}

static int set_u64(const struct config_key *key, void *field, uint64_t value)
{
	if ((double)value < key->min || (double)value > key->max)
		return -ERANGE;
	memcpy(field, &value, sizeof(value));
	return 0;
}

static int set_choice(const struct config_key *key, void *field, const char *value)
{
	const char *choice = key->choices;
	size_t len = strlen(value);

	for (int number = 0; len > 0; number++) {
		size_t n = strcspn(choice, "|");

		if (n == len && strncasecmp(choice, value, len) == 0) {
			*(int *)field = number;
			return 0;
		}
		if (choice[n] == '\0')
			break;
		choice += n + 1;
	}
	return -EINVAL;
}

static int set_bool(void *field, const char *value)
{
	static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (strcasecmp(value, words[i]))
			continue;
		*(bool *)field = i % 2;
		return 0;
	}
	return -EINVAL;
}

/* A quantity must carry its unit: a bare 33 could be ns or ms. Only 0 needs none. */
static bool lacks_unit(const char *value)
{
	return value[strspn(value, "0123456789.")] == '\0' && strspn(value, "0.") != strlen(value);
}

static int set_value(const struct config_key *key, void *field, const char *value)
{
	uint64_t u64;
	double number;
	int rc;

	switch (key->type) {
	case CONFIG_DURATION:
		rc = lacks_unit(value) ? -EINVAL : parse_duration_ns(value, &u64);
		return rc < 0 ? rc : set_u64(key, field, u64);
	case CONFIG_DEADLINE:
		rc = lacks_unit(value) ? -EINVAL : parse_deadline_ns(value, &u64);
		return rc < 0 ? rc : set_u64(key, field, u64);
	case CONFIG_RATE:
		rc = lacks_unit(value) ? -EINVAL : parse_rate_mhz(value, &u64);
		return rc < 0 ? rc : set_u64(key, field, u64);
	case CONFIG_FREQUENCY:
		rc = lacks_unit(value) ? -EINVAL : parse_frequency_hz(value, &u64);
		return rc < 0 ? rc : set_u64(key, field, u64);
	case CONFIG_NUMBER:
		rc = parse_double(value, &number);
		if (rc == 0 && (number < key->min || number > key->max))
			rc = -ERANGE;
		if (rc == 0)
			*(double *)field = number;
		return rc;
	case CONFIG_COUNT:
		rc = parse_u64(value, &u64);
		if (rc == 0 && ((double)u64 < key->min || (double)u64 > key->max))
			rc = -ERANGE;
		if (rc == 0)
			*(uint32_t *)field = (uint32_t)u64;
		return rc;
	case CONFIG_BOOL: return set_bool(field, value);
	case CONFIG_CHOICE: return set_choice(key, field, value);
	case CONFIG_STRING:
		if (strlen(value) > (size_t)key->max)
			return -ERANGE;
		strcpy(field, value);
		return 0;
	}
	return -EINVAL;
}

void config_default(struct config *config)
{
	memset(config, 0, sizeof(*config));
	for (int i = 0; i < CLOCK_COUNT; i++)
		config->max_hz[i] = UINT64_MAX;
	for (size_t i = 0; i < config_key_count; i++)
		if (config_keys[i].initial[0] && strcmp(config_keys[i].section, "model"))
			set_value(&config_keys[i], (char *)config + config_keys[i].offset, config_keys[i].initial);
}

const struct config_model *config_model_find(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->models; i++)
		if (strcmp(config->model[i].name, name) == 0)
			return &config->model[i];
	return NULL;
}

/* inih passes the whole section name: "model resnet50". */
static int find_model(struct reading *r, const char *name)
{
	struct config *config = r->config;

	if (!model_name_valid(name)) {
		snprintf(r->message, sizeof(r->message),
			 "[model %.80s]: a model name is 1 to %d of A-Z a-z 0-9 . _ : -", name, MODEL_NAME_MAX);
		return -EINVAL;
	}
	r->model = (struct config_model *)config_model_find(config, name);
	if (r->model)
		return 0;
	if (config->models == CONFIG_MODELS_MAX) {
		snprintf(r->message, sizeof(r->message), "[model %.80s]: more than %d models", name, CONFIG_MODELS_MAX);
		return -EINVAL;
	}
	r->model = &config->model[config->models++];
	strcpy(r->model->name, name);
	/* A key may appear once in each [model NAME] section. */
	for (size_t i = 0; i < config_key_count; i++)
		if (strcmp(config_keys[i].section, "model") == 0)
			r->seen[i] = false;
	return 0;
}

bool config_teaches(const struct config_model *model, uid_t uid)
{
	if (!model || !model->shared || uid == 0 || uid == geteuid())
		return true;
	for (size_t i = 0; i < model->teachers; i++)
		if (model->teacher[i] == uid || model->teacher[i] == CONFIG_TEACH_ALL)
			return true;
	return false;
}

/* Add one entry of `teach`: a user name, a uid, or all. */
static int add_teacher(struct config_model *model, const char *who)
{
	const struct passwd *entry;
	uint64_t uid;

	if (model->teachers == CONFIG_TEACHERS_MAX)
		return -ENOSPC;
	if (strcmp(who, "all") == 0) {
		uid = CONFIG_TEACH_ALL;
	} else if (parse_u64(who, &uid) == 0) {
		if (uid >= CONFIG_TEACH_ALL)
			return -EINVAL;
	} else {
		entry = getpwnam(who);
		if (!entry)
			return -EINVAL;
		uid = entry->pw_uid;
	}
	model->teacher[model->teachers++] = (uid_t)uid;
	return 0;
}

static int check_teachers(struct config_model *model, const char *path, char *message)
{
	char list[CONFIG_TEXT_MAX], *rest = list;

	strcpy(list, model->teach);
	model->teachers = 0;
	for (char *who; (who = strsep(&rest, ", \t")) != NULL;) {
		if (!*who || add_teacher(model, who) == 0)
			continue;
		snprintf(message, CONFIG_MESSAGE_MAX,
			 "%.100s: [model %s] teach: %.80s is not a user name or uid; give at most %d of them, or all",
			 path, model->name, who, CONFIG_TEACHERS_MAX);
		return -EINVAL;
	}
	return 0;
}

static size_t find_key(const char *section, const char *name)
{
	for (size_t i = 0; i < config_key_count; i++)
		if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].key, name) == 0)
			return i;
	return config_key_count;
}

/* Keys of version 0.1: its shipped file sets them, and an upgrade keeps a file that was changed. */
static bool is_retired(const char *section, const char *name)
{
	return strcmp(section, "flamed") == 0 && (strcmp(name, "gain_min") == 0 || strcmp(name, "hold_requests") == 0);
}

/* Callback of inih for each key; returning 0 reports an error at this line. */
static int on_key(void *user, const char *section, const char *name, const char *value)
{
	struct reading *r = user;
	bool of_model = strncmp(section, "model ", 6) == 0;
	char range[160];
	size_t i;
	int rc;

	if (r->message[0])
		return 0;
	r->fault = r->line;
	if (strcmp(section, "model") == 0) {
		snprintf(r->message, sizeof(r->message), "a [model] section needs a name: [model NAME]");
		return 0;
	}
	if (of_model && find_model(r, section + 6) < 0)
		return 0;
	i = find_key(of_model ? "model" : section, name);
	if (i == config_key_count && is_retired(section, name)) {
		log_warning("flamed.conf:%d: %s is no longer used; flamed.conf(5) lists the keys", r->line, name);
		return 1;
	}
	if (i == config_key_count) {
		snprintf(r->message, sizeof(r->message),
			 "unknown key %.80s in section [%.80s]; flamed.conf(5) lists them", name, section);
		return 0;
	}
	if (r->seen[i]) {
		snprintf(r->message, sizeof(r->message), "%s is set twice in [%.80s]", name, section);
		return 0;
	}
	r->seen[i] = true;
	rc = set_value(&config_keys[i], field_of(&config_keys[i], r->config, r->model), value);
	if (rc == 0)
		return 1;
	range_text(&config_keys[i], range, sizeof(range));
	snprintf(r->message, sizeof(r->message), "%s = %.80s: %s; give %s", name, value,
		 rc == -ERANGE ? "out of range" : "not understood", range);
	return 0;
}

/* fgets() for inih, counting lines. */
static char *next_line(char *buf, int size, void *user)
{
	struct reading *r = user;
	size_t len = strcspn(r->next, "\n");

	if (*r->next == '\0')
		return NULL;
	len += r->next[len] == '\n';
	if (len >= (size_t)size)
		len = (size_t)size - 1;
	memcpy(buf, r->next, len);
	buf[len] = '\0';
	r->line += !r->inside;
	r->inside = buf[len - 1] != '\n';
	r->next += len;
	return buf;
}

/* A minimum above its maximum would leave no frequency to choose. */
static int check_limits(const struct config *config, const char *path, char *message)
{
	for (int i = 0; i < CLOCK_COUNT; i++) {
		if (config->min_hz[i] <= config->max_hz[i])
			continue;
		snprintf(message, CONFIG_MESSAGE_MAX, "%s: [limits] %s_min is above %s_max", path,
			 clock_name((enum clock_id)i), clock_name((enum clock_id)i));
		return -EINVAL;
	}
	return 0;
}

int config_parse(struct config *config, const char *text, const char *path, char message[CONFIG_MESSAGE_MAX])
{
	struct reading reading = {.config = config, .next = text};
	int rc;

	config_default(config);
	message[0] = '\0';
	rc = ini_parse_stream(next_line, &reading, on_key, &reading);
	if (rc == 0)
		rc = check_limits(config, path, message);
	for (size_t i = 0; rc == 0 && i < config->models; i++)
		rc = check_teachers(&config->model[i], path, message);
	if (rc == 0 || message[0])
		return rc;
	/* inih returns the first line at fault; `message` may be about a later one */
	if (rc > 0 && reading.message[0] && reading.fault == rc)
		snprintf(message, CONFIG_MESSAGE_MAX, "%.99s:%d: %.380s", path, rc, reading.message);
	else
		snprintf(message, CONFIG_MESSAGE_MAX, "%.100s:%d: not a [section], key = value or comment", path, rc);
	return rc < 0 ? -ENOMEM : -EINVAL;
}

int config_load(struct config *config, const char *path, bool optional, char message[CONFIG_MESSAGE_MAX])
{
	CLEANUP_MEM char *text = NULL;
	struct stat st;
	size_t len;
	int rc;

	config_default(config);
	message[0] = '\0';
	if (stat(path, &st) == 0 && (st.st_mode & S_IWOTH)) {
		snprintf(message, CONFIG_MESSAGE_MAX, "%s: world-writable; run chmod o-w %s", path, path);
		return -EPERM;
	}
	rc = file_read(path, CONFIG_BYTES_MAX, &text, &len);
	if (rc == -ENOENT && optional)
		return 0;
	if (rc < 0) {
		snprintf(message, CONFIG_MESSAGE_MAX, "%s: %s", path, strerror(-rc));
		return rc;
	}
	if (memchr(text, '\0', len)) {
		snprintf(message, CONFIG_MESSAGE_MAX, "%s: not a text file", path);
		return -EINVAL;
	}
	return config_parse(config, text, path, message);
}
