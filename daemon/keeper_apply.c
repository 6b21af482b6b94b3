/* SPDX-License-Identifier: MIT */
/* Setting one device: which knobs, in which order, with what text, and what to
 * make of what they read back. */
#include <errno.h>
#include <string.h>

#include "../common/clock.h"
#include "../common/log.h"
#include "../probes/sysroot.h"
#include "keeper_table.h"

#define NO_NUMBER UINT64_MAX
#define TAKES_NS_FIRST   (50 * NS_PER_US) /* a written limit is the kernel's to bring into force: first looked for after so long, then twice as long each time, */
#define TAKES_LOOKS      9                /* some 25 ms in all, */
#define TAKES_LOOKS_LATE 4                /* or one, when it did not take the last value */
#define EMC_CAP_FILE "/sys/kernel/nvpmodel_clk_cap/emc"

static int foreign(struct keeper_table *t, const struct knob *k, const char *now)
{
	char who[96];

	board_other_owners(t->root, who, sizeof(who));
	table_say(t, "%s holds %s, not our %s: left to its owner%s%s", k->entry.path, now, k->entry.ours[OURS_HELD],
		  who[0] ? ", maybe " : "", who);
	return FOREIGN;
}

/* Text of a knob now; FOREIGN when it is neither ours nor held down. */
static int look(struct keeper_table *t, const struct knob *k, char now[KNOB_VALUE_MAX])
{
	int rc = knob_read(t->root, k->entry.path, now);

	if (rc == 0 && now[0] == '\0' && !k->loose && k->kind->role != ROLE_MASK)
		return -EAGAIN; /* of a directory: somebody is between truncation and write */
	if (rc < 0 || !k->written || k->kind->role == ROLE_MASK || knob_is_ours(k->kind, &k->entry, now) ||
	    (k->loose && !strcmp(now, k->entry.original)) || knob_held_down(t->root, k->kind, &k->entry, now))
		return rc;
	return foreign(t, k, now);
}

static int note_held(struct keeper_table *t, struct knob *k, const char *value)
{
	int rc = journal_held(&t->journal, k->slot, &k->entry, value);

	if (rc < 0)
		t->journal_error = rc;
	return rc;
}

static int note_seen(struct keeper_table *t, struct knob *k, const char *value)
{
	int rc = journal_seen(&t->journal, k->slot, &k->entry, value);

	if (rc < 0)
		t->journal_error = rc;
	return rc;
}

/* What it reads after a write. From Linux 5.3 cpufreq brings limits into force by a work item: until that has run the file reads
 * as before, and it runs on the processor that we write from. */
static int read_back(struct keeper_table *t, struct knob *k, const char *value, char now[KNOB_VALUE_MAX])
{
	char before[KNOB_VALUE_MAX];
	uint64_t wait_ns = TAKES_NS_FIRST;
	int rc;

	memcpy(before, now, sizeof(before));
	for (int looks = k->late ? TAKES_LOOKS_LATE : TAKES_LOOKS;; looks--, wait_ns *= 2) {
		rc = knob_read(t->root, k->entry.path, now);
		k->late = rc == 0 && strcmp(now, before) == 0 && strcmp(now, value) != 0;
		if (!k->late || looks == 0)
			return rc;
		clock_sleep_ns(wait_ns);
	}
}

/* Write unless it holds the value already; `now` is then what it reads. */
static int set(struct keeper_table *t, struct knob *k, const char *value, char now[KNOB_VALUE_MAX])
{
	if (!strcmp(now, value) && k->kind->role != ROLE_MASK)
		return 0;
	/* it stands, but reads otherwise: as it did when it was written, or held down since */
	if (k->written && now[0] && !strcmp(value, k->entry.ours[OURS_HELD])) {
		if (!strcmp(now, k->entry.ours[OURS_SEEN]))
			return 0;
		if (knob_held_down(t->root, k->kind, &k->entry, now))
			return note_seen(t, k, now);
	}
	char before[KNOB_VALUE_MAX];
	memcpy(before, k->entry.ours[OURS_HELD], sizeof(before));
	int rc = note_held(t, k, value);
	if (rc < 0)
		return rc;
	k->written = true;
	rc = knob_write(t->root, k->entry.path, value);
	k->loose = rc < 0; /* then it holds what it held, which may be the original */
	if (rc < 0 && before[0])
		note_held(t, k, before);
	if (rc == 0)
		rc = read_back(t, k, value, now);
	return rc == 0 && strcmp(now, value) != 0 ? note_seen(t, k, now) : rc;
}

