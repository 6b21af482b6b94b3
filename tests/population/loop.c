/* SPDX-License-Identifier: MIT */
#include "loop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../common/clock.h"

#define READING_NOISE   0.008
#define SETTLE_MARGIN   1.1
#define SETTLE_SHARE    20
#define ORACLE_REQUESTS 24
#define NEVER           1e300
#define TOTAL_MAX       16 /* times the requests of one session, in all */

const char *const arrival_name[ARRIVALS] = {"back to back", "periodic", "jittered"};

/* ---- the plant: requests in flight on clocks that move ---- */

struct flight {
	bool active, waiting;
	double begin_ns, start_ns, deadline_ns; /* absolute */
	double left, factor;                    /* share left; noise on it */
	double alone_ns;                        /* time it was the only one in flight */
	bool contended;
	double moved_ns; /* from its start until the clocks stood */
	size_t at_point, from_point;
	double work_ns;
	struct decision decision;
};

struct plant_now {
	const struct loop_run *run;
	struct flight flight[LOOP_SESSIONS_MAX];
	size_t axis[CLOCK_COUNT], target[CLOCK_COUNT];
	int moving; /* clock under way; -1: none */
	size_t moving_to;
	double moved_ns; /* when it will be there */
	double now_ns;
};

static size_t point_of(const struct plant_now *p, const size_t axis[CLOCK_COUNT])
{
	return grid_index(&p->run->board->grid, axis);
}

static bool settled(const struct plant_now *p)
{
	return p->moving < 0;
}

/* The keeper moves one clock after the other, those that come up first. */
static void next_move(struct plant_now *p)
{
	const struct board_made *b = p->run->board;

	p->moving = -1;
	p->moved_ns = NEVER;
	for (int up = 1; up >= 0 && p->moving < 0; up--)
		for (int c = 0; c < CLOCK_COUNT && p->moving < 0; c++)
			if (up ? p->target[c] > p->axis[c] : p->target[c] < p->axis[c]) {
				p->moving = c;
				p->moving_to = p->target[c];
				p->moved_ns = p->now_ns + (p->run->free_moves ? 0 : up ? b->up_ns[c] : b->down_ns[c]);
			}
}

static bool any_up(const struct plant_now *p)
{
	for (int c = 0; c < CLOCK_COUNT; c++)
		if (p->target[c] > p->axis[c])
			return true;
	return false;
}

static void paces(const struct plant_now *p, double pace[LOOP_SESSIONS_MAX])
{
	size_t work[LOOP_SESSIONS_MAX], who[LOOP_SESSIONS_MAX], n = 0;
	double got[LOOP_SESSIONS_MAX];

	for (size_t s = 0; s < p->run->sessions; s++) {
		pace[s] = 0;
		if (p->flight[s].active && !p->flight[s].waiting) {
			who[n] = s;
			work[n++] = p->run->session[s].work;
		}
	}
	if (!n)
		return;
	board_paces(p->run->board, work, n, got);
	for (size_t i = 0; i < n; i++)
		pace[who[i]] = got[i];
}

static double latency_of(const struct plant_now *p, size_t s)
{
	return p->run->board->work[p->run->session[s].work].latency_ns[point_of(p, p->axis)] * p->flight[s].factor;
}

/* Let time pass to `to_ns` or the first end or arrival of a clock. Returns the session that ended, SIZE_MAX: none. */
static size_t pass(struct plant_now *p, double to_ns)
{
	double pace[LOOP_SESSIONS_MAX], end_ns = fmin(to_ns, p->moved_ns);
	size_t ended = SIZE_MAX, active = 0;

	paces(p, pace);
	for (size_t s = 0; s < p->run->sessions; s++) {
		active += p->flight[s].active;
		if (pace[s] <= 0)
			continue;
		double done_ns = p->now_ns + p->flight[s].left * latency_of(p, s) / pace[s];
		if (done_ns <= end_ns) {
			end_ns = done_ns;
			ended = s;
		}
	}
	for (size_t s = 0; s < p->run->sessions; s++) {
		if (pace[s] <= 0)
			continue;
		p->flight[s].left -= (end_ns - p->now_ns) * pace[s] / latency_of(p, s);
		p->flight[s].contended = p->flight[s].contended || active > 1;
	}
	p->now_ns = end_ns;
	if (ended == SIZE_MAX && p->moving >= 0 && end_ns >= p->moved_ns) {
		p->axis[p->moving] = p->moving_to;
		for (size_t s = 0; s < p->run->sessions; s++)
			if (p->flight[s].active && !p->flight[s].waiting)
				p->flight[s].moved_ns = p->now_ns - p->flight[s].start_ns;
		next_move(p);
	}
	return ended;
}

