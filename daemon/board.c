/* SPDX-License-Identifier: MIT */
/* Repeated device detection: drivers load late, cards are hot-plugged, frequency tables change. A
 * grid, its surfaces and its sessions belong together, so a changed board is adopted only while no
 * session or profile is open. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "daemon.h"

/* after the last session, or the kernel's event: by then knobs are restored and drivers are ready */
#define RESCAN_NS (100 * NS_PER_MS)

struct governor_options board_governor_options(const struct config *config)
{
	struct governor_options options;

	governor_options_default(&options);
	options.objective = config->objective;
	options.margin = config->margin;
	options.mem_dwell_ns = config->mem_dwell_ns;
	options.quantile = config->quantile;
	options.miss_target = config->miss_target;
	options.learning_misses = config->learning_misses;
	options.power_max_uw = config->power_max_w * 1e6;
	return options;
}

int board_load_models(struct daemon *d)
{
	struct governor_options governor = board_governor_options(&d->config);
	struct model_options options;
	int rc;

	governor_free(&d->governor);
	rc = governor_init(&d->governor, &governor);
	if (rc < 0)
		return rc;
	model_options_default(&options);
	options.quantile = d->config.quantile;
	options.ready_width = d->config.ready_width;
	options.power_sensor = d->power.meter != NULL;
	options.board = d->board.prior;
	options.layers_max = LAYERS_RESIDENT_MAX;
	options.layers_fitted_max = LAYERS_FITTED_MAX;
	library_init(&d->library, d->options->state_dir, d->board.power_mode, &d->clocks.grid, &options, &d->governor);
	if (library_has_unread(&d->library))
		loop_timer_in(d->read, LIBRARY_READ_NS);
	return 0;
}

void board_hide_unread(const struct daemon *d, struct board *board)
{
	for (int i = 0; i < CLOCK_COUNT; i++) {
		struct clock_domain *domain = &board->clock[i];
		char dir[sizeof(domain->device[0].dir)];

		if (d->config.mode != MODE_SHADOW || domain->devices == 0 ||
		    board_current_hz(board, &d->root, (enum clock_id)i))
			continue;
		strcpy(dir, domain->device[domain->lead].dir);
		snprintf(domain->why_not, sizeof(domain->why_not), "shadow mode cannot read its clock: %.128s", dir);
		domain->devices = 0;
	}
}

/* amdgpu lists a fine-grained clock with or without its current middle entry, so only both ends are
 * compared. */
static bool same_device(const struct clock_device *a, const struct clock_device *b)
{
	if (strcmp(a->dir, b->dir) != 0 || strcmp(a->name, b->name) != 0 || a->method != b->method || a->count == 0 ||
	    b->count == 0)
		return false;
	if (a->method == METHOD_AMDGPU)
		return a->hz[0] == b->hz[0] && a->hz[a->count - 1] == b->hz[b->count - 1];
	/* with boost off, or under bios_limit, a policy lists fewer frequencies than it has */
	if (a->method == METHOD_CPUFREQ_LIMITS && b->hz[b->count - 1] < a->hz[a->count - 1])
		return true;
	return a->count == b->count && memcmp(a->hz, b->hz, a->count * sizeof(a->hz[0])) == 0;
}

/* Whether every known device is present or runtime-suspended, and there is no new one. */
static bool same_clock(const struct daemon *d, const struct clock_domain *known, const struct clock_domain *now)
{
	size_t matched = 0;

	for (size_t i = 0; i < known->devices; i++) {
		size_t k = 0;
		while (k < now->devices && !same_device(&known->device[i], &now->device[k]))
			k++;
		if (k == now->devices && !board_suspended(&d->root, known->device[i].dir))
			return false;
		matched += k < now->devices;
	}
	return matched == now->devices;
}

static bool same_rails(const struct board *a, const struct board *b)
{
	if (a->rails != b->rails)
		return false;
	for (size_t i = 0; i < a->rails; i++)
		if (strcmp(a->rail[i].path[0], b->rail[i].path[0]) != 0 || a->rail[i].source != b->rail[i].source)
			return false;
	return true;
}

static void take_rails(struct daemon *d, const struct board *now)
{
	bool root_only = false;

	for (size_t i = 0; i < now->rails; i++)
		root_only |= now->rail[i].root_only;
	/* The keeper opens root-only sensors. If it cannot be asked now, the next detection tries again. */
	if (root_only && d->config.power_sensor && d->clocks.keeper && !keeper_link_sensors(d->clocks.keeper))
		return;
	memcpy(d->board.rail, now->rail, sizeof(now->rail));
	d->board.rails = now->rails;
	memcpy(d->board.power_why_not, now->power_why_not, sizeof(now->power_why_not));
	if (!d->config.power_sensor)
		return;
	power_meter_free(d->power.meter);
	d->power.meter = now->rails ? power_meter_new(&d->board, &d->root, NULL) : NULL;
}

static void take_clocks(struct daemon *d, const struct board *now)
{
	struct clocks before = d->clocks;

	clock_reader_close(&d->reader);
	fitting_abandon(d);
	library_finish(&d->library);
	library_free(&d->library);
	d->closed.entry = NULL;
	d->last_decided = NULL;
	memcpy(d->board.clock, now->clock, sizeof(now->clock));
	memset(&d->clocks, 0, sizeof(d->clocks));
	d->clocks.keeper = before.keeper;
	d->clocks.last = before.last;
	d->clocks.serial = before.serial;
	d->clocks.epoch = before.epoch + 1;
	d->clocks.released = before.released;
	if (clocks_init(&d->clocks, &d->board, &d->config) < 0)
		log_error("the table of operating points cannot be rebuilt");
	if (board_load_models(d) < 0)
		log_error("governor: out of memory");
	server_repeat(d->server, d->fitting.helper.uid); /* connections that waited for the abandoned helper process */
	board_log(&d->board);
	log_notice("devices were added or removed: %zu operating points now", d->clocks.grid.points);
}

void board_rescan(void *daemon)
{
	struct daemon *d = daemon;
	bool changed = false;

	d->rescan_set = false;
	/* board_rescan_later() is called again when the last session or profile closes */
	if (!d->server || d->sessions || d->requests || profiles_count(d) || d->importing.helper.pid) {
		d->was_used = true;
		return;
	}
	CLEANUP_MEM struct board *now = malloc(sizeof(*now));
	if (!now)
		return;
	board_detect(now, &d->root, d->config.boards_dir);
	keeper_hello_merge(now, &d->found);
	board_hide_unread(d, now);
	for (int id = 0; id < CLOCK_COUNT; id++)
		changed |= !same_clock(d, &d->board.clock[id], &now->clock[id]);
	if (!same_rails(&d->board, now))
		take_rails(d, now);
	changed |= d->library.options.power_sensor != (d->power.meter != NULL);
	if (!changed)
		return;
	take_clocks(d, now);
	/* a card that was suspended when the keeper looked for devices is unknown to it */
	if (d->clocks.keeper)
		keeper_link_rescan(d->clocks.keeper);
}

void board_rescan_later(struct daemon *d)
{
	if (!d->rescan_set)
		loop_timer_in(d->rescan, RESCAN_NS);
	d->rescan_set = true;
}
