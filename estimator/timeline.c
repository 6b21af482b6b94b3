/* SPDX-License-Identifier: MIT */
/* From fitted layers and measured totals to a latency surface. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lsq.h"
#include "model.h"
#include "timeline_state.h"

#define REGIME_SHARE   0.9 /* of the latency */
#define ITERATIONS     12
#define TOTAL_ERROR    0.01 /* relative residual of the form itself */
#define HUBER          2.5
#define QUEUE_EVIDENCE 16.0 /* reduction of the objective required to accept a queue limit */

/* Priors of the parameters. The delay is that of a kernel launch on an idle stream: microseconds on every system
 * measured. */
#define DELAY_GUESS_NS 5e3
#define TAIL_GUESS     0.003 /* of the latency */
static const double prior_sd[PARAMS] = {0.1, 0.05, 1, 1.5, 1.5};

/* ---- rows and columns of the schedule ---- */

static void columns_free(struct columns *columns)
{
	for (int o = 0; o < ORDERS; o++) {
		free(columns->total[o]);
		free(columns->rest[o]);
	}
}

/* The caller frees the result also after an error. */
static int columns_new(const struct timeline *t, struct columns *columns, size_t count)
{
	*columns = (struct columns){.count = count, .stride = timeline_padded(count), .orders = t->orders};
	size_t o = 0;
	do {
		columns->total[o] = calloc(t->segments * columns->stride, sizeof(float));
		columns->rest[o] = calloc(t->paths * columns->stride, sizeof(float));
		if (!columns->total[o] || !columns->rest[o])
			return -ENOMEM;
	} while (++o < t->orders && o < ORDERS);
	return 0;
}

/* Execution of one layer per power of context. */
static void layer_orders(const struct layer_fit *fit, double gpu, double mem, double order[ORDERS])
{
	double scaled = layer_gpu_scaled_ns(fit, gpu, mem);

	order[0] = fit->gpu_fixed + scaled;
	order[1] = fit->linear * scaled;
	order[2] = fit->square * scaled;
}

/* One column: totals of each segment, and the rest from each path's layer on. */
static void fill_column(const struct timeline *t, struct columns *columns, size_t column, double gpu, double mem)
{
	for (size_t i = 0; i < t->segments; i++) {
		const struct segment *segment = &t->segment[i];
		double sum[ORDERS] = {0}, order[ORDERS];

		for (uint32_t layer = segment->first + segment->count; layer-- > segment->first;) {
			layer_orders(&t->model.fit[layer], gpu, mem, order);
			for (size_t o = 0; o < ORDERS; o++)
				sum[o] += order[o];
			for (uint32_t p = segment->path; p < segment->path + segment->paths; p++)
				for (size_t o = 0; o < ORDERS && columns->rest[o] && t->path_layer[p] == layer; o++)
					columns->rest[o][p * columns->stride + column] = (float)sum[o];
		}
		for (size_t o = 0; o < ORDERS && columns->total[o]; o++)
			columns->total[o][i * columns->stride + column] = (float)sum[o];
	}
}

/* One CPU clock: launch time of each segment, and up to each path's layer. */
static void fill_cpu(const struct timeline *t, double slowness, double scale, float *total, float *lead)
{
	for (size_t i = 0; i < t->segments; i++) {
		const struct segment *segment = &t->segment[i];
		double sum = 0;

		for (uint32_t layer = segment->first; layer < segment->first + segment->count; layer++) {
			sum += scale * layer_cpu_ns(&t->model.fit[layer], slowness);
			for (uint32_t p = segment->path; p < segment->path + segment->paths; p++)
				if (t->path_layer[p] == layer)
					lead[p] = (float)sum;
		}
		total[i] = (float)sum;
	}
}

/* out = order 0 + grown * order 1 + grown^2 * order 2, with one `grown` for each column. */
static void combine_rows(float *const order[ORDERS], size_t rows, size_t stride, const float *grown, float *out)
{
	memcpy(out, order[0], rows * stride * sizeof(*out));
	for (size_t i = 0; i < rows && order[1]; i++) {
		const float *linear = order[1] + i * stride, *square = order[2] ? order[2] + i * stride : NULL;
		for (size_t j = 0; j < stride; j++)
			out[i * stride + j] += grown[j] * (linear[j] + (square ? grown[j] * square[j] : 0));
	}
}

