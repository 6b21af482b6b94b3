/* SPDX-License-Identifier: MIT */
#include "drive.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include "../../common/clock.h"
#include "../../estimator/model.h"

#define REPLAY_SPEED 20 /* a client that replays a recording, against the board's own speed */

static char knobs_found[4096];

/* ---- the oracle ---- */

double drive_price(const struct drive *drive, size_t point, double deadline_ns)
{
	double power = drive->cost ? drive->cost[point] : drive->plant.power_uw[point], run;

	if (!drive->energy)
		return power;
	run = plant_latency_ns(&drive->plant, point, (double)drive->context) * drive->slowdown;
	return (power * run + drive->plant.idle_uw[point] * fmax(deadline_ns - run, 0)) / deadline_ns;
}

static bool allowed(const struct drive *drive, size_t point)
{
	size_t axis[CLOCK_COUNT];

	grid_axes(&drive->plant.grid, point, axis);
	for (int c = 0; c < CLOCK_COUNT; c++)
		if (axis[c] > drive->ceiling[c])
			return false;
	return true;
}

double drive_optimum(const struct drive *drive, double deadline_ns)
{
	double least = INFINITY;

	for (size_t i = 0; i < drive->plant.grid.points; i++)
		if (allowed(drive, i) &&
		    plant_latency_ns(&drive->plant, i, (double)drive->context) * drive->slowdown * drive->upper <=
			    deadline_ns)
			least = fmin(least, drive_price(drive, i, deadline_ns));
	return least;
}

/* The share of requests that flamed's upper bounds cover: as configured here, or by default. */
static double quantile_of(const char *config)
{
	static const char key[] = "quantile = ";
	const char *at = strstr(config, key);

	return at ? strtod(at + strlen(key), NULL) : QUANTILE_DEFAULT;
}

/* ---- start and stop ---- */

const char *drive_program(void)
{
	static char path[WORLD_PATH_MAX];
	const char *dir = getenv("RELEASE_DIR");

	snprintf(path, sizeof(path), "%s/flamed", dir ? dir : "build/release");
	return path;
}

void drive_start(struct drive *drive, bool replays, bool sensor, const char *config, const char *settle)
{
	char path[WORLD_PATH_MAX];

	world_make(&drive->world);
	drive->replays = replays;
	plant_build(&drive->plant, world_path(&drive->world, "root", path), sensor);
	FILE *file = fopen(world_path(&drive->world, "flamed.conf", path), "we");
	if (!file || fputs(config, file) < 0 || fclose(file))
		abort();
	plant_knobs(&drive->plant, knobs_found, sizeof(knobs_found));
	plant_sense(&drive->plant, drive->plant.idle_uw[drive->plant.grid.points - 1]);
	drive->noise = (struct board_noise){.rho = 0.45, .sd = 0.004, .tail_share = 0.01, .tail_mean = 0.02};
	drive->quantile = quantile_of(config);
	drive->upper = board_noise_quantile(&drive->noise, drive->quantile);
	drive->slowdown = 1;
	drive->waits = true;
	drive->reports = true;
	for (int c = 0; c < CLOCK_COUNT; c++)
		drive->ceiling[c] = SIZE_MAX;
	world_start(&drive->world, drive_program(), settle);
}

void drive_session(struct drive *drive, const char *model)
{
	client_open(&drive->client, &drive->world);
	if (client_call(&drive->client, "op=open\nmodel=%s%s%s", model, drive->phase ? "\nphase=" : "",
			drive->phase ? drive->phase : "")) {
		fprintf(stderr, "vtime: open: %s\n", client_text(&drive->client, "message"));
		abort();
	}
	drive->session = client_u64(&drive->client, "session");
}

/* The log of flamed and its keeper, without the name of their directory. */
static void trace_files(const struct world *world)
{
	char command[3 * WORLD_PATH_MAX];

	snprintf(command, sizeof(command), "cd '%s' && cat flamed.log state/models/* 2>/dev/null | sed 's,%s,,g' >&2",
		 world->dir, world->dir);
	if (system(command))
		fprintf(stderr, "vtime: no log\n");
}

