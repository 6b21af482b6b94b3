/* SPDX-License-Identifier: MIT */
/* The scenarios in virtual time, and the limits of each. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../common/clock.h"
#include "page.h"
#include "vtime.h"

#define SETTLE_ORIN "scaling_max_freq:700000,17000000.gpu/max_freq:5100000,dmc/max_freq:9000000"

/* Plain files: the duration of a write that has no settle time. */
#define QUICK "scaling_m:10000,17000000.gpu/m:20000,dmc/m:20000"

static const struct plant_shape ORIN = {29, 11, 4, false}, NANO = {22, 8, 3, false}, TWO_CLOCKS = {22, 8, 0, false};

#define LATE_THERE \
	"the cheapest point is late in some 0.4 % of requests, which takes hundreds to tell from its quantile"
#define ORDER "an exploration that is late uses up the misses of 500 requests: half of the orders end at another mix"
#define SURE  "the fit is too sure that a cheaper mix of clocks is late: "

void begin_on(bool sensor, const char *config, const char *settle)
{
	drive.client.fd = -1;
	drive.requests = drive.counted = drive.missed = drive.infeasible = drive.early_missed = 0;
	drive.price = drive.optimum = 0;
	drive.energy = false;
	drive.cost = NULL;
	drive.context = 0;
	drive.phase = NULL;
	drive.rng = (struct sim_rng){5 + draw};
	drive_start(&drive, replays, sensor, config, *settle ? settle : QUICK);
}

void finish(void)
{
	check(drive_stop(&drive), "ends with 0, every knob as found");
}

void steady(double tightness, size_t requests, double gap_share)
{
	double deadline_ns = tightness * plant_fastest_ns(&drive.plant, (double)drive.context);

	for (size_t i = 0; i < requests; i++)
		drive_request(&drive, deadline_ns, gap_share * deadline_ns);
}

/* ---- the scenarios ---- */

static void simple(struct plant_shape shape, uint64_t seed, double tightness, const char *settle, double gap_share)
{
	plant_generate(&drive.plant, shape, seed);
	begin_on(true, "", settle);
	drive_session(&drive, "net");
	steady(tightness, 600, gap_share);
	verdict();
	finish();
}

static void tight(void)
{
	simple(ORIN, 3, 1.15, "", 0);
}
static void middle(void)
{
	simple(ORIN, 10, 1.8, "", 0);
}
static void loose(void)
{
	simple(NANO, 12, 5, "", 0.2);
}
static void settles(void)
{
	simple(NANO, 3, 2.5, SETTLE_ORIN, 0.5);
}
static void settles_back_to_back(void)
{
	simple(NANO, 8, 2, SETTLE_ORIN, 0);
}
static void no_memory_clock(void)
{
	simple((struct plant_shape){29, 11, 0, false}, 7, 1.6, "", 0);
}
static void no_gpu(void)
{
	simple((struct plant_shape){18, 0, 0, false}, 18, 2, "", 0);
}

static double fastest(void)
{
	return plant_fastest_ns(&drive.plant, (double)drive.context);
}

/* A known model, on clocks that need longer to move than a request has: only a late request gets them to a point where
 * the others are in time. 2,000 requests, so that explorations are among them. */
static void settles_known(void)
{
	plant_generate(&drive.plant, NANO, 6);
	begin_on(true, "", SETTLE_ORIN);
	drive_session(&drive, "net");
	steady(4, 150, 0.3);
	client_close(&drive.client);
	world_advance(&drive.world, NS_PER_S);
	drive_session(&drive, "net");
	drive.counted = drive.missed = 0;
	drive.price = drive.optimum = 0;
	steady(1.5, 2000, 0.05);
	verdict();
	finish();
}

static void changing(void)
{
	static const double factors[] = {1.5, 4, 2.2};

	plant_generate(&drive.plant, NANO, 5);
	begin_on(true, "", "");
	drive_session(&drive, "net");
	for (size_t i = 0; i < 900; i++)
		drive_request(&drive, factors[i / 150 % 3] * fastest(), 0);
	verdict();
	finish();
}

