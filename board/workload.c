/* SPDX-License-Identifier: MIT */
/* flamed-workload DIR: an inference program on the emulated board in DIR. Its host thread launches layer after layer at
 * the speed of the CPU clock, its queue executes them at the speed of the GPU and memory clocks; requests are periodic.
 * Latencies are in the board's time: delays by other load on this machine are measured and reported separately. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../lib/flamed.h"
#include "../common/clock.h"
#include "../common/file.h"
#include "../common/units.h"
#include "priority.h"
#include "queue.h"

#define REQUESTS_MOST 100000
#define CANDIDATES    12
#define HELPERS_MAX   8

struct options {
	const char *dir, *socket, *model;
	enum spec_model_id id;
	uint64_t requests, warmup, deadline_ns, period_ns; /* warmup: requests before those that count */
	uint32_t context_from, context_to;
	bool threads, optimum;
	int helper[HELPERS_MAX]; /* process ids */
	size_t helpers;
};

struct workload_run {
	struct options options;
	struct board_page *page;
	struct kernel_queue queue;
	struct flamed *flamed;
	int session;
	struct step_cost layers[LAYERS_MAX];
	uint64_t from_ns, from_uj; /* the board's time and energy when the first request of those that count began */
	uint64_t *latency_ns, *late_ns;     /* of each request: on the board, and delays by this machine */
	uint64_t done, missed, missed_late; /* missed_late: in time on the board, late for this machine alone */
};

static volatile sig_atomic_t stopped;

static void on_signal(int signo)
{
	(void)signo;
	stopped = 1;
}

static int usage(FILE *to, int status)
{
	fputs("usage: flamed-workload DIR [OPTION ...]\n"
	      "Run a model on the board that flamed-board animates in DIR.\n"
	      "  --model cnn|decode    (default cnn)\n"
	      "  --requests N          (default 30)\n"
	      "  --warmup N            that many requests more before those, which do not count in the summary "
	      "(default 0)\n"
	      "  --deadline TIME       of each request; needs --socket to be met by flamed\n"
	      "  --period TIME         one request every TIME (default: the deadline, else back to back)\n"
	      "  --context FROM:TO     tokens, growing from request to request (decode)\n"
	      "  --socket PATH         ask the flamed behind it for clocks\n"
	      "  --helpers PID,...     flamed, its keeper and the board: while one of them waits for a processor of "
	      "this machine,\n"
	      "                        the board's time stands still\n"
	      "  --threads             two threads and a queue in place of OpenCL\n"
	      "  --optimum             print the cheapest points of the whole grid for this deadline and exit\n",
	      to);
	return status;
}

static uint32_t context_of(const struct options *options, uint64_t request)
{
	uint64_t counted = request > options->warmup ? request - options->warmup : 0;
	double share = options->requests > 1 ? (double)counted / (double)(options->requests - 1) : 0;

	return options->context_from + (uint32_t)(share * (options->context_to - options->context_from));
}

/* Time for which a process was ready to run and waited for a processor; 0 if the kernel does not count it
 * (Documentation/scheduler/sched-stats.rst, /proc/PID/schedstat). */
static uint64_t run_delay_ns(int pid)
{
	char path[48];
	CLEANUP_MEM char *text = NULL;
	uint64_t ran_ns, delay_ns;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	if (file_read(path, 256, &text, NULL) || sscanf(text, "%" SCNu64 " %" SCNu64, &ran_ns, &delay_ns) != 2)
		return 0;
	return delay_ns;
}

/* The same, of this process and all its helpers. */
static uint64_t machine_delay_ns(const struct options *options)
{
	uint64_t sum_ns = 0;

	for (size_t i = 0; i < options->helpers; i++)
		sum_ns += run_delay_ns(options->helper[i]);
	return options->helpers ? sum_ns + run_delay_ns(getpid()) : 0;
}

