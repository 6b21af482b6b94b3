/* SPDX-License-Identifier: MIT */
/* The closed table of knobs, and the only function that writes one. */
#include "knob.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <unistd.h>

#include "../common/file.h"
#include "../common/units.h"
#include "../probes/sysroot.h"
#include "hold.h"
#include "nvml.h"

#define KHZ     1000ULL
#define MHZ     1000000ULL
#define CPUFREQ "/sys/*/cpu/*cpufreq*/scaling_"
#define DEVFREQ "/sys/*/devfreq/*/"
#define DRM     "/sys/*/drm/card*/"
#define EMC     "/sys/kernel/debug/bpmp/debug/clk/emc/"

static const struct knob_kind kinds[] = {
	{"scaling_max_freq", CPUFREQ "max_freq", ROLE_MAX, KHZ, 0},
	{"scaling_min_freq", CPUFREQ "min_freq", ROLE_MIN, KHZ, 0},
	{"scaling_governor", CPUFREQ "governor", ROLE_GOVERNOR, 0, 0},
	{"scaling_setspeed", CPUFREQ "setspeed", ROLE_SPEED, KHZ, 0},
	/* devfreq limits are in kHz since Linux 5.5 */
	{"max_freq", DEVFREQ "max_freq", ROLE_MAX, 1, KHZ},
	{"min_freq", DEVFREQ "min_freq", ROLE_MIN, 1, KHZ},
	{"governor", DEVFREQ "governor", ROLE_GOVERNOR, 0, 0},
	{"set_freq", DEVFREQ "userspace/set_freq", ROLE_SPEED, 1, KHZ},
	/* GT ratios are multiples of 50/3 MHz */
	{"gt_max_freq_mhz", DRM "gt_max_freq_mhz", ROLE_MAX, MHZ, 17},
	{"gt_min_freq_mhz", DRM "gt_min_freq_mhz", ROLE_MIN, MHZ, 17},
	{"gt_boost_freq_mhz", DRM "gt_boost_freq_mhz", ROLE_BOOST, MHZ, 17},
	{"rps_boost_freq_mhz", DRM "gt/gt*/rps_boost_freq_mhz", ROLE_BOOST, MHZ, 17},
	{"rps_max_freq_mhz", DRM "gt/gt*/rps_max_freq_mhz", ROLE_MAX, MHZ, 17},
	{"rps_min_freq_mhz", DRM "gt/gt*/rps_min_freq_mhz", ROLE_MIN, MHZ, 17},
	{"max_freq", "/sys/*/tile*/gt*/freq0/max_freq", ROLE_MAX, MHZ, 17},
	{"min_freq", "/sys/*/tile*/gt*/freq0/min_freq", ROLE_MIN, MHZ, 17},
	{"power_dpm_force_performance_level", "/sys/*/power_dpm_force_performance_level", ROLE_LEVEL, 0, 0},
	{"pp_dpm_sclk", "/sys/*/pp_dpm_sclk", ROLE_MASK, 0, 0},
	{"pp_dpm_mclk", "/sys/*/pp_dpm_mclk", ROLE_MASK, 0, 0},
	{"rate", EMC "rate", ROLE_RATE, 1, MHZ},
	{"mrq_rate_locked", EMC "mrq_rate_locked", ROLE_LOCK, 0, 0},
	{"lock", "/nvml/*/graphics/lock", ROLE_NVML, MHZ, 0},
	{"lock", "/nvml/*/memory/lock", ROLE_NVML, MHZ, 0},
};

const struct knob_kind *knob_kind_of(const char *path)
{
	const char *name = path_base(path);

	if (strstr(path, "/../") || strstr(path, "/./") || strstr(path, "//"))
		return NULL;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(name, kinds[i].name) && fnmatch(kinds[i].pattern, path, 0) == 0)
			return &kinds[i];
	return NULL;
}

int knob_read(const struct sysroot *root, const char *path, char value[KNOB_VALUE_MAX])
{
	if (nvml_is(path))
		return nvml_read(path, value);

	CLEANUP_FD int fd = sysroot_open(root, path, O_RDONLY | O_NONBLOCK);

	if (fd < 0)
		return fd;
	ssize_t n;
	do
		n = read(fd, value, KNOB_VALUE_MAX);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == KNOB_VALUE_MAX)
		return -EFBIG;
	while (n > 0 && strchr(" \t\r\n", value[n - 1]))
		n--;
	value[n] = '\0';
	return memchr(value, '\0', (size_t)n) ? -EINVAL : 0;
}

int knob_write(const struct sysroot *root, const char *path, const char *value)
{
	if (nvml_is(path))
		return nvml_write(path, value);

	char text[KNOB_VALUE_MAX + 1];
	size_t len = strlen(value);

	if (len + 1 > sizeof(text))
		return -EINVAL;
	memcpy(text, value, len);
	text[len++] = '\n';
	CLEANUP_FD int fd = sysroot_open(root, path, O_WRONLY | O_TRUNC | O_NONBLOCK);
	if (fd == -EWOULDBLOCK) /* file lease: flamed-board delays writers as a slow sysfs write does */
		fd = sysroot_open(root, path, O_WRONLY | O_TRUNC);
	if (fd < 0)
		return fd;
	ssize_t n = write(fd, text, len);
	return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

uint64_t knob_number(const char *value)
{
	uint64_t number;

	return parse_u64(value, &number) == 0 ? number : UINT64_MAX;
}

static bool is_near(const struct knob_kind *kind, const char *a, const char *b)
{
	uint64_t x = knob_number(a), y = knob_number(b);

	if (!strcmp(a, b))
		return true;
	return kind->slack && x != UINT64_MAX && y != UINT64_MAX && (x > y ? x - y : y - x) <= kind->slack;
}

bool knob_is_ours(const struct knob_kind *kind, const struct journal_entry *entry, const char *value)
{
	/* empty: our write to a file in a board directory failed after the truncation */
	if (value[0] == '\0')
		return entry->ours[OURS_HELD][0] != '\0';
	if (entry->unlimited && entry->ours[OURS_HELD][0] && !strcmp(value, NO_LIMIT_KHZ))
		return true; /* a restore is under way */
	for (int i = 0; i < OURS_COUNT; i++)
		if (entry->ours[i][0] && is_near(kind, value, entry->ours[i]))
			return true;
	return false;
}

/* Length of the device's directory: that of the file, without devfreq's userspace/. */
static size_t device_length(const char *path)
{
	size_t len = (size_t)(path_base(path) - path);
	const char sub[] = "/userspace/";

	return len > sizeof(sub) && !memcmp(path + len - (sizeof(sub) - 1), sub, sizeof(sub) - 1) ?
		       len - (sizeof(sub) - 2) :
		       len;
}

bool knob_same_device(const char *a, const char *b)
{
	size_t n = device_length(a);

	return n == device_length(b) && !memcmp(a, b, n);
}

bool knob_error_passes(int error)
{
	return error == -EAGAIN || error == -EBUSY || error == -EINTR;
}

bool knob_error_lost(int error)
{
	return error == -ENOENT || error == -ENODEV || error == -ENXIO || error == -ENOTDIR;
}