static void strip_free(struct strip *strip)
{
	columns_free(&strip->columns);
	free(strip->total);
	free(strip->rest);
	free(strip->cpu_total);
	free(strip->cpu_lead);
}

static int strip_new(const struct timeline *t, struct strip *strip, size_t count)
{
	int rc = columns_new(t, &strip->columns, count);

	if (rc)
		return rc;
	strip->total = calloc(t->segments * strip->columns.stride, sizeof(float));
	strip->rest = calloc(t->paths * strip->columns.stride, sizeof(float));
	strip->cpu_total = calloc(t->segments, sizeof(float));
	strip->cpu_lead = calloc(t->paths, sizeof(float));
	return strip->total && strip->rest && strip->cpu_total && strip->cpu_lead ? 0 : -ENOMEM;
}

static float context_grown(const struct timeline *t, uint32_t context)
{
	return t->model.scale.context > 0 ? (float)(context / t->model.scale.context) : 0;
}

static void strip_set(const struct timeline *t, struct strip *strip, size_t column, struct op_point point,
		      uint32_t context)
{
	strip->grown[column] = context_grown(t, context);
	fill_column(t, &strip->columns, column, clock_slowness(&t->model.scale, CLOCK_GPU, point.hz[CLOCK_GPU]),
		    clock_slowness(&t->model.scale, CLOCK_MEM, point.hz[CLOCK_MEM]));
}

static void strip_combine(const struct timeline *t, struct strip *strip)
{
	combine_rows(strip->columns.total, t->segments, strip->columns.stride, strip->grown, strip->total);
	combine_rows(strip->columns.rest, t->paths, strip->columns.stride, strip->grown, strip->rest);
}

/* A queue of Q layers, in segments. */
static size_t queue_segments(const struct timeline *t, size_t queue)
{
	if (queue == SIZE_MAX)
		return SCHEDULE_SEGMENTS_MAX;
	size_t segments = queue * t->segments / t->model.layers;
	return segments ? segments : 1;
}

/* ---- fit to totals ---- */

struct totals {
	struct timeline *timeline; /* whose parameters and queue are tried */
	size_t count;
	double log_ns[TIMELINE_TOTALS_MAX], sigma[TIMELINE_TOTALS_MAX], slow[TIMELINE_TOTALS_MAX];
	struct strip strip; /* a column each */
};

static struct launch_schedule strip_schedule(const struct timeline *t, const struct strip *strip, const double *x)
{
	return (struct launch_schedule){.segment = t->segment,
					.segments = t->segments,
					.queue = queue_segments(t, t->queue),
					.delay = (float)exp(x[DELAY] - x[GPU_SCALE]),
					.cpu_total = strip->cpu_total,
					.cpu_lead = strip->cpu_lead,
					.gpu_total = strip->total,
					.gpu_rest = strip->rest,
					.stride = strip->columns.stride};
}

static double with_tail(const double *x, double slowness, float end)
{
	return exp(x[GPU_SCALE]) * (double)end + exp(x[TAIL_PER_CLOCK]) * slowness + exp(x[TAIL_FIXED]);
}

/* Log of the timeline's total for every measured total. */
static void totals_predict(const struct totals *totals, const double *x, double *log_ns)
{
	const struct strip *strip = &totals->strip;
	struct launch_schedule schedule = strip_schedule(totals->timeline, strip, x);
	bool done[TIMELINE_TOTALS_MAX] = {false};
	float end[SCHEDULE_LANES];

	for (size_t k = 0; k < totals->count; k++) {
		size_t lane0 = k / SCHEDULE_LANES * SCHEDULE_LANES;

		if (done[k])
			continue;
		fill_cpu(totals->timeline, totals->slow[k], exp(x[CPU_SCALE] - x[GPU_SCALE]), strip->cpu_total,
			 strip->cpu_lead);
		schedule_lanes(&schedule, lane0, end);
		for (size_t j = k; j < totals->count && j < lane0 + SCHEDULE_LANES; j++) {
			if (totals->slow[j] < totals->slow[k] || totals->slow[j] > totals->slow[k])
				continue;
			done[j] = true;
			log_ns[j] = log(with_tail(x, totals->slow[j], end[j - lane0]));
		}
	}
}