/* Two deadlines in turn; without a memory clock, which is not moved so often. */
static void in_turn(uint64_t seed, double tight, double loose, const char *settle, double gap_ns)
{
	plant_generate(&drive.plant, TWO_CLOCKS, seed);
	begin_on(true, "", settle);
	drive_session(&drive, "net");
	for (size_t i = 0; i < 800; i++)
		drive_request(&drive, (i % 2 ? loose : tight) * fastest(), gap_ns);
	verdict();
	finish();
}

static void alternating(void)
{
	in_turn(9, 1.7, 3.5, "", 1e6);
}
/* Clocks do not come up in time for the shorter one: they have to stand where that is in time. */
static void alternating_tight(void)
{
	in_turn(12, 1.1, 3.3, SETTLE_ORIN, 0);
}

static void bursts(void)
{
	plant_generate(&drive.plant, NANO, 14);
	begin_on(true, "", SETTLE_ORIN);
	drive_session(&drive, "net");
	for (size_t i = 0; i < 600; i++)
		drive_request(&drive, 2 * fastest(), i % 20 ? 0 : 2e9);
	verdict();
	finish();
}

/* Others take a quarter of the board for a while. The first 30 of the 200 requests after each change
 * do not count, as the slow-down has to be seen first. */
static void contention(void)
{
	size_t missed = 0, counted = 0;

	plant_generate(&drive.plant, ORIN, 4);
	begin_on(true, "", "");
	drive_session(&drive, "net");
	for (size_t i = 0; i < 800; i++) {
		drive.slowdown = i / 200 % 2 ? 1.25 : 1;
		missed = drive.missed, counted = drive.counted;
		double price = drive.price, optimum = drive.optimum;
		drive_request(&drive, 2.2 * fastest(), 0);
		if (i % 200 < 30) {
			drive.missed = missed, drive.counted = counted;
			drive.price = price, drive.optimum = optimum;
		}
	}
	verdict();
	finish();
}

/* Long enough to count as the board's own latency; the requests after it are measured. */
static void contention_for_long(void)
{
	plant_generate(&drive.plant, ORIN, 6);
	begin_on(true, "", "");
	drive_session(&drive, "net");
	for (size_t i = 0; i < 1600; i++) {
		drive.slowdown = i >= 300 && i < 1000 ? 1.25 : 1;
		if (i == 1060) {
			drive.missed = drive.counted = 0;
			drive.price = drive.optimum = 0;
		}
		drive_request(&drive, 2.2 * fastest(), 0);
	}
	verdict();
	finish();
}

/* Two sessions in turns on one daemon, of one model, with their own deadlines. */
static void two_sessions(void)
{
	uint64_t session[2];

	plant_generate(&drive.plant, TWO_CLOCKS, 10);
	begin_on(true, "", "");
	drive_session(&drive, "net");
	session[0] = drive.session;
	client_call(&drive.client, "op=open\nmodel=net");
	session[1] = client_u64(&drive.client, "session");
	for (size_t i = 0; i < 800; i++) {
		drive.session = session[i % 2];
		drive_request(&drive, (i % 2 ? 3 : 1.6) * fastest(), 5e6);
	}
	verdict();
	finish();
}

/* Two requests at once share the GPU: each must meet its deadline, run one after the other. */
static void at_once(void)
{
	double deadline_ns, upper;
	uint64_t session[2], request[2];
	size_t missed = 0, feasible = 0;

	plant_generate(&drive.plant, NANO, 6);
	begin_on(true, "", "");
	drive_session(&drive, "net");
	session[0] = drive.session;
	client_call(&drive.client, "op=open\nmodel=net");
	session[1] = client_u64(&drive.client, "session");
	steady(3, 60, 0);
	upper = drive.upper;
	deadline_ns = 3 * fastest();
	for (size_t i = 0; i < 200; i++) {
		uint64_t began_ns = world_now_ns(&drive.world);
		for (int k = 0; k < 2; k++) {
			drive.session = session[k];
			drive_begin(&drive, deadline_ns);
			request[k] = drive.request;
			feasible += drive.feasible;
		}
		for (int k = 0; k < 2; k++) {
			drive_run(&drive, fmin(upper, board_noise_next(&drive.noise, &drive.rng)), deadline_ns);
			missed += (double)(world_now_ns(&drive.world) - began_ns) > deadline_ns;
			client_call(&drive.client, "op=end\nrequest=%llu\nack=1", (unsigned long long)request[k]);
		}
	}
	check(feasible >= 398, "feasible together");
	check(missed <= 2, "both meet their deadlines");
	finish();
}