/* One inference that begins at `host_ns`. Returns 0 or -errno; `*end_ns` by the board's clocks. */
static int infer(struct workload_run *work, uint32_t context, uint64_t host_ns, uint64_t *end_ns)
{
	const struct spec_model *model = &work->page->workload[work->options.id];

	cost_layers(model, work->options.id, context, work->layers);
	for (uint32_t i = 0; i < model->layers; i++) {
		double ns = cost_launch_ns(&work->layers[i], page_hz(work->page, CLOCK_CPU));
		int rc;

		host_ns += (uint64_t)ns;
		page_busy(work->page, CLOCK_CPU, (uint64_t)ns, (uint64_t)ns);
		lane_sleep_until(host_ns);
		rc = queue_launch(&work->queue, &work->layers[i], host_ns);
		if (rc)
			return rc;
	}
	*end_ns = queue_finish(&work->queue);
	return 0;
}

/* Mean power since the first request, uW; 0 before the board has accounted for any time. */
static double mean_power_uw(const struct workload_run *work)
{
	uint64_t energy_uj, at_ns;

	page_energy(work->page, &energy_uj, &at_ns);
	return at_ns > work->from_ns ? (double)(energy_uj - work->from_uj) / (double)(at_ns - work->from_ns) * 1e9 : 0;
}

static void print_request(const struct workload_run *work, uint64_t index, const struct flamed_decision *decision,
			  uint64_t wait_ns, uint64_t latency_ns, uint64_t late_ns)
{
	uint32_t context = context_of(&work->options, index);

	printf("request=%" PRIu64 " context=%u latency_ns=%" PRIu64 " wait_ns=%" PRIu64 " late_ns=%" PRIu64
	       " missed=%d feasible=%d",
	       index, context, latency_ns, wait_ns, late_ns,
	       work->options.deadline_ns && latency_ns > work->options.deadline_ns, decision->feasible);
	printf(" predicted_ns=%" PRIu64 " bound_ns=%" PRIu64 " settle_ns=%" PRIu64 " cpu_hz=%" PRIu64 " gpu_hz=%" PRIu64
	       " mem_hz=%" PRIu64 " power_uw=%.0f\n",
	       decision->predicted_ns, decision->bound_ns, decision->settle_ns, page_hz(work->page, CLOCK_CPU),
	       page_hz(work->page, CLOCK_GPU), page_hz(work->page, CLOCK_MEM), mean_power_uw(work));
	fflush(stdout);
}

/* Time that the emulated board itself needs to raise its clocks from `before_hz` to the present ones, one after the
 * other. */
static uint64_t rise_ns(const struct board_page *page, const uint64_t before_hz[CLOCK_COUNT])
{
	uint64_t sum_ns = 0;

	for (int id = 0; id < CLOCK_COUNT; id++)
		if (page_hz(page, (enum clock_id)id) > before_hz[id])
			sum_ns += page->settle_ns[id];
	return sum_ns;
}

/* Ask flamed for clocks and wait for them. `*wait_ns` is the time of the wait on the board: without the time for which
 * this machine had no processor for this process or a helper, but never less than the board needs. */
static int64_t ask(struct workload_run *work, uint32_t context, struct flamed_decision *decision, uint64_t *wait_ns)
{
	const struct options *options = &work->options;
	uint64_t begin_ns, delay_ns, least_ns, beyond_ns, before_hz[CLOCK_COUNT];
	int64_t id;

	*wait_ns = 0;
	if (!work->flamed)
		return -ENOTCONN;
	if (options->id == MODEL_DECODE)
		flamed_phase(work->flamed, work->session, "decode", context);
	for (int clock = 0; clock < CLOCK_COUNT; clock++)
		before_hz[clock] = page_hz(work->page, (enum clock_id)clock);
	delay_ns = machine_delay_ns(options);
	begin_ns = clock_now_ns();
	id = flamed_begin_wait(work->flamed, work->session, options->deadline_ns, FLAMED_TIMEOUT, decision);
	if (id < 0) {
		fprintf(stderr, "flamed-workload: begin: %s\n", strerror((int)-id));
		return id;
	}
	*wait_ns = clock_now_ns() - begin_ns;
	delay_ns = machine_delay_ns(options) - delay_ns;
	least_ns = rise_ns(work->page, before_hz);
	beyond_ns = *wait_ns > least_ns ? *wait_ns - least_ns : 0;
	*wait_ns -= delay_ns < beyond_ns ? delay_ns : beyond_ns;
	return id;
}