static void totals_evaluate(const void *arg, const double *x, double *residual, double *jacobian)
{
	const struct totals *totals = arg;
	double here[TIMELINE_TOTALS_MAX], there[TIMELINE_TOTALS_MAX], moved[PARAMS];
	const double step = 1e-3;

	totals_predict(totals, x, here);
	for (size_t k = 0; k < totals->count; k++)
		residual[k] = (here[k] - totals->log_ns[k]) / totals->sigma[k];
	for (size_t j = 0; j < PARAMS && jacobian; j++) {
		memcpy(moved, x, sizeof(moved));
		moved[j] += step;
		totals_predict(totals, moved, there);
		for (size_t k = 0; k < totals->count; k++)
			jacobian[k * PARAMS + j] = (there[k] - here[k]) / step / totals->sigma[k];
	}
}

static double totals_solve(const struct totals *totals, const double *mean, size_t queue, size_t iterations, double *x)
{
	struct lsq problem = {.params = PARAMS,
			      .residuals = totals->count,
			      .prior_mean = mean,
			      .prior_sd = prior_sd,
			      .huber = HUBER,
			      .iterations = iterations,
			      .evaluate = totals_evaluate,
			      .arg = totals};

	totals->timeline->queue = queue;
	return lsq_solve(&problem, x, NULL);
}

/* The two likeliest queue depths (powers of two and half-way between) with the other parameters at their expected
 * values. */
static void likely_queues(const struct totals *totals, const double *mean, size_t queue[2])
{
	double value[2] = {INFINITY, INFINITY};

	for (size_t q = 2; q < totals->timeline->model.layers; q *= 2) {
		for (size_t tried = q; tried <= q + q / 2; tried += q / 2) {
			double x[PARAMS];

			memcpy(x, mean, sizeof(x));
			double v = totals_solve(totals, mean, tried, 0, x);
			size_t rank = v < value[0] ? 0 : 1;
			if (v >= value[rank])
				continue;
			value[1] = rank ? v : value[0];
			queue[1] = rank ? tried : queue[0];
			value[0] = rank ? value[0] : v;
			queue[0] = rank ? queue[0] : tried;
		}
	}
}

/* Fit without a queue limit, then with the likely ones; see QUEUE_EVIDENCE. */
static void totals_fit(const struct totals *totals, const double *mean)
{
	struct timeline *t = totals->timeline;
	size_t tried[2] = {SIZE_MAX, SIZE_MAX}, queue = SIZE_MAX;
	double x[PARAMS], best;

	memcpy(t->param, mean, sizeof(t->param));
	best = totals_solve(totals, mean, SIZE_MAX, ITERATIONS, t->param) - QUEUE_EVIDENCE;
	if (best > 0)
		likely_queues(totals, mean, tried);
	for (int i = 0; i < 2 && tried[i] != SIZE_MAX; i++) {
		memcpy(x, mean, sizeof(x));
		double value = totals_solve(totals, mean, tried[i], ITERATIONS, x);
		if (value >= best)
			continue;
		best = value;
		queue = tried[i];
		memcpy(t->param, x, sizeof(x));
	}
	t->queue = queue;
}

static int totals_gather(struct totals *totals, enum phase phase, const struct sample *samples, size_t count)
{
	struct timeline *t = totals->timeline;
	size_t chosen[TIMELINE_TOTALS_MAX] = {0};
	int rc;

	for (size_t i = 0; i < count && totals->count < TIMELINE_TOTALS_MAX; i++)
		if (samples[i].phase == phase && samples[i].latency_ns)
			chosen[totals->count++] = i;
	rc = strip_new(t, &totals->strip, totals->count ? totals->count : 1);
	for (size_t k = 0; k < totals->count && !rc; k++) {
		const struct sample *s = &samples[chosen[k]];
		double ns = (double)s->latency_ns, noise = s->sd_ns ? (double)s->sd_ns / ns : 2 * TOTAL_ERROR;

		totals->log_ns[k] = log(ns);
		totals->sigma[k] = sqrt(TOTAL_ERROR * TOTAL_ERROR + noise * noise / (s->n ? s->n : 1));
		totals->slow[k] = clock_slowness(&t->model.scale, CLOCK_CPU, s->point.hz[CLOCK_CPU]);
		strip_set(t, &totals->strip, k, s->point, s->context);
	}
	if (!rc)
		strip_combine(t, &totals->strip);
	return rc;
}