static void foreign_writer(void)
{
	char text[64];
	size_t bad = 0;

	plant_generate(&drive.plant, NANO, 5);
	begin_on(true, "", "");
	drive_session(&drive, "net");
	steady(2.5, 100, 0);
	plant_write(&drive.plant, "sys/class/devfreq/17000000.gpu/max_freq", "1158400000\n");
	for (size_t i = 0; i < 100; i++) {
		drive_request(&drive, 2.5 * fastest(), 1e6);
		plant_read(&drive.plant, "sys/class/devfreq/17000000.gpu/max_freq", text, sizeof(text));
		bad += strcmp(text, "1158400000") != 0;
	}
	check(bad == 0, "its value is left alone");
	client_call(&drive.client, "op=status");
	check(strcmp(client_text(&drive.client, "clock.gpu.state"), "foreign") == 0, "status says so");
	check(drive.missed <= 1, "deadlines are met all the same");
	client_close(&drive.client);
	drive.client.fd = -1;
	world_advance(&drive.world, NS_PER_S);
	plant_read(&drive.plant, "sys/class/devfreq/17000000.gpu/max_freq", text, sizeof(text));
	check(strcmp(text, "1158400000") == 0, "and not taken back at the end");
	plant_write(&drive.plant, "sys/class/devfreq/17000000.gpu/max_freq", "1300500000\n");
	drive_stop(&drive); /* the other limit was the writer's to restore */
}

static void clamp(int i, const char *name, uint64_t most)
{
	snprintf(drive.world.page->clamp[i].name, sizeof(drive.world.page->clamp[i].name), "%s", name);
	atomic_store(&drive.world.page->clamp[i].most, most);
}

/* Heat holds the GPU down: the limit is respected, and lifted with the heat. */
static void thermal_ceiling(void)
{
	size_t entry = 8, above = 0;
	uint64_t most_hz;
	char text[32];

	plant_generate(&drive.plant, ORIN, 15);
	most_hz = drive.plant.grid.hz[CLOCK_GPU][entry];
	begin_on(true, "", "");
	drive_session(&drive, "net");
	steady(1.6, 200, 0);
	plant_write(&drive.plant, "sys/class/thermal/cooling_device0/cur_state", "2\n");
	clamp(0, "17000000.gpu/max_freq", most_hz);
	plant_read(&drive.plant, "sys/class/devfreq/17000000.gpu/max_freq", text, sizeof(text));
	if (strtoull(text, NULL, 10) > most_hz) {
		snprintf(text, sizeof(text), "%llu\n", (unsigned long long)most_hz);
		plant_write(&drive.plant, "sys/class/devfreq/17000000.gpu/max_freq", text);
	}
	drive.ceiling[CLOCK_GPU] = entry;
	double deadline_ns = 1.6 * fastest();
	for (size_t i = 0; i < 300; i++) {
		drive_request(&drive, deadline_ns, 1e6);
		above += drive.plant.grid.hz[CLOCK_GPU][drive.point / drive.plant.grid.count[CLOCK_MEM] %
							drive.plant.grid.count[CLOCK_GPU]] > most_hz;
	}
	check(above == 0, "the ceiling holds");
	clamp(0, "17000000.gpu/max_freq", 0);
	plant_write(&drive.plant, "sys/class/thermal/cooling_device0/cur_state", "0\n");
	drive.ceiling[CLOCK_GPU] = SIZE_MAX;
	verdict();
	finish();
}

static void sensor_dies(void)
{
	plant_generate(&drive.plant, NANO, 13);
	begin_on(true, "", "");
	drive_session(&drive, "net");
	steady(2, 500, 0);
	drive.plant.sensor = false;
	plant_write(&drive.plant, "sys/class/hwmon/hwmon0/curr1_input", "");
	steady(2, 500, 0);
	verdict();
	finish();
}

