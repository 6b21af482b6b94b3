/* SPDX-License-Identifier: MIT */
#include "plant.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "../../common/file.h"
#include "../../estimator/sample.h"
#include "../sim/sim.h"

#define CPUFREQ   "sys/devices/system/cpu/cpufreq"
#define GPU       "sys/class/devfreq/17000000.gpu"
#define DMC       "sys/class/devfreq/dmc"
#define HWMON     "sys/class/hwmon/hwmon0"
#define POLICIES  2
#define SUPPLY_MV 5000

static void die(const char *what)
{
	fprintf(stderr, "vtime: %s: %s\n", what, strerror(errno));
	abort();
}

/* ---- latency and power ---- */

static void even_axis(struct grid *grid, int clock, size_t count, uint64_t low_hz, uint64_t high_hz)
{
	grid->count[clock] = count ? count : 1;
	for (size_t i = 0; i < count; i++)
		grid->hz[clock][i] = (low_hz + (high_hz - low_hz) * i / (count > 1 ? count - 1 : 1)) / 1000 * 1000;
}

/* Of dynamic power, C V^2 f with V linear in f, normalised to 1 at the top. */
static double phi(const struct grid *grid, int clock, uint64_t hz)
{
	uint64_t top = grid->hz[clock][grid->count[clock] - 1];
	double x = top ? (double)hz / (double)top : 1, volt = 0.6 + 0.4 * x;

	return x * volt * volt;
}

/* Shares of an Orin-like board; idle and busy, W at the top of each clock. */
static void fill_power(struct plant *plant)
{
	static const double idle_w[CLOCK_COUNT] = {1.0, 1.2, 1.6}, busy_w[CLOCK_COUNT] = {2.4, 6.5, 2.2};

	for (size_t i = 0; i < plant->grid.points; i++) {
		struct op_point at = grid_point(&plant->grid, i);
		plant->idle_uw[i] = plant->power_uw[i] = 2.5e6;
		for (int c = 0; c < CLOCK_COUNT; c++) {
			plant->idle_uw[i] += 1e6 * idle_w[c] * phi(&plant->grid, c, at.hz[c]);
			plant->power_uw[i] += 1e6 * (idle_w[c] + busy_w[c]) * phi(&plant->grid, c, at.hz[c]);
		}
	}
}

static struct sim_clocks clocks_of(const struct grid *grid, size_t point)
{
	struct op_point at = grid_point(grid, point);

	/* A missing clock is constant. */
	return (struct sim_clocks){at.hz[0] ? (double)at.hz[0] : 1e9, at.hz[1] ? (double)at.hz[1] : 1e9,
				   at.hz[2] ? (double)at.hz[2] : 1e9};
}

/* Scale all latencies, so that the fastest point has the one given. */
static void scale_latency(struct plant *plant, double fastest_ns)
{
	double factor = fastest_ns / plant_fastest_ns(plant, 0);

	for (int k = 0; k < PLANT_KNOTS; k++)
		for (size_t i = 0; i < plant->grid.points; i++)
			plant->latency_ns[k][i] *= factor;
}

void plant_generate(struct plant *plant, struct plant_shape shape, uint64_t seed)
{
	static struct sim_model model;
	struct sim_rng rng = {seed};

	memset(plant, 0, sizeof(*plant));
	even_axis(&plant->grid, CLOCK_CPU, shape.cpu, 115200000, 2201600000);
	even_axis(&plant->grid, CLOCK_GPU, shape.gpu, 306000000, 1300500000);
	even_axis(&plant->grid, CLOCK_MEM, shape.mem, 665600000, 3199000000);
	plant->grid.points = plant->grid.count[0] * plant->grid.count[1] * plant->grid.count[2];
	sim_random(&model, shape.decode ? SIM_DECODE : SIM_DNN, clocks_of(&plant->grid, plant->grid.points - 1), &rng);
	for (int k = 0; k < PLANT_KNOTS; k++) {
		plant->context[k] = 512.0 * k;
		for (size_t i = 0; i < plant->grid.points; i++)
			plant->latency_ns[k][i] = k == 0 || shape.decode ?
							  sim_run(&model, clocks_of(&plant->grid, i), plant->context[k],
								  NULL, NULL, NULL) :
							  plant->latency_ns[0][i];
	}
	scale_latency(plant, sim_log_uniform(&rng, 4e6, 60e6));
	fill_power(plant);
}

