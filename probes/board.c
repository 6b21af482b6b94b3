/* SPDX-License-Identifier: MIT */
/* The whole board: name and power mode, clocks, power rails, thermal zones, and how they are logged. */
#include "board.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/hash.h"
#include "../common/log.h"
#include "../common/units.h"
#include "probe.h"

#define NVPMODEL_STATUS   "/var/lib/nvpmodel/status"
#define NVPMODEL_CONF     "/etc/nvpmodel.conf"
#define NVPMODEL_CONF_MAX 65536
#define PROFILE_FILE      "/sys/firmware/acpi/platform_profile"

#define MODE_LOOK_NS NS_PER_S

static const char *const mode_files[MODE_FILES] = {NVPMODEL_STATUS, PROFILE_FILE};
static const char *const machine_files[] = {
	"/proc/device-tree/model",        "/sys/firmware/devicetree/base/model",
	"/proc/device-tree/compatible",   "/sys/firmware/devicetree/base/compatible",
	"/sys/class/dmi/id/product_name", "/sys/class/dmi/id/board_name",
};

bool machine_matches(const struct sysroot *root, const char *pattern)
{
	char text[SYSFS_TEXT_MAX];

	for (size_t i = 0; i < sizeof(machine_files) / sizeof(machine_files[0]); i++) {
		ssize_t n = sysroot_read(root, machine_files[i], text, sizeof(text));
		/* `compatible` contains several strings, each ended by a NUL */
		for (ssize_t at = 0; at < n; at += (ssize_t)strlen(text + at) + 1)
			if (fnmatch(pattern, text + at, FNM_CASEFOLD) == 0)
				return true;
	}
	return false;
}

static void find_name(struct board *board, const struct sysroot *root)
{
	static const char *const files[] = {"/proc/device-tree/model", "/sys/firmware/devicetree/base/model",
					    "/sys/class/dmi/id/product_name"};
	char text[SYSFS_TEXT_MAX];

	snprintf(board->name, sizeof(board->name), "unknown board");
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (sysroot_read(root, files[i], text, sizeof(text)) > 0) {
			snprintf(board->name, sizeof(board->name), "%.95s", text);
			break;
		}
	for (char *p = board->name; *p; p++)
		if (!isprint((unsigned char)*p))
			*p = '?';
}

/* The name of a mode in "< POWER_MODEL ID=2 NAME=15W >"; the status file contains only its number. False if there is
 * none, or it is too long: a part of it may be another mode's name. */
static bool nvpmodel_name(const struct sysroot *root, unsigned long mode, char *buf, size_t size)
{
	char conf[NVPMODEL_CONF_MAX];
	unsigned long id;

	if (sysroot_read(root, NVPMODEL_CONF, conf, sizeof(conf)) <= 0)
		return false;
	for (const char *p = strstr(conf, "POWER_MODEL ID="); p; p = strstr(p + 1, "POWER_MODEL ID=")) {
		int start = 0;

		if (sscanf(p, "POWER_MODEL ID=%lu NAME=%n", &id, &start) != 1 || !start || id != mode)
			continue;
		size_t len = strcspn(p + start, " \t\n");
		if (len == 0 || len >= size)
			return false;
		memcpy(buf, p + start, len);
		buf[len] = '\0';
		return true;
	}
	return false;
}

