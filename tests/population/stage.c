/* SPDX-License-Identifier: MIT */
#include "stage.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READING_NOISE   0.008 /* of the power sensor */
#define MASKS           (1u << LOOP_SESSIONS_MAX)
#define REQUESTS_MOST   8 /* x the requests configured: a fast session beside a slow one */
#define STEADY_WINDOW   20
#define STEADY_SHARE    0.05
#define ORACLE_REQUESTS 60   /* of each session, for its phases to drift against each other */
#define STRETCH         1.15 /* of deadlines that no point can meet */
#define STRETCHES_MAX   8

enum phase_of { AWAY, IDLE, WAITING, RUNNING };

struct client_now {
	enum phase_of phase;
	uint64_t next_ns, begin_ns;
	double due_ns, left, factor;
	size_t ended;
	struct board_noise noise;
	struct sim_rng rng; /* of its own, so that its draws do not depend on the manager */
};

struct stage {
	const struct stage_run *run;
	const struct manager *manager;
	struct stage_outcome *out;
	struct client_now client[LOOP_SESSIONS_MAX];
	struct sim_rng sensor;
	uint64_t now_ns;
	double optimum[MASKS];
	double price_sum, optimum_sum, late_price, late_optimum;
	size_t sensed_point;
	unsigned sensed_mask;
	double *price; /* of each request of session 0; NULL: not wanted */
	size_t prices;
	const double *upper; /* noise on every request of each session, for the oracle; NULL: as drawn */
};

static unsigned there(const struct stage *s)
{
	unsigned mask = 0;

	for (size_t i = 0; i < s->run->loop.sessions; i++)
		mask |= s->client[i].phase != AWAY ? 1u << i : 0;
	return mask;
}

/* The pattern of some of the sessions. */
static struct loop_run part(const struct stage_run *run, unsigned mask)
{
	struct loop_run of = run->loop;

	of.sessions = 0;
	for (size_t i = 0; i < run->loop.sessions; i++)
		if (mask & 1u << i)
			of.session[of.sessions++] = run->loop.session[i];
	return of;
}

/* ---- power ---- */

static size_t in_flight(const struct stage *s, size_t *who, bool running)
{
	size_t n = 0;

	for (size_t i = 0; i < s->run->loop.sessions; i++)
		if (s->client[i].phase == RUNNING || (!running && s->client[i].phase == WAITING))
			who[n++] = i;
	return n;
}

static double power_now(const struct stage *s, size_t point)
{
	size_t who[LOOP_SESSIONS_MAX], n = in_flight(s, who, true);
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += s->run->loop.board->work[s->run->loop.session[who[i]].work].power_uw[point];
	return n ? sum / (double)n : s->run->loop.board->idle_uw[point];
}

static void sense(struct stage *s, size_t point)
{
	size_t who[LOOP_SESSIONS_MAX];
	unsigned mask = (unsigned)in_flight(s, who, true);

	for (size_t i = 0; i < LOOP_SESSIONS_MAX; i++)
		mask |= (unsigned)(s->client[i].phase == RUNNING) << (i + 4);
	if (point == s->sensed_point && mask == s->sensed_mask)
		return;
	s->sensed_point = point;
	s->sensed_mask = mask;
	s->manager->sense(s->manager->state, power_now(s, point) * (1 + READING_NOISE * sim_gauss(&s->sensor)));
}

/* ---- time passes ---- */

static void paces(const struct stage *s, double pace[LOOP_SESSIONS_MAX])
{
	size_t who[LOOP_SESSIONS_MAX], work[LOOP_SESSIONS_MAX], n = in_flight(s, who, true);
	double got[LOOP_SESSIONS_MAX];

	for (size_t i = 0; i < n; i++)
		work[i] = s->run->loop.session[who[i]].work;
	if (n)
		board_paces(s->run->loop.board, work, n, got);
	for (size_t i = 0; i < LOOP_SESSIONS_MAX; i++)
		pace[i] = 0;
	for (size_t i = 0; i < n; i++)
		pace[who[i]] = got[i];
}

