/* SPDX-License-Identifier: MIT */
/* Requests that overlap: how much time they take from each other, learned per pair of models from the latencies
 * reported, and when each is expected to end. */
#include "state.h"

/* of log theta, which starts at 0 (a fair share each), within a factor of two */
#define THETA_VAR_FIRST 0.5f
/* share by which log theta and its variance return to their first values, per request observed */
#define THETA_RETURN    0.005
#define LOG_THETA_MAX   3.0  /* e^3 = 20: as slow as waiting for the other request to end */
#define ALONE_KNOWN     3    /* requests that ran alone, after which a model's own time is known */
#define RESIDUAL_MAX_SD 3.0  /* deviations to which the residual of one request is clipped */
#define EVENTS_MAX      48   /* begins and ends that are simulated ahead */
#define MOVED_SHARE     0.3  /* of a run, and of its work, with the clocks on their way: more is not learned from */
#define DONE_MAX        0.97 /* most of its work that a late request is assumed to have done */

/* ---- theta ---- */

/* A pair's place among those of its model; COMPANY_PAIRS_MAX: it has none. */
static size_t pair_find(const struct governor *governor, uint32_t model, uint32_t other, bool before)
{
	const struct interference *p = governor->pair[model];

	for (size_t i = 0; i < COMPANY_PAIRS_MAX && p[i].n; i++)
		if (p[i].other == other && p[i].before == before)
			return i;
	return COMPANY_PAIRS_MAX;
}

/* The same, or the place for a new one: the first that is free, or that of the fewest requests. */
static struct interference *pair_place(struct governor *governor, uint32_t model, uint32_t other, bool before)
{
	size_t i = pair_find(governor, model, other, before);
	struct interference *p = governor->pair[model], *least = p;

	if (i < COMPANY_PAIRS_MAX)
		return &p[i];
	for (i = 1; i < COMPANY_PAIRS_MAX; i++)
		if (p[i].n < least->n)
			least = &p[i];
	least->n = 0;
	return least;
}

/* Of two requests that begin at the same moment, the first is the one that was decided first. */
static bool began_before(const struct governor_request *a, const struct governor_request *b)
{
	if (a->flight && b->flight)
		return a->flight->order < b->flight->order;
	return a->begin_ns < b->begin_ns;
}

double company_theta(const struct governor *governor, uint32_t model, uint32_t other, bool before, double *var)
{
	size_t i = pair_find(governor, model, other, before);
	bool known = i < COMPANY_PAIRS_MAX;

	*var = known ? (double)governor->pair[model][i].var : (double)THETA_VAR_FIRST;
	return known ? exp((double)governor->pair[model][i].log_theta) : 1;
}

bool governor_model_pair(struct governor *governor, const struct interference *pair)
{
	if (!pair->n || pair->model >= MODELS_MAX || pair->other >= MODELS_MAX ||
	    !(fabs((double)pair->log_theta) <= LOG_THETA_MAX) || !(pair->var > 0 && pair->var <= THETA_VAR_FIRST))
		return false;
	*pair_place(governor, pair->model, pair->other, pair->before) = *pair;
	return true;
}

void governor_model_reset(struct governor *governor, uint32_t model)
{
	governor->alone[model] = 0;
	for (size_t m = 0; m < MODELS_MAX; m++) {
		struct interference *p = governor->pair[m];
		size_t kept = 0;

		for (size_t i = 0; i < COMPANY_PAIRS_MAX && p[i].n; i++)
			if (m != model && p[i].other != model)
				p[kept++] = p[i];
		for (; kept < COMPANY_PAIRS_MAX && p[kept].n; kept++)
			p[kept].n = 0;
	}
}

/* ---- simulation of the requests in flight and expected ---- */

struct simulated {
	struct linear_form rest, starts; /* work left; next begin, from now */
	double rest_ns, starts_ns;
	bool runs, over, before[COMPANY_MAX]; /* by party: began before it */
};

static void form_add(struct linear_form *a, const struct linear_form *b, float share, size_t n)
{
	for (size_t i = 0; i < n; i++)
		a->w[i] += share * b->w[i];
	a->fixed_ns += share * b->fixed_ns;
}

struct simulation {
	struct governor_task *t;
	struct simulated request[COMPANY_MAX];
	double theta[COMPANY_MAX][COMPANY_MAX][2];
	struct linear_form now;
	double now_ns;
	size_t open;   /* parties whose end is not known yet */
	bool unjoined; /* leave out expected requests */
};

static void begin(struct simulation *sim, size_t p)
{
	struct simulated *r = &sim->request[p];

	r->runs = true;
	for (size_t s = 0; s < sim->t->parties; s++) {
		r->before[s] = s != p && sim->request[s].runs;
		if (s != p)
			sim->request[s].before[p] = false;
	}
}

