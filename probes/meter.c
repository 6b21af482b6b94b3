/* SPDX-License-Identifier: MIT */
/* Reading power: descriptors stay open and are read from their beginning. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/units.h"
#include "probe.h"

#define PW_PER_UW 1000000ULL /* battery: uV times uA is pW */

struct power_meter {
	const struct sysroot *root;
	size_t rails;
	struct meter_rail {
		struct rail rail;
		int fd[2];
		uint64_t energy_uj, at_ns; /* RAPL: last seen */
		bool seen;
	} rail[RAILS_MAX];
};

static int open_file(const struct sysroot *root, const char *path)
{
	char resolved[SYSFS_PATH_MAX];
	int rc = sysroot_resolve(root, path, resolved, sizeof(resolved));

	return rc < 0 ? rc : sysroot_open(root, resolved, O_RDONLY | O_NONBLOCK);
}

struct power_meter *power_meter_new(const struct board *board, const struct sysroot *root, const int fds[RAILS_MAX][2])
{
	struct power_meter *meter = calloc(1, sizeof(*meter));

	if (!meter)
		return NULL;
	meter->root = root;
	meter->rails = board->rails;
	for (size_t i = 0; i < board->rails; i++) {
		struct meter_rail *r = &meter->rail[i];
		r->rail = board->rail[i];
		for (int k = 0; k < 2; k++) {
			r->fd[k] = fds ? fds[i][k] : -1;
			if (r->fd[k] < 0 && r->rail.path[k][0])
				r->fd[k] = open_file(root, r->rail.path[k]); /* -errno kept: the reason */
		}
	}
	return meter;
}

void power_meter_free(struct power_meter *meter)
{
	for (size_t i = 0; meter && i < meter->rails; i++)
		for (int k = 0; k < 2; k++)
			if (meter->rail[i].fd[k] >= 0)
				close(meter->rail[i].fd[k]);
	free(meter);
}

static int read_fd(int fd, uint64_t *out)
{
	char text[64];
	int64_t value;

	if (fd < 0)
		return fd;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	if (n < 0)
		return -errno;
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	if (n == 0)
		return -EAGAIN; /* between truncation and write of a file in a directory */
	text[n] = '\0';
	int rc = parse_i64(text, &value); /* a current may be negative: charging, or noise at idle */
	*out = rc == 0 && value > 0 ? (uint64_t)value : 0;
	return rc;
}

/* File k of a rail; a sensor whose driver was reloaded, or whose file was
 * replaced, is opened anew. */
static int read_file(const struct power_meter *meter, struct meter_rail *r, int k, uint64_t *out)
{
	struct stat st;
	bool gone = r->fd[k] >= 0 && fstat(r->fd[k], &st) == 0 && st.st_nlink == 0;
	int rc = gone ? -ENODEV : read_fd(r->fd[k], out);

	if (rc != -ENODEV && rc != -ENOENT && rc != -EBADF)
		return rc;
	int fd = open_file(meter->root, r->rail.path[k]);
	if (fd < 0)
		return rc;
	if (r->fd[k] >= 0)
		close(r->fd[k]);
	r->fd[k] = fd;
	return read_fd(fd, out);
}

static int read_product(const struct power_meter *meter, struct meter_rail *r, uint64_t *out)
{
	uint64_t a, b;
	int rc = read_file(meter, r, 0, &a);

	if (rc == 0)
		rc = read_file(meter, r, 1, &b);
	if (rc == 0 && __builtin_mul_overflow(a, b, out))
		rc = -ERANGE;
	return rc;
}

/* Mean power since the last call; the counter wraps at its range. */
static int read_rapl(const struct power_meter *meter, struct meter_rail *r, uint64_t now_ns, uint64_t *uw)
{
	uint64_t uj;
	int rc = read_file(meter, r, 0, &uj);

	if (rc < 0)
		return rc;
	uint64_t before = r->energy_uj, since_ns = now_ns - r->at_ns;
	bool first = !r->seen;
	if (!first && since_ns == 0)
		return -EAGAIN;
	r->energy_uj = uj;
	r->at_ns = now_ns;
	r->seen = true;
	if (first || (uj < before && r->rail.energy_range_uj < before))
		return -EAGAIN;
	uint64_t delta = uj >= before ? uj - before : r->rail.energy_range_uj - before + uj;
	*uw = (uint64_t)((double)delta * (double)NS_PER_S / (double)since_ns);
	return 0;
}

/* What a battery says is the board's power only while it feeds the board. */
static int read_battery(const struct power_meter *meter, struct meter_rail *r, uint64_t *uw)
{
	char dir[SYSFS_PATH_MAX], status[32];

	memcpy(dir, r->rail.path[0], sizeof(dir));
	dir[path_base(dir) - dir - 1] = '\0';
	if (sysroot_read_at(meter->root, dir, "status", status, sizeof(status)) < 0 || strcmp(status, "Discharging") != 0)
		return -ENODATA;
	if (r->rail.path[1][0] == '\0')
		return read_file(meter, r, 0, uw);
	int rc = read_product(meter, r, uw);
	*uw = rc == 0 ? *uw / PW_PER_UW : 0;
	return rc;
}

static int read_rail(const struct power_meter *meter, struct meter_rail *r, uint64_t now_ns, uint64_t *uw)
{
	switch (r->rail.kind) {
	case RAIL_INA:
		return read_product(meter, r, uw); /* mV times mA */
	case RAIL_HWMON_POWER:
		return read_file(meter, r, 0, uw);
	case RAIL_RAPL:
		return read_rapl(meter, r, now_ns, uw);
	case RAIL_BATTERY:
		return read_battery(meter, r, uw);
	case RAIL_NONE:
		break;
	}
	return -ENODATA;
}

int power_meter_read(struct power_meter *meter, uint64_t now_ns, uint64_t *uw)
{
	uint64_t sum = 0;
	int worst = meter->rails ? 0 : -ENODATA;

	/* every rail is read even after an error: counters keep one interval */
	for (size_t i = 0; i < meter->rails; i++) {
		uint64_t one = 0;
		int rc = read_rail(meter, &meter->rail[i], now_ns, &one);
		if (rc < 0)
			worst = rc;
		else if (__builtin_add_overflow(sum, one, &sum))
			worst = -ERANGE;
	}
	if (worst == 0)
		*uw = sum;
	return worst;
}
