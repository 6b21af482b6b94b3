/* SPDX-License-Identifier: MIT */
/* Memory of models: derived data is freed and computed again, and the models of one user and of all users keep to their
 * shares. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <unistd.h>
#include "../../common/clock.h"
#include "../../daemon/library.h"
#include "../../daemon/user.h"

#define MHZ    1000000ULL
#define AXIS   24 /* points of the grid: its square */
#define MODELS 60

static struct grid grid;
static struct library library;

static void make_grid(void)
{
	uint64_t cpu[AXIS], gpu[AXIS], none = 0;
	const uint64_t *hz[] = {cpu, gpu, &none};
	const size_t count[] = {AXIS, AXIS, 1};

	for (size_t i = 0; i < AXIS; i++) {
		cpu[i] = (600 + i * 60) * MHZ;
		gpu[i] = (300 + i * 40) * MHZ;
	}
	assert_int_equal(grid_init(&grid, hz, count), 0);
}

static uint64_t truth_ns(struct op_point p, uint32_t context)
{
	return (uint64_t)((3e5 + 4e12 * 1e3 / (double)p.hz[0] + 2.5e12 * 1e3 / (double)p.hz[1]) *
			  (1 + context / 2000.0));
}

static void teach(struct model *model, uint32_t context)
{
	for (size_t i = 0; i < 6; i++) {
		struct op_point p = grid_point(&grid, (i * 113 + context) % grid.points);
		struct sample s = {.phase = PHASE_DECODE,
				   .context = context,
				   .point = p,
				   .n = 10,
				   .latency_ns = truth_ns(p, context)};

		assert_int_equal(model_learn_sample(model, &s), 0);
	}
}

static struct model *new_model(size_t *derived)
{
	struct model_options options;

	model_options_default(&options);
	options.derived_bytes = derived;
	return model_new(&grid, &options);
}

/* Derived data is freed, and the same after it is computed again. */
static void shed(void **state)
{
	static float before[AXIS * AXIS];
	size_t derived = 0, measured;
	struct model *model;
	(void)state;

	make_grid();
	model = new_model(&derived);
	assert_int_equal(model_surface(model, PHASE_DECODE, 500)->state, SURFACE_NONE);
	assert_int_equal(derived, 0);
	teach(model, 500);
	measured = model_measured_bytes(model);
	assert_int_equal(measured, 6 * MODEL_SAMPLE_BYTES);
	for (size_t i = 0; i < grid.points; i++)
		before[i] = model_surface(model, PHASE_DECODE, 500)->latency_ns[i];
	assert_true(before[0] > 0 && derived > grid.points * 38);
	assert_int_equal(derived, model_derived_bytes(model));
	model_shed(model);
	assert_int_equal(derived, 0);
	assert_int_equal(model_derived_bytes(model), 0);
	assert_int_equal(model_measured_bytes(model), measured);
	assert_int_equal(model_surface_kept(model, PHASE_DECODE, 500)->state, SURFACE_NONE);
	assert_int_equal(derived, 0);
	for (size_t i = 0; i < grid.points; i++)
		assert_true(model_surface_at_hand(model, PHASE_DECODE, 500)->latency_ns[i] == before[i]);
	model_free(model);
	assert_int_equal(derived, 0);
}

/* Requests that end after the fit was freed still count. */
static void observed_without_fit(void **state)
{
	struct op_point p;
	struct model *model;
	double before_ns;
	(void)state;

	make_grid();
	model = new_model(NULL);
	p = grid_point(&grid, (0 * 113 + 500) % grid.points);
	teach(model, 500);
	before_ns = (double)model_surface(model, PHASE_DECODE, 500)->latency_ns[grid_nearest(&grid, p)];
	model_shed(model);
	for (int i = 0; i < 50; i++)
		assert_int_equal(model_observe(model, PHASE_DECODE, 500, p, (uint64_t)(1.3 * before_ns), 0, 0, 1), 0);
	const struct surface *s = model_surface(model, PHASE_DECODE, 500);
	double after_ns = (double)s->latency_ns[grid_nearest(&grid, p)] * s->slowdown;
	assert_true(after_ns > 1.25 * before_ns && after_ns < 1.35 * before_ns);
	model_free(model);
}