static void plant_begin(struct plant_now *p, const struct loop_run *run, size_t point)
{
	memset(p, 0, sizeof(*p));
	p->run = run;
	grid_axes(&run->board->grid, point, p->axis);
	memcpy(p->target, p->axis, sizeof(p->axis));
	p->moving = -1;
	p->moved_ns = NEVER;
}

/* ---- oracle ---- */

double loop_price(const struct loop_run *run, size_t point)
{
	double sum = 0;

	for (size_t s = 0; s < run->sessions; s++) {
		const struct board_work *w = &run->board->work[run->session[s].work];
		double power = w->power_uw[point],
		       time = run->session[s].period_ns > 0 ? run->session[s].period_ns : run->session[s].deadline_ns;
		double busy = fmin(w->latency_ns[point] / time, 1);
		sum += run->objective == OBJECTIVE_POWER ? power :
							   busy * power + (1 - busy) * run->board->idle_uw[point];
	}
	return sum / (double)run->sessions;
}

/* Is every request in time at this point, each `upper` x its latency? `worst`: longest total over
 * deadline, per session. */
static bool in_time_at(const struct loop_run *run, size_t point, const double *upper, double *worst)
{
	struct plant_now p;
	double next_ns[LOOP_SESSIONS_MAX];
	size_t done[LOOP_SESSIONS_MAX] = {0}, least = 0;
	bool good = true;

	plant_begin(&p, run, point);
	for (size_t s = 0; s < run->sessions; s++)
		next_ns[s] = run->session[s].offset_ns;
	while (least < ORACLE_REQUESTS) {
		double to_ns = NEVER;
		for (size_t s = 0; s < run->sessions; s++)
			if (!p.flight[s].active)
				to_ns = fmin(to_ns, fmax(next_ns[s], p.now_ns));
		size_t ended = pass(&p, to_ns);
		if (ended != SIZE_MAX) {
			struct flight *f = &p.flight[ended];
			f->active = false;
			double total = p.now_ns - f->begin_ns;
			good = good && total <= run->session[ended].deadline_ns;
			if (worst)
				worst[ended] = fmax(worst[ended], total);
			if (!good && !worst)
				return false;
			done[ended]++;
		}
		for (size_t s = 0; s < run->sessions; s++) {
			struct flight *f = &p.flight[s];
			if (f->active || next_ns[s] > p.now_ns)
				continue;
			*f = (struct flight){.active = true, .begin_ns = p.now_ns, .left = 1, .factor = upper[s]};
			next_ns[s] += run->session[s].period_ns;
			if (next_ns[s] < p.now_ns)
				next_ns[s] = p.now_ns;
		}
		least = SIZE_MAX;
		for (size_t s = 0; s < run->sessions; s++)
			least = done[s] < least ? done[s] : least;
	}
	return good;
}

static void uppers(const struct loop_run *run, double *upper)
{
	for (size_t s = 0; s < run->sessions; s++)
		upper[s] = board_noise_quantile(&run->board->work[run->session[s].work].noise, QUANTILE_DEFAULT);
}

double loop_optimum(const struct loop_run *run, size_t *point)
{
	double least = INFINITY, upper[LOOP_SESSIONS_MAX];

	uppers(run, upper);
	for (size_t i = 0; i < run->board->grid.points; i++) {
		double price = loop_price(run, i);
		if (price >= least || !in_time_at(run, i, upper, NULL))
			continue;
		least = price;
		if (point)
			*point = i;
	}
	return least;
}

