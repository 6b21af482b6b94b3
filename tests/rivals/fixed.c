/* SPDX-License-Identifier: MIT */
/* Two that never learn: every clock at its highest, and the oracle, which knows every latency, every power and every
 * arrival, and holds the cheapest point at which none of its requests is late. */
#include <stdlib.h>
#include "rival.h"

struct fixed {
	struct base base;
	size_t of[1u << LOOP_SESSIONS_MAX]; /* point by the set of active sessions */
	unsigned there;
};

static void come(void *state, size_t s)
{
	struct fixed *f = state;

	f->there |= 1u << s;
	mover_point(&f->base.mover, f->of[f->there]);
}

static void go(void *state, size_t s)
{
	struct fixed *f = state;

	f->there &= ~(1u << s);
	if (f->there)
		mover_point(&f->base.mover, f->of[f->there]);
}

static void create_oracle(const struct stage_run *run, struct manager *manager)
{
	struct fixed *f = calloc(1, sizeof(*f));

	if (!f)
		abort();
	*manager = base_manager(f, run);
	manager->open = come;
	manager->close = go;
	for (unsigned mask = 1; mask < 1u << run->loop.sessions; mask++)
		stage_optimum(run, mask, &f->of[mask]);
}

static void create_highest(const struct stage_run *run, struct manager *manager)
{
	struct base *base = calloc(1, sizeof(*base));

	if (!base)
		abort();
	*manager = base_manager(base, run);
}

const struct rival rival_oracle = {"an oracle", "knows every latency, power and arrival", create_oracle, base_destroy};
const struct rival rival_highest = {"every clock at its highest", "jetson_clocks; the performance governors",
				    create_highest, base_destroy};
