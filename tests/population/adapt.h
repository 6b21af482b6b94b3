/* SPDX-License-Identifier: MIT */
/* The daemon's part between the plant and the governor; included by loop.c alone. */
#define WAIT_FOR_DESCENT false
#define SILENT_PERIODS   2 /* after which a session is not expected any more */

static struct governor_flight flights[LOOP_SESSIONS_MAX];

static bool adapt_chosen(const struct decision *d)
{
	return d->reason == REASON_EXPLORE || d->reason == REASON_BUY;
}

static void adapt_init(struct closed *c)
{
	struct governor_options options;

	governor_options_default(&options);
	options.objective = c->run->objective;
	if (c->run->learning_misses >= 0)
		options.learning_misses = c->run->learning_misses;
	governor_free(&governor);
	if (governor_init(&governor, &options))
		abort();
	memset(flights, 0, sizeof(flights));
	c->view = (struct governor_board){.grid = &c->run->board->grid,
					  .current = c->run->board->grid.points - 1,
					  .current_known = true,
					  .ceiling_hz = {UINT64_MAX, UINT64_MAX, UINT64_MAX},
					  .ceiling_config_hz = {UINT64_MAX, UINT64_MAX, UINT64_MAX}};
	for (int k = 0; k < CLOCK_COUNT; k++) {
		c->view.up_ns[k] = c->run->free_moves ? 0 : (uint64_t)(SETTLE_MARGIN * c->run->board->up_ns[k]);
		c->view.down_ns[k] = c->run->free_moves ? 0 : (uint64_t)(SETTLE_MARGIN * c->run->board->down_ns[k]);
	}
}

static uint64_t gap_ns(const struct closed *c, size_t s)
{
	double total = c->last_end_ns[s] - c->last_begin_ns[s], gap;

	if (c->begun[s] < 2)
		return GAP_UNKNOWN;
	(void)total;
	gap = fmin(c->gap_ns[s][0], c->begun[s] > 2 ? c->gap_ns[s][1] : c->gap_ns[s][0]);
	return (uint64_t)fmax(gap, 0);
}

/* All that are in flight or expected, `last` last. */
static size_t requests_of(struct closed *c, size_t last, struct governor_request *request)
{
	size_t n = 0;

	for (size_t k = 0; k <= c->run->sessions; k++) {
		size_t o = k == c->run->sessions ? last : k;
		struct flight *f = &c->p.flight[o];
		double begin_ns = f->begin_ns, by_ns = 0;
		if (k < c->run->sessions && o == last)
			continue;
		if (!f->active) {
			if (c->begun[o] < 2)
				continue;
			if (c->p.now_ns >
			    c->last_begin_ns[o] + SILENT_PERIODS * (c->period_ns[o] + c->run->session[o].deadline_ns))
				continue;
			begin_ns = fmax(fmin(c->last_begin_ns[o] + c->period_ns[o] - c->early_ns[o],
					     c->last_end_ns[o] + fmax(c->gap_ns[o][0], c->gap_ns[o][1])),
					c->p.now_ns + 1000);
			by_ns = fmax(c->last_begin_ns[o] + c->period_ns[o], c->p.now_ns) + c->early_ns[o];
		}
		request[n++] =
			(struct governor_request){.surface = model_surface(c->model[o], PHASE_RUN, 0),
						  .session = (uint32_t)o,
						  .model = (uint32_t)o,
						  .begin_ns = abs_ns(begin_ns),
						  .begin_by_ns = f->active ? 0 : abs_ns(by_ns),
						  .deadline_ns = abs_ns(begin_ns + c->run->session[o].deadline_ns),
						  .flight = f->active ? &flights[o] : NULL,
						  .gap_ns = gap_ns(c, o)};
	}
	return n;
}

static size_t adapt_begin(struct closed *c, size_t s)
{
	struct governor_request request[LOOP_SESSIONS_MAX];
	size_t n;

	c->view.current = point_of(&c->p, c->p.target);
	flights[s] = (struct governor_flight){0};
	n = requests_of(c, s, request);
	governor_decide(&governor, &c->view, request, n, abs_ns(c->p.now_ns), &c->p.flight[s].decision);
	return c->p.flight[s].decision.point;
}

static void adapt_end(struct closed *c, size_t s, double total)
{
	struct flight *f = &c->p.flight[s];
	struct governor_request request[LOOP_SESSIONS_MAX];
	double run_ns = c->p.now_ns - f->start_ns, power = 0;
	size_t n;

	f->active = true; /* it is listed again */
	n = requests_of(c, s, request);
	f->active = false;
	for (size_t o = 0; o < c->run->sessions; o++)
		power += c->run->board->work[o].power_uw[f->at_point] / (double)c->run->sessions;
	power = f->contended ? power : c->run->board->work[c->run->session[s].work].power_uw[f->at_point];
	struct governor_run run = {.ran_ns = (uint64_t)run_ns,
				   .at = f->at_point,
				   .stood = settled(&c->p) && f->at_point == point_of(&c->p, c->p.axis),
				   .moved_ns = (uint64_t)f->moved_ns,
				   .from = f->from_point};
	struct governor_own own = governor_own(&governor, request, n, n - 1, &run, abs_ns(c->p.now_ns));
	if (own.own_ns)
		model_observe(c->model[s], PHASE_RUN, 0, grid_point(&c->run->board->grid, f->at_point), own.own_ns,
			      own.var, (uint64_t)(power * (1 + READING_NOISE * sim_gauss(&c->rng))), 1);
	governor_ended(&governor, (uint32_t)s, (uint64_t)total, (uint64_t)c->run->session[s].deadline_ns);
}

static void adapt_idle(struct closed *c, size_t s, double total)
{
	struct governor_request request[LOOP_SESSIONS_MAX];
	size_t point, n;

	(void)total;
	if (c->begun[s] < 2)
		return;
	c->view.current = point_of(&c->p, c->p.target);
	n = requests_of(c, s, request);
	if (n && governor_gap(&governor, &c->view, request, n, abs_ns(c->p.now_ns), &point)) {
		if (c->run->trace)
			fprintf(stderr, "%10.2f idle  %zu to %zu from %zu\n", c->p.now_ns / 1e6, s, point,
				c->view.current);
		apply(c, point);
	}
}

/* The learned values, beside the true ones. */
static void adapt_report(struct closed *c)
{
	for (size_t s = 0; s < c->run->sessions; s++) {
		const struct surface *x = model_surface(c->model[s], PHASE_RUN, 0);
		size_t i = point_of(&c->p, c->p.axis), top = x->grid->points - 1;
		fprintf(stderr,
			"session %zu at %zu: own %.2f of %.2f, sd %.4f noise %.4f slow %.3f; top %.2f of %.2f sd "
			"%.3f; debt %.2f\n",
			s, i, (double)x->latency_ns[i] / 1e6, c->run->board->work[s].latency_ns[i] / 1e6,
			(double)x->sd[i], (double)x->noise_sd, x->slowdown, (double)x->latency_ns[top] / 1e6,
			c->run->board->work[s].latency_ns[top] / 1e6, (double)x->sd[top],
			governor.session[s].miss_debt);
		for (size_t k = 0; k < COMPANY_PAIRS_MAX; k++) {
			const struct interference *pair = &governor.pair[s][k];
			if (pair->n)
				fprintf(stderr, "  beside %u%s: theta %.3f of %.3f sd %.3f n %u\n", pair->other,
					pair->before ? " (before)" : "", exp((double)pair->log_theta),
					c->run->board->theta[s][pair->other], sqrt((double)pair->var), pair->n);
		}
	}
}