bool loop_draw(struct loop_run *run, const struct board_made *board, size_t sessions, uint64_t seed)
{
	struct sim_rng rng = {seed * 77777 + 5};
	enum arrival arrival = (enum arrival)sim_uniform(&rng, 0, ARRIVALS - 1e-9);
	double upper[LOOP_SESSIONS_MAX],
		worst[LOOP_SESSIONS_MAX] = {0},
		tightness = sim_log_uniform(&rng, sessions > 1 ? 1.2 : 1.1, sessions > 1 ? 3.5 : 5);
	bool together = sessions > 1 && sim_uniform(&rng, 0, 1) < 0.5;
	double most = 0;
	size_t fastest = 0;

	*run = (struct loop_run){.board = board,
				 .sessions = sessions,
				 .requests = sessions > 1 ? 200 : 400,
				 .warm = sessions > 1 ? 100 : 30,
				 .learning_misses = -1,
				 .seed = seed};
	for (size_t s = 0; s < sessions; s++)
		run->session[s] = (struct loop_session){.work = s, .deadline_ns = NEVER};
	uppers(run, upper);
	for (size_t i = 0; i < board->grid.points; i++) {
		double sum = 0, least = 0;
		for (size_t s = 0; s < sessions; s++) {
			sum += board->work[s].latency_ns[i] / board->work[s].fastest_ns;
			least += board->work[s].latency_ns[fastest] / board->work[s].fastest_ns;
		}
		fastest = sum < least ? i : fastest;
	}
	in_time_at(run, fastest, (const double[]){1, 1, 1}, worst);
	for (size_t s = 0; s < sessions; s++) {
		struct loop_session *x = &run->session[s];
		double own = sessions > 1 ? sim_log_uniform(&rng, 0.85, 1.3) * tightness : tightness;
		x->arrival = arrival;
		x->deadline_ns = fmax(own, 1.08) * worst[s];
		x->period_ns = arrival == ARRIVE_BACK_TO_BACK ? 0 : x->deadline_ns * sim_uniform(&rng, 1.02, 2);
		x->offset_ns = together ? 0 : sim_uniform(&rng, 0, 1) * x->deadline_ns;
		most = fmax(most, x->period_ns);
	}
	/* A frame for all, or each at its own rate. */
	for (size_t s = 0; s < sessions && together && arrival != ARRIVE_BACK_TO_BACK; s++)
		run->session[s].period_ns = most;
	return isfinite(loop_optimum(run, NULL));
}

/* ---- the closed loop ---- */

struct closed {
	struct plant_now p;
	struct governor_board view;
	struct model *model[LOOP_SESSIONS_MAX];
	struct sim_rng rng;
	struct board_noise noise[LOOP_SESSIONS_MAX];
	double next_ns[LOOP_SESSIONS_MAX], due_ns[LOOP_SESSIONS_MAX], last_end_ns[LOOP_SESSIONS_MAX],
		gap_ns[LOOP_SESSIONS_MAX][2];
	size_t begun[LOOP_SESSIONS_MAX], ended[LOOP_SESSIONS_MAX], row[LOOP_SESSIONS_MAX];
	double period_ns[LOOP_SESSIONS_MAX], early_ns[LOOP_SESSIONS_MAX], last_begin_ns[LOOP_SESSIONS_MAX];
	size_t active, all_ended;
	double price_sum, price_time, late_sum, late_time;
	struct loop_outcome *out;
	const struct loop_run *run;
};

static struct governor governor;

static uint64_t abs_ns(double ns)
{
	return NS_PER_S + (uint64_t)ns;
}

/* A write under way is not taken back. */
static void apply(struct closed *c, size_t point)
{
	size_t axis[CLOCK_COUNT];

	grid_axes(&c->run->board->grid, point, axis);
	c->out->moves += memcmp(axis, c->p.target, sizeof(axis)) != 0;
	memcpy(c->p.target, axis, sizeof(axis));
	if (c->p.moving < 0)
		next_move(&c->p);
}

#include "adapt.h"

