/* SPDX-License-Identifier: MIT */
#include "clock_device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "../common/units.h"

/* Of drivers/devfreq/governor_simpleondemand.c. */
#define ONDEMAND_UP   0.90
#define ONDEMAND_DOWN 0.05
/* Of nvhost_podgov (governor_pod_scaling.c): load_max 900, load_target 700 permille. */
#define PODGOV_MAX    0.90
#define PODGOV_TARGET 0.70

static uint64_t clamp_hz(uint64_t hz, uint64_t min, uint64_t max)
{
	return hz < min ? min : hz > max ? max : hz;
}

void board_clock_init(struct board_clock *device, const struct spec_clock *spec)
{
	uint64_t top = spec->hz[spec->count - 1];

	memset(device, 0, sizeof(*device));
	device->spec = spec;
	device->want_min_hz = spec->hz[0];
	device->want_max_hz = top;
	snprintf(device->governor, sizeof(device->governor), "%s", spec->governor);
	device->ceiling_hz = UINT64_MAX;
	device->rate_hz = spec->boot_hz ? spec->boot_hz : top;
	device->cur_hz = device->target_hz = device->set_hz = spec->kind == SPEC_BPMP ? device->rate_hz : top;
}

/* Maximum wins over minimum, and both stay in the hardware's range. */
uint64_t board_clock_max(const struct board_clock *device)
{
	const struct spec_clock *spec = device->spec;
	uint64_t low = spec->hz[0], top = spec->hz[spec->count - 1];
	uint64_t max = device->want_max_hz;

	if (max == 0 && spec->kind == SPEC_DEVFREQ)
		max = top;
	if (max > device->ceiling_hz)
		max = device->ceiling_hz;
	max = clamp_hz(max, low, top);
	return spec->rounds ? spec_floor(spec, max) : max;
}

uint64_t board_clock_min(const struct board_clock *device)
{
	const struct spec_clock *spec = device->spec;
	uint64_t max = board_clock_max(device);
	uint64_t min = clamp_hz(device->want_min_hz, spec->hz[0], max);

	return spec->rounds ? clamp_hz(spec_ceil(spec, min), spec->hz[0], max) : min;
}

/* Text of a limit: kHz for cpufreq, Hz otherwise, up to white space. */
static int parse_limit(const struct board_clock *device, const char *text, uint64_t *hz)
{
	char word[32];
	int used = 0;

	if (sscanf(text, " %31s%n", word, &used) != 1 || parse_u64(word, hz))
		return -EINVAL;
	if (text[used + (int)strspn(text + used, " \t\r\n")] != '\0')
		return -EINVAL;
	if (device->spec->kind == SPEC_CPUFREQ) {
		if (*hz > UINT64_MAX / 1000)
			return -EINVAL;
		*hz *= 1000;
	}
	return 0;
}

static int write_limit(struct board_clock *device, enum board_knob knob, uint64_t hz)
{
	uint64_t *want = knob == KNOB_MIN ? &device->want_min_hz : &device->want_max_hz;
	bool crossed = knob == KNOB_MIN ? device->want_max_hz != 0 && hz > device->want_max_hz :
					  hz != 0 && hz < device->want_min_hz;

	if (crossed && device->spec->crossed_rejects)
		return -EINVAL;
	*want = hz;
	return 0;
}

