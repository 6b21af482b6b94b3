/* SPDX-License-Identifier: MIT */
/* flamectl report: an archive for a bug report. It contains the files of sysfs on clocks, power and temperature, the
 * configuration, the daemon's status and the end of its log; no name of the machine or of a user, and no path outside
 * sysfs and flamed's own files. */
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../common/file.h"
#include "installation.h"
#include "scrub.h"

#define REPORT_FILE     "flamed-report.tar"
#define CONFIG_FILE     SYSCONFDIR "/flamed.conf"
#define TEXT_BYTES_MAX  (1 << 20) /* of a configuration; of a log, its end */
#define VALUE_BYTES_MAX 4096      /* of a sysfs file */
#define TAR_BLOCK       512
#define TAR_NAME_MAX    100
#define TAR_PREFIX_MAX  155
#define LOG_COMMAND     "journalctl --no-hostname -o short-monotonic -q -n 500 -u flamed -u flamed-keeper 2>/dev/null"

/* Files that are collected, below the sysroot. Serial numbers, addresses and all other identification of a machine or
 * its owner are left out. */
static const char *const wanted[] = {
	"/sys/class/dmi/id/product_name",
	"/sys/class/dmi/id/board_name",
	"/sys/class/dmi/id/sys_vendor",
	"/sys/firmware/devicetree/base/model",
	"/sys/firmware/devicetree/base/compatible",
	"/proc/device-tree/model",
	"/proc/device-tree/compatible",
	"/proc/sys/kernel/osrelease",
	"/sys/firmware/acpi/platform_profile*",
	"/sys/devices/system/cpu/online",
	"/sys/devices/system/cpu/present",
	"/sys/devices/system/cpu/cpufreq/boost",
	"/sys/devices/system/cpu/intel_pstate/*",
	"/sys/devices/system/cpu/amd_pstate/*",
	"/sys/devices/system/cpu/cpufreq/policy*/*",
	"/sys/devices/system/cpu/cpu[0-9]*/cpufreq/*",
	"/sys/class/devfreq/*/name",
	"/sys/class/devfreq/*/*_freq",
	"/sys/class/devfreq/*/available_*",
	"/sys/class/devfreq/*/governor",
	"/sys/class/devfreq/*/load",
	"/sys/class/devfreq/*/userspace/set_freq",
	"/sys/class/devfreq/*/power/runtime_status",
	"/sys/class/drm/card*/gt_*_freq_mhz",
	"/sys/class/drm/card*/gt/gt*/rps_*_freq_mhz",
	"/sys/class/drm/card*/device/vendor",
	"/sys/class/drm/card*/device/device",
	"/sys/class/drm/card*/device/power/runtime_status",
	"/sys/class/drm/card*/device/power_dpm_force_performance_level",
	"/sys/class/drm/card*/device/pp_dpm_[sm]clk",
	"/sys/class/drm/card*/device/tile*/gt*/freq*/*_freq",
	"/sys/kernel/debug/bpmp/debug/clk/emc/*",
	"/sys/kernel/debug/bpmp/debug/emc/possible_rates",
	"/sys/kernel/nvpmodel_clk_cap/*",
	"/sys/class/hwmon/hwmon*/name",
	"/sys/class/hwmon/hwmon*/*_label",
	"/sys/class/hwmon/hwmon*/in*_input",
	"/sys/class/hwmon/hwmon*/curr*_input",
	"/sys/class/hwmon/hwmon*/power*_average",
	"/sys/class/hwmon/hwmon*/power*_input",
	"/sys/class/hwmon/hwmon*/energy*_input",
	"/sys/class/hwmon/hwmon*/freq*_input",
	"/sys/class/hwmon/hwmon*/temp*_input",
	"/sys/class/hwmon/hwmon*/update_interval",
	"/sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_*",
	"/sys/bus/i2c/drivers/ina3221x/*/iio:device*/in_*_input",
	"/sys/class/powercap/*/name",
	"/sys/class/powercap/*/energy_uj",
	"/sys/class/powercap/*/max_energy_range_uj",
	"/sys/class/power_supply/*/type",
	"/sys/class/power_supply/*/status",
	"/sys/class/power_supply/*/power_now",
	"/sys/class/power_supply/*/voltage_now",
	"/sys/class/power_supply/*/current_now",
	"/sys/class/thermal/thermal_zone*/type",
	"/sys/class/thermal/thermal_zone*/temp",
	"/sys/class/thermal/thermal_zone*/trip_point_*",
	"/sys/class/thermal/cooling_device*/type",
	"/sys/class/thermal/cooling_device*/*_state",
	"/sys/class/thermal/cooling_device*/device/physical_node", /* a link: tells ACPI's processors apart */
	"/sys/power/suspend_stats/success",
};

