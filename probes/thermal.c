/* SPDX-License-Identifier: MIT */
/* Temperatures. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../common/file.h"
#include "../common/units.h"
#include "probe.h"

void zones_find(struct board *board, const struct sysroot *root)
{
	CLEANUP_MEM struct sysroot_matches *found = sysroot_glob(root, "/sys/class/thermal/thermal_zone*");

	board->zones = 0;
	for (size_t i = 0; found && i < found->count && board->zones < ZONES_MAX; i++) {
		struct zone *zone = &board->zone[board->zones];
		if (sysroot_join(zone->path, found->path[i], "temp") < 0 || !sysroot_exists(root, zone->path))
			continue;
		if (sysroot_read_at(root, found->path[i], "type", zone->name, sizeof(zone->name)) <= 0)
			snprintf(zone->name, sizeof(zone->name), "%.47s", path_base(found->path[i]));
		board->zones++;
	}
}

int board_temperature(const struct board *board, const struct sysroot *root, int32_t *millidegree_c, const char **zone)
{
	bool any = false;

	for (size_t i = 0; i < board->zones; i++) {
		char text[32];
		int64_t value;
		/* a zone that is powered off returns EAGAIN, a broken one EIO: both are skipped */
		if (sysroot_read(root, board->zone[i].path, text, sizeof(text)) <= 0 || parse_i64(text, &value) < 0 ||
		    value < INT32_MIN || value > INT32_MAX)
			continue;
		if (!any || value > *millidegree_c) {
			*millidegree_c = (int32_t)value;
			*zone = board->zone[i].name;
			any = true;
		}
	}
	return any ? 0 : -ENODATA;
}
