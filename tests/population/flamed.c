/* SPDX-License-Identifier: MIT */
#include "flamed.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../vtime/page.h"

#define QUICK_NS 20000 /* a write that moves nothing */
#define POLICIES 2     /* of plant.c; each takes half of the time of the CPU clock */

static const char *const value_name[CLOCK_COUNT] = {"policy4/scaling_max_freq", "17000000.gpu/max_freq",
						    "dmc/max_freq"};

static void make_plant(struct plant *plant, const struct board_made *board)
{
	memset(plant, 0, sizeof(*plant));
	plant->grid = board->grid;
	/* A clock of one entry is none. */
	for (int c = 0; c < CLOCK_COUNT; c++)
		if (board->grid.count[c] == 1)
			plant->grid.hz[c][0] = 0;
	memcpy(plant->idle_uw, board->idle_uw, sizeof(plant->idle_uw));
}

static void settle_text(char *text, size_t size, const struct stage_run *run)
{
	const struct board_made *b = run->loop.board;

	snprintf(
		text, size,
		"policy0/scaling_max_freq:%.0f/%.0f,policy4/scaling_max_freq:%.0f/%.0f,17000000.gpu/max_freq:%.0f/%.0f,"
		"dmc/max_freq:%.0f/%.0f,min_freq:%d",
		b->up_ns[0] / POLICIES, b->down_ns[0] / POLICIES, b->up_ns[0] / POLICIES, b->down_ns[0] / POLICIES,
		b->up_ns[1], b->down_ns[1], b->up_ns[2], b->down_ns[2], QUICK_NS);
}

/* ---- the manager ---- */

static void on_open(void *state, size_t s)
{
	struct flamed *f = state;

	client_open(&f->client[s], &f->world);
	if (client_call(&f->client[s], "op=open\nmodel=work%zu", s)) {
		fprintf(stderr, "population: open: %s\n", client_text(&f->client[s], "message"));
		abort();
	}
	f->session[s] = client_u64(&f->client[s], "session");
}

static void on_close(void *state, size_t s)
{
	struct flamed *f = state;

	client_close(&f->client[s]);
}

static void on_begin(void *state, size_t s, uint64_t deadline_ns)
{
	struct flamed *f = state;

	client_send(&f->client[s], "op=begin\nsession=%llu\ndeadline_ns=%llu\nwait=1",
		    (unsigned long long)f->session[s], (unsigned long long)deadline_ns);
	world_quiesce(&f->world);
}

static bool on_ready(void *state, size_t s)
{
	struct flamed *f = state;
	int rc;

	if (!client_try(&f->client[s], &rc))
		return false;
	if (rc) {
		fprintf(stderr, "population: begin: %d %s\n", rc, client_text(&f->client[s], "message"));
		abort();
	}
	f->request[s] = client_u64(&f->client[s], "request");
	return true;
}

static void on_end(void *state, size_t s, uint64_t total_ns)
{
	struct flamed *f = state;

	client_send(&f->client[s], "op=end\nrequest=%llu\ntotal_ns=%llu", (unsigned long long)f->request[s],
		    (unsigned long long)total_ns);
	world_quiesce(&f->world);
}

static uint64_t next_of(void *state)
{
	struct flamed *f = state;
	uint64_t next = world_next_ns(&f->world);

	return next == VTIME_NEVER ? STAGE_NEVER : next > f->start_ns ? next - f->start_ns : 0;
}

static void pass_to(void *state, uint64_t to_ns)
{
	struct flamed *f = state;
	uint64_t now_ns = world_now_ns(&f->world);

	world_advance(&f->world, f->start_ns + to_ns > now_ns ? f->start_ns + to_ns - now_ns : 0);
}

static size_t point_now(void *state)
{
	struct flamed *f = state;
	struct op_point at = {{0}};

	for (int c = 0; c < CLOCK_COUNT; c++) {
		uint64_t top_hz = f->plant.grid.hz[c][f->plant.grid.count[c] - 1],
			 value = world_value(&f->world, value_name[c]);
		/* A clock that was never written is the kernel's, and at its highest. */
		at.hz[c] = value ? value * (c == CLOCK_CPU ? 1000 : 1) : top_hz;
	}
	return grid_nearest(&f->plant.grid, at);
}

static void on_sense(void *state, double power_uw)
{
	struct flamed *f = state;

	plant_sense(&f->plant, power_uw);
}

void flamed_start(struct flamed *flamed, const struct stage_run *run, struct manager *manager)
{
	char path[WORLD_PATH_MAX], settle[600], program[WORLD_PATH_MAX];

	memset(flamed, 0, sizeof(*flamed));
	*manager = (struct manager){flamed,  on_open, on_close,  on_begin, on_ready, on_end,
				    next_of, pass_to, point_now, on_sense, NULL};
	for (size_t s = 0; s < LOOP_SESSIONS_MAX; s++)
		flamed->client[s].fd = -1;
	world_make(&flamed->world);
	make_plant(&flamed->plant, run->loop.board);
	plant_build(&flamed->plant, world_path(&flamed->world, "root", path), true);
	plant_sense(&flamed->plant, run->loop.board->idle_uw[run->loop.board->grid.points - 1]);
	FILE *file = fopen(world_path(&flamed->world, "flamed.conf", path), "we");
	if (!file ||
	    fprintf(file, "[flamed]\nobjective = %s\n", run->loop.objective == OBJECTIVE_ENERGY ? "energy" : "power") <
		    0 ||
	    fclose(file))
		abort();
	settle_text(settle, sizeof(settle), run);
	snprintf(program, sizeof(program), "%s/flamed",
		 getenv("RELEASE_DIR") ? getenv("RELEASE_DIR") : "build/release");
	world_start(&flamed->world, program, settle);
	flamed->start_ns = world_now_ns(&flamed->world);
}

bool flamed_stop(struct flamed *flamed)
{
	for (size_t s = 0; s < LOOP_SESSIONS_MAX; s++)
		if (flamed->client[s].fd >= 0)
			client_close(&flamed->client[s]);
	int status = world_stop(&flamed->world, SIGTERM);
	if (!getenv("VTIME_KEEP"))
		world_remove(&flamed->world);
	return status == 0;
}
