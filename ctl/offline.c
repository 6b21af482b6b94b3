/* SPDX-License-Identifier: MIT */
/* flamectl plan and flamectl predict: the estimator on CSV files (docs/DESIGN.md 4.2), without a daemon. */
#include "ctl.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "../common/file.h"
#include "../common/units.h"
#include "../estimator/model.h"

#define CSV_BYTES_MAX (256 << 20)
#define BUDGET_MAX    SAMPLES_MAX

enum { OK = 0, FAILED = 1, USAGE = 2 };

struct rows {
	struct sample *row;
	size_t count;
};

static void cleanup_rows(const struct rows *rows)
{
	free(rows->row);
}

static void cleanup_model(struct model *const *model)
{
	model_free(*model);
}

#define CLEANUP_ROWS  __attribute__((cleanup(cleanup_rows)))
#define CLEANUP_MODEL __attribute__((cleanup(cleanup_model)))

static void warn(void *arg, const char *text)
{
	fprintf(stderr, "%s: %s\n", (const char *)arg, text);
}

static int read_text(const char *path, char **text)
{
	int rc = file_read(path, CSV_BYTES_MAX, text, NULL);

	if (rc)
		fprintf(stderr, "%s: %s\n", path, strerror(-rc));
	return rc;
}

static int read_samples(const char *path, bool points_only, struct rows *rows)
{
	CLEANUP_MEM char *text = NULL;
	char message[256] = "", name[512];
	int rc = read_text(path, &text);

	if (rc)
		return rc;
	snprintf(name, sizeof(name), "%s", path);
	rc = samples_parse(text, points_only, &rows->row, &rows->count, message, sizeof(message), warn, name);
	if (rc)
		fprintf(stderr, "%s: %s\n", path, message);
	return rc;
}

static int learn_layers(struct model *model, const char *path)
{
	CLEANUP_MEM char *text = NULL;
	CLEANUP_MEM struct layer *layers = NULL;
	char message[256] = "", name[512];
	size_t count = 0;
	int rc = read_text(path, &text);

	if (rc)
		return rc;
	snprintf(name, sizeof(name), "%s", path);
	rc = layers_parse(text, &layers, &count, message, sizeof(message), warn, name);
	if (rc) {
		fprintf(stderr, "%s: %s\n", path, message);
		return rc;
	}
	rc = model_learn_layers(model, layers, count);
	if (rc)
		fprintf(stderr, "%s: cannot use the layers: %s\n", path, strerror(-rc));
	return rc;
}

/* The grid spanned by the clocks that occur in either list. */
static int make_grid(struct grid *grid, const struct rows *a, const struct rows *b)
{
	size_t total = a->count + b->count, count[CLOCK_COUNT] = {total, total, total};
	CLEANUP_MEM uint64_t *all = calloc(3 * total + 1, sizeof(*all));
	const uint64_t *axis[CLOCK_COUNT];

	if (!all)
		return -ENOMEM;
	for (size_t c = 0; c < CLOCK_COUNT; c++)
		axis[c] = all + c * total;
	for (size_t i = 0; i < total; i++) {
		const struct sample *s = i < a->count ? &a->row[i] : &b->row[i - a->count];
		for (size_t c = 0; c < CLOCK_COUNT; c++)
			all[c * total + i] = s->point.hz[c];
	}
	return grid_init(grid, axis, count);
}

static int learn(struct model *model, const struct rows *samples)
{
	for (size_t i = 0; i < samples->count; i++) {
		int rc = samples->row[i].latency_ns ? model_learn_sample(model, &samples->row[i]) : 0;
		if (rc) {
			fprintf(stderr, "sample %zu: %s\n", i + 1, strerror(-rc));
			return rc;
		}
	}
	return 0;
}

static struct model *model_over(const struct rows *points, const struct rows *samples)
{
	struct model_options options;
	struct grid grid;
	struct model *model;
	int rc = make_grid(&grid, points, samples);

	if (rc) {
		fprintf(stderr, "cannot make a grid of these points: %s\n", strerror(-rc));
		return NULL;
	}
	model_options_default(&options);
	model = model_new(&grid, &options);
	if (!model)
		fprintf(stderr, "out of memory\n");
	return model;
}

static bool same_place(const struct sample *a, const struct sample *b)
{
	return a->phase == b->phase && a->context == b->context && op_point_equal(a->point, b->point);
}

/* Distinct points of one phase that are not in `samples` yet. */
static size_t candidates(const struct rows *points, const struct rows *samples, enum phase phase, struct sample *out)
{
	size_t n = 0;

	for (size_t i = 0; i < points->count; i++) {
		struct sample s = {.phase = phase,
				   .context = points->row[i].context,
				   .point = points->row[i].point,
				   .n = 1};
		bool known = points->row[i].phase != phase;

		for (size_t k = 0; k < samples->count && !known; k++)
			known = same_place(&samples->row[k], &s);
		for (size_t k = 0; k < n && !known; k++)
			known = same_place(&out[k], &s);
		if (!known)
			out[n++] = s;
	}
	return n;
}

static void print_points(const struct sample *points, const size_t *chosen, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct sample *s = &points[chosen[i]];

		printf("%s,%u", phase_name(s->phase), s->context);
		for (int c = 0; c < CLOCK_COUNT; c++)
			printf(",%llu", (unsigned long long)s->point.hz[c]);
		puts(",,,,,");
	}
}