static void start_waiting(struct closed *c)
{
	bool waits = WAIT_FOR_DESCENT ? !settled(&c->p) : any_up(&c->p);

	for (size_t s = 0; s < c->run->sessions; s++)
		if (c->p.flight[s].active && c->p.flight[s].waiting && !waits) {
			c->p.flight[s].waiting = false;
			c->p.flight[s].start_ns = c->p.now_ns;
			flights[s].seen_ns = abs_ns(c->p.now_ns);
			c->p.flight[s].at_point = point_of(&c->p, c->p.target);
			c->p.flight[s].from_point = point_of(&c->p, c->p.axis);
		}
}

static void begin(struct closed *c, size_t s)
{
	struct flight *f = &c->p.flight[s];
	double now = c->p.now_ns;

	*f = (struct flight){.active = true,
			     .waiting = true,
			     .begin_ns = now,
			     .left = 1,
			     .deadline_ns = now + c->run->session[s].deadline_ns,
			     .factor = board_noise_next(&c->noise[s], &c->rng)};
	c->active++;
	if (c->begun[s]++) {
		double apart = now - c->last_begin_ns[s];
		if (c->begun[s] > 2)
			c->early_ns[s] = fmax(0.95 * c->early_ns[s], c->period_ns[s] - apart);
		c->period_ns[s] = c->begun[s] > 2 ? 0.8 * c->period_ns[s] + 0.2 * apart : apart;
		c->gap_ns[s][1] = c->gap_ns[s][0];
		c->gap_ns[s][0] = now - c->last_end_ns[s];
	}
	c->last_begin_ns[s] = now;
	size_t point = adapt_begin(c, s);
	f->contended = c->active > 1;
	if (c->active > 1)
		for (size_t o = 0; o < c->run->sessions; o++)
			c->p.flight[o].contended = c->p.flight[o].contended || c->p.flight[o].active;
	apply(c, point);
	start_waiting(c);
	if (c->run->trace)
		fprintf(stderr,
			"%10.2f begin %zu #%zu point %zu price %.3f feasible %d explores %d learning %d pred %.2f "
			"bound %.2f deadline %.2f true %.2f measured %u\n",
			now / 1e6, s, c->begun[s], point, loop_price(c->run, point) / c->out->optimum,
			f->decision.feasible, adapt_chosen(&f->decision), f->decision.learning,
			(double)f->decision.predicted_ns / 1e6, (double)f->decision.bound_ns / 1e6,
			c->run->session[s].deadline_ns / 1e6,
			c->run->board->work[c->run->session[s].work].latency_ns[point] / 1e6, f->decision.measured);
}

static void end(struct closed *c, size_t s)
{
	struct flight *f = &c->p.flight[s];
	const struct loop_session *x = &c->run->session[s];
	double total = c->p.now_ns - f->begin_ns;
	bool missed = total > x->deadline_ns, chosen = adapt_chosen(&f->decision);

	f->active = false;
	c->active--;
	c->last_end_ns[s] = c->p.now_ns;
	c->row[s] = missed ? c->row[s] + 1 : 0;
	c->out->streak = c->row[s] > c->out->streak ? c->row[s] : c->out->streak;
	if (c->ended[s] >= c->run->warm) {
		c->out->counted++;
		c->out->missed += missed;
	} else {
		c->out->early_missed += missed;
		c->out->chosen_missed += missed && chosen;
	}
	if (c->run->trace && !missed)
		fprintf(stderr, "%10.2f end   %zu total %.2f of %.2f predicted %.2f\n", c->p.now_ns / 1e6, s,
			total / 1e6, x->deadline_ns / 1e6, (double)f->decision.predicted_ns / 1e6);
	if (c->run->trace && missed)
		fprintf(stderr, "%10.2f MISS  %zu total %.2f of %.2f factor %.3f chosen %d wait %.2f\n",
			c->p.now_ns / 1e6, s, total / 1e6, x->deadline_ns / 1e6, f->factor, chosen,
			(f->start_ns - f->begin_ns) / 1e6);
	c->ended[s]++;
	c->all_ended++;
	adapt_end(c, s, total);
	c->due_ns[s] += x->period_ns;
	double jitter = x->arrival == ARRIVE_JITTERED ? sim_uniform(&c->rng, -0.2, 0.2) * x->period_ns : 0;
	c->next_ns[s] = fmax(c->due_ns[s] + jitter, c->p.now_ns + 1000);
	if (c->due_ns[s] < c->p.now_ns)
		c->due_ns[s] = c->p.now_ns;
	if (c->active == 0)
		adapt_idle(c, s, total);
}