bool drive_stop(struct drive *drive)
{
	char knobs[4096];
	int status;

	if (drive->client.fd >= 0)
		client_close(&drive->client);
	status = world_stop(&drive->world, SIGTERM);
	plant_knobs(&drive->plant, knobs, sizeof(knobs));
	bool same = strcmp(knobs, knobs_found) == 0;
	if (!same || status)
		fprintf(stderr, "vtime: exit status %d, knobs\n%s", status, knobs);
	if (getenv("VTIME_TRACE"))
		trace_files(&drive->world);
	if (!getenv("VTIME_KEEP"))
		world_remove(&drive->world);
	return same && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- requests ---- */

void drive_begin(struct drive *drive, double deadline_ns)
{
	int rc = client_call(&drive->client, "op=begin\nsession=%llu\ndeadline_ns=%.0f%s%s\ncontext=%llu%s",
			     (unsigned long long)drive->session, deadline_ns, drive->phase ? "\nphase=" : "",
			     drive->phase ? drive->phase : "", (unsigned long long)drive->context,
			     drive->waits ? "\nwait=1" : "");

	if (rc) {
		fprintf(stderr, "vtime: begin: %d %s\n", rc, client_text(&drive->client, "message"));
		abort();
	}
	drive->request = client_u64(&drive->client, "request");
	drive->feasible = client_u64(&drive->client, "feasible") != 0;
	drive->bound_ns = client_u64(&drive->client, "bound_ns");
	drive->point = plant_point(&drive->plant);
	if (drive->replays) {
		/* It reports its latency at the clocks of the reply; some may still be coming down. */
		struct op_point told = {{client_u64(&drive->client, "cpu_hz"), client_u64(&drive->client, "gpu_hz"),
					 client_u64(&drive->client, "mem_hz")}};
		drive->point = grid_nearest(&drive->plant.grid, told);
	}
	plant_sense(&drive->plant, drive->plant.power_uw[drive->point]);
}

static void end(struct drive *drive, double total_ns, double deadline_ns)
{
	double optimum = drive_optimum(drive, deadline_ns);
	bool miss = total_ns > deadline_ns, can = isfinite(optimum);

	if (drive->reports)
		client_call(&drive->client, "op=end\nrequest=%llu\ntotal_ns=%.0f\nack=1",
			    (unsigned long long)drive->request, total_ns);
	else
		client_call(&drive->client, "op=end\nrequest=%llu\nack=1", (unsigned long long)drive->request);
	plant_sense(&drive->plant, drive->plant.idle_uw[drive->point]);
	drive->requests++;
	drive->infeasible += !drive->feasible;
	drive->total_ns = (uint64_t)total_ns;
	if (getenv("VTIME_TRACE"))
		fprintf(stderr,
			"%zu at %llu point %zu total %.0f deadline %.0f bound %llu price %.0f optimum %.0f "
			"feasible %d %s\n",
			drive->requests, (unsigned long long)world_now_ns(&drive->world), drive->point, total_ns,
			deadline_ns, (unsigned long long)drive->bound_ns, drive->run_price, optimum, drive->feasible,
			miss ? "MISS" : "");
	if (drive->requests <= DRIVE_WARM) {
		drive->early_missed += miss && can;
		return;
	}
	if (!can)
		return;
	drive->counted++;
	drive->missed += miss;
	drive->price += drive->run_price;
	drive->optimum += optimum;
}

void drive_run(struct drive *drive, double factor, double deadline_ns)
{
	double left = 1, price = 0, weights = 0;

	while (left > 0) {
		size_t point = plant_point(&drive->plant);
		double whole_ns = plant_latency_ns(&drive->plant, point, (double)drive->context) * factor;
		uint64_t now_ns = world_now_ns(&drive->world), next_ns = world_next_ns(&drive->world),
			 end_ns = now_ns + (uint64_t)(left * whole_ns);
		if (point != drive->point)
			plant_sense(&drive->plant, drive->plant.power_uw[point]);
		drive->point = point;
		uint64_t ns = next_ns < end_ns ? (next_ns > now_ns ? next_ns - now_ns : 0) : end_ns - now_ns;
		double done = next_ns < end_ns ? (double)ns / whole_ns : left;
		/* Power is a mean over time; energy adds up with the work. */
		double weight = drive->energy ? done : done * whole_ns;
		price += weight * drive_price(drive, point, deadline_ns);
		weights += weight;
		left -= done;
		world_advance(&drive->world, ns);
	}
	drive->run_price = price / weights;
}

/* A replayed request reports what it would have taken at the clocks that it was told. */
static double replay(struct drive *drive, double factor, double deadline_ns)
{
	double total_ns = plant_latency_ns(&drive->plant, drive->point, (double)drive->context) * factor;

	world_advance(&drive->world, (uint64_t)(total_ns / REPLAY_SPEED));
	drive->run_price = drive_price(drive, drive->point, deadline_ns);
	return total_ns;
}

void drive_request(struct drive *drive, double deadline_ns, double gap_ns)
{
	double factor = drive->slowdown * board_noise_next(&drive->noise, &drive->rng), total_ns;
	uint64_t began_ns;

	world_advance(&drive->world, (uint64_t)(drive->replays ? gap_ns / REPLAY_SPEED : gap_ns));
	began_ns = world_now_ns(&drive->world);
	drive_begin(drive, deadline_ns);
	if (drive->replays) {
		total_ns = replay(drive, factor, deadline_ns);
	} else {
		drive_run(drive, factor, deadline_ns);
		total_ns = (double)(world_now_ns(&drive->world) - began_ns);
	}
	end(drive, total_ns, deadline_ns);
}
