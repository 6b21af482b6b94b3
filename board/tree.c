/* SPDX-License-Identifier: MIT */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include "../common/file.h"
#include "page.h"

#define HWMON_DEVICE "/sys/devices/platform/bus@0/c240000.i2c/i2c-1/1-0040"
#define BPMP_EMC_DIR "/sys/kernel/debug/bpmp/debug/emc" /* next to clk/emc; readable by root only */
#define HWMON_DIR    HWMON_DEVICE "/hwmon/hwmon1"

/* The modification time of a knob that the board wrote last. An inotify event does not say who wrote, events of several
 * writes are merged, and two writers may leave the same text. */
#define OWN_STAMP ((struct timespec){0})

/* A tree being built: stops at the first error. */
struct builder {
	struct tree *tree;
	int error;
	char *message;
};

static void failed(struct builder *b, int error, const char *path)
{
	if (b->error == 0)
		snprintf(b->message, SPEC_MESSAGE_MAX, "%.160s: %s", path, strerror(-error));
	b->error = b->error ? b->error : error;
}

static bool below(struct builder *b, char *out, const char *dir, const char *name)
{
	if (snprintf(out, SYSFS_PATH_MAX, "%s%s%s%s", b->tree->dir, dir, name[0] ? "/" : "", name) < SYSFS_PATH_MAX)
		return b->error == 0;
	failed(b, -ENAMETOOLONG, dir);
	return false;
}

static void add_dir(struct builder *b, const char *dir)
{
	char path[SYSFS_PATH_MAX];
	int rc;

	if (!below(b, path, dir, ""))
		return;
	rc = dir_make(path, 0755);
	if (rc)
		failed(b, rc, path);
}

static void add_bytes(struct builder *b, const char *dir, const char *name, const char *data, size_t len)
{
	char path[SYSFS_PATH_MAX];

	if (!below(b, path, dir, name))
		return;
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		failed(b, -errno, path);
	else if (write(fd, data, len) != (ssize_t)len)
		failed(b, -EIO, path);
}

__attribute__((format(printf, 4, 5))) static void add(struct builder *b, const char *dir, const char *name,
						      const char *format, ...)
{
	char text[2048];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text, sizeof(text) - 1, format, args);
	va_end(args);
	if (len < 0 || (size_t)len >= sizeof(text) - 1) {
		failed(b, -E2BIG, name);
		return;
	}
	text[len++] = '\n';
	add_bytes(b, dir, name, text, (size_t)len);
}

/* An animated file: written and kept open. */
static int add_live(struct builder *b, const char *dir, const char *name, uint64_t value)
{
	char path[SYSFS_PATH_MAX];
	int fd;

	add(b, dir, name, "%llu", (unsigned long long)value);
	if (!below(b, path, dir, name))
		return -1;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		failed(b, -errno, path);
	return fd;
}

/* Relative link `at` (a path in the tree) to another path in the tree. */
static void add_link(struct builder *b, const char *at, const char *to)
{
	char path[SYSFS_PATH_MAX], target[SYSFS_PATH_MAX] = "";
	size_t len = 0;

	if (!below(b, path, at, ""))
		return;
	for (const char *slash = strchr(at + 1, '/'); slash; slash = strchr(slash + 1, '/'))
		len += (size_t)snprintf(target + len, sizeof(target) - len, "../");
	snprintf(target + len, sizeof(target) - len, "%s", to + 1);
	if ((unlink(path) && errno != ENOENT) || symlink(target, path))
		failed(b, -errno, path);
}

static void remember(struct knob_file *knob, const char *text, struct timespec at)
{
	snprintf(knob->seen, sizeof(knob->seen), "%s", text);
	knob->seen_at = at;
}

/* Empty first: a write by another program as soon as the file exists differs from that, and is not lost. */
static void add_knob(struct builder *b, size_t index, enum board_knob knob, const char *dir, const char *name,
		     const struct board_clock *device)
{
	struct tree *tree = b->tree;
	struct knob_file *file = &tree->knob[tree->knobs];
	struct stat st = {0};

	if (!below(b, file->path, dir, name))
		return;
	file->device = index;
	file->knob = knob;
	file->watch = file->lease_fd = -1;
	add_bytes(b, dir, name, "", 0);
	if (stat(file->path, &st) < 0)
		failed(b, -errno, file->path);
	remember(file, "", st.st_mtim);
	tree_show_knob(file, device);
	tree->knobs++;
}

