/* SPDX-License-Identifier: MIT */
#include "drive.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include "../../common/clock.h"

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
		    plant_latency_ns(&drive->plant, i, (double)drive->context) * drive->slowdown * drive->upper <= deadline_ns)
			least = fmin(least, drive_price(drive, i, deadline_ns));
	return least;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile_of(const struct sim_noise *noise)
{
	double *sorted = malloc(noise->count * sizeof(double)), out;

	memcpy(sorted, noise->log_ratio, noise->count * sizeof(double));
	qsort(sorted, noise->count, sizeof(double), compare);
	out = exp(sorted[(size_t)(DRIVE_QUANTILE * (double)noise->count)]);
	free(sorted);
	return out;
}

/* ---- start and stop ---- */

const char *drive_program(void)
{
	static char path[WORLD_PATH_MAX];
	const char *dir = getenv("RELEASE_DIR");

	snprintf(path, sizeof(path), "%s/flamed", dir ? dir : "build/release");
	return path;
}

void drive_start(struct drive *drive, bool real, bool sensor, const char *config, const char *settle)
{
	struct sim_rng rng = {5};
	char path[WORLD_PATH_MAX];

	world_make(&drive->world, real);
	plant_build(&drive->plant, world_path(&drive->world, "root", path), sensor);
	FILE *file = fopen(world_path(&drive->world, "flamed.conf", path), "we");
	if (!file || fputs(config, file) < 0 || fclose(file))
		abort();
	plant_knobs(&drive->plant, knobs_found, sizeof(knobs_found));
	plant_sense(&drive->plant, drive->plant.idle_uw[drive->plant.grid.points - 1]);
	sim_noise_open(&drive->noise, "../shared/data", &rng);
	drive->upper = quantile_of(&drive->noise);
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
	if (client_call(&drive->client, "op=open\nmodel=%s%s%s", model, drive->phase ? "\nphase=" : "", drive->phase ? drive->phase : "")) {
		fprintf(stderr, "vtime: open: %s\n", client_text(&drive->client, "message"));
		abort();
	}
	drive->session = client_u64(&drive->client, "session");
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
	sim_noise_close(&drive->noise);
	if (!getenv("VTIME_KEEP"))
		world_remove(&drive->world);
	return same && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- requests ---- */

void drive_begin(struct drive *drive, double deadline_ns)
{
	int rc = client_call(&drive->client, "op=begin\nsession=%llu\ndeadline_ns=%.0f%s%s\ncontext=%llu%s",
			     (unsigned long long)drive->session, deadline_ns, drive->phase ? "\nphase=" : "",
			     drive->phase ? drive->phase : "", (unsigned long long)drive->context, drive->waits ? "\nwait=1" : "");

	if (rc) {
		fprintf(stderr, "vtime: begin: %d %s\n", rc, client_text(&drive->client, "message"));
		abort();
	}
	drive->request = client_u64(&drive->client, "request");
	drive->feasible = client_u64(&drive->client, "feasible") != 0;
	drive->bound_ns = client_u64(&drive->client, "bound_ns");
	drive->point = plant_point(&drive->plant);
	plant_sense(&drive->plant, drive->plant.power_uw[drive->point]);
}

void drive_end(struct drive *drive, double total_ns, double deadline_ns)
{
	double optimum = drive_optimum(drive, deadline_ns);
	bool miss = total_ns > deadline_ns, can = isfinite(optimum);

	if (drive->reports)
		client_call(&drive->client, "op=end\nrequest=%llu\ntotal_ns=%.0f\nack=1", (unsigned long long)drive->request, total_ns);
	else
		client_call(&drive->client, "op=end\nrequest=%llu\nack=1", (unsigned long long)drive->request);
	plant_sense(&drive->plant, drive->plant.idle_uw[drive->point]);
	drive->requests++;
	drive->infeasible += !drive->feasible;
	drive->total_ns = (uint64_t)total_ns;
	if (getenv("VTIME_TRACE"))
		fprintf(stderr, "%zu point %zu total %.3f deadline %.3f bound %.3f price %.3f optimum %.3f feasible %d %s\n", drive->requests,
			drive->point, total_ns / 1e6, deadline_ns / 1e6, (double)drive->bound_ns / 1e6, drive_price(drive, drive->point, deadline_ns) / 1e6, optimum / 1e6,
			drive->feasible, miss ? "MISS" : "");
	if (drive->requests <= DRIVE_WARM) {
		drive->early_missed += miss && can;
		return;
	}
	if (!can)
		return;
	drive->counted++;
	drive->missed += miss;
	drive->price += drive_price(drive, drive->point, deadline_ns);
	drive->optimum += optimum;
}

/* What is left of an inference, the clocks moving under it. */
static void run_inference(struct drive *drive, double factor)
{
	double left = 1;

	while (!drive->waits && !drive->world.real) {
		double whole_ns = plant_latency_ns(&drive->plant, plant_point(&drive->plant), (double)drive->context) * factor;
		if (left * whole_ns <= 1e6) {
			world_advance(&drive->world, (uint64_t)(left * whole_ns));
			return;
		}
		world_advance(&drive->world, 1000000);
		left -= 1e6 / whole_ns;
	}
	world_advance(&drive->world, (uint64_t)(plant_latency_ns(&drive->plant, drive->point, (double)drive->context) * factor));
}

void drive_request(struct drive *drive, double deadline_ns, double gap_ns)
{
	double factor = drive->slowdown * sim_noise_next(&drive->noise), total_ns;
	uint64_t began_ns;

	world_advance(&drive->world, (uint64_t)gap_ns);
	began_ns = world_now_ns(&drive->world);
	drive_begin(drive, deadline_ns);
	run_inference(drive, factor);
	total_ns = (double)(world_now_ns(&drive->world) - began_ns);
	if (drive->world.real)
		total_ns = plant_latency_ns(&drive->plant, drive->point, (double)drive->context) * factor;
	else
		drive->point = plant_point(&drive->plant);
	drive_end(drive, total_ns, deadline_ns);
}