static void set_work(struct simulation *sim, size_t p, size_t at, double left)
{
	struct simulated *r = &sim->request[p];
	const struct party *party = &sim->t->party[p];

	r->rest = (struct linear_form){0};
	r->rest.w[party->surface_index] = (float)(left * party->scale);
	r->rest_ns = (double)r->rest.w[party->surface_index] * (double)party->surface->latency_ns[at];
}

static double stretch(const struct simulation *sim, size_t p)
{
	double sum = 1;

	for (size_t s = 0; s < sim->t->parties; s++)
		if (s != p && sim->request[s].runs)
			sum += sim->theta[p][s][sim->request[p].before[s]];
	return sum;
}

static void end(struct simulation *sim, size_t p, size_t at)
{
	struct simulated *r = &sim->request[p];
	struct party *party = &sim->t->party[p];

	r->runs = false;
	if (!r->over) {
		r->over = true;
		sim->open--;
		*(sim->unjoined ? &party->end_unjoined : &party->end_joined) = sim->now;
	}
	r->starts = sim->now;
	r->starts_ns = INFINITY;
	if (party->request->gap_ns == GAP_UNKNOWN)
		return;
	r->starts.fixed_ns += (float)party->request->gap_ns;
	r->starts_ns = sim->now_ns + (double)party->request->gap_ns;
	set_work(sim, p, at, 1);
}