/* The budget is divided evenly among the requested phases. */
static int plan(const struct rows *points, const struct rows *samples, size_t budget)
{
	CLEANUP_MODEL struct model *model = model_over(points, samples);
	CLEANUP_MEM struct sample *list = calloc(points->count + 1, sizeof(*list));
	CLEANUP_MEM size_t *chosen = calloc(budget + 1, sizeof(*chosen));
	size_t asked[PHASE_COUNT] = {0}, phases = 0;

	if (!model || !list || !chosen || learn(model, samples))
		return FAILED;
	for (size_t i = 0; i < points->count; i++)
		phases += asked[points->row[i].phase]++ == 0;
	puts("phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n,sd_ns,max_ns,power_uw");
	for (int p = 0; p < PHASE_COUNT; p++) {
		size_t count, share, picked;

		if (!asked[p])
			continue;
		share = (budget + phases - 1) / phases;
		count = candidates(points, samples, (enum phase)p, list);
		picked =
			model_plan_list(model, (enum phase)p, list, count, samples->row, samples->count, share, chosen);
		print_points(list, chosen, picked);
		budget -= share;
		phases--;
	}
	return OK;
}

int cmd_plan(struct ctl *ctl, int argc, char **argv)
{
	const char *points_path = NULL, *samples_path = NULL, *budget_text = NULL;
	const struct ctl_option options[] = {{"--points", &points_path, NULL},
					     {"--budget", &budget_text, NULL},
					     {"--samples", &samples_path, NULL}};
	CLEANUP_ROWS struct rows points = {0}, samples = {0};
	uint64_t budget = 0;
	int count, rest;

	if (ctl_options(ctl, options, 3, argc, argv, &count, &rest))
		return USAGE;
	if (count > 1 || rest < argc)
		return ctl_usage(ctl, "unexpected argument: %s", argv[count > 1 ? 1 : rest]);
	if (!points_path || !budget_text)
		return ctl_usage(ctl, "%s is missing", points_path ? "--budget" : "--points");
	if (parse_u64(budget_text, &budget) || !budget || budget > BUDGET_MAX)
		return ctl_usage(ctl, "--budget takes a number from 1 to %d, not \"%s\"", BUDGET_MAX, budget_text);
	if (read_samples(points_path, true, &points) || (samples_path && read_samples(samples_path, true, &samples)))
		return FAILED;
	return plan(&points, &samples, budget);
}

struct score {
	size_t points, within10, powers;
	double *error, sum, power_sum;
};

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_score(struct score *score)
{
	double n = (double)score->points;

	if (!score->points) {
		fprintf(stderr, "score: points=0 mape=nan p95=nan max=nan within10=nan power_mape=nan\n");
		return;
	}
	qsort(score->error, score->points, sizeof(*score->error), ascending);
	fprintf(stderr, "score: points=%zu mape=%.3f p95=%.3f max=%.3f within10=%.3f power_mape=%.3f\n", score->points,
		score->sum / n, score->error[(size_t)ceil(0.95 * n) - 1], score->error[score->points - 1],
		100 * (double)score->within10 / n, score->powers ? score->power_sum / (double)score->powers : NAN);
}

static void add_score(struct score *score, const struct sample *truth, const struct prediction *p)
{
	double error;

	if (!truth->latency_ns)
		return;
	error = 100 * fabs(p->latency_ns / (double)truth->latency_ns - 1);
	score->error[score->points++] = error;
	score->sum += error;
	score->within10 += error <= 10;
	if (!truth->power_uw || !p->power_known)
		return;
	score->power_sum += 100 * fabs(p->power_uw / (double)truth->power_uw - 1);
	score->powers++;
}

static void print_row(const struct sample *s, const struct prediction *p)
{
	printf("%s,%u", phase_name(s->phase), s->context);
	for (int c = 0; c < CLOCK_COUNT; c++)
		printf(",%llu", (unsigned long long)s->point.hz[c]);
	printf(",%.0f,%.0f,", p->latency_ns, ceil(p->bound_ns));
	if (p->power_known)
		printf("%.0f", p->power_uw);
	putchar('\n');
}

static int predict(struct model *model, const struct rows *points, bool with_score)
{
	CLEANUP_MEM double *errors = calloc(points->count + 1, sizeof(*errors));
	struct score score = {.error = errors};

	if (!errors)
		return FAILED;
	puts("phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,bound_ns,power_uw");
	for (size_t i = 0; i < points->count; i++) {
		const struct sample *s = &points->row[i];
		struct prediction p;

		if (model_predict(model, s->phase, s->context, s->point, &p)) {
			fprintf(stderr, "no samples of phase %s\n", phase_name(s->phase));
			return FAILED;
		}
		print_row(s, &p);
		add_score(&score, s, &p);
	}
	if (with_score)
		print_score(&score);
	return OK;
}

int cmd_predict(struct ctl *ctl, int argc, char **argv)
{
	const char *samples_path = NULL, *points_path = NULL, *layers_path = NULL;
	bool with_score = false;
	const struct ctl_option options[] = {{"--samples", &samples_path, NULL},
					     {"--points", &points_path, NULL},
					     {"--layers", &layers_path, NULL},
					     {"--score", NULL, &with_score}};
	CLEANUP_ROWS struct rows points = {0}, samples = {0};
	CLEANUP_MODEL struct model *model = NULL;
	int count, rest;

	if (ctl_options(ctl, options, 4, argc, argv, &count, &rest))
		return USAGE;
	if (count > 1 || rest < argc)
		return ctl_usage(ctl, "unexpected argument: %s", argv[count > 1 ? 1 : rest]);
	if (!samples_path || !points_path)
		return ctl_usage(ctl, "%s is missing", samples_path ? "--points" : "--samples");
	if (read_samples(samples_path, false, &samples) || read_samples(points_path, true, &points))
		return FAILED;
	model = model_over(&points, &samples);
	if (!model || learn(model, &samples) || (layers_path && learn_layers(model, layers_path)))
		return FAILED;
	return predict(model, &points, with_score);
}
