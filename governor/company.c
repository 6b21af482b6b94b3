/* SPDX-License-Identifier: MIT */
/* Requests in flight beside each other: who takes how much of whose time, learned per pair of
 * models from what they report. */
#include "state.h"

/* of log theta, which starts at 0: served a fair share each, give or take a factor of two */
#define THETA_VAR_FIRST 0.5f
/* share of log theta that fades per request that tells of it, while the doubt comes back by as much */
#define THETA_HOME    0.005
#define LOG_THETA_MAX 3.0  /* e^3 = 20: as good as waiting until the other has ended */
#define ALONE_KNOWN   3    /* requests alone from which on a model's own time is known */
#define STRANGE       3.0  /* standard deviations that one request may be off by */
#define EVENTS_MAX    48   /* begins and ends that a lay-out looks ahead */
#define DONE_MAX      0.97 /* a request that is late is not taken for finished */

/* ---- theta ---- */

static size_t pair_slot(uint32_t model, uint32_t other, bool before)
{
	return (model * 2654435761U + other * 40503U + before * 97U) % COMPANY_PAIRS_MAX;
}

/* Where its entry is, or the free one where it belongs; COMPANY_PAIRS_MAX: no room. */
static size_t pair_find(const struct governor *governor, uint32_t model, uint32_t other, bool before)
{
	size_t slot = pair_slot(model, other, before);

	for (size_t i = 0; i < COMPANY_PAIRS_MAX; i++, slot = (slot + 1) % COMPANY_PAIRS_MAX) {
		const struct interference *p = &governor->pair[slot];
		if (!p->n || (p->model == model && p->other == other && p->before == before))
			return slot;
	}
	return COMPANY_PAIRS_MAX;
}

/* Of two that begin at the same moment, the one that was decided first. */
static bool began_before(const struct governor_request *a, const struct governor_request *b)
{
	if (a->flight && b->flight)
		return a->flight->order < b->flight->order;
	return a->begin_ns < b->begin_ns;
}

double company_theta(const struct governor *governor, uint32_t model, uint32_t other, bool before, double *var)
{
	size_t slot = pair_find(governor, model, other, before);
	bool known = slot < COMPANY_PAIRS_MAX && governor->pair[slot].n;

	*var = known ? (double)governor->pair[slot].var : (double)THETA_VAR_FIRST;
	return known ? exp((double)governor->pair[slot].log_theta) : 1;
}

bool governor_model_pair(struct governor *governor, const struct interference *pair)
{
	size_t slot = pair_find(governor, pair->model, pair->other, pair->before);

	if (!pair->n || !(fabs((double)pair->log_theta) <= LOG_THETA_MAX) ||
	    !(pair->var > 0 && pair->var <= THETA_VAR_FIRST))
		return false;
	if (slot < COMPANY_PAIRS_MAX)
		governor->pair[slot] = *pair;
	return true;
}

/* Entries move up where one before them goes, as lookups stop at a free one. */
void governor_model_reset(struct governor *governor, uint32_t model)
{
	static const struct interference none;
	struct interference kept[COMPANY_PAIRS_MAX];
	size_t count = 0;

	governor->alone[model] = 0;
	for (size_t i = 0; i < COMPANY_PAIRS_MAX; i++) {
		const struct interference *p = &governor->pair[i];
		if (p->n && p->model != model && p->other != model)
			kept[count++] = *p;
		governor->pair[i] = none;
	}
	for (size_t i = 0; i < count; i++)
		governor_model_pair(governor, &kept[i]);
}

/* ---- what is to come ---- */

struct runner {
	struct form rest, starts; /* work left; when it begins, from now */
	double rest_ns, starts_ns;
	bool runs, over, before[COMPANY_MAX]; /* who had begun before it */
};

static void form_add(struct form *a, const struct form *b, float share, size_t n)
{
	for (size_t i = 0; i < n; i++)
		a->w[i] += share * b->w[i];
	a->fixed_ns += share * b->fixed_ns;
}