/* Table entries in the file's unit and order. */
static const char *table_text(const struct spec_clock *clock, char *buf, size_t size)
{
	uint64_t unit = clock->kind == SPEC_CPUFREQ ? 1000 : 1;
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < clock->count && len < size; i++) {
		size_t at = clock->descending ? clock->count - 1 - i : i;

		len += (size_t)snprintf(buf + len, size - len, "%llu%s", (unsigned long long)(clock->hz[at] / unit),
					i + 1 < clock->count ? " " : "");
	}
	return buf;
}

static void cpu_links(struct builder *b, const struct spec_clock *clock)
{
	char path[SYSFS_PATH_MAX];

	for (unsigned cpu = clock->cpu_first; cpu <= clock->cpu_last; cpu++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u", cpu);
		add_dir(b, path);
		if (cpu > 0)
			add(b, path, "online", "1");
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/cpufreq", cpu);
		add_link(b, path, clock->dir);
	}
}

static void add_cpufreq(struct builder *b, size_t index, const struct board_clock *device)
{
	const struct spec_clock *clock = device->spec;
	const char *dir = clock->dir;
	char text[2048];
	size_t len = 0;

	add_dir(b, dir);
	for (unsigned cpu = clock->cpu_first; cpu <= clock->cpu_last && len < sizeof(text); cpu++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u", len ? " " : "", cpu);
	add(b, dir, "affected_cpus", "%s", text);
	add(b, dir, "related_cpus", "%s", text);
	add(b, dir, "cpuinfo_min_freq", "%llu", (unsigned long long)(clock->hz[0] / 1000));
	add(b, dir, "cpuinfo_max_freq", "%llu", (unsigned long long)(clock->hz[clock->count - 1] / 1000));
	add(b, dir, "cpuinfo_transition_latency", "%llu", (unsigned long long)clock->settle_ns[0]);
	add(b, dir, "scaling_available_frequencies", "%s", table_text(clock, text, sizeof(text)));
	add(b, dir, "scaling_available_governors", "%s", clock->governors);
	add(b, dir, "scaling_driver", "%s", strstr(b->tree->spec->compatible, "nvidia") ? "tegra194" : "cpufreq-dt");
	add_knob(b, index, KNOB_MIN, dir, "scaling_min_freq", device);
	add_knob(b, index, KNOB_MAX, dir, "scaling_max_freq", device);
	add_knob(b, index, KNOB_GOVERNOR, dir, "scaling_governor", device);
	add_knob(b, index, KNOB_SET, dir, "scaling_setspeed", device);
	b->tree->cur_fd[index][0] = add_live(b, dir, "scaling_cur_freq", device->cur_hz / 1000);
	b->tree->cur_fd[index][1] = add_live(b, dir, "cpuinfo_cur_freq", device->cur_hz / 1000);
	cpu_links(b, clock);
}

static void devfreq_dir(const struct spec_clock *clock, char *buf, size_t size)
{
	snprintf(buf, size, "%s/devfreq/%s", clock->dir, clock->name);
}

static void add_devfreq(struct builder *b, size_t index, const struct board_clock *device)
{
	const struct spec_clock *clock = device->spec;
	char dir[SYSFS_PATH_MAX], link[SYSFS_PATH_MAX], text[2048];

	devfreq_dir(clock, dir, sizeof(dir));
	add_dir(b, dir);
	add(b, dir, "name", "%s", clock->name);
	add(b, dir, "available_frequencies", "%s", table_text(clock, text, sizeof(text)));
	add(b, dir, "available_governors", "%s", clock->governors);
	add(b, dir, "polling_interval", "50");
	add(b, dir, "timer", "deferrable");
	add_knob(b, index, KNOB_MIN, dir, "min_freq", device);
	add_knob(b, index, KNOB_MAX, dir, "max_freq", device);
	add_knob(b, index, KNOB_GOVERNOR, dir, "governor", device);
	b->tree->cur_fd[index][0] = add_live(b, dir, "cur_freq", device->cur_hz);
	b->tree->cur_fd[index][1] = add_live(b, dir, "target_freq", device->target_hz);
	if (clock->id == CLOCK_GPU)
		b->tree->load_fd[index] = add_live(b, clock->dir, "load", 0);
	snprintf(link, sizeof(link), "%.440s/device", dir);
	add_link(b, link, clock->dir);
	add_dir(b, "/sys/class/devfreq");
	snprintf(link, sizeof(link), "/sys/class/devfreq/%s", clock->name);
	add_link(b, link, dir);
}

static void add_bpmp(struct builder *b, size_t index, const struct board_clock *device)
{
	const struct spec_clock *clock = device->spec;
	char text[GRID_AXIS_MAX * 16] = "";
	size_t len = 0;

	add_dir(b, clock->dir);
	add_knob(b, index, KNOB_LOCK, clock->dir, "mrq_rate_locked", device);
	add_knob(b, index, KNOB_RATE, clock->dir, "rate", device);
	add(b, clock->dir, "min_rate", "%llu", (unsigned long long)clock->hz[0]);
	add(b, clock->dir, "max_rate", "%llu", (unsigned long long)clock->hz[clock->count - 1]);
	add(b, clock->dir, "state", "1");
	for (size_t i = 0; i < clock->count; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%llu ",
					(unsigned long long)(clock->hz[i] / 1000));
	add_dir(b, BPMP_EMC_DIR);
	add(b, BPMP_EMC_DIR, "possible_rates", "%s(kHz)", text);
}

/* Two INA3221-like chips would be two hwmon directories; one is enough here. hwmon0 is a fan, so that no program relies
 * on an index. */
static void add_hwmon(struct builder *b)
{
	const struct spec *spec = b->tree->spec;
	char name[32];

	if (spec->rails == 0)
		return;
	add_dir(b, "/sys/devices/platform/pwm-fan/hwmon/hwmon0");
	add(b, "/sys/devices/platform/pwm-fan/hwmon/hwmon0", "name", "pwmfan");
	add_dir(b, HWMON_DIR);
	add_dir(b, "/sys/class/hwmon");
	add_link(b, "/sys/class/hwmon/hwmon0", "/sys/devices/platform/pwm-fan/hwmon/hwmon0");
	add_link(b, "/sys/class/hwmon/hwmon1", HWMON_DIR);
	add_link(b, HWMON_DIR "/device", HWMON_DEVICE);
	add(b, HWMON_DIR, "name", "ina3221");
	for (size_t i = 0; i < spec->rails; i++) {
		snprintf(name, sizeof(name), "in%zu_label", i + 1);
		add(b, HWMON_DIR, name, "%s", spec->rail[i].label);
		snprintf(name, sizeof(name), "curr%zu_crit", i + 1);
		add(b, HWMON_DIR, name, "32760");
		snprintf(name, sizeof(name), "in%zu_input", i + 1);
		b->tree->rail_fd[i][0] = add_live(b, HWMON_DIR, name, (uint64_t)spec->rail[i].mv);
		snprintf(name, sizeof(name), "curr%zu_input", i + 1);
		b->tree->rail_fd[i][1] = add_live(b, HWMON_DIR, name, 0);
	}
	if (spec->sum_mv > 0) {
		add(b, HWMON_DIR, "in7_label", "sum of shunt voltages");
		add(b, HWMON_DIR, "in7_input", "%.0f", spec->sum_mv);
	}
}

/* As the kernel names them: after the first processor of a policy, and after a devfreq device. */
static void add_cooling(struct builder *b, size_t index)
{
	const struct spec_clock *clock = &b->tree->spec->clock[index];
	char dir[96], link[96];

	if (clock->id == CLOCK_MEM)
		return;
	snprintf(dir, sizeof(dir), "/sys/devices/virtual/thermal/cooling_device%zu", index);
	snprintf(link, sizeof(link), "/sys/class/thermal/cooling_device%zu", index);
	add_dir(b, dir);
	if (clock->id == CLOCK_CPU)
		add(b, dir, "type", "cpufreq-cpu%u", clock->cpu_first);
	else
		add(b, dir, "type", "devfreq-%s", clock->name);
	b->tree->cooling_fd[index] = add_live(b, dir, "cur_state", 0);
	add_link(b, link, dir);
}

static void add_thermal(struct builder *b)
{
	const struct spec *spec = b->tree->spec;
	char dir[96], link[96];

	if (spec->zones > 0)
		add_dir(b, "/sys/class/thermal");
	if (spec->throttle_c > 0) {
		add_dir(b, "/sys/class/thermal");
		for (size_t i = 0; i < spec->clocks; i++)
			add_cooling(b, i);
	}
	for (size_t i = 0; i < spec->zones; i++) {
		snprintf(dir, sizeof(dir), "/sys/devices/virtual/thermal/thermal_zone%zu", i);
		snprintf(link, sizeof(link), "/sys/class/thermal/thermal_zone%zu", i);
		add_dir(b, dir);
		add(b, dir, "type", "%s", spec->zone[i]);
		add(b, dir, "mode", "enabled");
		b->tree->zone_fd[i] = add_live(b, dir, "temp", (uint64_t)(spec->ambient_c * 1000));
		add_link(b, link, dir);
	}
}

static void add_identity(struct builder *b)
{
	const struct spec *spec = b->tree->spec;
	unsigned char r[16] = {0};
	char text[128];

	add_dir(b, "/sys/firmware/devicetree/base");
	add_bytes(b, "/sys/firmware/devicetree/base", "model", spec->model, strlen(spec->model) + 1);
	add_bytes(b, "/sys/firmware/devicetree/base", "compatible", spec->compatible, strlen(spec->compatible) + 1);
	add_dir(b, "/proc/sys/kernel/random");
	add_link(b, "/proc/device-tree", "/sys/firmware/devicetree/base");
	if (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
		failed(b, -EIO, "getrandom");
	snprintf(text, sizeof(text), "%02x%02x%02x%02x-%02x%02x-4%01x%02x-8%01x%02x-%02x%02x%02x%02x%02x%02x", r[0],
		 r[1], r[2], r[3], r[4], r[5], r[6] & 15U, r[7], r[8] & 15U, r[9], r[10], r[11], r[12], r[13], r[14],
		 r[15]);
	add(b, "/proc/sys/kernel/random", "boot_id", "%s", text);
	if (spec->power_mode[0]) {
		add_dir(b, "/var/lib/nvpmodel");
		add(b, "/var/lib/nvpmodel", "status", "pmode:%s", spec->power_mode);
	}
}

static void add_extras(struct builder *b)
{
	const struct spec *spec = b->tree->spec;

	for (size_t i = 0; i < spec->extras; i++) {
		char dir[160];
		char *slash;

		memcpy(dir, spec->extra[i].path, sizeof(dir));
		slash = strrchr(dir, '/');
		*slash = '\0';
		add_dir(b, dir);
		add(b, dir, slash + 1, "%s", spec->extra[i].text);
	}
}

static void add_cpus(struct builder *b)
{
	unsigned last = 0;

	for (size_t i = 0; i < b->tree->spec->clocks; i++)
		if (b->tree->spec->clock[i].id == CLOCK_CPU && b->tree->spec->clock[i].cpu_last > last)
			last = b->tree->spec->clock[i].cpu_last;
	add_dir(b, "/sys/devices/system/cpu/cpufreq");
	add(b, "/sys/devices/system/cpu", "possible", "0-%u", last);
	add(b, "/sys/devices/system/cpu", "present", "0-%u", last);
	add(b, "/sys/devices/system/cpu", "online", "0-%u", last);
}

/* Never write into a real root, or into a sys or proc that is not a board's. */
int tree_check(const char *dir, char *message)
{
	static const char *const ours[] = {"/sys", "/proc"};
	struct tree tree = {.dir = dir};
	struct builder b = {.tree = &tree, .message = message};
	char path[SYSFS_PATH_MAX];
	struct stat st;

	if (!below(&b, path, "", PAGE_NAME) || lstat(path, &st) == 0)
		return b.error;
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (below(&b, path, ours[i], "") && lstat(path, &st) == 0)
			failed(&b, -EEXIST, path);
	return b.error;
}

static void no_files(struct tree *tree)
{
	memset(tree->cur_fd, 0xff, sizeof(tree->cur_fd));
	memset(tree->load_fd, 0xff, sizeof(tree->load_fd));
	memset(tree->rail_fd, 0xff, sizeof(tree->rail_fd));
	memset(tree->zone_fd, 0xff, sizeof(tree->zone_fd));
	memset(tree->cooling_fd, -1, sizeof(tree->cooling_fd));
}

int tree_build(struct tree *tree, const struct spec *spec, const char *dir, const struct board_clock *devices,
	       char *message)
{
	struct builder b = {.tree = tree, .message = message};

	memset(tree, 0, sizeof(*tree));
	tree->spec = spec;
	tree->dir = dir;
	no_files(tree);
	add_identity(&b);
	add_cpus(&b);
	for (size_t i = 0; i < spec->clocks; i++) {
		if (spec->clock[i].kind == SPEC_CPUFREQ)
			add_cpufreq(&b, i, &devices[i]);
		else if (spec->clock[i].kind == SPEC_DEVFREQ)
			add_devfreq(&b, i, &devices[i]);
		else
			add_bpmp(&b, i, &devices[i]);
	}
	add_hwmon(&b);
	add_thermal(&b);
	add_extras(&b);
	return b.error;
}

static void close_fds(int *fd, size_t count)
{
	for (size_t i = 0; i < count; i++)
		cleanup_fd(&fd[i]);
}

void tree_close(struct tree *tree)
{
	if (!tree->spec)
		return; /* never built */
	for (size_t i = 0; i < tree->knobs; i++)
		cleanup_fd(&tree->knob[i].lease_fd);
	close_fds(&tree->cur_fd[0][0], 2 * SPEC_CLOCKS_MAX);
	close_fds(tree->load_fd, SPEC_CLOCKS_MAX);
	close_fds(&tree->rail_fd[0][0], 2 * SPEC_RAILS_MAX);
	close_fds(tree->zone_fd, SPEC_ZONES_MAX);
	close_fds(tree->cooling_fd, SPEC_CLOCKS_MAX);
}

/* Replace a file's text in place, so that descriptors that others hold stay
 * good and a reader at any moment sees the old text or the new one, at worst
 * with more newlines at its end. */
static void show(int fd, const char *value)
{
	char text[64];
	struct stat st;
	int len = snprintf(text, sizeof(text), "%s\n", value);
	size_t size = (size_t)len;

	if (fd < 0 || fstat(fd, &st))
		return;
	while (size < (size_t)st.st_size && size < sizeof(text))
		text[size++] = '\n';
	if (pwrite(fd, text, size, 0) == (ssize_t)size && size > (size_t)len && ftruncate(fd, len))
		return;
}

static void show_u64(int fd, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	show(fd, text);
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Another program wrote a value that the device has not taken yet: its event is to come. */
static bool untaken(const struct knob_file *knob, const char *have, const struct stat *st)
{
	return strcmp(have, knob->seen) != 0 || !same_time(st->st_mtim, knob->seen_at);
}

bool tree_take(struct knob_file *knob, char *text, size_t size)
{
	struct stat st = {0};

	/* in this order: a write after the first has an event to come */
	if (stat(knob->path, &st) == 0 && same_time(st.st_mtim, OWN_STAMP))
		return false;
	if (file_read_text(AT_FDCWD, knob->path, text, size) < 0)
		text[0] = '\0';
	if (!untaken(knob, text, &st))
		return false;
	remember(knob, text, st.st_mtim);
	return true;
}

/* Write the device's value to the file. The file is read again under a lease, which blocks every other writer, so
 * that a value that another program wrote just before is not lost. A file that another program has open is written
 * later. */
void tree_show_knob(struct knob_file *knob, const struct board_clock *device)
{
	static const struct timespec stamp[2] = {{.tv_nsec = UTIME_OMIT}, OWN_STAMP};
	char want[64], have[KNOB_VALUE_MAX];
	struct stat st;

	knob->stale = false;
	board_clock_read(device, knob->knob, want, sizeof(want));
	if (file_read_text(AT_FDCWD, knob->path, have, sizeof(have)) >= 0 &&
	    (strcmp(want, have) == 0 || strcmp(have, knob->seen) != 0))
		return;              /* as it should be, or written a moment ago */
	cleanup_fd(&knob->lease_fd); /* or our own open would wait for it */
	knob->lease_fd = -1;
	CLEANUP_FD int fd = open(knob->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (fcntl(fd, F_SETSIG, LEASE_SIGNAL) < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0) {
		knob->stale = errno == EAGAIN;
		if (knob->stale)
			return;
	}
	ssize_t n = pread(fd, have, sizeof(have) - 1, 0);
	have[n > 0 ? n : 0] = '\0';
	have[strcspn(have, "\n")] = '\0';
	if (fstat(fd, &st) < 0 || untaken(knob, have, &st))
		return;
	show(fd, want);
	if (futimens(fd, stamp) == 0)
		remember(knob, want, stamp[1]);
}

bool tree_userspace(struct tree *tree, size_t index, const struct board_clock *device)
{
	char dir[SYSFS_PATH_MAX], path[SYSFS_PATH_MAX], message[SPEC_MESSAGE_MAX];
	struct builder b = {.tree = tree, .message = message};
	bool wanted = strcmp(device->governor, "userspace") == 0;
	size_t at = 0;

	if (device->spec->kind != SPEC_DEVFREQ)
		return false;
	while (at < tree->knobs && (tree->knob[at].device != index || tree->knob[at].knob != KNOB_SET))
		at++;
	if (wanted == (at < tree->knobs))
		return false;
	devfreq_dir(device->spec, path, sizeof(path));
	snprintf(dir, sizeof(dir), "%.490s/userspace", path);
	if (wanted && tree->knobs < TREE_KNOBS_MAX) {
		add_dir(&b, dir);
		add_knob(&b, index, KNOB_SET, dir, "set_freq", device);
		return b.error == 0;
	}
	if (!wanted) {
		unlink(tree->knob[at].path);
		if (below(&b, path, dir, ""))
			rmdir(path);
		cleanup_fd(&tree->knob[at].lease_fd);
		tree->knob[at] = tree->knob[--tree->knobs];
	}
	return false;
}

void tree_show_clock(struct tree *tree, size_t index, const struct board_clock *device)
{
	uint64_t unit = device->spec->kind == SPEC_CPUFREQ ? 1000 : 1;
	uint64_t second = device->spec->kind == SPEC_CPUFREQ ? device->cur_hz : device->target_hz;

	show_u64(tree->cur_fd[index][0], device->cur_hz / unit);
	show_u64(tree->cur_fd[index][1], second / unit);
}

void tree_show_cooling(struct tree *tree, uint64_t state)
{
	for (size_t i = 0; i < SPEC_CLOCKS_MAX; i++)
		if (tree->cooling_fd[i] >= 0)
			show_u64(tree->cooling_fd[i], state);
}

void tree_show_power(struct tree *tree, struct power *power)
{
	const struct spec *spec = tree->spec;

	for (size_t i = 0; i < spec->rails; i++)
		show_u64(tree->rail_fd[i][1], (uint64_t)llround(power_rail_ma(power, &spec->rail[i])));
	for (size_t i = 0; i < spec->zones; i++)
		show_u64(tree->zone_fd[i],
			 (uint64_t)llround((power->celsius - 0.4 * (double)(spec->zones - 1 - i)) * 1000));
	for (size_t i = 0; i < spec->clocks; i++)
		show_u64(tree->load_fd[i], (uint64_t)llround(power->busy[spec->clock[i].id] * 1000));
}