/* Scales, delay, tail and queue from measured totals; without totals
 * the times of the layers are used as they are. */
static int fit_to_totals(struct timeline *t, enum phase phase, const struct sample *samples, size_t count)
{
	struct totals *totals = calloc(1, sizeof(*totals));
	double predicted[TIMELINE_TOTALS_MAX], squares = 0, level = 0;
	int rc = -ENOMEM;

	if (!totals)
		return -ENOMEM;
	totals->timeline = t;
	t->queue = SIZE_MAX;
	memcpy(t->param, (double[PARAMS]){0, 0, log(DELAY_GUESS_NS), -INFINITY, -INFINITY}, sizeof(t->param));
	rc = totals_gather(totals, phase, samples, count);
	if (rc || !totals->count)
		goto out;
	for (size_t k = 0; k < totals->count; k++)
		level += totals->log_ns[k] / (double)totals->count;
	double mean[PARAMS] = {0, 0, log(DELAY_GUESS_NS), level + log(TAIL_GUESS), level + log(TAIL_GUESS)};
	totals_fit(totals, mean);
	totals_predict(totals, t->param, predicted);
	for (size_t k = 0; k < totals->count; k++)
		squares += (totals->log_ns[k] - predicted[k]) * (totals->log_ns[k] - predicted[k]);
	t->total_error = sqrt(squares / (double)totals->count);
out:
	strip_free(&totals->strip);
	free(totals);
	return rc;
}

/* ---- set-up ---- */

/* Segments from the layers at the reference clocks. */
static int cut(struct timeline *t)
{
	size_t layers = t->model.layers;
	double *cpu = calloc(layers, sizeof(*cpu)), *gpu = calloc(layers, sizeof(*gpu));
	bool *sync = calloc(layers, sizeof(*sync));
	int rc = -ENOMEM;

	t->segment = calloc(SCHEDULE_SEGMENTS_MAX, sizeof(*t->segment));
	t->path_layer = calloc(SCHEDULE_SEGMENTS_MAX * SCHEDULE_PATHS_MAX, sizeof(*t->path_layer));
	if (!cpu || !gpu || !sync || !t->segment || !t->path_layer)
		goto out;
	t->orders = 1;
	for (size_t i = 0; i < layers; i++) {
		const struct layer_fit *fit = &t->model.fit[i];

		cpu[i] = layer_cpu_ns(fit, 1);
		gpu[i] = fit->gpu_fixed + layer_gpu_scaled_ns(fit, 1, 1) * (1 + fit->linear + fit->square);
		sync[i] = fit->sync;
		if (fit->square > 0)
			t->orders = 3;
		else if (fit->linear > 0 && t->orders < 2)
			t->orders = 2;
	}
	t->segments = schedule_cut(cpu, gpu, sync, layers, t->segment, t->path_layer, &t->paths);
	rc = 0;
out:
	free(cpu);
	free(gpu);
	free(sync);
	return rc;
}

int timeline_tables_new(struct timeline *t)
{
	const struct grid *grid = &t->grid;
	size_t cpus = grid->count[CLOCK_CPU];
	int rc = columns_new(t, &t->base, grid->count[CLOCK_GPU] * grid->count[CLOCK_MEM]);

	if (!rc)
		rc = strip_new(t, &t->single, 1);
	if (rc)
		return rc;
	t->total = calloc(t->segments * t->base.stride, sizeof(float));
	t->rest = calloc(t->paths * t->base.stride, sizeof(float));
	t->sum = calloc(t->base.stride, sizeof(float));
	t->cpu_total = calloc(cpus * t->segments, sizeof(float));
	t->cpu_lead = calloc(cpus * t->paths, sizeof(float));
	return t->total && t->rest && t->sum && t->cpu_total && t->cpu_lead ? 0 : -ENOMEM;
}