/* A longer context is used for one that is not in memory, a shorter one never is. */
static void kept(void **state)
{
	struct model *model;
	uint32_t longest;
	(void)state;

	make_grid();
	model = new_model(NULL);
	teach(model, 500);
	longest = model_surface(model, PHASE_DECODE, 500)->context;
	for (uint32_t context = 1; context < 4000; context += 37) {
		size_t held = model_derived_bytes(model);
		const struct surface *s = model_surface_kept(model, PHASE_DECODE, context);

		assert_int_equal(model_derived_bytes(model), held);
		if (s->state == SURFACE_NONE)
			assert_true(context > longest && s->latency_ns[0] <= 0);
		else
			assert_true(s->context >= context && s->latency_ns[0] > 0);
	}
	assert_int_equal(model_surface_kept(model, PHASE_DECODE, longest)->context, longest);
	assert_int_equal(model_surface_kept(model, PHASE_RUN, 0)->state, SURFACE_NONE);
	model_free(model);
}

static struct entry *use(const char *name, uid_t owner)
{
	static uint64_t now_ns;
	struct entry *entry = library_get(&library, name, owner, ++now_ns);

	assert_non_null(entry);
	return entry;
}

static size_t derived_of(uid_t owner, unsigned *models)
{
	size_t held = 0;

	*models = 0;
	for (size_t i = 0; i < library.count; i++) {
		size_t bytes = library.entry[i].owner == owner ? model_derived_bytes(library.entry[i].model) : 0;

		held += bytes;
		*models += bytes > 0;
	}
	return held;
}

static void open_library(char *dir)
{
	struct model_options options;

	make_grid();
	model_options_default(&options);
	assert_non_null(mkdtemp(dir));
	library_init(&library, dir, "", &grid, &options, NULL);
}

