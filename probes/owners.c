/* SPDX-License-Identifier: MIT */
/* Other programs that set clocks, found by process name. */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <string.h>

#include "probe.h"

/* the kernel truncates comm to 15 characters */
static const struct owner {
	const char *comm, *name;
} owners[] = {
	{"power-profiles-", "power-profiles-daemon"},
	{"tuned", "tuned"},
	{"tlp", "tlp"},
	{"auto-cpufreq", "auto-cpufreq"},
	{"thermald", "thermald"},
	{"nvpmodel", "nvpmodel"},
	{"jetson_clocks", "jetson_clocks"},
	{"gamemoded", "gamemoded"},
	{"lact", "lact"},
};
#define OWNERS (sizeof(owners) / sizeof(owners[0]))

static size_t find_owner(const struct sysroot *root, const char *pid)
{
	char path[SYSFS_PATH_MAX], comm[32];
	size_t i = OWNERS;

	snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	if (sysroot_read(root, path, comm, sizeof(comm)) > 0)
		for (i = 0; i < OWNERS && strcmp(comm, owners[i].comm) != 0; i++)
			continue;
	return i;
}

void board_other_owners(const struct sysroot *root, char *buf, size_t size)
{
	char proc[PATH_MAX];
	bool seen[OWNERS] = {false};
	size_t at = 0;

	buf[0] = '\0';
	if (sysroot_path(root, "/proc", proc, sizeof(proc)) < 0)
		return;
	DIR *dir = opendir(proc);
	if (!dir)
		return;
	for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
		size_t i = isdigit((unsigned char)e->d_name[0]) ? find_owner(root, e->d_name) : OWNERS;
		if (i < OWNERS)
			seen[i] = true;
	}
	closedir(dir);
	for (size_t i = 0; i < OWNERS; i++)
		if (seen[i] && at < size)
			at += (size_t)snprintf(buf + at, size - at, "%s%s", at ? ", " : "", owners[i].name);
}