static double whole_ns(const struct stage *s, size_t i, size_t point)
{
	return s->run->loop.board->work[s->run->loop.session[i].work].latency_ns[point] * s->client[i].factor;
}

static bool warm(const struct stage *s)
{
	for (size_t i = 0; i < s->run->loop.sessions; i++)
		if (s->client[i].phase != AWAY && s->client[i].ended < s->run->loop.warm)
			return false;
	return true;
}

static void account(struct stage *s, size_t point, double ns)
{
	size_t who[LOOP_SESSIONS_MAX], n = in_flight(s, who, false);
	unsigned mask = there(s);
	bool energy = s->run->loop.objective == OBJECTIVE_ENERGY;

	s->out->energy_uj += power_now(s, point) * ns / 1e9;
	s->out->all_ns += ns;
	s->out->busy_ns += n ? ns : 0;
	/* Where no point keeps every deadline there is nothing to compare with. */
	if ((!energy && !n) || !isfinite(s->optimum[mask]))
		return;
	struct loop_run of = part(s->run, mask);
	double price = energy ? power_now(s, point) : loop_price(&of, point);
	if (warm(s)) {
		s->price_sum += price * ns;
		s->optimum_sum += s->optimum[mask] * ns;
	}
	if (s->client[0].ended >= s->run->loop.requests - s->run->loop.requests / 10) {
		s->late_price += price * ns;
		s->late_optimum += s->optimum[mask] * ns;
	}
}

static void tell_busy(struct stage *s, size_t point, double ns, const double *pace)
{
	const struct board_made *board = s->run->loop.board;
	struct op_point at = grid_point(&board->grid, point), top = grid_point(&board->grid, board->grid.points - 1);
	double cpu = 0, gpu = 0;

	if (!s->manager->busy)
		return;
	/* The fastest time of a work is that of its busier engine; at other clocks that engine's share scales with its
	 * clock. */
	for (size_t i = 0; i < s->run->loop.sessions; i++) {
		const struct board_work *work = &board->work[s->run->loop.session[i].work];
		if (pace[i] <= 0)
			continue;
		for (int c = 0; c < 2; c++) {
			double stretch = at.hz[c] ? (double)top.hz[c] / (double)at.hz[c] : 1;
			double share = fmin(0.85 * work->fastest_ns * stretch / work->latency_ns[point], 1) * pace[i];
			*(c ? &gpu : &cpu) += share;
		}
	}
	s->manager->busy(s->manager->state, (uint64_t)ns, fmin(cpu, 1), fmin(gpu, 1));
}

/* The time of the next event. */
static uint64_t next_ns(const struct stage *s, size_t point, const double *pace)
{
	uint64_t next = s->manager->next_ns(s->manager->state);

	for (size_t i = 0; i < s->run->loop.sessions; i++) {
		const struct client_now *c = &s->client[i];
		uint64_t at = STAGE_NEVER;
		if (c->phase == IDLE)
			at = c->next_ns;
		else if (c->phase == RUNNING)
			at = s->now_ns + (uint64_t)ceil(fmax(c->left, 0) * whole_ns(s, i, point) / pace[i]);
		next = at < next ? at : next;
	}
	return next > s->now_ns ? next : s->now_ns;
}

static void pass(struct stage *s)
{
	size_t point = s->manager->point(s->manager->state);
	double pace[LOOP_SESSIONS_MAX];

	paces(s, pace);
	sense(s, point);
	uint64_t to_ns = next_ns(s, point, pace);
	double ns = (double)(to_ns - s->now_ns);
	if (to_ns == STAGE_NEVER) {
		fprintf(stderr, "population: nothing happens any more\n");
		abort();
	}
	account(s, point, ns);
	tell_busy(s, point, ns, pace);
	for (size_t i = 0; i < s->run->loop.sessions; i++)
		if (pace[i] > 0)
			s->client[i].left -= ns * pace[i] / whole_ns(s, i, point);
	s->now_ns = to_ns;
	s->manager->pass(s->manager->state, to_ns);
}