struct lay_out {
	struct governor_task *t;
	struct runner runner[COMPANY_MAX];
	double theta[COMPANY_MAX][COMPANY_MAX][2];
	struct form now;
	double now_ns;
	size_t open; /* parties whose end is not known yet */
	bool quiet;  /* none of those expected begins */
};

static void runner_start(struct lay_out *l, size_t p)
{
	struct runner *r = &l->runner[p];

	r->runs = true;
	for (size_t s = 0; s < l->t->parties; s++) {
		r->before[s] = s != p && l->runner[s].runs;
		if (s != p)
			l->runner[s].before[p] = false;
	}
}

static void whole(struct lay_out *l, size_t p, size_t at, double left)
{
	struct runner *r = &l->runner[p];
	const struct party *party = &l->t->party[p];

	r->rest = (struct form){0};
	r->rest.w[party->of] = (float)(left * party->scale);
	r->rest_ns = (double)r->rest.w[party->of] * (double)party->surface->latency_ns[at];
}

static double crowd(const struct lay_out *l, size_t p)
{
	double sum = 1;

	for (size_t s = 0; s < l->t->parties; s++)
		if (s != p && l->runner[s].runs)
			sum += l->theta[p][s][l->runner[p].before[s]];
	return sum;
}

static void finish(struct lay_out *l, size_t p, size_t at)
{
	struct runner *r = &l->runner[p];
	struct party *party = &l->t->party[p];

	r->runs = false;
	if (!r->over) {
		r->over = true;
		l->open--;
		*(l->quiet ? &party->quiet : &party->form) = l->now;
	}
	r->starts = l->now;
	r->starts_ns = INFINITY;
	if (party->request->again_ns == GAP_UNKNOWN)
		return;
	r->starts.fixed_ns += (float)party->request->again_ns;
	r->starts_ns = l->now_ns + (double)party->request->again_ns;
	whole(l, p, at, 1);
}

/* One begin or end; false when nothing is left to come. */
static bool next_event(struct lay_out *l, size_t at)
{
	size_t who = SIZE_MAX, n = l->t->ofs;
	double least_ns = INFINITY, pace[COMPANY_MAX];
	struct form dt = {0};
	bool begins = false;

	for (size_t p = 0; p < l->t->parties; p++) {
		struct runner *r = &l->runner[p];
		double ns = r->starts_ns - l->now_ns;
		pace[p] = 0;
		if (r->runs) {
			pace[p] = 1 / crowd(l, p);
			ns = r->rest_ns / pace[p];
		}
		if (ns < least_ns) {
			least_ns = ns;
			who = p;
			begins = !r->runs;
		}
	}
	if (who == SIZE_MAX)
		return false;
	least_ns = fmax(least_ns, 0);
	if (begins) {
		dt = l->runner[who].starts;
		form_add(&dt, &l->now, -1, n);
	} else {
		form_add(&dt, &l->runner[who].rest, (float)(1 / pace[who]), n);
	}
	for (size_t p = 0; p < l->t->parties; p++) {
		struct runner *r = &l->runner[p];
		if (!r->runs)
			continue;
		form_add(&r->rest, &dt, -(float)pace[p], n);
		r->rest_ns -= pace[p] * least_ns;
	}
	form_add(&l->now, &dt, 1, n);
	l->now_ns += least_ns;
	if (begins)
		runner_start(l, who);
	else
		finish(l, who, at);
	return true;
}

bool company_expected(const struct governor_task *t, size_t party)
{
	return party != t->newest && t->party[party].starts_ns > 0;
}

double company_beside(const struct governor_task *t, size_t party)
{
	double sum = 1, var;

	for (size_t s = 0; s < t->parties; s++)
		if (s != party && t->party[s].starts_ns <= 0)
			sum += company_theta(t->governor, t->party[party].request->model, t->party[s].request->model,
					     true, &var);
	return sum;
}

