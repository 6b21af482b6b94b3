/* SPDX-License-Identifier: MIT */
/* Setting one device: which knobs are written, in which order and with what text, and how the
 * values read back are judged. */
#include <errno.h>
#include <string.h>

#include "../common/clock.h"
#include "../common/log.h"
#include "../probes/probe.h"
#include "hold.h"
#include "nvml.h"
#include "table.h"

#define NO_NUMBER UINT64_MAX
/* the kernel may apply a written limit later: first delay before checking, doubled each time, */
#define TAKES_NS_FIRST   (50 * NS_PER_US)
#define TAKES_LOOKS      9  /* this many checks, about 25 ms in all, */
#define TAKES_LOOKS_LATE 4  /* or one, if the previous value was not applied in time */
#define NVML_TOLERANCE   50 /* one fiftieth: a lock is rounded to a clock of the GPU's, 15 MHz apart at most */
#define NVML_READINGS    2  /* consecutive ones, a second apart, of a clock beyond its lock: another owner */
#define NVML_DWELL       20 /* least time from a change to a lower clock, in durations of a change */
#define DPM_TOLERANCE    10 /* one tenth: amdgpu reports a measured clock */
#define EMC_CAP_FILE     "/sys/kernel/nvpmodel_clk_cap/emc"

static int foreign(struct keeper_table *t, const struct knob *k, const char *now)
{
	char who[96];

	board_other_owners(t->root, who, sizeof(who));
	table_say(t, "%s reads %s, we wrote %s: left to its new owner%s%s", k->entry.path, now,
		  k->entry.ours[OURS_HELD], who[0] ? ", maybe " : "", who);
	return FOREIGN;
}

/* The part of the kernel that explains why the knob reads `now` instead of the written value; NULL:
 * none. */
static const char *holder(const struct keeper_table *t, const struct knob *k, const char *now, struct knob_hold *hold)
{
	return hold_explains(t->root, k->kind, k->entry.path, knob_number(now), knob_number(k->entry.ours[OURS_HELD]),
			     hold);
}

/* When this limit was written, another driver's request, which cannot be read, held it lower. If it reads differently
 * now, the same value is written again: a driver's request still holds it then, whereas a foreign write is replaced. */
static bool held_by_request(const struct keeper_table *t, const struct knob *k, const char *now)
{
	const char *wrote = k->entry.ours[OURS_HELD], *seen = k->entry.ours[OURS_SEEN];
	char again[KNOB_VALUE_MAX];

	if (k->kind->role != ROLE_MAX || !seen[0] || knob_number(seen) >= knob_number(wrote) ||
	    knob_number(now) >= knob_number(wrote))
		return false;
	if (knob_write(t->root, k->entry.path, wrote) < 0 || knob_read(t->root, k->entry.path, again) < 0)
		return false;
	if (!strcmp(again, now))
		return true;
	knob_write(t->root, k->entry.path, now);
	return false;
}

