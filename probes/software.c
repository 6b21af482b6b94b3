/* SPDX-License-Identifier: MIT */
/* Versions of the software that a model's latencies depend on: the kernel with its GPU driver, and the release that
 * the compute libraries come from. */
#include <stdio.h>
#include <string.h>

#include "board.h"

#define KERNEL  "/proc/sys/kernel/osrelease"
#define DRIVER  "/sys/module/nvidia/version" /* of a driver that is released apart from its kernel */
#define TEGRA   "/etc/nv_tegra_release"      /* "# R36 (release), REVISION: 4.3, GCID: ..., BOARD: ..." */
#define RELEASE "/etc/os-release"

static void read_system(char *out, size_t size, const struct sysroot *root)
{
	char text[4096], *rest = text, *line;

	if (sysroot_read(root, TEGRA, text, sizeof(text)) > 0) {
		text[strcspn(text, "\n")] = '\0';
		line = strstr(text, ", GCID");
		if (line)
			*line = '\0';
		snprintf(out, size, "%s", text + strspn(text, "# "));
	} else if (sysroot_read(root, RELEASE, text, sizeof(text)) > 0) {
		while ((line = strsep(&rest, "\n"))) {
			if (strncmp(line, "PRETTY_NAME=", 12) != 0)
				continue;
			line += 12 + strspn(line + 12, "\"'");
			snprintf(out, size, "%.*s", (int)strcspn(line, "\"'"), line);
		}
	}
}

void board_software(struct board_software *software, const struct sysroot *root)
{
	memset(software, 0, sizeof(*software));
	sysroot_read(root, KERNEL, software->kernel, sizeof(software->kernel));
	sysroot_read(root, DRIVER, software->driver, sizeof(software->driver));
	read_system(software->system, sizeof(software->system), root);
}