static void account(struct closed *c, double from_ns, size_t was)
{
	double time = c->p.now_ns - from_ns, price = loop_price(c->run, was);

	if (c->run->objective == OBJECTIVE_ENERGY) {
		/* Mean power. */
		double power = 0;
		size_t n = 0;
		for (size_t s = 0; s < c->run->sessions; s++)
			if (c->p.flight[s].active && !c->p.flight[s].waiting) {
				power += c->run->board->work[c->run->session[s].work].power_uw[was];
				n++;
			}
		price = n ? power / (double)n : c->run->board->idle_uw[was];
	} else if (!c->active) {
		return;
	}
	bool warm = true, last = true;
	for (size_t s = 0; s < c->run->sessions; s++) {
		warm = warm && c->ended[s] >= c->run->warm;
		last = last && c->ended[s] >= c->run->requests - c->run->requests / 10;
	}
	if (warm) {
		c->price_sum += price * time;
		c->price_time += time;
	}
	if (last) {
		c->late_sum += price * time;
		c->late_time += time;
	}
}

static void step(struct closed *c)
{
	double to_ns = NEVER, from_ns = c->p.now_ns;
	size_t was = point_of(&c->p, c->p.axis), ended;

	for (size_t s = 0; s < c->run->sessions; s++)
		if (!c->p.flight[s].active)
			to_ns = fmin(to_ns, fmax(c->next_ns[s], c->p.now_ns));
	ended = pass(&c->p, to_ns);
	account(c, from_ns, was);
	start_waiting(c);
	if (ended != SIZE_MAX) {
		end(c, ended);
		return;
	}
	for (size_t s = 0; s < c->run->sessions; s++)
		if (!c->p.flight[s].active && c->next_ns[s] <= c->p.now_ns)
			begin(c, s);
}

/* In company until the slowest session has ended, as the oracle assumes all sessions. */
static bool served(const struct closed *c)
{
	size_t least = SIZE_MAX;

	for (size_t s = 0; s < c->run->sessions; s++)
		least = c->ended[s] < least ? c->ended[s] : least;
	return least >= c->run->requests || c->all_ended >= TOTAL_MAX * c->run->requests;
}

void loop_run(const struct loop_run *run, struct loop_outcome *out)
{
	static struct closed closed;
	struct closed *c = &closed;
	struct model_options model_options;

	memset(c, 0, sizeof(*c));
	memset(out, 0, sizeof(*out));
	c->run = run;
	c->out = out;
	c->rng.state = run->seed * 31 + 7;
	out->optimum = loop_optimum(run, NULL);
	plant_begin(&c->p, run, run->board->grid.points - 1);
	model_options_default(&model_options);
	for (size_t s = 0; s < run->sessions; s++) {
		c->model[s] = model_new(&run->board->grid, &model_options);
		c->noise[s] = run->board->work[run->session[s].work].noise;
		c->next_ns[s] = c->due_ns[s] = run->session[s].offset_ns;
	}
	adapt_init(c);
	while (!served(c))
		step(c);
	if (run->trace)
		adapt_report(c);
	for (size_t s = 0; s < run->sessions; s++) {
		const struct surface *surface = model_surface(c->model[s], PHASE_RUN, 0);
		double upper = board_noise_quantile(&c->noise[s], QUANTILE_DEFAULT);
		for (size_t i = 0; i < run->board->grid.points; i++) {
			out->cells++;
			out->above_bound += run->board->work[s].latency_ns[i] * upper >
					    (double)surface->bound_ns[i] * surface->slowdown_bound;
		}
		model_free(c->model[s]);
	}
	out->price = c->price_sum / fmax(c->price_time, 1);
	out->late_price = c->late_sum / fmax(c->late_time, 1);
}