/* Reading these would resume a suspended card. */
static const char *const wakes[] = {"pp_dpm_", "power1_", "freq1_"};

struct archive {
	int fd;
	int error; /* errno of the first failed write, negative */
	size_t count, room;
	char **member;       /* names of its files */
	char root[PATH_MAX]; /* real path of the sysroot; "" for the real / */
};

static void put(struct archive *a, const void *data, size_t size)
{
	if (!a->error && write(a->fd, data, size) != (ssize_t)size)
		a->error = errno ? -errno : -ENOSPC;
}

static bool is_member(const struct archive *a, const char *name)
{
	for (size_t i = 0; i < a->count; i++)
		if (!strcmp(a->member[i], name))
			return true;
	return false;
}

static void remember(struct archive *a, const char *name)
{
	if (a->count == a->room) {
		size_t room = a->room ? 2 * a->room : 256;
		char **grown = realloc(a->member, room * sizeof(*grown));
		if (!grown) {
			a->error = -ENOMEM;
			return;
		}
		a->member = grown;
		a->room = room;
	}
	char *copy = strdup(name);
	if (copy)
		a->member[a->count++] = copy;
	else
		a->error = -ENOMEM;
}

/* ustar (POSIX.1-1988): a header block, then the data in whole blocks. A file whose name does not
 * fit is left out. */
static bool add_header(struct archive *a, const char *name, size_t size, const char *link)
{
	struct {
		char name[TAR_NAME_MAX], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100],
			magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[TAR_PREFIX_MAX], pad[12];
	} header;
	const char *rest = name;
	unsigned sum = 0;

	_Static_assert(sizeof(header) == TAR_BLOCK, "a tar header is one block");
	name += *name == '/';
	rest = name;
	if (strlen(name) >= TAR_NAME_MAX) {
		rest = strchr(name + strlen(name) - TAR_NAME_MAX + 1, '/');
		if (!rest || (size_t)(rest - name) > TAR_PREFIX_MAX)
			return false;
		rest++;
	}
	if (is_member(a, name) || (link && strlen(link) >= sizeof(header.link)))
		return false;
	remember(a, name);
	memset(&header, 0, sizeof(header));
	memcpy(header.name, rest, strlen(rest));
	if (rest != name)
		memcpy(header.prefix, name, (size_t)(rest - name) - 1);
	snprintf(header.mode, sizeof(header.mode), "%07o", link ? 0777U : 0644U);
	snprintf(header.uid, sizeof(header.uid), "%07o", 0U);
	snprintf(header.gid, sizeof(header.gid), "%07o", 0U);
	snprintf(header.size, sizeof(header.size), "%011o", (unsigned)(size));
	snprintf(header.mtime, sizeof(header.mtime), "%011o", (unsigned)time(NULL));
	header.type = link ? '2' : '0';
	if (link)
		memcpy(header.link, link, strlen(link));
	memcpy(header.magic, "ustar", 6);
	memcpy(header.version, "00", 2);
	memset(header.sum, ' ', sizeof(header.sum));
	for (size_t i = 0; i < sizeof(header); i++)
		sum += ((const unsigned char *)&header)[i];
	snprintf(header.sum, sizeof(header.sum), "%06o", sum);
	put(a, &header, sizeof(header));
	return true;
}

static void add_bytes(struct archive *a, const char *name, const char *data, size_t size)
{
	static const char zeros[TAR_BLOCK];

	if (!add_header(a, name, size, NULL))
		return;
	put(a, data, size);
	if (size % TAR_BLOCK)
		put(a, zeros, TAR_BLOCK - size % TAR_BLOCK);
}

static void add_text(struct archive *a, const struct private_words *words, const char *name, const char *text)
{
	CLEANUP_MEM char *clean = scrub(words, text);

	if (clean)
		add_bytes(a, name, clean, strlen(clean));
	else
		a->error = -ENOMEM;
}

/* Add a symbolic link under its real path: its directory may itself have been reached through a
 * link. */
static void add_link(struct archive *a, const char *path)
{
	char dir[PATH_MAX], real[PATH_MAX], name[PATH_MAX + 256], target[PATH_MAX];
	const char *base = strrchr(path, '/') + 1;
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	snprintf(dir, sizeof(dir), "%.*s", (int)(base - path) - 1, path);
	if (n <= 0 || !realpath(dir, real) || strncmp(real, a->root, strlen(a->root)) != 0)
		return;
	target[n] = '\0';
	if (snprintf(name, sizeof(name), "%s/%s", real + strlen(a->root), base) < (int)sizeof(name))
		add_header(a, name, 0, target);
}

