/* SPDX-License-Identifier: MIT */
#include "spec.h"

#include <errno.h>
#include <ini.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../common/units.h"

/* The section that the parser is in. */
struct parse {
	struct spec *spec;
	struct spec_clock cpu; /* [cpu]: defaults of the policies */
	char why[160];
};

/* A key of a section: its name, and where and how its value is stored. */
struct field {
	const char *key;
	int (*set)(void *at, const char *value, size_t size);
	size_t offset, size;
};

/* clang-format off */
#define FIELD(type, member, setter) {#member, setter, offsetof(type, member), sizeof(((type *)0)->member)}
#define NAMED(key, type, member, setter) {key, setter, offsetof(type, member), sizeof(((type *)0)->member)}
/* clang-format on */

static int set_text(void *at, const char *value, size_t size)
{
	if (strlen(value) >= size)
		return -EINVAL;
	memcpy(at, value, strlen(value) + 1);
	return 0;
}

static int set_double(void *at, const char *value, size_t size)
{
	double number;

	(void)size;
	if (parse_double(value, &number) || number < 0 || number > 1e12)
		return -EINVAL;
	memcpy(at, &number, sizeof(number));
	return 0;
}

static int set_share_of(void *at, const char *value, size_t size)
{
	double share;

	if (set_double(&share, value, size) || share > 1)
		return -EINVAL;
	memcpy(at, &share, sizeof(share));
	return 0;
}

static int set_yes(void *at, const char *value, size_t size)
{
	bool yes = strcmp(value, "yes") == 0;

	(void)size;
	if (!yes && strcmp(value, "no") != 0)
		return -EINVAL;
	memcpy(at, &yes, sizeof(yes));
	return 0;
}

static int set_us(void *at, const char *value, size_t size)
{
	double us;
	uint64_t ns;

	if (set_double(&us, value, size) || us > 1e6)
		return -EINVAL;
	ns = (uint64_t)llround(us * 1e3);
	memcpy(at, &ns, sizeof(ns));
	return 0;
}

/* The same value for up and down. */
static int set_us_each(void *to, const char *value, size_t size)
{
	uint64_t *ns = to;
	int rc = set_us(ns, value, size / 2);

	ns[1] = ns[0];
	return rc;
}

static int set_mhz(void *at, const char *value, size_t size)
{
	double mhz;
	uint64_t hz;

	if (set_double(&mhz, value, size) || mhz > 1e5)
		return -EINVAL;
	hz = (uint64_t)llround(mhz * 1e6);
	memcpy(at, &hz, sizeof(hz));
	return 0;
}

static int set_u32(void *at, const char *value, size_t size)
{
	uint64_t number;
	uint32_t small;

	(void)size;
	if (parse_u64(value, &number) || number > LAYERS_MAX)
		return -EINVAL;
	small = (uint32_t)number;
	memcpy(at, &small, sizeof(small));
	return 0;
}

static int set_crossed(void *at, const char *value, size_t size)
{
	if (strcmp(value, "reject") != 0 && strcmp(value, "clamp") != 0)
		return -EINVAL;
	return set_yes(at, *value == 'r' ? "yes" : "no", size);
}