static void table_rows(struct plant *plant, const struct sample *rows, size_t count)
{
	uint64_t axis[CLOCK_COUNT][GRID_POINTS_MAX];
	const uint64_t *axes[CLOCK_COUNT] = {axis[0], axis[1], axis[2]};
	size_t counts[CLOCK_COUNT] = {count, count, count};

	for (size_t i = 0; i < count; i++)
		for (int c = 0; c < CLOCK_COUNT; c++)
			axis[c][i] = rows[i].point.hz[c];
	if (grid_init(&plant->grid, axes, counts))
		die("grid");
	for (size_t i = 0; i < count; i++)
		for (int k = 0; k < PLANT_KNOTS; k++)
			plant->latency_ns[k][grid_nearest(&plant->grid, rows[i].point)] = (double)rows[i].latency_ns;
}

bool plant_replay(struct plant *plant, const char *csv)
{
	CLEANUP_MEM char *text = NULL;
	CLEANUP_MEM struct sample *rows = NULL;
	char message[256];
	size_t count = 0;

	memset(plant, 0, sizeof(*plant));
	if (file_read(csv, 1 << 20, &text, NULL))
		return false;
	if (samples_parse(text, false, &rows, &count, message, sizeof(message), NULL, NULL))
		die(message);
	table_rows(plant, rows, count);
	for (int k = 0; k < PLANT_KNOTS; k++)
		plant->context[k] = 512.0 * k;
	fill_power(plant);
	return true;
}

double plant_latency_ns(const struct plant *plant, size_t point, double context)
{
	int k = context >= plant->context[1] ? 1 : 0;
	double share = (context - plant->context[k]) / (plant->context[k + 1] - plant->context[k]);

	return plant->latency_ns[k][point] + share * (plant->latency_ns[k + 1][point] - plant->latency_ns[k][point]);
}

double plant_fastest_ns(const struct plant *plant, double context)
{
	double least = INFINITY;

	for (size_t i = 0; i < plant->grid.points; i++)
		least = fmin(least, plant_latency_ns(plant, i, context));
	return least;
}

/* ---- the tree ---- */

static void full_path(const struct plant *plant, const char *path, char out[800])
{
	snprintf(out, 800, "%s/%s", plant->root, path);
}

void plant_write(const struct plant *plant, const char *path, const char *text)
{
	char full[800];

	full_path(plant, path, full);
	FILE *file = fopen(full, "we");
	if (!file || fputs(text, file) < 0 || fclose(file))
		die(full);
}

void plant_read(const struct plant *plant, const char *path, char *text, size_t size)
{
	char full[800];

	full_path(plant, path, full);
	if (file_read_text(-1, full, text, size) < 0)
		text[0] = '\0';
}

__attribute__((format(printf, 4, 5))) static void add(const struct plant *plant, const char *dir, const char *name,
						      const char *format, ...)
{
	char path[800], text[2048];
	va_list args;

	snprintf(path, sizeof(path), "%s/%s", plant->root, dir);
	if (dir_make(path, 0755))
		die(path);
	va_start(args, format);
	vsnprintf(text, sizeof(text) - 1, format, args);
	va_end(args);
	strcat(text, "\n");
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	plant_write(plant, path, text);
}

static void table_text(const struct grid *grid, int clock, uint64_t unit, char *text, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < grid->count[clock]; i++)
		len += (size_t)snprintf(text + len, size - len, "%s%llu", i ? " " : "",
					(unsigned long long)(grid->hz[clock][i] / unit));
}

static void build_policy(const struct plant *plant, int policy)
{
	const uint64_t *hz = plant->grid.hz[CLOCK_CPU];
	unsigned long long low = hz[0] / 1000, high = hz[plant->grid.count[CLOCK_CPU] - 1] / 1000;
	char dir[200], table[2048];

	snprintf(dir, sizeof(dir), CPUFREQ "/policy%d", 4 * policy);
	table_text(&plant->grid, CLOCK_CPU, 1000, table, sizeof(table));
	add(plant, dir, "scaling_available_frequencies", "%s", table);
	add(plant, dir, "affected_cpus", "%d %d %d %d", 4 * policy, 4 * policy + 1, 4 * policy + 2, 4 * policy + 3);
	add(plant, dir, "cpuinfo_min_freq", "%llu", low);
	add(plant, dir, "cpuinfo_max_freq", "%llu", high);
	add(plant, dir, "scaling_min_freq", "%llu", low);
	add(plant, dir, "scaling_max_freq", "%llu", high);
	add(plant, dir, "scaling_cur_freq", "%llu", high);
	add(plant, dir, "scaling_governor", "schedutil");
	add(plant, dir, "scaling_available_governors", "userspace performance schedutil");
	add(plant, dir, "scaling_setspeed", "<unsupported>");
}