static void lay_out(struct governor_task *t, size_t at, bool quiet)
{
	struct lay_out l = {.t = t, .quiet = quiet};
	double var;

	for (size_t p = 0; p < t->parties; p++) {
		struct runner *r = &l.runner[p];
		for (size_t s = 0; s < t->parties; s++)
			for (int b = 0; b < 2 && s != p; b++)
				l.theta[p][s][b] = company_theta(t->governor, t->party[p].request->model,
								 t->party[s].request->model, b, &var);
		whole(&l, p, at, t->party[p].left);
		r->runs = t->party[p].starts_ns <= 0;
		r->starts_ns = t->party[p].starts_ns;
		r->starts.fixed_ns = (float)t->party[p].starts_ns;
		r->over = quiet && company_expected(t, p);
		if (r->over)
			r->starts_ns = INFINITY;
		l.open += !r->over;
	}
	for (size_t p = 0; p < t->parties; p++)
		for (size_t s = 0; s < t->parties; s++)
			l.runner[p].before[s] =
				l.runner[s].runs && began_before(t->party[s].request, t->party[p].request);
	for (int i = 0; i < EVENTS_MAX && l.open; i++)
		if (!next_event(&l, at))
			break;
	/* Too much goes on before it to tell: as if all that did had to be waited for. */
	for (size_t p = 0; p < t->parties; p++)
		if (!l.runner[p].over) {
			struct form *form = quiet ? &t->party[p].quiet : &t->party[p].form;
			*form = l.now;
			form_add(form, &l.runner[p].rest, (float)crowd(&l, p), t->ofs);
		}
}

void company_lay_out(struct governor_task *t, size_t at)
{
	if (t->parties == 1) {
		struct party *party = &t->party[0];
		party->form = (struct form){{(float)(party->left * party->scale)}, (float)party->starts_ns};
		return;
	}
	lay_out(t, at, false);
	if (t->joined > 0 && t->joined < 1)
		lay_out(t, at, true);
}

/* ---- what was ---- */

static bool in_flight(const struct governor_request *r, uint64_t now_ns)
{
	return r->flight && r->begin_ns <= now_ns && r->flight->seen_ns && r->flight->seen_ns < now_ns;
}

double company_ran_ns(const struct governor_flight *flight)
{
	double ns = flight->own_ns;

	for (uint32_t k = 0; k < flight->partners; k++)
		ns += flight->lost_ns[k];
	return ns;
}

static void note_partner(struct governor_flight *f, uint32_t key, double lost_ns, double doubt_ns)
{
	uint32_t i = 0;

	while (i < f->partners && f->partner[i] != key)
		i++;
	if (i == COMPANY_MAX)
		i--; /* no room for another: counted with the last */
	else if (i == f->partners)
		f->partner[f->partners++] = key;
	f->lost_ns[i] += lost_ns;
	f->doubt_ns[i] += doubt_ns;
}

void company_advance(struct governor *governor, const struct governor_request *requests, size_t count, size_t at,
		     uint64_t now_ns)
{
	for (size_t i = 0; i < count; i++) {
		const struct governor_request *r = &requests[i];
		struct governor_flight *f = r->flight;
		double crowd = 1, theta[COMPANY_MAX], var, dt, alone_ns;
		size_t other[COMPANY_MAX], others = 0;

		if (!in_flight(r, now_ns))
			continue;
		for (size_t k = 0; k < count && others < COMPANY_MAX; k++) {
			if (k == i || !in_flight(&requests[k], now_ns))
				continue;
			theta[others] = company_theta(governor, r->model, requests[k].model,
						      began_before(&requests[k], r), &var);
			crowd += theta[others];
			other[others++] = k;
		}
		dt = (double)(now_ns - f->seen_ns);
		f->own_ns += dt / crowd;
		for (size_t k = 0; k < others; k++) {
			const struct governor_request *o = &requests[other[k]];
			note_partner(f, o->model * 2 + began_before(o, r), dt * theta[k] / crowd,
				     dt * theta[k] / (crowd * crowd));
		}
		alone_ns = (double)r->surface->latency_ns[at] * r->surface->slowdown;
		if (alone_ns > 0)
			f->done = fmin(f->done + dt / crowd / alone_ns, DONE_MAX);
	}
	for (size_t i = 0; i < count; i++)
		if (requests[i].flight && requests[i].flight->seen_ns && requests[i].flight->seen_ns < now_ns)
			requests[i].flight->seen_ns = now_ns;
}

