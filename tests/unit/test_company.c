/* SPDX-License-Identifier: MIT */
/* Learned interference between models, stored with the models. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../../common/file.h"
#include "../../daemon/library.h"
#include "../../daemon/model_files.h"

static struct library library;
static struct governor governor;
static struct grid grid;
static char dir[64];

static void open_library(void)
{
	struct governor_options governor_options;
	struct model_options options;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		grid.count[c] = 1;
		grid.hz[c][0] = 1000000000;
	}
	grid.points = 1;
	model_options_default(&options);
	governor_options_default(&governor_options);
	governor_free(&governor);
	assert_int_equal(governor_init(&governor, &governor_options), 0);
	library_init(&library, dir, "", &grid, &options, &governor);
}

static struct entry *use(const char *name, uid_t owner)
{
	struct entry *entry = library_get(&library, name, owner, 1);

	assert_non_null(entry);
	entry->dirty = true;
	return entry;
}

static uint32_t id(const struct entry *entry)
{
	return (uint32_t)(entry - library.entry);
}

static const struct interference *pair(uint32_t model, uint32_t other)
{
	for (size_t i = 0; i < COMPANY_PAIRS_MAX; i++)
		if (governor.pair[model][i].n && governor.pair[model][i].other == other)
			return &governor.pair[model][i];
	return NULL;
}

static int fresh(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/flamed-company-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int clean(void **state)
{
	char command[128];
	(void)state;

	library_free(&library);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

/* Both directions are present once both models are loaded, in either order. */
static void survives(void **state)
{
	(void)state;
	open_library();
	struct entry *camera = use("camera", 1000), *voice = use("voice", 1001);
	struct interference slows = {id(camera), id(voice), true, -1.5F, 0.02F, 40},
			    slowed = {id(voice), id(camera), false, 0.75F, 0.1F, 7};
	assert_true(governor_model_pair(&governor, &slows));
	assert_true(governor_model_pair(&governor, &slowed));
	governor.alone[id(camera)] = 12;
	assert_int_equal(library_save(&library), 0);
	for (int first = 0; first < 2; first++) {
		library_free(&library);
		open_library();
		if (first)
			voice = use("voice", 1001);
		camera = use("camera", 1000);
		if (!first)
			voice = use("voice", 1001);
		const struct interference *p = pair(id(camera), id(voice)), *q = pair(id(voice), id(camera));
		assert_non_null(p);
		assert_true(p->before && p->n == 40);
		assert_float_equal(p->log_theta, -1.5, 1e-6);
		assert_float_equal(p->var, 0.02, 1e-6);
		assert_non_null(q);
		assert_true(!q->before && q->n == 7);
		assert_float_equal(q->log_theta, 0.75, 1e-6);
		assert_int_equal(governor.alone[id(camera)], 12);
		assert_int_equal(governor.alone[id(voice)], 0);
	}
}

/* Interference of one model does not apply to the next one in its place. */
static void not_of_the_next(void **state)
{
	char name[16];
	(void)state;

	open_library();
	struct entry *old = use("old", 1000);
	uint32_t was = id(old);
	governor.alone[was] = 9;
	old->dirty = false;
	library_put(old);
	for (int i = 0; i < MODELS_PER_UID_MAX; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		use(name, 1000)->dirty = false;
	}
	assert_string_not_equal(library.entry[was].name, "old");
	assert_int_equal(governor.alone[was], 0);
}

static void nonsense(void **state)
{
	static const char *const bad[] = {
		"pair.0=voice@1001 slows first 99 0.1 5\n\n",
		"pair.0=voice@1001 slows first 0.5 0 5\n\n",
		"pair.0=voice@1001 slows first nan 0.1 5\n\n",
		"pair.0=voice@1001 slows first 0.5 0.1 0\n\n",
		"pair.0=voice@1001 slows first 0.5 0.1 5 6\n\n",
		"pair.0=voice\n\n",
		"alone=-1\n\n",
		"alone=65536\n\n",
		"no pair\n\n",
	};
	char path[128], aside[160];
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		open_library();
		snprintf(path, sizeof(path), "%s/models/camera@@1000.company", dir);
		snprintf(aside, sizeof(aside), "%s.damaged", path);
		assert_int_equal(file_replace(path, bad[i], strlen(bad[i]), 0640), 0);
		struct entry *voice = use("voice", 1001), *camera = use("camera", 1000);
		assert_null(pair(id(camera), id(voice)));
		assert_int_equal(governor.alone[id(camera)], 0);
		assert_int_equal(access(path, F_OK), -1);
		assert_int_equal(access(aside, F_OK), 0);
		assert_int_equal(unlink(aside), 0);
		library_free(&library);
	}
	open_library();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(survives, fresh, clean),
		cmocka_unit_test_setup_teardown(not_of_the_next, fresh, clean),
		cmocka_unit_test_setup_teardown(nonsense, fresh, clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
