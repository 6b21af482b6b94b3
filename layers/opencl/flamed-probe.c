/* SPDX-License-Identifier: MIT */
/* flamed-probe: measure a board in a minute, without a model. flamed moves the clocks, as for any
 * client that profiles; without flamed, or without controllable clocks, only the current operating
 * point is measured. */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../lib/flamed.h"
#include "../../lib/wire.h"
#include "../../common/clock.h"
#include "../../common/point.h"
#include "../../common/units.h"
#include "work.h"

#define POINTS_MAX    64
#define BUDGET        12
#define ROUNDS_MAX    65536
#define ROUNDS_MIN    5 /* at each point */
#define KERNEL_NS     (2 * NS_PER_MS)
#define STAY_NS       (1500 * NS_PER_MS) /* at each point */
#define IDLE_NS       (2 * NS_PER_S)
#define IDLE_STAY_NS  (700 * NS_PER_MS) /* at each point, of which the sensor's averaging */
#define IDLE_SKIP_NS  (300 * NS_PER_MS) /* may include the previous work for this long */
#define WAIT_NS       (60 * NS_PER_S)
#define CLOSE_TO      0.10             /* fraction of the final value: settled */
#define MOVED         1.25             /* no settle time is derived from a smaller change of a clock */
#define SETTLE_NS_MAX (50 * NS_PER_MS) /* a longer time is a round that was delayed, not a settle time */
#define PROBE_MODEL   "flamed-probe"
#define LAUNCHES      50 /* in one round, like an inference */

enum figure { FIGURE_LAUNCH, FIGURE_COMPUTE, FIGURE_BANDWIDTH, FIGURE_COUNT };
static const char *const clock_names[FIGURE_COUNT] = {"cpu", "gpu", "mem"};
static const char *const figure_names[FIGURE_COUNT] = {"launch of a kernel", "compute-bound kernel",
						       "bandwidth-bound kernel"};

struct point {
	uint64_t hz[FIGURE_COUNT];
	double ns[FIGURE_COUNT];
	double busy_uw, idle_uw;
};

struct probe {
	const char *socket, *output;
	struct probe_work *work;
	struct wire wire;
	bool connected;
	char board[96];
	bool controllable[FIGURE_COUNT];
	char why_not[FIGURE_COUNT][192];
	double idle_uw;
	struct point point[POINTS_MAX];
	size_t points;
	double settle_ns[FIGURE_COUNT];
	unsigned settled[FIGURE_COUNT];
	/* keeps the device busy: */
	pthread_t thread;
	atomic_bool stop;
	struct work_round *rounds;
	atomic_size_t round_count;
};

static void *keep_busy(void *arg)
{
	struct probe *probe = arg;
	size_t i = 0;

	while (!atomic_load(&probe->stop) && i < ROUNDS_MAX && work_run(probe->work, &probe->rounds[i]) == CL_SUCCESS)
		atomic_store(&probe->round_count, ++i);
	return NULL;
}

static int start_busy(struct probe *probe)
{
	atomic_store(&probe->stop, false);
	atomic_store(&probe->round_count, 0);
	return -pthread_create(&probe->thread, NULL, keep_busy, probe);
}

static void stop_busy(struct probe *probe)
{
	atomic_store(&probe->stop, true);
	pthread_join(probe->thread, NULL);
}