/* Tables of every CPU clock and every (GPU, memory) setting of the grid. */
static int lay_out(struct timeline *t)
{
	const struct grid *grid = &t->grid;
	size_t mems = grid->count[CLOCK_MEM];
	int rc = timeline_tables_new(t);

	for (size_t j = 0; j < t->base.count && !rc; j++)
		fill_column(t, &t->base, j, clock_slowness(&t->model.scale, CLOCK_GPU, grid->hz[CLOCK_GPU][j / mems]),
			    clock_slowness(&t->model.scale, CLOCK_MEM, grid->hz[CLOCK_MEM][j % mems]));
	for (size_t i = 0; i < grid->count[CLOCK_CPU] && !rc; i++)
		fill_cpu(t, clock_slowness(&t->model.scale, CLOCK_CPU, grid->hz[CLOCK_CPU][i]),
			 exp(t->param[CPU_SCALE] - t->param[GPU_SCALE]), t->cpu_total + i * t->segments,
			 t->cpu_lead + i * t->paths);
	return rc;
}

int timeline_fit(const struct grid *grid, enum phase phase, const struct layer *layers, size_t layer_count,
		 const struct sample *totals, size_t total_count, struct timeline **out)
{
	struct timeline *t = calloc(1, sizeof(*t));
	int rc;

	*out = NULL;
	if (!t)
		return -ENOMEM;
	t->grid = *grid;
	rc = layer_model_fit(&t->model, phase, layers, layer_count);
	if (!rc)
		rc = cut(t);
	if (!rc)
		rc = fit_to_totals(t, phase, totals, totals ? total_count : 0);
	if (!rc)
		rc = lay_out(t);
	if (rc)
		timeline_free(t);
	else
		*out = t;
	return rc;
}

size_t timeline_bytes(const struct timeline *t)
{
	size_t cpus, floats, strip;

	if (!t)
		return 0;
	cpus = t->grid.count[CLOCK_CPU];
	strip = t->single.columns.stride * (1 + t->orders) + 1;
	floats = (t->segments + t->paths) * (t->base.stride * (1 + t->orders) + cpus + strip) + t->base.stride;
	return sizeof(*t) + t->model.layers * sizeof(*t->model.fit) + floats * sizeof(float) +
	       SCHEDULE_SEGMENTS_MAX * (sizeof(*t->segment) + SCHEDULE_PATHS_MAX * sizeof(*t->path_layer));
}

void timeline_free(struct timeline *t)
{
	if (!t)
		return;
	layer_model_free(&t->model);
	columns_free(&t->base);
	strip_free(&t->single);
	free(t->segment);
	free(t->path_layer);
	free(t->total);
	free(t->rest);
	free(t->sum);
	free(t->cpu_total);
	free(t->cpu_lead);
	free(t);
}

/* ---- the surface ---- */

/* Execution rows at one context, kept for the next call. */
static void combine(struct timeline *t, uint32_t context)
{
	size_t stride = t->base.stride;
	float grown[GRID_POINTS_MAX + SCHEDULE_LANES];

	if (t->combined && (t->context == context || t->orders == 1))
		return;
	for (size_t j = 0; j < stride; j++)
		grown[j] = context_grown(t, context);
	combine_rows(t->base.total, t->segments, stride, grown, t->total);
	combine_rows(t->base.rest, t->paths, stride, grown, t->rest);
	memset(t->sum, 0, stride * sizeof(*t->sum));
	for (size_t i = 0; i < t->segments; i++)
		for (size_t j = 0; j < stride; j++)
			t->sum[j] += t->total[i * stride + j];
	t->context = context;
	t->combined = true;
}

enum regime timeline_regime(double latency, double launch, double execution)
{
	bool launch_bound = launch >= REGIME_SHARE * latency, execution_bound = execution >= REGIME_SHARE * latency;

	if (launch_bound == execution_bound)
		return REGIME_MIXED;
	return launch_bound ? REGIME_LAUNCH_BOUND : REGIME_EXECUTION_BOUND;
}