static bool word_in(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = strstr(list, word); at; at = strstr(at + 1, word))
		if ((at == list || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
			return len > 0;
	return false;
}

static int write_governor(struct board_clock *device, const char *text)
{
	char word[32];

	if (sscanf(text, " %31s", word) != 1 || !word_in(device->spec->governors, word))
		return -EINVAL;
	if (strcmp(word, "userspace") == 0 && strcmp(device->governor, word) != 0)
		device->set_hz = device->cur_hz;
	memcpy(device->governor, word, strlen(word) + 1);
	return 0;
}

/* A request above the loaded table is silently ignored; others round up. */
static void write_rate(struct board_clock *device, uint64_t hz)
{
	const struct spec_clock *spec = device->spec;

	if (device->locked && hz <= spec->hz[spec->count - 1])
		device->rate_hz = spec_ceil(spec, hz);
}

static int write_number(struct board_clock *device, enum board_knob knob, uint64_t hz)
{
	switch (knob) {
	case KNOB_MIN:
	case KNOB_MAX: return write_limit(device, knob, hz);
	case KNOB_SET:
		if (strcmp(device->governor, "userspace") != 0)
			return -EPERM;
		device->set_hz = hz;
		return 0;
	case KNOB_LOCK:
		device->locked = hz != 0;
		if (!device->locked)
			device->rate_hz = device->spec->boot_hz ? device->spec->boot_hz :
								  device->spec->hz[device->spec->count - 1];
		return 0;
	default: write_rate(device, hz); return 0;
	}
}

int board_clock_write(struct board_clock *device, enum board_knob knob, const char *text)
{
	uint64_t hz = 0;
	int rc;

	if (knob == KNOB_GOVERNOR) {
		rc = write_governor(device, text);
	} else {
		rc = parse_limit(device, text, &hz);
		if (rc == 0)
			rc = write_number(device, knob, hz);
	}
	device->rejected += rc != 0;
	return rc;
}

char *board_clock_read(const struct board_clock *device, enum board_knob knob, char *buf, size_t size)
{
	uint64_t unit = device->spec->kind == SPEC_CPUFREQ ? 1000 : 1;

	switch (knob) {
	case KNOB_MIN: snprintf(buf, size, "%llu", (unsigned long long)(board_clock_min(device) / unit)); break;
	case KNOB_MAX: snprintf(buf, size, "%llu", (unsigned long long)(board_clock_max(device) / unit)); break;
	case KNOB_GOVERNOR: snprintf(buf, size, "%s", device->governor); break;
	case KNOB_SET:
		if (strcmp(device->governor, "userspace") == 0)
			snprintf(buf, size, "%llu", (unsigned long long)(device->set_hz / unit));
		else
			snprintf(buf, size, "<unsupported>");
		break;
	case KNOB_LOCK: snprintf(buf, size, "%d", device->locked); break;
	default: snprintf(buf, size, "%llu", (unsigned long long)device->rate_hz); break;
	}
	return buf;
}

/* Frequency that a load-following governor selects, before limits. */
static double asked_hz(const struct board_clock *device)
{
	const struct spec_clock *spec = device->spec;
	double top = (double)spec->hz[spec->count - 1], cur = (double)device->cur_hz, util = device->util;

	if (spec->kind == SPEC_CPUFREQ) /* schedutil: 1.25 x max x frequency-invariant utilisation */
		return 1.25 * util * cur;
	if (strcmp(device->governor, "nvhost_podgov") == 0)
		return util > PODGOV_MAX ? cur / PODGOV_TARGET : util * cur / PODGOV_TARGET;
	if (util > ONDEMAND_UP)
		return top;
	if (util > ONDEMAND_UP - ONDEMAND_DOWN)
		return cur;
	return util * cur / (ONDEMAND_UP - ONDEMAND_DOWN / 2);
}

bool board_clock_follows_load(const struct board_clock *device)
{
	static const char *const fixed[] = {"performance", "powersave", "userspace"};

	if (device->spec->kind == SPEC_BPMP || board_clock_min(device) == board_clock_max(device))
		return false;
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		if (strcmp(device->governor, fixed[i]) == 0)
			return false;
	return true;
}

/* The table entry for the frequency that the governor selected: rounded up if the limits allow it,
 * like the kernel's RELATION_L. */
static uint64_t resolve(const struct board_clock *device, double hz)
{
	uint64_t min = board_clock_min(device), max = board_clock_max(device);
	uint64_t to = spec_ceil(device->spec, clamp_hz((uint64_t)hz, min, max));

	return to > max ? spec_floor(device->spec, max) : to;
}

static uint64_t wanted_hz(const struct board_clock *device)
{
	const struct spec_clock *spec = device->spec;

	if (spec->kind == SPEC_BPMP)
		return device->rate_hz < device->ceiling_hz ? device->rate_hz : spec_floor(spec, device->ceiling_hz);
	if (board_clock_follows_load(device))
		return resolve(device, asked_hz(device));
	if (strcmp(device->governor, "userspace") == 0)
		return resolve(device, (double)device->set_hz);
	if (strcmp(device->governor, "powersave") == 0)
		return resolve(device, (double)spec->hz[0]);
	return resolve(device, (double)spec->hz[spec->count - 1]);
}

bool board_clock_govern(struct board_clock *device, uint64_t from_ns, uint64_t share)
{
	uint64_t hz = wanted_hz(device);

	if (hz == device->target_hz)
		return false;
	device->target_hz = hz;
	device->due_ns = from_ns + device->spec->settle_ns[hz < device->cur_hz] / share;
	return true;
}

bool board_clock_settle(struct board_clock *device, uint64_t now_ns)
{
	if (device->due_ns == 0 || now_ns < device->due_ns)
		return false;
	device->due_ns = 0;
	if (device->cur_hz == device->target_hz)
		return false;
	device->cur_hz = device->target_hz;
	return true;
}