static void count(struct workload_run *work, uint64_t latency_ns, uint64_t late_ns)
{
	uint64_t deadline_ns = work->options.deadline_ns;

	work->latency_ns[work->done] = latency_ns;
	work->late_ns[work->done++] = late_ns;
	if (deadline_ns) {
		work->missed += latency_ns > deadline_ns;
		work->missed_late += latency_ns <= deadline_ns && latency_ns + late_ns > deadline_ns;
	}
}

static int request(struct workload_run *work, uint64_t index)
{
	const struct options *options = &work->options;
	uint32_t context = context_of(options, index);
	struct flamed_decision decision = {0};
	uint64_t begin_ns = clock_now_ns(), wait_ns, end_ns, latency_ns, late_ns, total_ns;
	int64_t id = ask(work, context, &decision, &wait_ns);
	int rc = work->flamed && id < 0 ? (int)id : 0;

	if (rc == 0)
		rc = infer(work, context, begin_ns + wait_ns, &end_ns);
	if (rc)
		return rc;
	latency_ns = end_ns - begin_ns;
	if (work->flamed)
		flamed_end(work->flamed, id, latency_ns);
	total_ns = clock_now_ns() - begin_ns;
	late_ns = total_ns > latency_ns ? total_ns - latency_ns : 0;
	if (index >= options->warmup)
		count(work, latency_ns, late_ns);
	print_request(work, index, &decision, wait_ns, latency_ns, late_ns);
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t quantile(uint64_t *values, uint64_t count, double share)
{
	qsort(values, count, sizeof(*values), by_value);
	return count ? values[(uint64_t)(share * (double)(count - 1) + 0.5)] : 0;
}

static void print_summary(struct workload_run *work)
{
	double mean = 0, power_uw = mean_power_uw(work);
	uint64_t energy_uj, at_ns;

	page_energy(work->page, &energy_uj, &at_ns);

	for (uint64_t i = 0; i < work->done; i++)
		mean += (double)work->latency_ns[i] / (double)work->done;
	printf("summary requests=%" PRIu64 " missed=%" PRIu64 " missed_machine_late=%" PRIu64
	       " mean_ns=%.0f p50_ns=%" PRIu64 " p99_ns=%" PRIu64 " power_uw=%.0f energy_uj=%.0f late_p50_ns=%" PRIu64
	       " late_p99_ns=%" PRIu64 " queue=%s\n",
	       work->done, work->missed, work->missed_late, mean, quantile(work->latency_ns, work->done, 0.5),
	       quantile(work->latency_ns, work->done, 0.99), power_uw,
	       work->done ? (double)(energy_uj - work->from_uj) / (double)work->done : 0,
	       quantile(work->late_ns, work->done, 0.5), quantile(work->late_ns, work->done, 0.99), work->queue.name);
}

static int run_requests(struct workload_run *work)
{
	const struct options *options = &work->options;
	uint64_t due_ns = clock_now_ns() + options->period_ns;
	int rc = 0;

	lane_sleep_until(due_ns); /* the first frame comes a period after the session was opened */
	for (uint64_t i = 0; i < options->warmup + options->requests && !stopped && rc == 0; i++) {
		if (i == 0 || i == options->warmup)
			page_energy(work->page, &work->from_uj, &work->from_ns);
		rc = request(work, i);
		due_ns += options->period_ns;
		if (due_ns < clock_now_ns())
			due_ns = clock_now_ns(); /* after a late frame the next one begins at once */
		else
			lane_sleep_until(due_ns);
	}
	print_summary(work);
	return rc;
}

/* A point of the grid with its latency and power. */
struct candidate {
	size_t step[CLOCK_COUNT];
	double watts, latency_ns;
};

static int by_watts(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return (x->watts > y->watts) - (x->watts < y->watts);
}

static void add_candidate(struct workload_run *work, struct candidate *out, size_t *count,
			  const size_t step[CLOCK_COUNT])
{
	const struct board_page *page = work->page;
	struct candidate candidate = {.step = {step[0], step[1], step[2]}};
	uint64_t hz[CLOCK_COUNT];
	struct cost_total total;

	for (int id = 0; id < CLOCK_COUNT; id++)
		hz[id] = page->steps[id] ? page->table_hz[id][step[id]] : 0;
	total = cost_timeline(work->layers, page->workload[work->options.id].layers, hz);
	candidate.latency_ns = total.latency_ns;
	candidate.watts = cost_power_w(page, step, &total, (double)work->options.period_ns);
	if (total.latency_ns <= (double)work->options.deadline_ns)
		out[(*count)++] = candidate;
}

/* Every point of the grid, by the board's own timeline and power, at the last
 * context; the cheapest that meet the deadline are printed. */
static int print_optimum(struct workload_run *work)
{
	const struct board_page *page = work->page;
	size_t count = 0, points = 1, step[CLOCK_COUNT];
	struct candidate *found;

	for (int id = 0; id < CLOCK_COUNT; id++)
		points *= page->steps[id] ? page->steps[id] : 1;
	found = calloc(points, sizeof(*found));
	if (!found)
		return -ENOMEM;
	cost_layers(&page->workload[work->options.id], work->options.id, work->options.context_to, work->layers);
	for (size_t i = 0; i < points; i++) {
		size_t rest = i;

		for (int id = 0; id < CLOCK_COUNT; id++) {
			size_t steps = page->steps[id] ? page->steps[id] : 1;

			step[id] = rest % steps;
			rest /= steps;
		}
		add_candidate(work, found, &count, step);
	}
	qsort(found, count, sizeof(*found), by_watts);
	for (size_t i = 0; i < count && i < CANDIDATES; i++)
		printf("candidate cpu_hz=%" PRIu64 " gpu_hz=%" PRIu64 " mem_hz=%" PRIu64
		       " latency_ns=%.0f power_uw=%.0f points=%zu\n",
		       page->table_hz[CLOCK_CPU][found[i].step[CLOCK_CPU]],
		       page->table_hz[CLOCK_GPU][found[i].step[CLOCK_GPU]],
		       page->table_hz[CLOCK_MEM][found[i].step[CLOCK_MEM]], found[i].latency_ns, found[i].watts * 1e6,
		       points);
	free(found);
	return 0;
}

static int parse_context(struct options *options, const char *text)
{
	unsigned from, to;

	if (sscanf(text, "%u:%u", &from, &to) != 2 || from > to || to > CONTEXT_TOKENS_MAX)
		return -EINVAL;
	options->context_from = from;
	options->context_to = to;
	return 0;
}

/* "PID,PID" */
static int parse_helpers(struct options *options, const char *text)
{
	for (options->helpers = 0; *text; text += *text == ',') {
		char *end;
		long pid = strtol(text, &end, 10);

		if (end == text || (*end != ',' && *end != '\0') || pid < 1 || pid > INT_MAX ||
		    options->helpers == HELPERS_MAX)
			return -EINVAL;
		options->helper[options->helpers++] = (int)pid;
		text = end;
	}
	return options->helpers ? 0 : -EINVAL;
}

static int parse_model(struct options *options, const char *text)
{
	if (strcmp(text, "cnn") != 0 && strcmp(text, "decode") != 0)
		return -EINVAL;
	options->model = text;
	options->id = *text == 'c' ? MODEL_CNN : MODEL_DECODE;
	return 0;
}

static int parse_option(struct options *options, int c, const char *text)
{
	switch (c) {
	case 'm': return parse_model(options, text);
	case 'n':
		return parse_u64(text, &options->requests) || options->requests < 1 ||
				       options->requests > REQUESTS_MOST ?
			       -EINVAL :
			       0;
	case 'w': return parse_u64(text, &options->warmup) || options->warmup > REQUESTS_MOST ? -EINVAL : 0;
	case 'd': return parse_deadline_ns(text, &options->deadline_ns);
	case 'p': return parse_duration_ns(text, &options->period_ns);
	case 'c': return parse_context(options, text);
	case 's': options->socket = text; return 0;
	case 'e': return parse_helpers(options, text);
	case 't': options->threads = true; return 0;
	case 'o': options->optimum = true; return 0;
	default: return -EINVAL;
	}
}

static int parse(struct options *options, int argc, char **argv)
{
	static const struct option table[] = {
		{"model", required_argument, NULL, 'm'},    {"requests", required_argument, NULL, 'n'},
		{"deadline", required_argument, NULL, 'd'}, {"period", required_argument, NULL, 'p'},
		{"context", required_argument, NULL, 'c'},  {"socket", required_argument, NULL, 's'},
		{"threads", no_argument, NULL, 't'},        {"optimum", no_argument, NULL, 'o'},
		{"helpers", required_argument, NULL, 'e'},  {"warmup", required_argument, NULL, 'w'},
		{"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
	};
	bool period = false;
	int c;

	while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (c == 'h')
			exit(usage(stdout, 0));
		period |= c == 'p';
		if (parse_option(options, c, optarg))
			return -EINVAL;
	}
	if (!period)
		options->period_ns = options->deadline_ns;
	options->dir = argv[optind];
	if (optind != argc - 1 || (options->socket && !options->deadline_ns) ||
	    (options->optimum && !options->deadline_ns))
		return -EINVAL;
	return 0;
}

static int open_session(struct workload_run *work)
{
	const struct options *options = &work->options;

	if (!options->socket)
		return 0;
	if (flamed_open(&work->flamed, options->socket) || !flamed_connected(work->flamed)) {
		fprintf(stderr, "flamed-workload: %s: no process listens there; is flamed running?\n", options->socket);
		return -ENOTCONN;
	}
	work->session = flamed_session(work->flamed, options->model, options->deadline_ns, FLAMED_TIMEOUT);
	return work->session < 0 ? work->session : 0;
}

static int run(struct workload_run *work)
{
	int rc;

	work->latency_ns = calloc(work->options.requests, sizeof(uint64_t));
	work->late_ns = calloc(work->options.requests, sizeof(uint64_t));
	if (!work->latency_ns || !work->late_ns)
		return -ENOMEM;
	lane_exact_timers();
	rc = queue_open(&work->queue, work->page, work->options.threads);
	if (rc)
		return rc;
	rc = open_session(work);
	if (rc == 0)
		rc = run_requests(work);
	flamed_close(work->flamed);
	queue_close(&work->queue);
	return rc;
}

int main(int argc, char **argv)
{
	static struct workload_run work = {.options = {.model = "cnn", .requests = 30}};
	struct sigaction action = {.sa_handler = on_signal};
	int rc;

	if (parse(&work.options, argc, argv))
		return usage(stderr, 2);
	work.page = page_attach(work.options.dir, &rc);
	if (!work.page) {
		fprintf(stderr, "flamed-workload: %s/%s: %s; is flamed-board running there?\n", work.options.dir,
			PAGE_NAME, strerror(-rc));
		return 1;
	}
	run_on_time();
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	rc = work.options.optimum ? print_optimum(&work) : run(&work);
	if (rc)
		fprintf(stderr, "flamed-workload: %s\n", strerror(-rc));
	free(work.latency_ns);
	free(work.late_ns);
	page_detach(work.page);
	return rc ? 1 : 0;
}