/* It becomes part of a file name: keep plain characters only. */
static void make_plain(char *text)
{
	for (char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
			*p = '-';
}

void mode_reader_init(struct mode_reader *reader)
{
	*reader = (struct mode_reader){.fd = {-1, -1}};
}

void mode_reader_close(struct mode_reader *reader)
{
	for (size_t i = 0; i < MODE_FILES; i++)
		if (reader->fd[i] >= 0)
			close(reader->fd[i]);
	mode_reader_init(reader);
}

/* Returns the number of bytes, -1 if there is no file. A file that was replaced, or lost its driver, is opened
 * again. */
static ssize_t read_mode_file(struct mode_reader *reader, const struct sysroot *root, size_t i, bool look, char *text,
			      size_t size)
{
	char resolved[SYSFS_PATH_MAX];
	struct stat st;

	for (int attempt = 0; attempt < 2; attempt++) {
		if (reader->fd[i] < 0 && look && sysroot_resolve(root, mode_files[i], resolved, sizeof(resolved)) == 0)
			reader->fd[i] = sysroot_open(root, resolved, O_RDONLY | O_NONBLOCK);
		if (reader->fd[i] < 0)
			return -1;
		if (fstat(reader->fd[i], &st) == 0 && st.st_nlink > 0) {
			ssize_t n = pread(reader->fd[i], text, size, 0);

			if (n >= 0)
				return n;
		}
		close(reader->fd[i]);
		reader->fd[i] = -1;
		look = true;
	}
	return -1;
}

bool mode_reader_changed(struct mode_reader *reader, const struct sysroot *root, uint64_t now_ns)
{
	uint64_t before = reader->hash, hash = HASH_FIRST;
	bool look = now_ns >= reader->look_ns;
	char text[256];

	if (look)
		reader->look_ns = now_ns + MODE_LOOK_NS;
	for (size_t i = 0; i < MODE_FILES; i++) {
		ssize_t n = read_mode_file(reader, root, i, look, text, sizeof(text));

		hash = hash_bytes(hash, text, n < 0 ? 0 : (size_t)n);
		hash = hash_bytes(hash, &n, sizeof(n));
	}
	reader->hash = hash;
	return hash != before;
}

void board_find_power_mode(struct board *board, const struct sysroot *root)
{
	char text[256];
	unsigned long mode;

	board->power_mode[0] = '\0';
	if (sysroot_read(root, NVPMODEL_STATUS, text, sizeof(text)) > 0 && sscanf(text, "pmode:%lu", &mode) == 1) {
		if (!nvpmodel_name(root, mode, board->power_mode, sizeof(board->power_mode)))
			snprintf(board->power_mode, sizeof(board->power_mode), "nvpmodel-%lu", mode);
	} else if (sysroot_read(root, PROFILE_FILE, text, sizeof(text)) > 0) {
		snprintf(board->power_mode, sizeof(board->power_mode), "%.*s", POWER_MODE_MAX, text);
	}
	make_plain(board->power_mode);
}

void board_detect(struct board *board, const struct sysroot *root, const char *boards_dir)
{
	memset(board, 0, sizeof(*board));
	find_name(board, root);
	board_find_power_mode(board, root);
	cpu_find(&board->clock[CLOCK_CPU], root);
	gpu_find(&board->clock[CLOCK_GPU], root);
	mem_find(&board->clock[CLOCK_MEM], root);
	rails_find(board, root);
	zones_find(board, root);
	CLEANUP_MEM struct board_file *file = board_file_find(board, root, boards_dir);
	if (file) {
		board_file_apply(file, board, root);
		board_file_rails(file, board);
	}
	for (int id = 0; id < CLOCK_COUNT; id++)
		if (board->clock[id].devices)
			board->clock[id].why_not[0] = '\0';
}

static void log_clock(const struct board *board, enum clock_id id)
{
	const struct clock_domain *domain = &board->clock[id];
	char names[160] = "", lo[32], hi[32], settle[32];

	if (domain->devices == 0) {
		log_notice("%s clock: not controllable: %s", clock_name(id), domain->why_not);
		return;
	}
	const struct clock_device *lead = &domain->device[domain->lead];
	for (size_t i = 0, at = 0; i < domain->devices && at < sizeof(names) - 1; i++)
		at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", i ? "," : "", domain->device[i].name);
	log_info("%s clock: %s by %s in %s, %zu steps from %s to %s, settles in %s", clock_name(id), names,
		 method_name(lead->method), lead->dir, lead->count, format_frequency(lo, sizeof(lo), lead->hz[0]),
		 format_frequency(hi, sizeof(hi), lead->hz[lead->count - 1]),
		 format_duration(settle, sizeof(settle), domain->settle_ns));
}

void board_log(const struct board *board)
{
	log_info("board: %s%s%s%s%s", board->name, board->power_mode[0] ? ", power mode " : "", board->power_mode,
		 board->board_file[0] ? ", with " : "", board->board_file);
	for (int id = 0; id < CLOCK_COUNT; id++)
		log_clock(board, (enum clock_id)id);
	if (board->prior.count)
		log_info("power: %zu points from a board file are used for models with few samples",
			 board->prior.count);
	for (size_t i = 0; i < board->rails; i++)
		log_info("power: %s%s from %s%s", board->rail[i].source ? "otherwise " : "", board->rail[i].label,
			 board->rail[i].path[0], board->rail[i].root_only ? " (through the keeper)" : "");
	if (board->rails == 0)
		log_notice("power: no sensor: %s", board->power_why_not);
	log_info("temperature: %zu zones%s", board->zones, board->zones ? "" : " in /sys/class/thermal");
}