/* Add every symbolic link on the path of a file, each once. */
static void add_links(struct archive *a, const char *path)
{
	char part[PATH_MAX];
	struct stat st;

	snprintf(part, sizeof(part), "%s", path);
	for (char *slash = strchr(part + strlen(a->root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (lstat(part, &st) == 0 && S_ISLNK(st.st_mode))
			add_link(a, part);
		*slash = '/';
	}
}

static bool is_asleep(const char *path)
{
	char dir[PATH_MAX], status[32];
	size_t i = 0;

	while (i < sizeof(wakes) / sizeof(wakes[0]) && !strstr(path, wakes[i]))
		i++;
	if (i == sizeof(wakes) / sizeof(wakes[0]))
		return false;
	snprintf(dir, sizeof(dir), "%s", path);
	for (char *slash = strrchr(dir, '/'); slash && slash != dir; slash = strrchr(dir, '/')) {
		*slash = '\0';
		char file[PATH_MAX + 32];
		snprintf(file, sizeof(file), "%s/power/runtime_status", dir);
		if (file_read_text(AT_FDCWD, file, status, sizeof(status)) > 0 && strcmp(status, "unsupported") != 0)
			return !strncmp(status, "suspend", 7);
	}
	return false;
}

static void add_file(struct archive *a, const char *path)
{
	char real[PATH_MAX], value[VALUE_BYTES_MAX + 1];
	struct stat st;

	if (!realpath(path, real) || strncmp(real, a->root, strlen(a->root)) != 0 || stat(real, &st) < 0)
		return;
	if (S_ISDIR(st.st_mode) && !scrub_has_device_address(real) && lstat(path, &st) == 0 && S_ISLNK(st.st_mode)) {
		add_links(a, path);
		add_link(a, path);
	}
	if (!S_ISREG(st.st_mode) || is_asleep(real))
		return;
	CLEANUP_FD int fd = open(real, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, value, VALUE_BYTES_MAX);
	if (n < 0)
		return; /* write-only, root-only, or a sensor that is off */
	value[n] = '\0';
	/* batteries of Bluetooth devices, and their sensors, are named by addresses */
	if (scrub_has_device_address(path) || scrub_has_device_address(real) || scrub_has_device_address(value))
		return;
	add_links(a, path);
	add_bytes(a, real + strlen(a->root), value, (size_t)n);
}

static void add_sysfs(struct archive *a)
{
	char pattern[PATH_MAX];

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		glob_t found;
		if (snprintf(pattern, sizeof(pattern), "%s%s", a->root, wanted[i]) >= (int)sizeof(pattern) ||
		    glob(pattern, 0, NULL, &found) != 0)
			continue;
		for (size_t k = 0; k < found.gl_pathc; k++)
			add_file(a, found.gl_pathv[k]);
		globfree(&found);
	}
}

static void add_host_file(struct archive *a, const struct private_words *words, const char *name, const char *path)
{
	CLEANUP_MEM char *text = NULL;

	if (file_read(path, TEXT_BYTES_MAX, &text, NULL) == 0)
		add_text(a, words, name, text);
}

/* Add the reply to an op, one key on each line; of a long list all pages. */
static void add_reply(struct archive *a, struct ctl *ctl, const struct private_words *words, const char *op)
{
	char name[32], *text = NULL;
	uint64_t from = 0;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	snprintf(name, sizeof(name), "%s.txt", op);
	if (!out) {
		a->error = -ENOMEM;
		return;
	}
	do {
		if (ctl_ask_from(ctl, op, from) < 0) {
			fprintf(out, "no answer\n");
			break;
		}
		for (size_t i = 0; i < ctl->wire.reply.count; i++)
			fprintf(out, "%s=%s\n", ctl->wire.reply.pair[i].key, ctl->wire.reply.pair[i].value);
		from = ctl_u64(ctl, "next");
	} while (from);
	if (fclose(out) == 0)
		add_text(a, words, name, text);
	else
		a->error = -ENOMEM;
	free(text);
}

/* Read the configuration; without one that may be read, and if none was named, *text stays NULL. Returns 0, or -errno
 * and a message. */
static int read_config(const struct ctl *ctl, const char *path, char **text)
{
	int rc = file_read(path ? path : CONFIG_FILE, TEXT_BYTES_MAX, text, NULL);

	if ((rc == -ENOENT || rc == -EACCES) && !path)
		return 0;
	if (rc < 0)
		ctl_error(ctl, "%s: %s", path ? path : CONFIG_FILE, strerror(-rc));
	return rc;
}

/* Read the end of the log: of a file or, if `path` is NULL, of both services' journal, which may be missing. Returns 0,
 * or -errno after a message. */
static int read_log(const struct ctl *ctl, const char *path, char **text)
{
	FILE *in = path ? fopen(path, "re") : popen(LOG_COMMAND, "r");
	int rc = in ? 0 : -errno;
	size_t n = 0;

	*text = malloc(TEXT_BYTES_MAX + 1);
	if (!*text)
		rc = -ENOMEM;
	if (in && path && fseek(in, -TEXT_BYTES_MAX, SEEK_END) < 0)
		rewind(in);
	if (rc == 0) {
		n = fread(*text, 1, TEXT_BYTES_MAX, in);
		rc = ferror(in) ? -errno : 0;
	}
	if (in)
		path ? fclose(in) : pclose(in);
	if (rc < 0) {
		ctl_error(ctl, "%s: %s", path ? path : "journalctl", strerror(-rc));
		return rc;
	}
	for (size_t i = 0; i < n; i++)
		(*text)[i] = (*text)[i] ? (*text)[i] : '?';
	(*text)[n] = '\0';
	return 0;
}

static void add_boards(struct archive *a, const struct private_words *words)
{
	glob_t found;
	char name[NAME_MAX + 16];

	if (glob(SYSCONFDIR "/flamed/boards.d/*.ini", 0, NULL, &found) != 0)
		return;
	for (size_t i = 0; i < found.gl_pathc; i++) {
		CLEANUP_MEM char *base = scrub(words, strrchr(found.gl_pathv[i], '/') + 1);

		snprintf(name, sizeof(name), "boards.d/%.255s", base ? base : "");
		add_host_file(a, words, name, found.gl_pathv[i]);
	}
	globfree(&found);
}

/* `config` and `log` are their texts; no configuration: NULL. */
static int write_archive(struct archive *a, struct ctl *ctl, const char *config, const char *log)
{
	static const char end[2 * TAR_BLOCK];
	struct private_words words;

	/* rather no report than one with names */
	a->error = scrub_find_words(&words);
	if (a->error)
		goto out;
	add_text(a, &words, "report.txt",
		 "flamed " FLAMED_VERSION "\n"
		 "Written by flamectl report. sys/ is as the kernel shows it; host and user names are replaced by "
		 "PRIVATE, other paths by PATH, network addresses by ADDRESS.\n");
	add_sysfs(a);
	if (config)
		add_text(a, &words, "flamed.conf", config);
	add_boards(a, &words);
	if (ctl_connect(ctl) == 0) {
		add_reply(a, ctl, &words, "status");
		add_reply(a, ctl, &words, "explain");
		add_reply(a, ctl, &words, "models");
	}
	add_text(a, &words, "log.txt", log);
	put(a, end, sizeof(end));
out:
	scrub_free_words(&words);
	return a->error;
}

int cmd_report(struct ctl *ctl, int argc, char **argv)
{
	const char *sysroot = "", *config = NULL, *log = NULL;
	CLEANUP_MEM char *config_text = NULL, *log_text = NULL;
	const struct ctl_option options[] = {{"--sysroot", &sysroot, NULL},
					     {"--config", &config, NULL},
					     {"--log", &log, NULL}};
	struct archive a = {.fd = -1};
	int count, rest, rc = ctl_options(ctl, options, sizeof(options) / sizeof(*options), argc, argv, &count, &rest);

	if (rc)
		return rc;
	if (count > 2 || rest < argc)
		return ctl_usage(ctl, "at most one file can be given");
	const char *path = count == 2 ? argv[1] : REPORT_FILE;
	if (sysroot[0] && !realpath(sysroot, a.root)) {
		ctl_error(ctl, "%s: %s", sysroot, strerror(errno));
		return 1;
	}
	if (read_config(ctl, config, &config_text) < 0 || read_log(ctl, log, &log_text) < 0)
		return 1;
	a.fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (a.fd < 0) {
		ctl_error(ctl, "%s: %s", path, strerror(errno));
		return 1;
	}
	rc = write_archive(&a, ctl, config_text, log_text);
	if (close(a.fd) < 0 && !rc)
		rc = -errno;
	if (rc < 0) {
		ctl_error(ctl, "%s: %s", path, strerror(-rc));
		unlink(path);
	} else {
		printf("%s: %zu files. It does not name this machine or its users; review it before you send it: "
		       "tar tf %s\n",
		       path, a.count, path);
	}
	for (size_t i = 0; i < a.count; i++)
		free(a.member[i]);
	free(a.member);
	return rc < 0 ? 1 : 0;
}