/* One step of a Kalman filter on the logs of theta, from how far a request was off what was expected of it. */
static void learn_theta(struct governor *governor, uint32_t model, const struct governor_flight *f, double off_ns,
			double own_var)
{
	double sum = own_var, var[COMPANY_MAX];

	for (uint32_t k = 0; k < f->partners; k++) {
		company_theta(governor, model, f->partner[k] / 2, f->partner[k] % 2, &var[k]);
		sum += f->doubt_ns[k] * f->doubt_ns[k] * var[k];
	}
	off_ns = copysign(fmin(fabs(off_ns), STRANGE * sqrt(sum)), off_ns);
	for (uint32_t k = 0; k < f->partners && sum > 0; k++) {
		size_t slot = pair_find(governor, model, f->partner[k] / 2, f->partner[k] % 2);
		double gain = f->doubt_ns[k] * var[k] / sum;
		if (slot == COMPANY_PAIRS_MAX)
			continue;
		struct interference *p = &governor->pair[slot];
		if (!p->n)
			*p = (struct interference){.model = model,
						   .other = f->partner[k] / 2,
						   .before = f->partner[k] % 2,
						   .var = THETA_VAR_FIRST};
		p->log_theta *= 1 - (float)THETA_HOME;
		p->log_theta = (float)fmax(fmin((double)p->log_theta + gain * off_ns, LOG_THETA_MAX), -LOG_THETA_MAX);
		p->var = (float)(var[k] * (1 - gain * f->doubt_ns[k]));
		p->var += (float)(2 * THETA_HOME) * (THETA_VAR_FIRST - p->var);
		p->n += p->n < UINT32_MAX;
	}
}

struct governor_own governor_own(struct governor *governor, const struct governor_request *requests, size_t count,
				 size_t ended, size_t at, bool stood, uint64_t run_ns, uint64_t now_ns)
{
	const struct governor_request *r = &requests[ended];
	struct governor_flight *f = r->flight;
	double lost_ns = 0, var = 0, own_ns, expected_ns, sd;

	company_advance(governor, requests, count, at, now_ns);
	if (!f || !f->partners) {
		if (stood && governor->alone[r->model] < UINT16_MAX)
			governor->alone[r->model]++;
		return (struct governor_own){.own_ns = run_ns};
	}
	for (uint32_t k = 0; k < f->partners; k++) {
		double theta_var;
		company_theta(governor, r->model, f->partner[k] / 2, f->partner[k] % 2, &theta_var);
		lost_ns += f->lost_ns[k];
		var += f->doubt_ns[k] * f->doubt_ns[k] * theta_var;
	}
	/* The clock of the requests' own reports goes by what they say. */
	lost_ns = fmin(lost_ns, 0.95 * (double)run_ns);
	own_ns = (double)run_ns - lost_ns;
	expected_ns = (double)r->surface->latency_ns[at] * r->surface->slowdown;
	sd = hypot((double)r->surface->sd[at], (double)r->surface->noise_sd);
	if (stood && governor->alone[r->model] >= ALONE_KNOWN)
		learn_theta(governor, r->model, f, own_ns - expected_ns, expected_ns * expected_ns * sd * sd);
	/* Of two that are never alone only the sum shows: theta is 1 by definition, and own time what goes with it. */
	if (governor->alone[r->model] < ALONE_KNOWN)
		var = 0;
	return (struct governor_own){.own_ns = (uint64_t)own_ns, .var = var / (own_ns * own_ns)};
}