/* ---- clients ---- */

static void come(struct stage *s, size_t i)
{
	struct client_now *c = &s->client[i];

	const struct loop_session *x = &s->run->loop.session[i];
	double since = fmax((double)s->now_ns - x->offset_ns, 0),
	       periods = x->period_ns > 0 ? ceil(since / x->period_ns) : 0;

	/* Frames keep their phase, whenever the client comes. */
	c->phase = IDLE;
	c->due_ns = fmax(x->offset_ns + periods * x->period_ns, (double)s->now_ns);
	c->next_ns = (uint64_t)c->due_ns;
	c->ended = 0;
	s->manager->open(s->manager->state, i);
}

static void come_and_go(struct stage *s)
{
	size_t ended = s->client[0].ended;

	for (size_t i = 0; i < s->run->loop.sessions; i++) {
		bool wanted = ended >= s->run->join[i] && ended < s->run->leave[i];
		if (wanted && s->client[i].phase == AWAY) {
			come(s, i);
		} else if (!wanted && s->client[i].phase == IDLE) {
			s->client[i].phase = AWAY;
			s->manager->close(s->manager->state, i);
		}
	}
}

static void begin(struct stage *s, size_t i)
{
	struct client_now *c = &s->client[i];

	c->phase = WAITING;
	c->begin_ns = s->now_ns;
	c->left = 1;
	c->factor = s->upper ? s->upper[i] : board_noise_next(&c->noise, &c->rng);
	s->manager->begin(s->manager->state, i, (uint64_t)s->run->loop.session[i].deadline_ns);
}

static void end(struct stage *s, size_t i)
{
	struct client_now *c = &s->client[i];
	const struct loop_session *x = &s->run->loop.session[i];
	uint64_t total_ns = s->now_ns - c->begin_ns;
	bool missed = (double)total_ns > x->deadline_ns;

	c->phase = IDLE;
	c->ended++;
	s->out->requests++;
	s->out->early += c->ended <= STAGE_FIRST;
	s->out->early_missed += missed && c->ended <= STAGE_FIRST;
	if (c->ended > s->run->loop.warm && isfinite(s->optimum[there(s)])) {
		s->out->counted++;
		s->out->missed += missed;
	}
	if (getenv("STAGE_TRACE") && s->price)
		fprintf(stderr, "%12.3f ms  session %zu #%zu point %zu total %.3f of %.3f ms%s\n",
			(double)s->now_ns / 1e6, i, c->ended, s->manager->point(s->manager->state),
			(double)total_ns / 1e6, x->deadline_ns / 1e6, missed ? "  MISSED" : "");
	s->out->rate_ratio += fmin(1, x->deadline_ns / (double)total_ns);
	if (i == 0 && s->price && s->prices < s->run->loop.requests * REQUESTS_MOST) {
		struct loop_run of = part(s->run, there(s));
		s->price[s->prices++] = loop_price(&of, s->manager->point(s->manager->state)) / s->optimum[there(s)];
	}
	s->manager->end(s->manager->state, i, total_ns);
	c->due_ns += x->period_ns;
	double jitter = x->arrival == ARRIVE_JITTERED ? sim_uniform(&c->rng, -0.2, 0.2) * x->period_ns : 0;
	c->next_ns = (uint64_t)fmax(c->due_ns + jitter, (double)s->now_ns + 1000);
	if (c->due_ns < (double)s->now_ns)
		c->due_ns = (double)s->now_ns;
}