/* Read a knob. FOREIGN if the value is neither ours nor explained by the kernel. */
static int read_checked(struct keeper_table *t, const struct knob *k, char now[KNOB_VALUE_MAX])
{
	struct knob_hold hold;
	int rc = knob_read(t->root, k->entry.path, now);

	if (rc == 0 && now[0] == '\0' && !k->loose && k->kind->role != ROLE_MASK)
		return -EAGAIN; /* in a board directory: another writer has truncated the file and not yet written it */
	if (rc < 0 || !k->written || k->kind->role == ROLE_MASK || knob_is_ours(k->kind, &k->entry, now) ||
	    ((k->loose || t->resumed) && !strcmp(now, k->entry.original)) || holder(t, k, now, &hold) ||
	    held_by_request(t, k, now))
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

/* Read a knob after writing it. Since Linux 5.3 cpufreq applies limits from a work item; until that
 * has run on the processor that we write from, the file shows the old value. */
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

/* Write the value unless the knob already has it. `now` receives the value read back. */
static int set(struct keeper_table *t, struct knob *k, const char *value, char now[KNOB_VALUE_MAX])
{
	struct knob_hold hold;

	if (!strcmp(now, value) && k->kind->role != ROLE_MASK)
		return 0;
	/* the value is in force but reads differently, as when it was written, or held down since; the original after a
	 * suspend may be the driver's reset */
	if (k->written && now[0] && !strcmp(value, k->entry.ours[OURS_HELD])) {
		if (!strcmp(now, k->entry.ours[OURS_SEEN]) && !(t->resumed && !strcmp(now, k->entry.original)))
			return 0;
		if (holder(t, k, now, &hold))
			return note_seen(t, k, now);
	}
	char before[KNOB_VALUE_MAX];
	memcpy(before, k->entry.ours[OURS_HELD], sizeof(before));
	int rc = note_held(t, k, value);
	if (rc < 0)
		return rc;
	k->written = true;
	rc = knob_write(t->root, k->entry.path, value);
	k->loose = rc < 0; /* the knob then still has its previous value, which may be the original */
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

/* Convert the text of this knob to Hz; NO_NUMBER if it is not a number. */
static uint64_t hz_of(const struct knob *k, const char *text)
{
	uint64_t n = knob_number(text);

	return n == NO_NUMBER || n > NO_NUMBER / 2 / k->kind->unit_hz ? NO_NUMBER : n * k->kind->unit_hz;
}

/* Like hz_of() for a maximum: 0 and anything that is not a number mean no limit. */
static uint64_t limit_of(const struct knob *k, const char *text)
{
	uint64_t hz = hz_of(k, text);

	return hz == 0 ? NO_NUMBER : hz;
}

/* The device's lowest frequency that is at least the requested one and at most the original
 * ceiling. The highest request selects the original maximum even if the frequency table ends below
 * it. */
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
	return hz >= d->hz[d->count - 1] && ceiling != NO_NUMBER && ceiling > top ? ceiling : top;
}

/* The ceiling that was found. One that was no limit is what the hardware allows now where the highest clock is asked
 * for: boost may have come on since. */
static uint64_t found_limit(const struct keeper_table *t, const struct knob_group *g, uint64_t wish)
{
	const struct knob *max = &g->knob[ROLE_MAX];
	struct knob_hold hold;

	if (!max->entry.unlimited)
		return limit_of(max, max->entry.original);
	if (wish < g->device.hz[g->device.count - 1])
		return NO_NUMBER;
	hold_find(t->root, max->kind, max->entry.path, &hold);
	uint64_t lowest = hold_lowest(&hold);
	return lowest > NO_NUMBER / 2 / max->kind->unit_hz ? NO_NUMBER : lowest * max->kind->unit_hz;
}

static uint64_t slack_hz(const struct knob *k)
{
	return k->kind->slack * k->kind->unit_hz;
}

/* If something holds down a maximum, the minimum follows it. */
static bool is_clamped(const struct keeper_table *t, const struct knob *max, const char *max_now,
		       const struct knob *min, char min_now[KNOB_VALUE_MAX])
{
	return max->written && knob_number(max_now) < knob_number(max->entry.ours[OURS_HELD]) &&
	       knob_read(t->root, min->entry.path, min_now) == 0 && !strcmp(min_now, max_now);
}

/* i915 exceeds its maximum, up to this frequency, while a client waits for the GPU. */
static int apply_boost(struct keeper_table *t, struct knob_group *g, uint64_t hz)
{
	struct knob *boost = &g->knob[ROLE_BOOST];
	char now[KNOB_VALUE_MAX];
	int rc = read_checked(t, boost, now);

	return rc < 0 ? rc : set_number(t, boost, hz, now);
}

/* Pin the frequency with min = max = hz, keeping min <= max at every step. A max that reads lower
 * than written is a ceiling set by another part of the kernel. */
static int apply_limits(struct keeper_table *t, struct knob_group *g, uint64_t wish)
{
	struct knob *max = &g->knob[ROLE_MAX], *min = &g->knob[ROLE_MIN];
	char max_now[KNOB_VALUE_MAX], min_now[KNOB_VALUE_MAX];
	struct knob_hold hold;
	int rc = read_checked(t, max, max_now);

	if (rc == 0 && !is_clamped(t, max, max_now, min, min_now))
		rc = read_checked(t, min, min_now);
	if (rc < 0)
		return rc;
	uint64_t found = found_limit(t, g, wish), hz = own_step(&g->device, wish, found);
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
	if (bottom < pin && holder(t, min, min_now, &hold))
		top = pin = bottom; /* the ceiling came down between the two writes */
	if (rc == 0 && g->knob[ROLE_BOOST].used)
		rc = apply_boost(t, g, pin);
	g->ceiling_hz = top + slack_hz(max) < hz ? top : found < g->device.max_hz ? found : 0;
	g->actual_hz = pin;
	bool taken = top <= hz + slack_hz(max) && bottom <= pin + slack_hz(min) && bottom + slack_hz(min) >= pin;
	g->state = taken ? KNOB_OK : KNOB_REFUSED;
	if (!taken)
		table_say(t, "%s: wrote %s, reads %s", top > hz ? max->entry.path : min->entry.path,
			  top > hz ? max->entry.ours[OURS_HELD] : min->entry.ours[OURS_HELD],
			  top > hz ? max_now : min_now);
	return rc;
}

/* Select the userspace governor, then write its speed file, which exists only under that governor. */
static int apply_speed(struct keeper_table *t, struct knob_group *g, uint64_t wish)
{
	struct knob *governor = &g->knob[ROLE_GOVERNOR], *speed = &g->knob[ROLE_SPEED];
	char now[KNOB_VALUE_MAX];
	int rc = read_checked(t, governor, now);

	if (rc == 0)
		rc = set(t, governor, "userspace", now);
	if (rc == 0 && speed->written)
		rc = read_checked(t, speed, now);
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

/* Memory clock limit of the power mode; NO_NUMBER: none. */
static uint64_t emc_cap(const struct keeper_table *t)
{
	uint64_t cap;

	return sysroot_read_u64(t->root, EMC_CAP_FILE, &cap) < 0 || cap == 0 ? NO_NUMBER : cap;
}

uint64_t group_found_ceiling(const struct keeper_table *t, const struct knob_group *g)
{
	const struct knob *max = &g->knob[ROLE_MAX];
	char text[KNOB_VALUE_MAX];
	uint64_t limit = NO_NUMBER;

	if (max->used && !board_suspended(t->root, g->device.dir) && knob_read(t->root, max->entry.path, text) == 0)
		limit = limit_of(max, text);
	else if (g->knob[ROLE_RATE].used)
		limit = emc_cap(t);
	return limit < g->device.max_hz ? limit : 0;
}

/* A memory clock that reads lower than requested must not stay locked there: the lock is opened
 * again. */
static int apply_emc(struct keeper_table *t, struct knob_group *g, uint64_t wish)
{
	struct knob *lock = &g->knob[ROLE_LOCK], *rate = &g->knob[ROLE_RATE];
	char now[KNOB_VALUE_MAX];
	uint64_t cap = emc_cap(t);
	int rc = read_checked(t, lock, now);

	if (rc == 0)
		rc = set(t, lock, "1", now);
	if (rc == 0)
		rc = read_checked(t, rate, now);
	/* the driver ignores a rate above its highest */
	uint64_t hz = own_step(&g->device, wish, cap <= g->device.max_hz ? cap : NO_NUMBER);
	if (rc == 0)
		rc = set_number(t, rate, hz, now);
	if (rc < 0)
		return rc;
	g->actual_hz = hz_of(rate, now) == NO_NUMBER ? 0 : hz_of(rate, now);
	g->ceiling_hz = cap < g->device.max_hz ? cap : 0;
	g->state = g->actual_hz + slack_hz(rate) >= hz ? KNOB_OK : KNOB_REFUSED;
	if (g->state == KNOB_OK)
		return 0;
	table_say(t, "%s: wrote %s, reads %s: unlocked again", rate->entry.path, rate->entry.ours[OURS_HELD], now);
	return group_give_back(t, g);
}

/* True if the driver runs at a level outside the mask: the mask was lost, for example over a
 * suspend. */
static bool mask_is_lost(const struct keeper_table *t, const struct knob_group *g, uint64_t hz)
{
	struct dpm_table table;
	char text[SYSFS_TEXT_MAX];

	if (sysroot_read(t->root, g->knob[ROLE_MASK].entry.path, text, sizeof(text)) <= 0 ||
	    !dpm_table_parse(text, &table))
		return false;
	return table.now_hz && (table.now_hz > hz + hz / DPM_TOLERANCE || table.now_hz + hz / DPM_TOLERANCE < hz);
}

/* Levels are selected by a mask and take effect later; reading the file shows the level in use, not
 * the mask. A level that the user pinned could not be restored. */
static int apply_amdgpu(struct keeper_table *t, struct knob_group *g, uint64_t wish)
{
	struct knob *level = &g->knob[ROLE_LEVEL], *mask = &g->knob[ROLE_MASK];
	char now[KNOB_VALUE_MAX], value[24];
	size_t index = 0;

	if (!strcmp(level->entry.original, "manual")) {
		g->state = KNOB_REFUSED;
		table_say(t, "%s is set to manual: its levels were chosen by the user and are left alone",
			  level->entry.path);
		return 0;
	}
	uint64_t hz = own_step(&g->device, wish, NO_NUMBER);
	while (index + 1 < g->device.count && g->device.hz[index] < hz)
		index++;
	int rc = read_checked(t, level, now);
	bool stood = rc == 0 && !strcmp(now, "manual");
	if (rc == 0)
		rc = set(t, level, "manual", now);
	snprintf(value, sizeof(value), "%u", g->device.level[index]);
	bool same = stood && mask->written && !strcmp(mask->entry.ours[OURS_HELD], value) && !t->rewrite_masks;
	/* takes effect asynchronously: a new level is verified at the next check */
	if (same && g->checking)
		same = !mask_is_lost(t, g, hz);
	if (rc == 0 && !same) {
		now[0] = '\0';
		rc = set(t, mask, value, now);
	}
	g->actual_hz = hz;
	g->state = KNOB_OK;
	return rc;
}

/* The driver may be unable to keep a lock under load. Returns FOREIGN if the clock is beyond the lock: another program
 * has reset or replaced it, which is left alone. */
static int check_nvml(struct keeper_table *t, struct knob_group *g)
{
	struct knob *lock = &g->knob[ROLE_NVML];
	uint64_t held_hz = hz_of(lock, lock->entry.ours[OURS_HELD]);
	char now[KNOB_VALUE_MAX];
	struct nvml_clock clock;
	int rc = nvml_read_clock(lock->entry.path, &clock);

	if (rc < 0 || !clock.busy)
		return rc;
	g->beyond_lock = clock.hz > held_hz + held_hz / NVML_TOLERANCE ? g->beyond_lock + 1 : 0;
	if (g->beyond_lock >= NVML_READINGS) {
		g->beyond_lock = 0;
		snprintf(now, sizeof(now), "%llu", (unsigned long long)(clock.hz / lock->kind->unit_hz));
		rc = foreign(t, lock, now);
		lock->written = false; /* not reset: the other owner's lock would be lost with it */
		memset(lock->entry.ours, 0, sizeof(lock->entry.ours));
		return rc;
	}
	if (clock.hz < held_hz - held_hz / NVML_TOLERANCE) {
		g->ceiling_hz = clock.hz;
		table_say(t, "%s runs at %llu MHz, locked to %s: held down by %s", g->device.name,
			  (unsigned long long)(clock.hz / lock->kind->unit_hz), lock->entry.ours[OURS_HELD],
			  clock.slowed ? clock.slowed : "a reason that NVML does not name");
	}
	return 0;
}

/* One clock for minimum and maximum. Up at once; down only when the last change was long enough ago. */
static int apply_nvml(struct keeper_table *t, struct knob_group *g, uint64_t wish)
{
	struct knob *lock = &g->knob[ROLE_NVML];
	uint64_t hz = own_step(&g->device, wish, NO_NUMBER), begin_ns = clock_now_ns();
	uint64_t held_hz = lock->written ? hz_of(lock, lock->entry.ours[OURS_HELD]) : 0;
	char now[KNOB_VALUE_MAX];
	int rc = knob_read(t->root, lock->entry.path, now);

	if (rc == 0 && g->checking && lock->written)
		rc = check_nvml(t, g);
	if (rc < 0)
		return rc;
	if (!lock->written || t->rewrite_masks) /* foreign, or lost over a suspend: unknown */
		now[0] = '\0';
	g->state = KNOB_OK;
	g->actual_hz = hz;
	if (held_hz && hz < held_hz && begin_ns < g->moved_ns + NVML_DWELL * g->took_ns) {
		g->actual_hz = held_hz; /* checked again at the next check of the target in force */
		return 0;
	}
	rc = set_number(t, lock, hz, now);
	if (rc < 0 && !held_hz) { /* never locked: nothing to reset, neither now nor by the next keeper */
		lock->written = lock->loose = false;
		memset(lock->entry.ours, 0, sizeof(lock->entry.ours));
		journal_rewrite(&t->journal);
	}
	if (rc == 0 && hz != held_hz) {
		g->moved_ns = clock_now_ns();
		g->took_ns = g->moved_ns - begin_ns > g->took_ns ? g->moved_ns - begin_ns : g->took_ns;
	}
	return rc;
}

int group_apply(struct keeper_table *t, struct knob_group *g, uint64_t hz)
{
	g->actual_hz = g->ceiling_hz = 0;
	switch (g->device.method) {
	case METHOD_CPUFREQ_LIMITS:
	case METHOD_DEVFREQ_LIMITS:
	case METHOD_I915:
	case METHOD_XE: return apply_limits(t, g, hz);
	case METHOD_CPUFREQ_SETSPEED:
	case METHOD_DEVFREQ_USERSPACE: return apply_speed(t, g, hz);
	case METHOD_BPMP_EMC: return apply_emc(t, g, hz);
	case METHOD_AMDGPU: return apply_amdgpu(t, g, hz);
	case METHOD_NVML: return apply_nvml(t, g, hz);
	case METHOD_NONE:
	case METHOD_COUNT: break;
	}
	return -EINVAL;
}