/* The daemon ranks points by the power that it assumes, so ask for it. */
static bool believed_cost(double *cost)
{
	const struct grid *grid = &drive.plant.grid;
	uint64_t from = 0;

	do {
		if (client_call(&drive.client, "op=surface\nmodel=net\nfrom=%llu", (unsigned long long)from))
			return false;
		for (size_t row = 0; row < grid->count[0] * grid->count[1]; row++) {
			char key[64], *save = NULL;
			snprintf(key, sizeof(key), "row.%zu.%zu", row / grid->count[1], row % grid->count[1]);
			const char *found = kv_get(&drive.client.reply, key);
			char *text = found ? strdup(found) : NULL;
			size_t mem = 0;
			for (char *cell = text ? strtok_r(text, ",", &save) : NULL; cell;
			     cell = strtok_r(NULL, ",", &save))
				if (mem < grid->count[2])
					sscanf(cell, "%*[^:]:%*[^:]:%lf", &cost[row * grid->count[2] + mem++]);
			free(text);
		}
		from = client_u64(&drive.client, "next");
	} while (from);
	return true;
}

static void no_sensor(void)
{
	static double cost[GRID_POINTS_MAX];

	plant_generate(&drive.plant, NANO, 13);
	begin_on(false, "", "");
	drive_session(&drive, "net");
	steady(2, 200, 0);
	check(believed_cost(cost), "tells its relative cost");
	check(client_u64(&drive.client, "power_known") == 0, "says that power is not known");
	drive.cost = cost;
	drive.counted = drive.missed = 0;
	drive.price = drive.optimum = 0;
	steady(2, 800, 0);
	verdict();
	finish();
}

static void infeasible(void)
{
	size_t slow = 0;

	plant_generate(&drive.plant, ORIN, 12);
	begin_on(true, "", "");
	drive_session(&drive, "net");
	steady(1.8, 100, 0);
	drive.infeasible = 0;
	for (size_t i = 0; i < 100; i++) {
		drive_request(&drive, 0.6 * fastest(), 0);
		slow += plant_latency_ns(&drive.plant, drive.point, 0) > 1.05 * fastest();
	}
	check(drive.infeasible == 100, "says feasible=0");
	check(slow == 0, "goes as fast as it may");
	steady(1.8, 200, 0);
	verdict();
	finish();
}

/* Samples of eight points are there at the start: no warm-up at all. */
static void seeded(void)
{
	static const size_t of_64[8] = {63, 0, 21, 42, 10, 54, 33, 16};
	char path[WORLD_PATH_MAX];
	size_t early;

	plant_generate(&drive.plant, ORIN, 10);
	begin_on(true, "", "");
	drive_session(&drive, "net");
	client_close(&drive.client);
	world_advance(&drive.world, NS_PER_S);
	world_stop(&drive.world, SIGTERM);
	world_path(&drive.world, "state/models/net.csv", path);
	FILE *file = fopen(path, "we");
	if (!file)
		abort();
	fputs("cpu_hz,gpu_hz,mem_hz,latency_ns,n,power_uw\n", file);
	for (size_t i = 0; i < 8; i++) {
		size_t p = of_64[i] * (drive.plant.grid.points - 1) / 63;
		struct op_point at = grid_point(&drive.plant.grid, p);
		fprintf(file, "%llu,%llu,%llu,%.0f,20,%.0f\n", (unsigned long long)at.hz[0],
			(unsigned long long)at.hz[1], (unsigned long long)at.hz[2],
			plant_latency_ns(&drive.plant, p, 0), drive.plant.power_uw[p]);
	}
	fclose(file);
	world_start(&drive.world, drive_program(), QUICK);
	drive_session(&drive, "net");
	steady(1.8, 400, 0);
	early = drive.early_missed;
	check(early <= 2, "at most two misses from the start");
	verdict();
	finish();
}

/* A language model: the cache grows by a token each step. */
static void decode(void)
{
	plant_generate(&drive.plant, (struct plant_shape){12, 8, 4, true}, 25);
	begin_on(true, "", "");
	drive.phase = "decode";
	drive_session(&drive, "llm");
	double deadline_ns = 2 * plant_fastest_ns(&drive.plant, 512);
	for (size_t i = 0; i < 900; i++) {
		drive.context = 64 + i % 450;
		drive_request(&drive, deadline_ns, 0);
	}
	verdict();
	finish();
}