static bool act(struct stage *s)
{
	bool acted = false;

	for (size_t i = 0; i < s->run->loop.sessions; i++) {
		struct client_now *c = &s->client[i];
		if (c->phase == RUNNING && c->left <= 1e-9) {
			end(s, i);
			acted = true;
		} else if (c->phase == WAITING && s->manager->ready(s->manager->state, i)) {
			c->phase = RUNNING;
			acted = true;
		} else if (c->phase == IDLE && c->next_ns <= s->now_ns) {
			begin(s, i);
			acted = true;
		}
	}
	come_and_go(s);
	return acted;
}

static bool done(const struct stage *s)
{
	size_t least = SIZE_MAX;

	for (size_t i = 0; i < s->run->loop.sessions; i++)
		if (s->run->join[i] == 0 && s->run->leave[i] == SIZE_MAX && s->client[i].ended < least)
			least = s->client[i].ended;
	return least >= s->run->loop.requests || s->out->requests >= REQUESTS_MOST * s->run->loop.requests;
}

/* From which request on a moving mean stays within STEADY_SHARE of that of the last quarter. */
static size_t steady_after(const double *price, size_t n)
{
	double end = 0, sum = 0;
	size_t last = 0, quarter = n / 4 + 1;

	for (size_t i = n - quarter; i < n; i++)
		end += price[i] / (double)quarter;
	for (size_t i = 0; i < n; i++) {
		sum += price[i] - (i >= STEADY_WINDOW ? price[i - STEADY_WINDOW] : 0);
		double mean = sum / (double)(i < STEADY_WINDOW ? i + 1 : STEADY_WINDOW);
		if (fabs(mean / end - 1) > STEADY_SHARE)
			last = i + 1;
	}
	return last;
}

static void start(struct stage *s, const struct stage_run *run, const struct manager *manager,
		  struct stage_outcome *out)
{
	memset(s, 0, sizeof(*s));
	memset(out, 0, sizeof(*out));
	s->run = run;
	s->manager = manager;
	s->out = out;
	s->sensor.state = run->loop.seed * 31 + 7;
	s->sensed_point = SIZE_MAX;
	for (size_t i = 0; i < run->loop.sessions; i++) {
		s->client[i].noise = run->loop.board->work[run->loop.session[i].work].noise;
		s->client[i].rng.state = run->loop.seed * 37 + 1000 * i + 1;
	}
	come_and_go(s);
}

/* ---- the oracle ---- */

static void at_open(void *state, size_t session)
{
	(void)state;
	(void)session;
}
static void at_begin(void *state, size_t session, uint64_t ns)
{
	(void)state;
	(void)session;
	(void)ns;
}
static bool at_ready(void *state, size_t session)
{
	(void)state;
	(void)session;
	return true;
}
static uint64_t at_next(void *state)
{
	(void)state;
	return STAGE_NEVER;
}
static void at_pass(void *state, uint64_t ns)
{
	(void)state;
	(void)ns;
}
static size_t at_point(void *state)
{
	return *(size_t *)state;
}
static void at_sense(void *state, double power_uw)
{
	(void)state;
	(void)power_uw;
}

static bool in_time(const struct stage_run *run, size_t point, const double *upper)
{
	static struct stage stage;
	struct manager fixed = {&point,  at_open, at_open,  at_begin, at_ready, at_begin,
				at_next, at_pass, at_point, at_sense, NULL};
	struct stage_outcome out;

	for (size_t i = 0; i < run->loop.sessions; i++) {
		const struct loop_session *x = &run->loop.session[i];
		if (run->loop.board->work[x->work].latency_ns[point] * upper[i] > x->deadline_ns)
			return false;
	}
	if (run->loop.sessions == 1)
		return true;
	start(&stage, run, &fixed, &out);
	stage.upper = upper;
	while (!done(&stage) && !out.missed) {
		while (act(&stage))
			;
		pass(&stage);
	}
	return !out.missed;
}

struct candidate {
	double price;
	size_t point;
};