static int set_number(struct keeper_table *t, struct knob *k, uint64_t hz, char now[KNOB_VALUE_MAX])
{
	char value[24];

	snprintf(value, sizeof(value), "%llu", (unsigned long long)(hz / k->kind->unit_hz));
	return set(t, k, value, now);
}

/* Hz in a text of this knob; NO_NUMBER for none. */
static uint64_t hz_of(const struct knob *k, const char *text)
{
	uint64_t n = knob_number(text);

	return n == NO_NUMBER || n > NO_NUMBER / 2 / k->kind->unit_hz ? NO_NUMBER : n * k->kind->unit_hz;
}

/* As hz_of, for a max: 0 and rubbish are no limit. */
static uint64_t limit_of(const struct knob *k, const char *text)
{
	uint64_t hz = hz_of(k, text);

	return hz == 0 ? NO_NUMBER : hz;
}

/* The lowest entry of the device that is not below the wish, and not above the
 * ceiling that was found. */
static uint64_t own_step(const struct clock_device *d, uint64_t hz, uint64_t ceiling)
{
	uint64_t top = d->hz[0] < ceiling ? d->hz[0] : ceiling;

	for (size_t i = 0; i < d->count; i++) {
		if (d->hz[i] > ceiling || d->hz[i] > d->max_hz)
			break;
		top = d->hz[i];
		if (top >= hz)
			break;
	}
	return top;
}

static uint64_t slack_hz(const struct knob *k)
{
	return k->kind->slack * k->kind->unit_hz;
}

/* Pin with min = max = hz; min <= max holds at every step. A max that reads
 * lower than it was written is somebody else's ceiling. */
static int apply_limits(struct keeper_table *t, struct group *g, uint64_t wish)
{
	struct knob *max = &g->knob[ROLE_MAX], *min = &g->knob[ROLE_MIN];
	char max_now[KNOB_VALUE_MAX], min_now[KNOB_VALUE_MAX];
	int rc = look(t, max, max_now);

	if (rc == 0)
		rc = look(t, min, min_now);
	if (rc < 0)
		return rc;
	uint64_t found = limit_of(max, max->entry.original), hz = own_step(&g->device, wish, found);
	bool up = hz > limit_of(max, max_now);
	if (!up)
		rc = set_number(t, min, hz, min_now);
	if (rc == 0)
		rc = set_number(t, max, hz, max_now);
	if (rc < 0)
		return rc;
	uint64_t top = limit_of(max, max_now), pin = top < hz ? top : hz;
	if (up || top < hz)
		rc = set_number(t, min, pin, min_now);
	uint64_t bottom = hz_of(min, min_now);
	if (bottom < pin && knob_held_down(t->root, min->kind, &min->entry, min_now))
		top = pin = bottom; /* a ceiling that came down between the two */
	g->ceiling_hz = top + slack_hz(max) < hz ? top : found < g->device.max_hz ? found : 0;
	g->actual_hz = pin;
	bool taken = top <= hz + slack_hz(max) && bottom <= pin + slack_hz(min) && bottom + slack_hz(min) >= pin;
	g->state = taken ? KNOB_OK : KNOB_REFUSED;
	if (!taken)
		table_say(t, "%s took %s as %s", top > hz ? max->entry.path : min->entry.path,
			 top > hz ? max->entry.ours[OURS_HELD] : min->entry.ours[OURS_HELD], top > hz ? max_now : min_now);
	return rc;
}

/* The userspace governor and its speed file, which is there only under it. */
static int apply_speed(struct keeper_table *t, struct group *g, uint64_t wish)
{
	struct knob *governor = &g->knob[ROLE_GOVERNOR], *speed = &g->knob[ROLE_SPEED];
	char now[KNOB_VALUE_MAX];
	int rc = look(t, governor, now);

	if (rc == 0)
		rc = set(t, governor, "userspace", now);
	if (rc == 0 && speed->written)
		rc = look(t, speed, now);
	else if (rc == 0)
		rc = knob_read(t->root, speed->entry.path, now);
	uint64_t hz = own_step(&g->device, wish, NO_NUMBER);
	if (rc == 0)
		rc = set_number(t, speed, hz, now);
	if (rc < 0)
		return rc;
	g->actual_hz = hz_of(speed, now) == NO_NUMBER ? 0 : hz_of(speed, now);
	g->ceiling_hz = g->actual_hz && g->actual_hz < hz ? g->actual_hz : 0;
	g->state = g->actual_hz ? KNOB_OK : KNOB_REFUSED;
	return 0;
}