static void restart(void)
{
	plant_generate(&drive.plant, NANO, 16);
	begin_on(true, "", "");
	drive_session(&drive, "net");
	steady(2, 200, 0);
	client_close(&drive.client);
	check(world_stop(&drive.world, SIGTERM) == 0, "ends with 0");
	world_start(&drive.world, drive_program(), QUICK);
	drive_session(&drive, "net");
	client_call(&drive.client, "op=models");
	check(client_u64(&drive.client, "model.0.samples") >= 3, "what was learned is there");
	/* From the very first request. */
	drive.requests = DRIVE_WARM;
	drive.counted = drive.missed = 0;
	drive.price = drive.optimum = 0;
	steady(2, 300, 0);
	verdict();
	finish();
}

static void profile_then_run(void)
{
	uint64_t profile, steps = 0;

	plant_generate(&drive.plant, ORIN, 8);
	begin_on(true, "", "");
	drive_session(&drive, "net");
	client_call(&drive.client, "op=profile\nmodel=net\nbudget=10");
	profile = client_u64(&drive.client, "profile");
	while (!client_u64(&drive.client, "done") && steps < 20) {
		size_t point = plant_point(&drive.plant);
		double ns = plant_latency_ns(&drive.plant, point, 0);
		plant_sense(&drive.plant, drive.plant.power_uw[point]);
		world_advance(&drive.world, (uint64_t)(ns * (double)client_u64(&drive.client, "repeat")));
		steps++;
		client_call(&drive.client, "op=sample\nprofile=%llu\nlatency_ns=%.0f\nn=10\nsd_ns=%.0f",
			    (unsigned long long)profile, ns, ns * 0.004);
	}
	check(steps >= 3 && steps <= 10, "within its budget");
	drive.requests = DRIVE_WARM; /* known from the start */
	steady(1.6, 800, 0);
	verdict();
	finish();
}

static void energy(void)
{
	plant_generate(&drive.plant, NANO, 11);
	begin_on(true, "[flamed]\nobjective = energy\n", "");
	drive.energy = true;
	drive_session(&drive, "net");
	steady(3, 600, 0);
	verdict();
	finish();
}

static void never_ends(void)
{
	struct client other;

	plant_generate(&drive.plant, NANO, 4);
	begin_on(true, "[flamed]\nrequest_expiry = 1s\n", "");
	drive_session(&drive, "net");
	steady(2.5, 100, 0);
	client_open(&other, &drive.world);
	client_call(&other, "op=open\nmodel=net");
	client_call(&other, "op=begin\nsession=%llu\ndeadline_ns=50000000",
		    (unsigned long long)client_u64(&other, "session"));
	uint64_t lost = client_u64(&other, "request");
	world_advance(&drive.world, 3 * NS_PER_S);
	check(client_call(&other, "op=end\nrequest=%llu\nack=1", (unsigned long long)lost) == 2,
	      "the request has expired");
	steady(2.5, 800, 0);
	client_close(&other);
	verdict();
	finish();
}

static void idle_release(void)
{
	char before[4096], held[4096], after[4096];

	plant_generate(&drive.plant, NANO, 12);
	begin_on(true, "[flamed]\nrelease_after = 500ms\n", SETTLE_ORIN);
	plant_knobs(&drive.plant, before, sizeof(before));
	drive_session(&drive, "net");
	steady(3, 60, 0);
	plant_knobs(&drive.plant, held, sizeof(held));
	world_advance(&drive.world, 2 * NS_PER_S);
	plant_knobs(&drive.plant, after, sizeof(after));
	check(strcmp(before, held) != 0, "clocks are held while requests come");
	check(strcmp(before, after) == 0, "and handed back after half a second without");
	steady(3, 100, 0);
	client_close(&drive.client);
	drive.client.fd = -1;
	world_advance(&drive.world, NS_PER_MS * 100);
	plant_knobs(&drive.plant, after, sizeof(after));
	check(strcmp(before, after) == 0, "and at once when the session closes");
	finish();
}

/* The client does not wait for the clocks, nor does it measure. */
static void no_wait(void)
{
	plant_generate(&drive.plant, NANO, 3);
	begin_on(true, "", SETTLE_ORIN);
	drive.waits = drive.reports = false;
	drive_session(&drive, "net");
	steady(2, 600, 0.3);
	verdict();
	finish();
}