static int by_price(const void *a, const void *b)
{
	double x = ((const struct candidate *)a)->price, y = ((const struct candidate *)b)->price;

	return (x > y) - (x < y);
}

double stage_optimum(const struct stage_run *run, unsigned mask, size_t *point)
{
	static struct candidate candidate[GRID_POINTS_MAX];
	struct stage_run of = {.loop = part(run, mask)};
	double upper[LOOP_SESSIONS_MAX];

	of.loop.warm = 0;
	of.loop.requests = ORACLE_REQUESTS;
	for (size_t i = 0; i < LOOP_SESSIONS_MAX; i++)
		of.leave[i] = SIZE_MAX;
	for (size_t i = 0; i < of.loop.sessions; i++)
		upper[i] =
			board_noise_quantile(&run->loop.board->work[of.loop.session[i].work].noise, QUANTILE_DEFAULT);
	for (size_t i = 0; i < run->loop.board->grid.points; i++)
		candidate[i] = (struct candidate){loop_price(&of.loop, i), i};
	qsort(candidate, run->loop.board->grid.points, sizeof(*candidate), by_price);
	for (size_t i = 0; i < run->loop.board->grid.points; i++)
		if (in_time(&of, candidate[i].point, upper)) {
			if (point)
				*point = candidate[i].point;
			return candidate[i].price;
		}
	return INFINITY;
}

/* ---- a whole run ---- */

bool stage_draw(struct stage_run *run, const struct board_made *board, size_t sessions, size_t requests, uint64_t seed)
{
	struct sim_rng rng = {seed * 31337 + 3};

	memset(run, 0, sizeof(*run));
	if (!loop_draw(&run->loop, board, sessions, seed))
		return false;
	run->loop.requests = requests;
	for (size_t i = 0; i < LOOP_SESSIONS_MAX; i++)
		run->leave[i] = SIZE_MAX;
	/* In two of three, the last to come stays for a part. */
	if (sessions > 1 && sim_uniform(&rng, 0, 1) < 0.67) {
		run->join[sessions - 1] = (size_t)(sim_uniform(&rng, 0, 0.4) * (double)requests);
		if (sim_uniform(&rng, 0, 1) < 0.5)
			run->leave[sessions - 1] = (size_t)(sim_uniform(&rng, 0.7, 0.95) * (double)requests);
	}
	/* The draw's deadlines are those of one alignment of the sessions; here every one has to be feasible. */
	for (int i = 0; sessions > 1 && !isfinite(stage_optimum(run, (1u << sessions) - 1, NULL)); i++) {
		if (i >= STRETCHES_MAX)
			return false;
		for (size_t k = 0; k < sessions; k++) {
			run->loop.session[k].deadline_ns *= STRETCH;
			run->loop.session[k].period_ns *= STRETCH;
			run->loop.session[k].offset_ns *= STRETCH;
		}
	}
	return true;
}

void stage_play(const struct stage_run *run, const struct manager *manager, struct stage_outcome *out)
{
	static struct stage stage;
	struct stage *s = &stage;

	double optimum[MASKS] = {0};

	for (unsigned mask = 1; mask < 1u << run->loop.sessions; mask++)
		optimum[mask] = stage_optimum(run, mask, NULL);
	start(s, run, manager, out);
	memcpy(s->optimum, optimum, sizeof(optimum));
	s->price = calloc(run->loop.requests * REQUESTS_MOST, sizeof(*s->price));
	if (!s->price)
		abort();
	while (!done(s)) {
		while (act(s))
			;
		if (!done(s))
			pass(s);
	}
	out->power = s->optimum_sum > 0 ? s->price_sum / s->optimum_sum : 0;
	out->late_power = s->late_optimum > 0 ? s->late_price / s->late_optimum : 0;
	out->rate_ratio /= (double)out->requests;
	out->steady_after = steady_after(s->price, s->prices);
	free(s->price);
}