/* Advance to the next begin or end; false when there is none. */
static bool next_event(struct simulation *sim, size_t at)
{
	size_t next = SIZE_MAX, n = sim->t->surfaces;
	double least_ns = INFINITY, speed[COMPANY_MAX];
	struct linear_form dt = {0};
	bool begins = false;

	for (size_t p = 0; p < sim->t->parties; p++) {
		struct simulated *r = &sim->request[p];
		double ns = r->starts_ns - sim->now_ns;
		speed[p] = 0;
		if (r->runs) {
			speed[p] = 1 / stretch(sim, p);
			ns = r->rest_ns / speed[p];
		}
		if (ns < least_ns) {
			least_ns = ns;
			next = p;
			begins = !r->runs;
		}
	}
	if (next == SIZE_MAX)
		return false;
	least_ns = fmax(least_ns, 0);
	if (begins) {
		dt = sim->request[next].starts;
		form_add(&dt, &sim->now, -1, n);
	} else {
		form_add(&dt, &sim->request[next].rest, (float)(1 / speed[next]), n);
	}
	for (size_t p = 0; p < sim->t->parties; p++) {
		struct simulated *r = &sim->request[p];
		if (!r->runs)
			continue;
		form_add(&r->rest, &dt, -(float)speed[p], n);
		r->rest_ns -= speed[p] * least_ns;
	}
	form_add(&sim->now, &dt, 1, n);
	sim->now_ns += least_ns;
	if (begins)
		begin(sim, next);
	else
		end(sim, next, at);
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

static void simulate(struct governor_task *t, size_t at, bool unjoined)
{
	struct simulation sim = {.t = t, .unjoined = unjoined};
	double var;

	for (size_t p = 0; p < t->parties; p++) {
		struct simulated *r = &sim.request[p];
		for (size_t s = 0; s < t->parties; s++)
			for (int b = 0; b < 2 && s != p; b++)
				sim.theta[p][s][b] = company_theta(t->governor, t->party[p].request->model,
								   t->party[s].request->model, b, &var);
		set_work(&sim, p, at, t->party[p].left);
		r->runs = t->party[p].starts_ns <= 0;
		r->starts_ns = t->party[p].starts_ns;
		r->starts.fixed_ns = (float)t->party[p].starts_ns;
		r->over = unjoined && company_expected(t, p);
		if (r->over)
			r->starts_ns = INFINITY;
		sim.open += !r->over;
	}
	for (size_t p = 0; p < t->parties; p++)
		for (size_t s = 0; s < t->parties; s++)
			sim.request[p].before[s] =
				sim.request[s].runs && began_before(t->party[s].request, t->party[p].request);
	for (int i = 0; i < EVENTS_MAX && sim.open; i++)
		if (!next_event(&sim, at))
			break;
	/* Over EVENTS_MAX: as if the requests that run then did so until it ends. */
	for (size_t p = 0; p < t->parties; p++)
		if (!sim.request[p].over) {
			struct linear_form *form = unjoined ? &t->party[p].end_unjoined : &t->party[p].end_joined;
			*form = sim.now;
			form_add(form, &sim.request[p].rest, (float)stretch(&sim, p), t->surfaces);
		}
}

void company_simulate(struct governor_task *t, size_t at)
{
	if (t->parties == 1) {
		struct party *party = &t->party[0];
		party->end_joined =
			(struct linear_form){{(float)(party->left * party->scale)}, (float)party->starts_ns};
		return;
	}
	simulate(t, at, false);
	if (t->joined > 0 && t->joined < 1)
		simulate(t, at, true);
}

/* ---- interference learned from the requests that ran ---- */

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
		i--; /* full: counted with the last partner */
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

/* One step of a Kalman filter on log theta. `off_ns`: measured less expected time of the request. */
static void learn_theta(struct governor *governor, uint32_t model, const struct governor_flight *f, double off_ns,
			double own_var)
{
	double sum = own_var, var[COMPANY_MAX];

	for (uint32_t k = 0; k < f->partners; k++) {
		company_theta(governor, model, f->partner[k] / 2, f->partner[k] % 2, &var[k]);
		sum += f->doubt_ns[k] * f->doubt_ns[k] * var[k];
	}
	off_ns = copysign(fmin(fabs(off_ns), RESIDUAL_MAX_SD * sqrt(sum)), off_ns);
	for (uint32_t k = 0; k < f->partners && sum > 0; k++) {
		struct interference *p = pair_place(governor, model, f->partner[k] / 2, f->partner[k] % 2);
		double gain = f->doubt_ns[k] * var[k] / sum;
		if (!p->n)
			*p = (struct interference){.model = model,
						   .other = f->partner[k] / 2,
						   .before = f->partner[k] % 2,
						   .var = THETA_VAR_FIRST};
		p->log_theta *= 1 - (float)THETA_RETURN;
		p->log_theta = (float)fmax(fmin((double)p->log_theta + gain * off_ns, LOG_THETA_MAX), -LOG_THETA_MAX);
		p->var = (float)(var[k] * (1 - gain * f->doubt_ns[k]));
		p->var += (float)(2 * THETA_RETURN) * (THETA_VAR_FIRST - p->var);
		p->n += p->n < UINT32_MAX;
	}
}

/* What a run would have taken with its clocks at `at` from its start. They arrived somewhere in the first moved_ns; the
 * longest latency follows if they did at the end of that time, the shortest is the time it took. The middle of the two
 * is taken, half the distance as its deviation. Returns false if too much of the work was done before. */
static bool at_rest(const struct governor_request *r, const struct governor_run *run, double *own_ns, double *var)
{
	double moved = fmin((double)run->moved_ns / (double)run->ran_ns, 1), from_ns = 0, work, half;

	if (run->moved_ns == 0)
		return true;
	if (run->from != SIZE_MAX && r->surface->state != SURFACE_NONE)
		from_ns = (double)r->surface->latency_ns[run->from] * r->surface->slowdown;
	work = from_ns > 0 ? moved * *own_ns / from_ns : moved;
	if (fmax(work, moved) > MOVED_SHARE)
		return false;
	half = from_ns > 0 ? log((1 - moved) / (1 - work)) / 2 : 0;
	*own_ns *= exp(half);
	*var += from_ns > 0 ? half * half : moved * moved / 4;
	return true;
}

struct governor_own governor_own(struct governor *governor, const struct governor_request *requests, size_t count,
				 size_t ended, const struct governor_run *run, uint64_t now_ns)
{
	const struct governor_request *r = &requests[ended];
	struct governor_flight *f = r->flight;
	double lost_ns = 0, lost_var = 0, own_ns = (double)run->ran_ns, moved_var = 0;
	uint32_t partners;

	company_advance(governor, requests, count, run->at, now_ns);
	partners = f ? f->partners : 0;
	for (uint32_t k = 0; k < partners; k++) {
		double theta_var;
		company_theta(governor, r->model, f->partner[k] / 2, f->partner[k] % 2, &theta_var);
		lost_ns += f->lost_ns[k];
		lost_var += f->doubt_ns[k] * f->doubt_ns[k] * theta_var;
	}
	/* Virtual time advances by latencies that clients report, so the sum may exceed ran_ns. */
	own_ns -= fmin(lost_ns, 0.95 * own_ns);
	if (!run->stood || !run->ran_ns || !at_rest(r, run, &own_ns, &moved_var))
		return (struct governor_own){0};
	if (!partners) {
		if (governor->alone[r->model] < UINT16_MAX)
			governor->alone[r->model]++;
	} else if (governor->alone[r->model] >= ALONE_KNOWN) {
		double expected_ns = (double)r->surface->latency_ns[run->at] * r->surface->slowdown;
		double sd = hypot((double)r->surface->sd[run->at], (double)r->surface->noise_sd);
		if (expected_ns > 0)
			learn_theta(governor, r->model, f, own_ns - expected_ns, expected_ns * expected_ns * sd * sd);
	} else {
		lost_var = 0; /* of models that never run alone only the sum is observed: theta is 1 by definition */
	}
	return (struct governor_own){.own_ns = (uint64_t)own_ns, .var = lost_var / (own_ns * own_ns) + moved_var};
}