static void build_devfreq(const struct plant *plant, int clock, const char *dir, const char *governor)
{
	const uint64_t *hz = plant->grid.hz[clock];
	unsigned long long low = hz[0], high = hz[plant->grid.count[clock] - 1];
	char table[2048];

	table_text(&plant->grid, clock, 1, table, sizeof(table));
	add(plant, dir, "available_frequencies", "%s", table);
	add(plant, dir, "min_freq", "%llu", low);
	add(plant, dir, "max_freq", "%llu", high);
	add(plant, dir, "cur_freq", "%llu", high);
	add(plant, dir, "governor", "%s", governor);
	add(plant, dir, "available_governors", "userspace performance %s", governor);
}

static bool has(const struct plant *plant, int clock)
{
	return plant->grid.hz[clock][0] != 0;
}

void plant_build(struct plant *plant, const char *root, bool sensor)
{
	snprintf(plant->root, sizeof(plant->root), "%s", root);
	plant->sensor = sensor;
	add(plant, "proc/device-tree", "model", "A board of plain files");
	add(plant, "sys/class/thermal/thermal_zone0", "type", "cpu-thermal");
	add(plant, "sys/class/thermal/thermal_zone0", "temp", "45000");
	add(plant, "sys/class/thermal/cooling_device0", "type", "cpufreq-cpu0");
	add(plant, "sys/class/thermal/cooling_device0", "cur_state", "0");
	for (int policy = 0; has(plant, CLOCK_CPU) && policy < POLICIES; policy++)
		build_policy(plant, policy);
	if (has(plant, CLOCK_GPU))
		build_devfreq(plant, CLOCK_GPU, GPU, "nvhost_podgov");
	if (has(plant, CLOCK_MEM))
		build_devfreq(plant, CLOCK_MEM, DMC, "dmc_ondemand");
	if (!sensor)
		return;
	add(plant, HWMON, "name", "ina3221");
	add(plant, HWMON, "in1_label", "VDD_IN");
	add(plant, HWMON, "in1_input", "%d", SUPPLY_MV);
	add(plant, HWMON, "curr1_input", "1000");
}

void plant_sense(const struct plant *plant, double power_uw)
{
	char text[32];

	if (!plant->sensor)
		return;
	snprintf(text, sizeof(text), "%.0f\n", power_uw / SUPPLY_MV);
	plant_write(plant, HWMON "/curr1_input", power_uw > 0 ? text : "");
}

static uint64_t pinned_hz(const struct plant *plant, const char *max_file, uint64_t unit)
{
	char text[64];

	plant_read(plant, max_file, text, sizeof(text));
	return strtoull(text, NULL, 10) * unit;
}

size_t plant_point(const struct plant *plant)
{
	struct op_point at = {{0}};

	if (has(plant, CLOCK_CPU))
		at.hz[CLOCK_CPU] = pinned_hz(plant, CPUFREQ "/policy0/scaling_max_freq", 1000);
	if (has(plant, CLOCK_GPU))
		at.hz[CLOCK_GPU] = pinned_hz(plant, GPU "/max_freq", 1);
	if (has(plant, CLOCK_MEM))
		at.hz[CLOCK_MEM] = pinned_hz(plant, DMC "/max_freq", 1);
	return grid_nearest(&plant->grid, at);
}

void plant_knobs(const struct plant *plant, char *text, size_t size)
{
	static const char *const files[] = {
		CPUFREQ "/policy0/scaling_min_freq",
		CPUFREQ "/policy0/scaling_max_freq",
		CPUFREQ "/policy0/scaling_governor",
		CPUFREQ "/policy4/scaling_min_freq",
		CPUFREQ "/policy4/scaling_max_freq",
		CPUFREQ "/policy4/scaling_governor",
		GPU "/min_freq",
		GPU "/max_freq",
		GPU "/governor",
		DMC "/min_freq",
		DMC "/max_freq",
		DMC "/governor",
	};
	size_t len = 0;

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char value[64];
		plant_read(plant, files[i], value, sizeof(value));
		len += (size_t)snprintf(text + len, size - len, "%s=%s\n", files[i], value);
	}
}