static void close_library(const char *dir)
{
	char path[PATH_MAX];

	library_free(&library);
	assert_int_equal(library.derived_bytes, 0);
	snprintf(path, sizeof(path), "%s/models", dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* The largest owner's least recently used models are freed, models without users first; those of others stay. */
static void surfaces_of_users(void **state)
{
	char dir[] = "/tmp/flamed-memory-XXXXXX", name[32];
	struct entry *mine, *idle, *latest = NULL;
	unsigned models;
	(void)state;

	open_library(dir);
	mine = use("mine", 1000);
	teach(mine->model, 500);
	model_surface(mine->model, PHASE_DECODE, 500);
	idle = use("idle", 1001);
	teach(idle->model, 500);
	for (unsigned i = 0; i < MODELS; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		latest = use(name, 1001);
		teach(latest->model, 500);
		if (i == 1) { /* later than another, and not in use */
			model_surface(idle->model, PHASE_DECODE, 500);
			idle->used_ns = latest->used_ns;
			library_put(idle);
		}
		for (uint32_t context = 200; context < 200 << SURFACES_MAX; context *= 2) {
			model_surface(latest->model, PHASE_DECODE, context);
			library_trim(&library);
			assert_true(library.derived_bytes <= DERIVED_BYTES_MAX);
			assert_true(model_derived_bytes(latest->model) > 0);
		}
		assert_true(library.derived_bytes < DERIVED_BYTES_MAX / 2 || i == 0 ||
			    model_derived_bytes(mine->model));
	}
	assert_true(model_surface_kept(mine->model, PHASE_DECODE, 500)->state != SURFACE_NONE);
	assert_int_equal(model_derived_bytes(idle->model), 0);
	assert_true(library.derived_bytes > DERIVED_BYTES_MAX * 3 / 4);
	assert_true(derived_of(1001, &models) > DERIVED_BYTES_MAX / 2 && models < MODELS);
	assert_int_equal(model_derived_bytes(library_find(&library, "m0", 1001)->model), 0);
	close_library(dir);
}

/* Samples beyond a user's share are refused in any case; the next user's are accepted. */
static void samples_of_users(void **state)
{
	char dir[] = "/tmp/flamed-memory-XXXXXX", name[32];
	size_t most = MEASURED_PER_UID_MAX / MODEL_SAMPLE_BYTES, held = 0;
	struct entry *entry = NULL;
	(void)state;

	open_library(dir);
	for (unsigned i = 0; held < most; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		entry = use(name, 1001);
		for (unsigned k = 0; k < 4000 && library_has_room(&library, entry, MODEL_SAMPLE_BYTES); k++) {
			struct op_point p = grid_point(&grid, k % grid.points);
			uint32_t context = 100u << k / grid.points;
			struct sample s = {.phase = PHASE_DECODE,
					   .context = context,
					   .point = p,
					   .n = 1,
					   .latency_ns = truth_ns(p, context)};

			assert_false(model_has_sample(entry->model, PHASE_DECODE, context, p));
			assert_int_equal(model_learn_sample(entry->model, &s), 0);
			assert_true(model_has_sample(entry->model, PHASE_DECODE, context, p));
			held++;
		}
		assert_true(i < MODELS);
	}
	assert_int_equal(held, most);
	assert_false(library_has_room(&library, entry, MODEL_SAMPLE_BYTES));
	assert_true(library_has_room(&library, use("mine", 1000), MODEL_SAMPLE_BYTES));
	/* one that is not in use makes room */
	struct entry *unused = library_find(&library, "m0", 1001);
	library_put(unused);
	assert_true(library_has_room(&library, entry, MODEL_SAMPLE_BYTES));
	assert_int_equal(model_measured_bytes(unused->model), 0);
	assert_true(unused->unread);
	close_library(dir);
}

/* A file of `rows` samples. */
static void write_rows(const char *path, size_t rows)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fprintf(file, "phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n\n");
	for (unsigned k = 0; k < rows; k++) {
		struct op_point p = grid_point(&grid, k % grid.points);
		uint32_t context = 100u << k / grid.points;

		fprintf(file, "decode,%u,%" PRIu64 ",%" PRIu64 ",0,%" PRIu64 ",1\n", context, p.hz[0], p.hz[1],
			truth_ns(p, context));
	}
	fclose(file);
}

/* A question reads a model: it is kept as long as there is room for it beside those in use. */
static void asked_about(void **state)
{
	char dir[] = "/tmp/flamed-memory-XXXXXX", path[PATH_MAX];
	const size_t rows = 4000;
	struct entry *asked, *used[4];
	(void)state;

	open_library(dir);
	for (unsigned i = 0; i <= 4; i++) {
		snprintf(path, sizeof(path), "%s/models/m%u@@1001.csv", dir, i);
		write_rows(path, rows);
	}
	assert_true(5 * rows * MODEL_SAMPLE_BYTES > MEASURED_PER_UID_MAX);
	assert_true(4 * rows * MODEL_SAMPLE_BYTES <= MEASURED_PER_UID_MAX);
	for (unsigned i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "m%u", i);
		used[i] = use(path, 1001);
		assert_int_equal(model_measured_bytes(used[i]->model), rows * MODEL_SAMPLE_BYTES);
	}
	asked = library_enter(&library, "m4", 1001);
	library_read(asked);
	assert_false(asked->unread);
	assert_false(library_fit(asked));
	assert_true(asked->unread && !asked->no_room);
	assert_int_equal(model_measured_bytes(asked->model), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_true(library_fit(used[i]));
	library_put(used[0]);
	library_read(asked);
	assert_true(library_fit(asked));
	assert_int_equal(model_measured_bytes(asked->model), rows * MODEL_SAMPLE_BYTES);
	assert_int_equal(model_measured_bytes(used[0]->model), 0);
	for (unsigned i = 0; i <= 4; i++) {
		snprintf(path, sizeof(path), "%s/models/m%u@@1001.csv", dir, i);
		assert_int_equal(unlink(path), 0);
	}
	close_library(dir);
}

/* An evicted model takes no room, nor do the measurements of other boards that came with it. */
static void imports_of_users(void **state)
{
	char dir[] = "/tmp/flamed-memory-XXXXXX", path[PATH_MAX];
	const size_t rows = 4000, bytes = rows * MODEL_SAMPLE_BYTES;
	struct entry *used[4], *asked;
	(void)state;

	open_library(dir);
	for (unsigned i = 0; i <= 4; i++) {
		snprintf(path, sizeof(path), "%s/models/m%u@.inherited", dir, i);
		write_rows(path, rows);
	}
	for (unsigned i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "m%u", i);
		used[i] = use(path, 1001);
		assert_int_equal(model_measured_bytes(used[i]->model), bytes);
	}
	/* one that is asked about, one that is opened, one that a session goes over to */
	asked = library_enter(&library, "m4", 1001);
	library_read(asked);
	assert_int_equal(model_measured_bytes(asked->model), bytes);
	assert_false(library_fit(asked));
	assert_true(asked->unread);
	assert_int_equal(model_measured_bytes(asked->model), 0);
	assert_null(library_get(&library, "m4", 1001, 100));
	assert_int_equal(errno, EDQUOT);
	assert_int_equal(model_measured_bytes(asked->model), 0);
	assert_ptr_equal(library_hold(&library, "m4", 1001), asked);
	library_read(asked);
	assert_false(library_keep(asked));
	assert_int_equal(model_measured_bytes(asked->model), 0);
	library_put(asked);
	/* one that is not in use makes room */
	library_put(used[0]);
	assert_ptr_equal(use("m4", 1001), asked);
	assert_int_equal(model_measured_bytes(asked->model), bytes);
	assert_true(used[0]->unread);
	assert_int_equal(model_measured_bytes(used[0]->model), 0);
	for (unsigned i = 0; i <= 4; i++) {
		snprintf(path, sizeof(path), "%s/models/m%u@.inherited", dir, i);
		assert_int_equal(unlink(path), 0);
	}
	close_library(dir);
}