static int set_order(void *at, const char *value, size_t size)
{
	if (strcmp(value, "ascending") != 0 && strcmp(value, "descending") != 0)
		return -EINVAL;
	return set_yes(at, *value == 'd' ? "yes" : "no", size);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* "306" or "306..1224/102": MHz, from..to/step. */
static int parse_range(char *word, double *from, double *to, double *step)
{
	char *dots = strstr(word, ".."), *slash = strchr(word, '/');

	*step = 1;
	if (!dots && !slash) {
		if (parse_double(word, from))
			return -EINVAL;
		*to = *from;
	} else {
		if (!dots || !slash || slash < dots)
			return -EINVAL;
		*dots = *slash = '\0';
		if (parse_double(word, from) || parse_double(dots + 2, to) || parse_double(slash + 1, step))
			return -EINVAL;
	}
	return *from > 0 && *to >= *from && *to <= 1e5 && *step >= 0.1 ? 0 : -EINVAL;
}

/* "306..1224/102 1300.5": appended to the table. */
static int add_table(struct spec_clock *clock, const char *value)
{
	char text[256], *save = NULL;
	double from, to, step;

	if (strlen(value) >= sizeof(text))
		return -EINVAL;
	memcpy(text, value, strlen(value) + 1);
	for (char *word = strtok_r(text, " \t", &save); word; word = strtok_r(NULL, " \t", &save)) {
		if (parse_range(word, &from, &to, &step))
			return -EINVAL;
		for (; from < to + step / 100; from += step) {
			if (clock->count == GRID_AXIS_MAX)
				return -E2BIG;
			clock->hz[clock->count++] = (uint64_t)llround(from * 1e3) * 1000;
		}
	}
	qsort(clock->hz, clock->count, sizeof(clock->hz[0]), by_value);
	return 0;
}

static int set_volts(void *at, const char *value, size_t size)
{
	double volts[2];

	(void)size;
	if (sscanf(value, "%lf %lf", &volts[0], &volts[1]) != 2 || !(volts[0] > 0.1) || !(volts[1] < 3) ||
	    volts[0] > volts[1])
		return -EINVAL;
	memcpy(at, volts, sizeof(volts));
	return 0;
}

static int set_cpus(void *at, const char *value, size_t size)
{
	unsigned cpus[2];

	(void)size;
	if (sscanf(value, "%u-%u", &cpus[0], &cpus[1]) != 2 || cpus[0] > cpus[1] || cpus[1] > 1023)
		return -EINVAL;
	memcpy(at, cpus, sizeof(cpus));
	return 0;
}

static const struct field board_fields[] = {
	FIELD(struct spec, model, set_text),
	FIELD(struct spec, compatible, set_text),
	FIELD(struct spec, power_mode, set_text),
	{NULL, NULL, 0, 0},
};

static const struct field power_fields[] = {
	FIELD(struct spec, base_w, set_double),
	FIELD(struct spec, noise, set_double),
	FIELD(struct spec, sum_mv, set_double),
	{NULL, NULL, 0, 0},
};

static const struct field thermal_fields[] = {
	FIELD(struct spec, ambient_c, set_double),
	FIELD(struct spec, kelvin_per_w, set_double),
	FIELD(struct spec, heat_s, set_double),
	FIELD(struct spec, throttle_c, set_double),
	{NULL, NULL, 0, 0},
};

static const struct field clock_fields[] = {
	FIELD(struct spec_clock, dir, set_text),
	FIELD(struct spec_clock, governor, set_text),
	FIELD(struct spec_clock, governors, set_text),
	FIELD(struct spec_clock, rounds, set_yes),
	FIELD(struct spec_clock, host, set_yes),
	FIELD(struct spec_clock, idle_w, set_double),
	FIELD(struct spec_clock, busy_w, set_double),
	NAMED("boot_mhz", struct spec_clock, boot_hz, set_mhz),
	NAMED("settle_us", struct spec_clock, settle_ns, set_us_each),
	NAMED("settle_up_us", struct spec_clock, settle_ns[0], set_us),
	NAMED("settle_down_us", struct spec_clock, settle_ns[1], set_us),
	NAMED("write_us", struct spec_clock, write_ns, set_us),
	NAMED("crossed", struct spec_clock, crossed_rejects, set_crossed),
	NAMED("order", struct spec_clock, descending, set_order),
	NAMED("volts", struct spec_clock, volt_min, set_volts),
	NAMED("cpus", struct spec_clock, cpu_first, set_cpus),
	{NULL, NULL, 0, 0},
};

static const struct field model_fields[] = {
	FIELD(struct spec_model, layers, set_u32),
	FIELD(struct spec_model, launch_cycles, set_double),
	FIELD(struct spec_model, launch_us, set_double),
	FIELD(struct spec_model, gpu_cycles, set_double),
	FIELD(struct spec_model, mem_cycles, set_double),
	FIELD(struct spec_model, exec_us, set_double),
	FIELD(struct spec_model, gpu_cycles_per_token, set_double),
	FIELD(struct spec_model, mem_cycles_per_token, set_double),
	{NULL, NULL, 0, 0},
};

static const struct field opencl_fields[] = {
	FIELD(struct spec_opencl, host_slow, set_double),
	FIELD(struct spec_opencl, exec_slow, set_double),
	FIELD(struct spec_opencl, mem_share, set_share_of),
	{NULL, NULL, 0, 0},
};

static int set_field(struct parse *parse, const struct field *fields, void *base, const char *key, const char *value)
{
	for (; fields->key; fields++) {
		if (strcmp(fields->key, key) != 0)
			continue;
		if (fields->set((char *)base + fields->offset, value, fields->size) == 0)
			return 0;
		snprintf(parse->why, sizeof(parse->why), "%s = %.60s: no such value", key, value);
		return -EINVAL;
	}
	snprintf(parse->why, sizeof(parse->why), "no such key: %.60s", key);
	return -EINVAL;
}

static int set_clock(struct parse *parse, struct spec_clock *clock, const char *key, const char *value)
{
	if (strcmp(key, "mhz") != 0)
		return set_field(parse, clock_fields, clock, key, value);
	if (add_table(clock, value) == 0)
		return 0;
	snprintf(parse->why, sizeof(parse->why), "mhz = %.60s: not MHz, MHz..MHz/STEP, or over %d points", value,
		 GRID_AXIS_MAX);
	return -EINVAL;
}

/* The clock of a `[KIND NAME]` section, added at its first mention. */
static struct spec_clock *clock_of(struct parse *parse, enum clock_id id, const char *name)
{
	struct spec *spec = parse->spec;
	struct spec_clock *clock;

	for (size_t i = 0; i < spec->clocks; i++)
		if (strcmp(spec->clock[i].name, name) == 0)
			return &spec->clock[i];
	if (spec->clocks == SPEC_CLOCKS_MAX || strlen(name) >= sizeof(clock->name))
		return NULL;
	clock = &spec->clock[spec->clocks++];
	*clock = id == CLOCK_CPU ? parse->cpu : (struct spec_clock){.volt_min = 1, .volt_max = 1};
	clock->id = id;
	clock->kind = id == CLOCK_CPU ? SPEC_CPUFREQ : SPEC_DEVFREQ;
	if (id == CLOCK_CPU)
		snprintf(clock->dir, sizeof(clock->dir), "/sys/devices/system/cpu/cpufreq/%.63s", name);
	if (strcmp(name, "emc") == 0)
		clock->kind = SPEC_BPMP;
	memcpy(clock->name, name, strlen(name) + 1);
	return clock;
}

static struct spec_rail *rail_of(struct spec *spec, const char *label)
{
	for (size_t i = 0; i < spec->rails; i++)
		if (strcmp(spec->rail[i].label, label) == 0)
			return &spec->rail[i];
	if (spec->rails == SPEC_RAILS_MAX || strlen(label) >= sizeof(spec->rail[0].label))
		return NULL;
	memcpy(spec->rail[spec->rails].label, label, strlen(label) + 1);
	return &spec->rail[spec->rails++];
}

/* "gpu:1 base:0.5" */
static int set_share(struct spec_rail *rail, const char *value)
{
	static const char *const names[CLOCK_COUNT + 1] = {"cpu", "gpu", "mem", "base"};
	int used = 0;
	char name[8];
	double share;

	for (; sscanf(value, " %7[a-z]:%lf%n", name, &share, &used) == 2; value += used) {
		size_t i = 0;

		while (i <= CLOCK_COUNT && strcmp(names[i], name) != 0)
			i++;
		if (i > CLOCK_COUNT || !(share >= 0 && share <= 1))
			return -EINVAL;
		rail->share[i] = share;
	}
	return *value == '\0' ? 0 : -EINVAL;
}

static int set_rail(struct parse *parse, struct spec_rail *rail, const char *key, const char *value)
{
	if (strcmp(key, "share") == 0 && set_share(rail, value) == 0)
		return 0;
	if (strcmp(key, "mv") == 0 && set_double(&rail->mv, value, 0) == 0 && rail->mv >= 1)
		return 0;
	snprintf(parse->why, sizeof(parse->why), "rail %.31s: %.60s: no such key or value", rail->label, key);
	return -EINVAL;
}

static int set_zones(struct spec *spec, const char *value)
{
	char text[256], *save = NULL;

	if (strlen(value) >= sizeof(text))
		return -EINVAL;
	memcpy(text, value, strlen(value) + 1);
	for (char *word = strtok_r(text, " \t", &save); word; word = strtok_r(NULL, " \t", &save)) {
		if (spec->zones == SPEC_ZONES_MAX || strlen(word) >= sizeof(spec->zone[0]))
			return -E2BIG;
		memcpy(spec->zone[spec->zones++], word, strlen(word) + 1);
	}
	return 0;
}

static int add_file(struct parse *parse, const char *path, const char *text)
{
	struct spec *spec = parse->spec;
	bool ours = (strncmp(path, "/sys/", 5) == 0 || strncmp(path, "/proc/", 6) == 0) && !strstr(path, "..");

	if (!ours || spec->extras == SPEC_EXTRAS_MAX || strlen(path) >= sizeof(spec->extra[0].path) ||
	    strlen(text) >= sizeof(spec->extra[0].text)) {
		snprintf(parse->why, sizeof(parse->why),
			 "%.60s: not below /sys or /proc, too long, or one file too many", path);
		return -EINVAL;
	}
	memcpy(spec->extra[spec->extras].path, path, strlen(path) + 1);
	memcpy(spec->extra[spec->extras++].text, text, strlen(text) + 1);
	return 0;
}

static int on_clock(struct parse *parse, enum clock_id id, const char *name, const char *key, const char *value)
{
	struct spec_clock *clock = clock_of(parse, id, name);

	if (!clock) {
		snprintf(parse->why, sizeof(parse->why), "%.60s: one clock too many, or its name too long", name);
		return -EINVAL;
	}
	return set_clock(parse, clock, key, value);
}

static int on_named(struct parse *parse, const char *kind, const char *name, const char *key, const char *value)
{
	static const char *const models[MODEL_COUNT] = {"cnn", "decode"};

	for (int id = 0; id < CLOCK_COUNT; id++)
		if (strcmp(kind, clock_name((enum clock_id)id)) == 0)
			return on_clock(parse, (enum clock_id)id, name, key, value);
	if (strcmp(kind, "rail") == 0) {
		struct spec_rail *rail = rail_of(parse->spec, name);

		if (rail)
			return set_rail(parse, rail, key, value);
	}
	for (int i = 0; i < MODEL_COUNT; i++)
		if (strcmp(kind, "workload") == 0 && strcmp(name, models[i]) == 0)
			return set_field(parse, model_fields, &parse->spec->workload[i], key, value);
	snprintf(parse->why, sizeof(parse->why), "[%.20s %.40s]: no such section, or one too many", kind, name);
	return -EINVAL;
}

static int on_plain(struct parse *parse, const char *section, const char *key, const char *value)
{
	if (strcmp(section, "board") == 0)
		return set_field(parse, board_fields, parse->spec, key, value);
	if (strcmp(section, "cpu") == 0)
		return set_clock(parse, &parse->cpu, key, value);
	if (strcmp(section, "power") == 0)
		return set_field(parse, power_fields, parse->spec, key, value);
	if (strcmp(section, "thermal") == 0 && strcmp(key, "zones") == 0)
		return set_zones(parse->spec, value);
	if (strcmp(section, "thermal") == 0)
		return set_field(parse, thermal_fields, parse->spec, key, value);
	if (strcmp(section, "opencl") == 0)
		return set_field(parse, opencl_fields, &parse->spec->opencl, key, value);
	if (strcmp(section, "file") == 0)
		return add_file(parse, key, value);
	snprintf(parse->why, sizeof(parse->why), "[%.60s]: no such section", section);
	return -EINVAL;
}

static int on_value(void *user, const char *section, const char *key, const char *value)
{
	struct parse *parse = user;
	const char *space = strchr(section, ' ');
	char kind[32];
	int rc;

	if (parse->why[0])
		return 0;
	if (!space) {
		rc = on_plain(parse, section, key, value);
	} else {
		snprintf(kind, sizeof(kind), "%.*s", (int)(space - section), section);
		rc = on_named(parse, kind, space + 1, key, value);
	}
	return rc == 0;
}

/* Errors that no single line shows. */
static const char *check(const struct spec *spec)
{
	unsigned host = 0, cpus = 0;

	for (size_t i = 0; i < spec->clocks; i++) {
		const struct spec_clock *clock = &spec->clock[i];

		if (clock->count == 0)
			return "a clock without mhz";
		if (clock->dir[0] != '/' || strncmp(clock->dir, "/sys/", 5) != 0 || strstr(clock->dir, ".."))
			return "a clock whose dir is not below /sys";
		if (clock->kind != SPEC_BPMP && clock->governor[0] == '\0')
			return "a clock without governor";
		cpus += clock->id == CLOCK_CPU;
		host += clock->id == CLOCK_CPU && clock->host;
	}
	for (size_t i = 0; i < spec->rails; i++)
		if (!(spec->rail[i].mv > 0))
			return "a rail without mv";
	if (spec->clocks == 0)
		return "no clock at all";
	if (cpus > 0 && host != 1)
		return "exactly one [cpu ...] needs host = yes";
	return NULL;
}

int spec_read(struct spec *spec, const char *path, char *message)
{
	struct parse parse = {.spec = spec, .cpu = {.volt_min = 1, .volt_max = 1}};
	const char *wrong;
	int line;

	memset(spec, 0, sizeof(*spec));
	spec->opencl = (struct spec_opencl){.host_slow = 1, .exec_slow = 1};
	errno = 0;
	line = ini_parse(path, on_value, &parse);
	if (line < 0) {
		line = errno ? -errno : -ENOENT;
		snprintf(message, SPEC_MESSAGE_MAX, "%.80s: %s", path, strerror(-line));
		return line;
	}
	if (line > 0) {
		snprintf(message, SPEC_MESSAGE_MAX, "%.80s:%d: %s", path, line,
			 parse.why[0] ? parse.why : "not an INI line");
		return -EINVAL;
	}
	wrong = check(spec);
	if (!wrong)
		return 0;
	snprintf(message, SPEC_MESSAGE_MAX, "%.80s: %s", path, wrong);
	return -EINVAL;
}

uint64_t spec_floor(const struct spec_clock *clock, uint64_t hz)
{
	size_t i = clock->count;

	while (i > 1 && clock->hz[i - 1] > hz)
		i--;
	return clock->hz[i - 1];
}

uint64_t spec_ceil(const struct spec_clock *clock, uint64_t hz)
{
	size_t i = 0;

	while (i + 1 < clock->count && clock->hz[i] < hz)
		i++;
	return clock->hz[i];
}

const struct spec_clock *spec_lead(const struct spec *spec, enum clock_id id)
{
	for (size_t i = 0; i < spec->clocks; i++)
		if (spec->clock[i].id == id && (id != CLOCK_CPU || spec->clock[i].host))
			return &spec->clock[i];
	return NULL;
}