void timeline_surface(struct timeline *t, uint32_t context, float *latency_ns, uint8_t *regime, float *bubble_ns)
{
	float scale = (float)exp(t->param[GPU_SCALE]), end[SCHEDULE_LANES];
	struct launch_schedule schedule = {.segment = t->segment,
					   .segments = t->segments,
					   .queue = queue_segments(t, t->queue),
					   .delay = (float)exp(t->param[DELAY] - t->param[GPU_SCALE]),
					   .gpu_total = t->total,
					   .gpu_rest = t->rest,
					   .stride = t->base.stride};

	combine(t, context);
	for (size_t i = 0; i < t->grid.count[CLOCK_CPU]; i++) {
		double slowness = clock_slowness(&t->model.scale, CLOCK_CPU, t->grid.hz[CLOCK_CPU][i]);
		float tail = (float)with_tail(t->param, slowness, 0), launch = tail, first;

		schedule.cpu_total = t->cpu_total + i * t->segments;
		schedule.cpu_lead = t->cpu_lead + i * t->paths;
		first = scale * (schedule.cpu_lead[0] + schedule.delay);
		for (size_t s = 0; s < t->segments; s++)
			launch += scale * schedule.cpu_total[s];
		for (size_t j = 0; j < t->base.count; j++) {
			size_t point = i * t->base.count + j, lane = j % SCHEDULE_LANES;

			if (!lane)
				schedule_lanes(&schedule, j, end);
			latency_ns[point] = scale * end[lane] + tail;
			if (bubble_ns)
				bubble_ns[point] = fmaxf(scale * (end[lane] - t->sum[j]) - first, 0);
			if (regime)
				regime[point] = (uint8_t)timeline_regime(latency_ns[point], launch, scale * t->sum[j]);
		}
	}
}

/* Index of a clock in the grid, or the number of entries when it is not there. */
static size_t entry_of(const struct grid *grid, enum clock_id clock, uint64_t hz)
{
	size_t i = 0;

	while (i < grid->count[clock] && grid->hz[clock][i] != hz)
		i++;
	return i;
}

/* One column of the grid's tables at a context, into the first lane of the strip. */
static void pick_column(struct timeline *t, size_t column, float grown)
{
	const struct columns *base = &t->base;
	float power[ORDERS] = {1, grown, grown * grown};

	memset(t->single.total, 0, t->segments * SCHEDULE_LANES * sizeof(float));
	memset(t->single.rest, 0, t->paths * SCHEDULE_LANES * sizeof(float));
	for (size_t o = 0; o < t->orders; o++) {
		for (size_t i = 0; i < t->segments; i++)
			t->single.total[i * SCHEDULE_LANES] += power[o] * base->total[o][i * base->stride + column];
		for (size_t i = 0; i < t->paths; i++)
			t->single.rest[i * SCHEDULE_LANES] += power[o] * base->rest[o][i * base->stride + column];
	}
}

double timeline_latency_ns(struct timeline *t, struct op_point point, uint32_t context)
{
	struct strip *strip = &t->single;
	struct launch_schedule schedule = strip_schedule(t, strip, t->param);
	double slowness = clock_slowness(&t->model.scale, CLOCK_CPU, point.hz[CLOCK_CPU]);
	size_t gpu = entry_of(&t->grid, CLOCK_GPU, point.hz[CLOCK_GPU]),
	       mem = entry_of(&t->grid, CLOCK_MEM, point.hz[CLOCK_MEM]);
	float end[SCHEDULE_LANES];

	if (gpu < t->grid.count[CLOCK_GPU] && mem < t->grid.count[CLOCK_MEM]) {
		pick_column(t, gpu * t->grid.count[CLOCK_MEM] + mem, context_grown(t, context));
	} else {
		strip_set(t, strip, 0, point, context);
		strip_combine(t, strip);
	}
	fill_cpu(t, slowness, exp(t->param[CPU_SCALE] - t->param[GPU_SCALE]), strip->cpu_total, strip->cpu_lead);
	schedule_lanes(&schedule, 0, end);
	return with_tail(t->param, slowness, end[0]);
}

struct timeline_facts timeline_facts(const struct timeline *t)
{
	struct timeline_facts facts = {
		.layers = t->model.layers,
		.segments = t->segments,
		.delay_ns = exp(t->param[DELAY]),
		.queue_depth = t->queue == SIZE_MAX ? 0 : (uint32_t)t->queue,
		.cpu_scale = exp(t->param[CPU_SCALE]),
		.gpu_scale = exp(t->param[GPU_SCALE]),
		.tail_per_clock_ns = exp(t->param[TAIL_PER_CLOCK]),
		.tail_fixed_ns = exp(t->param[TAIL_FIXED]),
		.cpu_reference_hz = t->model.scale.hz[CLOCK_CPU],
		.total_error = t->total_error,
	};

	memcpy(facts.distinct, t->model.distinct, sizeof(facts.distinct));
	return facts;
}