static double figure_of(const struct work_round *round, enum figure figure)
{
	return (double)(figure == FIGURE_LAUNCH  ? round->launch_ns :
			figure == FIGURE_COMPUTE ? round->compute_ns :
						   round->bandwidth_ns);
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Median of a figure over rounds [from, to). */
static double median(const struct probe *probe, enum figure figure, size_t from, size_t to)
{
	size_t n = to > from ? to - from : 0;
	double *value = n ? calloc(n, sizeof(*value)) : NULL, result = 0;

	for (size_t i = 0; value && i < n; i++)
		value[i] = figure_of(&probe->rounds[from + i], figure);
	if (value) {
		qsort(value, n, sizeof(*value), by_value);
		result = value[n / 2];
	}
	free(value);
	return result;
}

static bool ask_status(struct probe *probe)
{
	struct kv_out out = {0};
	int rc;

	if (!probe->connected)
		return false;
	kv_add(&out, "op", "status");
	kv_end(&out);
	rc = wire_call(&probe->wire, &out, WAIT_NS);
	kv_free(&out);
	return rc == 0;
}

static double power_uw(struct probe *probe)
{
	return ask_status(probe) ? (double)wire_u64(&probe->wire, "power.uw", 0) : 0;
}

/* Mean power over `ns`; 0: no sensor. */
static double mean_power(struct probe *probe, uint64_t ns)
{
	uint64_t until_ns = clock_now_ns() + ns;
	double sum = 0;
	unsigned n = 0;

	while (clock_now_ns() < until_ns) {
		sum += power_uw(probe);
		n++;
		clock_sleep_ns(50 * NS_PER_MS);
	}
	return n ? sum / n : 0;
}

static void connect_flamed(struct probe *probe)
{
	char key[48];
	int rc;

	wire_init(&probe->wire);
	rc = wire_connect(&probe->wire, probe->socket);
	probe->connected = rc == 0;
	if (rc < 0)
		printf("flamed is not running (%s: %s): clocks are not changed\n", probe->socket, strerror(-rc));
	if (!ask_status(probe))
		return;
	snprintf(probe->board, sizeof(probe->board), "%s",
		 kv_get(&probe->wire.reply, "board.name") ? kv_get(&probe->wire.reply, "board.name") : "");
	printf("board: %s\n", probe->board);
	for (int c = 0; c < FIGURE_COUNT; c++) {
		const char *why;

		snprintf(key, sizeof(key), "clock.%s.controllable", clock_names[c]);
		probe->controllable[c] = wire_u64(&probe->wire, key, 0) == 1;
		snprintf(key, sizeof(key), "clock.%s.why_not", clock_names[c]);
		why = kv_get(&probe->wire.reply, key);
		if (!probe->controllable[c])
			printf("%s clock: not controllable%s%s\n", clock_names[c], why && *why ? ": " : "",
			       why ? why : "");
	}
}

/* Does the figure still differ from its final value, as before the clock changed by 1/ratio? */
static bool is_away(const struct work_round *round, enum figure figure, double last, double ratio)
{
	double value = figure_of(round, figure);

	return ratio > 1 ? value < last * (1 - CLOSE_TO) : value > last * (1 + CLOSE_TO);
}

/* The clock was changed after `from` ns: its settle time lasts until the figure was last away from
 * its final value. */
static void note_settle(struct probe *probe, const struct point *before, const struct point *after, uint64_t from_ns)
{
	size_t count = atomic_load(&probe->round_count), tail = count - count / 4;

	for (enum figure f = 0; f < FIGURE_COUNT; f++) {
		double ratio = before->hz[f] && after->hz[f] ? (double)before->hz[f] / (double)after->hz[f] : 1,
		       last = median(probe, f, tail, count);
		uint64_t away_ns = from_ns;

		if (!probe->controllable[f] || last <= 0 || (ratio < MOVED && ratio > 1 / MOVED))
			continue;
		/* two consecutive ones, as a single round may have been delayed */
		for (size_t i = 0; i + 1 < tail; i++)
			if (is_away(&probe->rounds[i], f, last, ratio) &&
			    is_away(&probe->rounds[i + 1], f, last, ratio))
				away_ns = probe->rounds[i + 1].at_ns;
		if (away_ns <= from_ns || away_ns - from_ns > SETTLE_NS_MAX)
			continue;
		probe->settle_ns[f] += (double)(away_ns - from_ns);
		probe->settled[f]++;
	}
}

static void print_point(const struct point *point)
{
	for (int c = 0; c < FIGURE_COUNT; c++)
		point->hz[c] ? printf("%8.0f", (double)point->hz[c] / 1e6) : printf("%8s", "-");
	printf("  %9.2f %12.3f %12.3f", point->ns[FIGURE_LAUNCH] / 1e3, point->ns[FIGURE_COMPUTE] / 1e6,
	       point->ns[FIGURE_BANDWIDTH] / 1e6);
	point->busy_uw > 0 ? printf(" %9.2f\n", point->busy_uw / 1e6) : printf(" %9s\n", "-");
	fflush(stdout);
}

/* Stay at the current point and measure it. */
static struct point *measure(struct probe *probe, const struct flamed_point *at)
{
	struct point *point = &probe->point[probe->points];
	size_t from, count;

	*point = (struct point){.hz = {at->cpu_hz, at->gpu_hz, at->mem_hz}};
	from = atomic_load(&probe->round_count);
	point->busy_uw = mean_power(probe, STAY_NS);
	for (uint64_t until_ns = clock_now_ns() + WAIT_NS;
	     atomic_load(&probe->round_count) < from + ROUNDS_MIN && clock_now_ns() < until_ns;)
		clock_sleep_ns(50 * NS_PER_MS);
	count = atomic_load(&probe->round_count);
	for (enum figure f = 0; f < FIGURE_COUNT; f++)
		point->ns[f] = median(probe, f, from < count ? from : 0, count);
	probe->points++;
	print_point(point);
	return point;
}

/* Measure the idle power at the same clocks. */
static void measure_idle(struct probe *probe, struct point *point)
{
	if (point->busy_uw <= 0)
		return;
	clock_sleep_ns(IDLE_SKIP_NS);
	point->idle_uw = mean_power(probe, IDLE_STAY_NS - IDLE_SKIP_NS);
}

/* Duration of the work at a point: the sum of its three parts. */
static double work_ns(const struct point *point)
{
	return (LAUNCHES + 2) * point->ns[FIGURE_LAUNCH] + point->ns[FIGURE_COMPUTE] + point->ns[FIGURE_BANDWIDTH];
}

/* One round as an inference of three layers. */
static struct flamed_measurement as_sample(const struct point *point, struct flamed_layer layers[FIGURE_COUNT])
{
	double launches = LAUNCHES * point->ns[FIGURE_LAUNCH];

	layers[0] = (struct flamed_layer){(uint64_t)launches, 1000, 1};
	layers[1] = (struct flamed_layer){(uint64_t)point->ns[FIGURE_LAUNCH], (uint64_t)point->ns[FIGURE_COMPUTE], 1};
	layers[2] = (struct flamed_layer){(uint64_t)point->ns[FIGURE_LAUNCH], (uint64_t)point->ns[FIGURE_BANDWIDTH], 1};
	return (struct flamed_measurement){.latency_ns = (uint64_t)work_ns(point),
					   .n = 1,
					   .layers = layers,
					   .layer_count = FIGURE_COUNT};
}

/* Let flamed move the clocks while the device is busy, so that the moment at which a clock takes
 * effect is visible. */
static void measure_points(struct probe *probe, struct flamed *flamed, struct flamed_point *at)
{
	struct flamed_layer layers[FIGURE_COUNT];
	const struct point *before = NULL;
	int rc = 1;

	while (rc == 1 && probe->points < POINTS_MAX) {
		const struct point *point = measure(probe, at);
		struct flamed_measurement sample = as_sample(point, layers);
		uint64_t from_ns;

		stop_busy(probe);
		measure_idle(probe, &probe->point[probe->points - 1]);
		if (start_busy(probe) < 0)
			return;
		clock_sleep_ns(50 * NS_PER_MS);
		from_ns = clock_now_ns();
		rc = flamed_profile_sample(flamed, &sample, WAIT_NS, at);
		while (rc == -EAGAIN) {
			clock_sleep_ns(100 * NS_PER_MS);
			rc = flamed_profile_sample(flamed, NULL, WAIT_NS, at);
		}
		before = point;
		if (rc == 1) {
			const struct point after = {.hz = {at->cpu_hz, at->gpu_hz, at->mem_hz}};

			clock_sleep_ns(400 * NS_PER_MS);
			note_settle(probe, before, &after, from_ns);
		}
	}
	if (rc < 0)
		printf("flamed ended the measurement: %s\n", strerror(-rc));
}

static int run(struct probe *probe)
{
	struct flamed *flamed = NULL;
	struct flamed_point at = {0};
	int rc = -ENOTCONN;

	if (probe->connected) {
		probe->idle_uw = mean_power(probe, IDLE_NS);
		flamed_open(&flamed, probe->socket);
		rc = flamed_profile_open(flamed, PROBE_MODEL, NULL, 0, BUDGET, WAIT_NS, &at);
		if (rc < 0)
			printf("flamed does not move clocks for this program (%s): measuring the current operating "
			       "point\n",
			       strerror(-rc));
	}
	if (!probe->controllable[0] && !probe->controllable[1] && !probe->controllable[2])
		printf("no clock of this machine can be set: measuring the only operating point\n");
	printf("\n     cpu     gpu     mem  launch us   compute ms bandwidth ms   power W   (clocks in MHz)\n");
	if (start_busy(probe) < 0)
		return 1;
	if (rc == 1)
		measure_points(probe, flamed, &at);
	else
		measure(probe, &at);
	stop_busy(probe);
	flamed_close(flamed);
	return 0;
}

/* Least squares fit of ns = fixed + cycles / hz over one clock; false if that clock did not change. */
static bool fit(const struct probe *probe, enum figure figure, double *fixed_ns, double *cycles)
{
	double n = 0, x = 0, y = 0, xx = 0, xy = 0, d;

	for (size_t i = 0; i < probe->points; i++) {
		double inverse = probe->point[i].hz[figure] ? 1e9 / (double)probe->point[i].hz[figure] : 0;

		if (inverse <= 0)
			continue;
		n++;
		x += inverse;
		y += probe->point[i].ns[figure];
		xx += inverse * inverse;
		xy += inverse * probe->point[i].ns[figure];
	}
	d = n * xx - x * x;
	if (n < 2 || d < 1e-9 * n * xx)
		return false;
	*cycles = (n * xy - x * y) / d;
	*fixed_ns = (y - *cycles * x) / n;
	return true;
}

static void explain(const struct probe *probe)
{
	double fixed, cycles;

	printf("\n");
	for (enum figure f = 0; f < FIGURE_COUNT; f++)
		if (fit(probe, f, &fixed, &cycles))
			printf("A %s takes %.1f us and %.0f cycles of the %s clock.\n", figure_names[f], fixed / 1e3,
			       cycles, clock_names[f]);
	for (int c = 0; c < FIGURE_COUNT; c++)
		if (probe->settled[c])
			printf("A new %s clock is in effect after %.1f ms (mean of %u moves).\n", clock_names[c],
			       probe->settle_ns[c] / probe->settled[c] / 1e6, probe->settled[c]);
	if (probe->idle_uw > 0)
		printf("The board draws %.2f W idle, up to %.2f W busy; idle at these clocks %.2f W.\n",
		       probe->idle_uw / 1e6, probe->point[0].busy_uw / 1e6, probe->point[0].idle_uw / 1e6);
	else
		printf("No power sensor: flamed uses its documented relative cost.\n");
	printf("Bandwidth at the first point: %.1f GB/s; compute: %.1f Gop/s.\n",
	       (double)work_bytes(probe->work) / probe->point[0].ns[FIGURE_BANDWIDTH],
	       (double)work_operations(probe->work) / probe->point[0].ns[FIGURE_COMPUTE]);
}

static void write_prior(const struct probe *probe, FILE *out)
{
	if (probe->idle_uw <= 0)
		return;
	fprintf(out,
		"\n; Power under the probe's load and idle: the cost of each clock, used for models with few samples.\n"
		"; CPU, GPU and memory clock, duration of the work, power under load, idle power\n[prior]\n");
	for (size_t i = 0; i < probe->points && i < BOARD_POWERS_MAX; i++) {
		const struct point *point = &probe->point[i];

		if (point->busy_uw > 0)
			fprintf(out, "point = %.6g MHz, %.6g MHz, %.6g MHz, %.4f ms, %.4f W, %.4f W\n",
				(double)point->hz[0] / 1e6, (double)point->hz[1] / 1e6, (double)point->hz[2] / 1e6,
				work_ns(point) / 1e6, point->busy_uw / 1e6, point->idle_uw / 1e6);
	}
}

static int write_board_file(const struct probe *probe)
{
	FILE *out = fopen(probe->output, "we");
	double fixed, cycles;

	if (!out) {
		fprintf(stderr, "flamed-probe: %s: %s\n", probe->output, strerror(errno));
		return 1;
	}
	fprintf(out,
		"; Written by flamed-probe. Install it in /etc/flamed/boards.d.\n[board]\nname = %s\n%smatch = %s\n",
		probe->board[0] ? probe->board : "unknown board", probe->board[0] ? "" : "; ",
		probe->board[0] ? probe->board : "the device-tree model");
	for (int c = 0; c < FIGURE_COUNT; c++) {
		if (!probe->settled[c] && !fit(probe, (enum figure)c, &fixed, &cycles))
			continue;
		fprintf(out, "\n[%s]\n", clock_names[c]);
		if (fit(probe, (enum figure)c, &fixed, &cycles))
			fprintf(out, "; a %s: %.0f ns and %.0f cycles\n", figure_names[c], fixed, cycles);
		if (probe->settled[c])
			fprintf(out, "settle = %.0f ns\n", probe->settle_ns[c] / probe->settled[c]);
	}
	write_prior(probe, out);
	if (fclose(out) != 0) {
		fprintf(stderr, "flamed-probe: %s: %s\n", probe->output, strerror(errno));
		return 1;
	}
	printf("\nwrote %s with this board's settle times%s.\n", probe->output, probe->idle_uw > 0 ? " and power" : "");
	return 0;
}

/* The requested device, or the first usable one, GPUs first. */
static struct probe_work *choose(struct probe *probe, long wanted)
{
	struct work_device devices[WORK_DEVICES_MAX];
	char why[192];
	size_t count = work_devices(devices, why);
	long best = -1;

	if (count == 0)
		fprintf(stderr, "flamed-probe: %s\n", why);
	for (size_t i = 0; i < count; i++) {
		printf("device %zu: %s (%s, %s)%s%s\n", i, devices[i].name, devices[i].type, devices[i].platform,
		       devices[i].why_not[0] ? "\n  cannot be used: " : "", devices[i].why_not);
		if (devices[i].why_not[0] || (wanted >= 0 && wanted != (long)i))
			continue;
		if (best < 0 || (strcmp(devices[i].type, "GPU") == 0 && strcmp(devices[best].type, "GPU") != 0))
			best = (long)i;
	}
	if (count == 0 || best < 0) {
		if (count)
			fprintf(stderr, "flamed-probe: no usable device%s\n", wanted >= 0 ? " under that number" : "");
		return NULL;
	}
	probe->work = work_new(&devices[best], KERNEL_NS, why);
	if (!probe->work)
		fprintf(stderr, "flamed-probe: %s\n", why);
	else
		printf("using device %ld\n", best);
	return probe->work;
}

static int usage(FILE *out, int status)
{
	fprintf(out, "usage: flamed-probe [--socket PATH] [--device N] [--list] [--output FILE]\n"
		     "Measure launch time, compute, bandwidth, settle times and power of this board in a minute.\n");
	return status;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"socket", required_argument, NULL, 's'},
						{"device", required_argument, NULL, 'd'},
						{"output", required_argument, NULL, 'o'},
						{"list", no_argument, NULL, 'l'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	struct probe probe = {.socket = secure_getenv("FLAMED_SOCKET")};
	uint64_t device = 0;
	bool list = false, chosen = false;
	int option, rc;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (option == 'h')
			return usage(stdout, 0);
		if (option == '?' || (option == 'd' && (parse_u64(optarg, &device) != 0 || device >= WORK_DEVICES_MAX)))
			return usage(stderr, 2);
		chosen |= option == 'd';
		list |= option == 'l';
		probe.output = option == 'o' ? optarg : probe.output;
		probe.socket = option == 's' ? optarg : probe.socket;
	}
	if (optind != argc)
		return usage(stderr, 2);
	if (!probe.socket)
		probe.socket = FLAMED_SOCKET_DEFAULT;
	if (!choose(&probe, chosen ? (long)device : -1))
		return 1;
	probe.rounds = list ? NULL : calloc(ROUNDS_MAX, sizeof(*probe.rounds));
	rc = list ? 0 : 1;
	if (probe.rounds) {
		connect_flamed(&probe);
		rc = run(&probe);
		explain(&probe);
		if (rc == 0 && probe.output)
			rc = write_board_file(&probe);
		wire_free(&probe.wire);
	}
	work_free(probe.work);
	free(probe.rounds);
	return rc;
}