const struct scenario scenarios[] = {
	{.name = "tight", .run = tight, .replay_too = true, .spare = 1, .why = LATE_THERE},
	{.name = "middle", .run = middle, .replay_too = true},
	{.name = "loose", .run = loose, .replay_too = true},
	{.name = "changing deadlines", .run = changing, .replay_too = true},
	{.name = "alternating deadlines", .run = alternating, .replay_too = true},
	{.name = "alternating, one tight",
	 .run = alternating_tight,
	 .apart = true,
	 .power_max = 1.32,
	 .why = "the optimum moves in no time: clocks that do not come up in time stay up for the longer deadline"},
	{.name = "bursts",
	 .run = bursts,
	 .power_max = 1.10,
	 .why = SURE "in most draws it is not tried in 600 requests"},
	{.name = "settle times, periodic", .run = settles},
	{.name = "settle times, back to back", .run = settles_back_to_back},
	{.name = "settle times, known model",
	 .run = settles_known,
	 .spare = 3,
	 .why = "an exploration that is late makes five late in a row while the clocks go there and back; counts from "
		"request 151 on, when the model is known"},
	{.name = "no wait, no total", .run = no_wait},
	{.name = "contention comes and goes",
	 .run = contention,
	 .replay_too = true,
	 .why = "the first 30 of the 200 requests after each change do not count: the change has to be seen first"},
	{.name = "contention for long is over",
	 .run = contention_for_long,
	 .replay_too = true,
	 .why = "counts from request 1,060 on, 60 after the end of the contention, which has to be seen first"},
	{.name = "replay mobilenet", .run = replay_mobilenet, .replay_too = true, .apart = true},
	{.name = "replay gemv proxy", .run = replay_proxy, .replay_too = true, .apart = true},
	{.name = "replay inception",
	 .run = replay_inception,
	 .replay_too = true,
	 .apart = true,
	 .replay_power_max = 1.10,
	 .replay_why = SURE "in most draws it is not tried in 600 requests"},
	{.name = "periodic inception, long",
	 .run = replay_inception_long,
	 .apart = true,
	 .power_max = 1.30,
	 .why = SURE "in most draws the misses that trying it takes are not risked: 0.1 % are missed, of 0.3 %"},
	{.name = "replay xception", .run = replay_xception, .replay_too = true, .apart = true},
	{.name = "two sessions", .run = two_sessions, .replay_too = true},
	/* No limit of power: the oracle knows one request at a time. */
	{.name = "two at once", .run = at_once},
	/* No limit of power: the oracle does not know the clock that the other program holds. */
	{.name = "foreign writer", .run = foreign_writer},
	{.name = "thermal ceiling", .run = thermal_ceiling},
	{.name = "sensor dies",
	 .run = sensor_dies,
	 .replay_too = true,
	 .spare = 1,
	 .why = LATE_THERE,
	 .replay_power_max = 1.15,
	 .replay_why = ORDER},
	{.name = "no power sensor",
	 .run = no_sensor,
	 .replay_too = true,
	 .why = "counts from request 201 on, when the relative cost of points has been read"},
	{.name = "no memory clock", .run = no_memory_clock, .replay_too = true},
	{.name = "no gpu", .run = no_gpu, .replay_too = true},
	{.name = "infeasible deadline", .run = infeasible, .replay_too = true},
	{.name = "seeded samples", .run = seeded},
	{.name = "decode, growing context", .run = decode, .replay_too = true},
	{.name = "restart keeps what it learned",
	 .run = restart,
	 .spare = 1,
	 .why = "a restart forgets earlier misses"},
	{.name = "profile then run", .run = profile_then_run, .spare = 1, .why = LATE_THERE},
	{.name = "objective energy",
	 .run = energy,
	 .replay_too = true,
	 .power_max = 1.15,
	 .why = "in some draws the cheapest mix of clocks is not tried in 600 requests; 1.02 over 3,000",
	 .replay_power_max = 1.25,
	 .replay_why = "power is read at the end of a request only: by that, the way to the cheapest mix saves less"},
	{.name = "request never ended", .run = never_ends, .spare = 1, .why = LATE_THERE},
	/* No limit of power: too few requests. */
	{.name = "idle release", .run = idle_release},
};
const size_t scenario_count = sizeof(scenarios) / sizeof(*scenarios);
