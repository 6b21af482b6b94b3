/* SPDX-License-Identifier: MIT */
/* Whether CUPTI may be called at all, determined without calling it. */
#include "cupti.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CUDA_13 13000

/* The profiler of the nvgpu driver, as newer and as older kernels name it. */
static const char *const nodes[][2] = {
	{"/dev/nvgpu/igpu0/prof-dev", "/dev/nvhost-prof-dev-gpu"},
	{"/dev/nvgpu/igpu0/prof-ctx", "/dev/nvhost-prof-ctx-gpu"},
};

static bool is_tegra(const char *root)
{
	char path[PATH_MAX], text[512];
	size_t n;
	FILE *in;

	snprintf(path, sizeof(path), "%s/proc/device-tree/compatible", root);
	in = fopen(path, "re");
	if (!in)
		return false;
	n = fread(text, 1, sizeof(text) - 1, in);
	fclose(in);
	for (size_t i = 0; i < n; i++) /* strings that a NUL ends each */
		text[i] = text[i] ? text[i] : '\n';
	text[n] = '\0';
	return strstr(text, "nvidia,tegra") != NULL;
}

static bool can_open(const char *root, const char *node)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s%s", root, node);
	return access(path, R_OK | W_OK) == 0;
}

bool cupti_allowed(const char *root, int cuda, bool privileged, char *why, size_t size)
{
	if (!is_tegra(root) || privileged)
		return true;
	if (cuda < CUDA_13) {
		snprintf(why, size, "on Jetson CUPTI needs root up to CUDA 12, and this is %d.%d", cuda / 1000,
			 cuda % 1000 / 10);
		return false;
	}
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
		if (!can_open(root, nodes[i][0]) && !can_open(root, nodes[i][1])) {
			snprintf(why, size, "%s: %s", nodes[i][0], strerror(errno));
			return false;
		}
	return true;
}