/* What the power mode allows the memory; NO_NUMBER: no cap. */
static uint64_t emc_cap(const struct keeper_table *t)
{
	uint64_t cap;

	return sysroot_read_u64(t->root, EMC_CAP_FILE, &cap) < 0 || cap == 0 ? NO_NUMBER : cap;
}

uint64_t group_found_ceiling(const struct keeper_table *t, const struct group *g)
{
	const struct knob *max = &g->knob[ROLE_MAX];
	char text[KNOB_VALUE_MAX];
	uint64_t limit = NO_NUMBER;

	if (max->used && knob_read(t->root, max->entry.path, text) == 0)
		limit = limit_of(max, text);
	else if (g->knob[ROLE_RATE].used)
		limit = emc_cap(t);
	return limit < g->device.max_hz ? limit : 0;
}

/* A memory clock below the wish must not stay locked: the lock is then opened
 * again. */
static int apply_emc(struct keeper_table *t, struct group *g, uint64_t wish)
{
	struct knob *lock = &g->knob[ROLE_LOCK], *rate = &g->knob[ROLE_RATE];
	char now[KNOB_VALUE_MAX];
	uint64_t cap = emc_cap(t);
	int rc = look(t, lock, now);

	if (rc == 0)
		rc = set(t, lock, "1", now);
	if (rc == 0)
		rc = look(t, rate, now);
	uint64_t hz = own_step(&g->device, wish, cap);
	if (rc == 0)
		rc = set_number(t, rate, hz, now);
	if (rc < 0)
		return rc;
	g->actual_hz = hz_of(rate, now) == NO_NUMBER ? 0 : hz_of(rate, now);
	g->ceiling_hz = cap < g->device.max_hz ? cap : 0;
	g->state = g->actual_hz + slack_hz(rate) >= hz ? KNOB_OK : KNOB_REFUSED;
	if (g->state == KNOB_OK)
		return 0;
	table_say(t, "%s took %s as %s: unlocked again", rate->entry.path, rate->entry.ours[OURS_HELD], now);
	return group_give_back(t, g);
}

/* Levels are masks and take effect later; reading them back tells the level in
 * use, not the mask. A level that was pinned by hand could not be restored. */
static int apply_amdgpu(struct keeper_table *t, struct group *g, uint64_t wish)
{
	struct knob *level = &g->knob[ROLE_LEVEL], *mask = &g->knob[ROLE_MASK];
	char now[KNOB_VALUE_MAX], value[24];
	size_t index = 0;

	if (!strcmp(level->entry.original, "manual")) {
		g->state = KNOB_REFUSED;
		table_say(t, "%s is manual: its levels are somebody's choice and are left", level->entry.path);
		return 0;
	}
	uint64_t hz = own_step(&g->device, wish, NO_NUMBER);
	while (index + 1 < g->device.count && g->device.hz[index] < hz)
		index++;
	int rc = look(t, level, now);
	bool stood = rc == 0 && !strcmp(now, "manual");
	if (rc == 0)
		rc = set(t, level, "manual", now);
	snprintf(value, sizeof(value), "%zu", index);
	bool same = stood && mask->written && !strcmp(mask->entry.ours[OURS_HELD], value);
	if (rc == 0 && !same) {
		now[0] = '\0';
		rc = set(t, mask, value, now);
	}
	g->actual_hz = hz;
	g->state = KNOB_OK;
	return rc;
}

int group_apply(struct keeper_table *t, struct group *g, uint64_t hz)
{
	g->actual_hz = g->ceiling_hz = 0;
	switch (g->device.method) {
	case METHOD_CPUFREQ_LIMITS:
	case METHOD_DEVFREQ_LIMITS:
	case METHOD_I915:
	case METHOD_XE:
		return apply_limits(t, g, hz);
	case METHOD_CPUFREQ_SETSPEED:
	case METHOD_DEVFREQ_USERSPACE:
		return apply_speed(t, g, hz);
	case METHOD_BPMP_EMC:
		return apply_emc(t, g, hz);
	case METHOD_AMDGPU:
		return apply_amdgpu(t, g, hz);
	case METHOD_NONE:
	case METHOD_COUNT:
		break;
	}
	return -EINVAL;
}