/* More models on disk than a share holds: none is lost, whenever it is read. */
static void read_in_pieces(void **state)
{
	char dir[] = "/tmp/flamed-memory-XXXXXX", path[PATH_MAX];
	struct model_options options;
	size_t read = 0, held = 0;
	(void)state;

	open_library(dir);
	for (unsigned i = 0; i < MODELS; i++) {
		snprintf(path, sizeof(path), "%s/models/m%u.csv", dir, i);
		FILE *file = fopen(path, "w");
		assert_non_null(file);
		fprintf(file, "phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n\n");
		for (unsigned k = 0; k < 1000; k++)
			fprintf(file, "decode,%u,%u000000,300000000,0,%u.6,1\n", k / 10 * 1000, 600 + k % 10 * 60,
				30000000 + i);
		fclose(file);
	}
	library_free(&library);
	model_options_default(&options);
	library_init(&library, dir, "", &grid, &options, NULL);
	assert_int_equal(library.count, MODELS);
	while (library_read_next(&library))
		;
	assert_false(library_has_unread(&library));
	for (size_t i = 0; i < library.count; i++) {
		read += !library.entry[i].unread;
		held += model_measured_bytes(library.entry[i].model);
	}
	assert_true(read > 0 && read < MODELS && held <= MEASURED_PER_UID_MAX);
	for (unsigned i = 0; i < MODELS; i++) {
		struct sample *samples = NULL;
		char name[32];

		snprintf(name, sizeof(name), "m%u", i);
		struct entry *entry = use(name, USER_ADMIN);
		long count = model_samples(entry->model, &samples);
		assert_true(count > 100 && samples[0].latency_ns == 30000001 + i);
		free(samples);
		library_put(entry);
		snprintf(path, sizeof(path), "%s/models/m%u.csv", dir, i);
		assert_int_equal(unlink(path), 0);
	}
	close_library(dir);
}

/* A full model takes at most half as long to count and to check as it took to learn. */
static void quick_to_count(void **state)
{
	const uint32_t contexts = SAMPLES_MAX / 2 / (uint32_t)(AXIS * AXIS);
	struct model *model;
	struct op_point a, b;
	(void)state;

	make_grid();
	model = new_model(NULL);
	uint64_t start_ns = clock_cpu_ns();
	for (uint32_t i = 0; i < contexts * grid.points; i++) {
		struct sample sample = {.phase = i % 2 ? PHASE_DECODE : PHASE_PREFILL,
					.context = 100U << i / grid.points,
					.point = grid_point(&grid, i % grid.points),
					.n = 5};
		sample.latency_ns = 1000000000000000 / sample.point.hz[CLOCK_CPU];
		assert_int_equal(model_learn_sample(model, &sample), 0);
	}
	uint64_t learned_ns = clock_cpu_ns();
	struct model_summary summary = model_summary(model);
	uint64_t counted_ns = clock_cpu_ns();
	assert_true(model_consistent(model, &a, &b));
	uint64_t checked_ns = clock_cpu_ns();
	assert_int_equal(summary.samples, contexts * grid.points);
	assert_int_equal(summary.contexts, 2 * contexts);
	assert_true(summary.phase[PHASE_PREFILL] && summary.phase[PHASE_DECODE] && !summary.phase[PHASE_RUN]);
	printf("# | %u samples: learned in %.2f ms, counted in %.2f, checked in %.2f\n", summary.samples,
	       (double)(learned_ns - start_ns) * 1e-6, (double)(counted_ns - learned_ns) * 1e-6,
	       (double)(checked_ns - counted_ns) * 1e-6);
	assert_true(2 * (counted_ns - learned_ns) < learned_ns - start_ns);
	assert_true(2 * (checked_ns - counted_ns) < learned_ns - start_ns);
	model_free(model);
}

/* A user without connections keeps its debts while others come. */
static void debts_of_users(void **state)
{
	(void)state;
	for (int debt = 0; debt < DEBT_COUNT; debt++) {
		uid_t uid = 4001 + 2 * (uid_t)debt;

		user_charge(user_get(uid), (enum debt)debt, 100 * NS_PER_MS);
		assert_non_null(user_get(uid + 1)); /* drops users that are over */
		assert_true(user_owes_ns(user_get(uid), (enum debt)debt) > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shed),
		cmocka_unit_test(observed_without_fit),
		cmocka_unit_test(kept),
		cmocka_unit_test(surfaces_of_users),
		cmocka_unit_test(samples_of_users),
		cmocka_unit_test(asked_about),
		cmocka_unit_test(imports_of_users),
		cmocka_unit_test(read_in_pieces),
		cmocka_unit_test(quick_to_count),
		cmocka_unit_test(debts_of_users),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
