/* SPDX-License-Identifier: MIT */
/* ONNX Runtime: a program obtains a table of functions from OrtGetApiBase(); Run or RunWithBinding in that table is
 * one inference. The program gets a copy of the table in which both and the session constructors are replaced. Entries
 * never move: a new version only appends (onnxruntime_c_api.h; its source asserts the offsets). A process may hold
 * several builds, as add-ons with one each. */
#include "engines.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PUBLIC      __attribute__((visibility("default")))
#define BUILDS_MAX  4   /* of ONNX Runtime in one process; further ones are passed through */
#define TABLES_MAX  8   /* API versions that one process requests of a build */
#define ENTRIES_MAX 512 /* of a table; version 1.22 has about 320 */
#define SESSIONS    64  /* whose models are distinguished */
#define DIMENSIONS  16
#define HEAD_BYTES  4096 /* of a model in memory that are hashed */

/* Indices in struct OrtApi, version 1. */
enum {
	CREATE_SESSION = 7,
	CREATE_SESSION_FROM_ARRAY = 8,
	RUN = 9,
	GET_DIMENSIONS_COUNT = 61,
	GET_DIMENSIONS = 62,
	GET_TENSOR_TYPE_AND_SHAPE = 65,
	RELEASE_STATUS = 93,
	RELEASE_SESSION = 95,
	RELEASE_TENSOR_TYPE_AND_SHAPE = 99,
	RUN_WITH_BINDING = 133, /* since version 5 */
};
#define BINDING_VERSION 5

struct api_base {
	const void *const *(*get_api)(uint32_t version);
	const char *(*get_version_string)(void);
};

typedef void *(*create_fn)(const void *env, const char *path, const void *options, void **out);
typedef void *(*create_array_fn)(const void *env, const void *data, size_t size, const void *options, void **out);
typedef void *(*run_fn)(void *session, const void *options, const char *const *input_names, const void *const *inputs,
			size_t input_count, const char *const *output_names, size_t output_count, void **outputs);

typedef void *(*run_bound_fn)(void *session, const void *options, const void *binding);

static struct build {
	const struct api_base *real; /* NULL: none */
	struct api_base base;        /* what the program gets instead */
	const void *const *original[TABLES_MAX];
	const void *copy[TABLES_MAX][ENTRIES_MAX];
	uint32_t version[TABLES_MAX];
	size_t tables;
} builds[BUILDS_MAX];

/* Of all builds. */
static struct {
	void *session;
	uint64_t model;
} known[SESSIONS];
static size_t next; /* slot to overwrite */

/* Every version's table begins with the same entries: the first table requested is used. */
static const void *entry(const struct build *build, size_t index)
{
	return build->original[0][index];
}

/* The same of an entry that only tables from `version` on have; the caller got such a table. */
static const void *entry_since(const struct build *build, uint32_t version, size_t index)
{
	size_t i = 0;

	while (i + 1 < build->tables && build->version[i] < version)
		i++;
	return build->original[i][index];
}

static void remember(void *session, uint64_t model)
{
	pthread_mutex_lock(&engines_lock);
	known[next].session = session;
	known[next].model = model;
	next = (next + 1) % SESSIONS;
	pthread_mutex_unlock(&engines_lock);
}

static uint64_t model_of(const void *session)
{
	uint64_t model = 0;

	pthread_mutex_lock(&engines_lock);
	for (size_t i = 0; i < SESSIONS; i++)
		if (known[i].session == session)
			model = known[i].model;
	pthread_mutex_unlock(&engines_lock);
	return model;
}

/* A model is identified by its file name, not by its directory, which differs between machines. */
static void *create(const struct build *build, const void *env, const char *path, const void *options, void **out)
{
	void *status = ((create_fn)entry(build, CREATE_SESSION))(env, path, options, out);
	const char *slash, *name;

	if (status)
		return status;
	slash = strrchr(path, '/');
	name = slash ? slash + 1 : path;
	remember(*out, boundary_hash(0, name, strlen(name)));
	return NULL;
}

static void *create_from_array(const struct build *build, const void *env, const void *data, size_t size,
			       const void *options, void **out)
{
	void *status = ((create_array_fn)entry(build, CREATE_SESSION_FROM_ARRAY))(env, data, size, options, out);
	uint64_t hash;

	if (status)
		return status;
	hash = boundary_hash(boundary_hash(0, &size, sizeof(size)), data, size < HEAD_BYTES ? size : HEAD_BYTES);
	remember(*out, hash);
	return NULL;
}

static void release_session(const struct build *build, void *session)
{
	pthread_mutex_lock(&engines_lock);
	for (size_t i = 0; session && i < SESSIONS; i++)
		if (known[i].session == session)
			known[i].session = NULL;
	pthread_mutex_unlock(&engines_lock);
	((void (*)(void *))entry(build, RELEASE_SESSION))(session);
}

static void drop(const struct build *build, void *status)
{
	if (status)
		((void (*)(void *))entry(build, RELEASE_STATUS))(status);
}

/* A different input shape is a different inference. Values other than tensors are ignored. */
static uint64_t shape_hash(const struct build *build, uint64_t hash, const void *value)
{
	int64_t dimension[DIMENSIONS];
	size_t count = 0;
	void *info = NULL, *status;

	status = ((void *(*)(const void *, void **))entry(build, GET_TENSOR_TYPE_AND_SHAPE))(value, &info);
	if (status || !info) {
		drop(build, status);
		return hash;
	}
	status = ((void *(*)(const void *, size_t *))entry(build, GET_DIMENSIONS_COUNT))(info, &count);
	if (!status && count <= DIMENSIONS) {
		status = ((void *(*)(const void *, int64_t *, size_t))entry(build, GET_DIMENSIONS))(info, dimension,
												    count);
		if (!status)
			hash = boundary_hash(hash, dimension, count * sizeof(dimension[0]));
	}
	drop(build, status);
	((void (*)(void *))entry(build, RELEASE_TENSOR_TYPE_AND_SHAPE))(info);
	return hash;
}

static void *run(const struct build *build, void *session, const void *options, const char *const *input_names,
		 const void *const *inputs, size_t input_count, const char *const *output_names, size_t output_count,
		 void **outputs)
{
	run_fn real = (run_fn)entry(build, RUN);
	struct engine_call call;
	uint64_t hash;
	void *status;

	if (!layer_on())
		return real(session, options, input_names, inputs, input_count, output_names, output_count, outputs);
	hash = model_of(session);
	/* NULL is an error, which ONNX Runtime reports. */
	for (size_t i = 0; i < input_count && input_names && inputs; i++) {
		if (input_names[i])
			hash = boundary_hash(hash, input_names[i], strlen(input_names[i]));
		if (inputs[i])
			hash = shape_hash(build, hash, inputs[i]);
	}
	call = engine_begin(boundary_hash(hash, "onnxruntime", 11), PHASE_RUN, 0);
	status = real(session, options, input_names, inputs, input_count, output_names, output_count, outputs);
	if (status)
		engine_cancel(&call, false);
	else
		engine_end(&call);
	return status;
}

/* The binding does not tell which shapes were bound: all of them are one model. */
static void *run_bound(const struct build *build, void *session, const void *options, const void *binding)
{
	run_bound_fn real = (run_bound_fn)entry_since(build, BINDING_VERSION, RUN_WITH_BINDING);
	struct engine_call call;
	void *status;

	if (!layer_on())
		return real(session, options, binding);
	call = engine_begin(boundary_hash(model_of(session), "onnxruntime", 11), PHASE_RUN, 0);
	status = real(session, options, binding);
	if (status)
		engine_cancel(&call, false);
	else
		engine_end(&call);
	return status;
}

/* The functions of a table are not passed a pointer to the build that they belong to, so each build has its own. */
struct wrappers {
	const void *const *(*get_api)(uint32_t version);
	create_fn create;
	create_array_fn create_from_array;
	run_fn run;
	run_bound_fn run_bound;
	void (*release_session)(void *session);
};

static const void *const *get_api(struct build *build, uint32_t version);

#define WRAPPERS(n) \
	static const void *const *get_api_##n(uint32_t version) \
	{ \
		return get_api(&builds[n], version); \
	} \
	static void *create_##n(const void *env, const char *path, const void *options, void **out) \
	{ \
		return create(&builds[n], env, path, options, out); \
	} \
	static void *create_from_array_##n(const void *env, const void *data, size_t size, const void *options, \
					   void **out) \
	{ \
		return create_from_array(&builds[n], env, data, size, options, out); \
	} \
	static void *run_##n(void *session, const void *options, const char *const *input_names, \
			     const void *const *inputs, size_t input_count, const char *const *output_names, \
			     size_t output_count, void **outputs) \
	{ \
		return run(&builds[n], session, options, input_names, inputs, input_count, output_names, output_count, \
			   outputs); \
	} \
	static void *run_bound_##n(void *session, const void *options, const void *binding) \
	{ \
		return run_bound(&builds[n], session, options, binding); \
	} \
	static void release_session_##n(void *session) \
	{ \
		release_session(&builds[n], session); \
	}
#define WRAPPED(n) \
	{ \
		get_api_##n, create_##n, create_from_array_##n, run_##n, run_bound_##n, release_session_##n \
	}
WRAPPERS(0)
WRAPPERS(1)
WRAPPERS(2)
WRAPPERS(3)
static const struct wrappers wrappers[BUILDS_MAX] = {WRAPPED(0), WRAPPED(1), WRAPPED(2), WRAPPED(3)};

struct elf_segment {
	uintptr_t at, end;
};

static int find_elf_segment(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct elf_segment *s = arg;

	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr, to = from + info->dlpi_phdr[i].p_memsz;

		if (info->dlpi_phdr[i].p_type == PT_LOAD && s->at >= from && s->at < to) {
			s->end = to;
			return 1;
		}
	}
	return 0;
}

/* The length of a table is not known: copy up to the end of the mapping, including unrelated data
 * after the table. */
static bool copy_table(struct build *build, const void *const *table, uint32_t version)
{
	const struct wrappers *mine = &wrappers[build - builds];
	const void **copy = build->copy[build->tables];

	struct elf_segment s = {(uintptr_t)table, 0};
	size_t count;

	dl_iterate_phdr(find_elf_segment, &s);
	count = s.end > s.at ? (s.end - s.at) / sizeof(void *) : 0;
	if (count <= (version < BINDING_VERSION ? RELEASE_TENSOR_TYPE_AND_SHAPE : RUN_WITH_BINDING))
		return false;
	memcpy(copy, table, (count < ENTRIES_MAX ? count : ENTRIES_MAX) * sizeof(void *));
	copy[CREATE_SESSION] = (const void *)mine->create;
	copy[CREATE_SESSION_FROM_ARRAY] = (const void *)mine->create_from_array;
	copy[RUN] = (const void *)mine->run;
	if (version >= BINDING_VERSION)
		copy[RUN_WITH_BINDING] = (const void *)mine->run_bound;
	copy[RELEASE_SESSION] = (const void *)mine->release_session;
	return true;
}

static const void *const *get_api(struct build *build, uint32_t version)
{
	const void *const *table = build->real->get_api(version), *const *given = table;

	pthread_mutex_lock(&engines_lock);
	for (size_t i = 0; i < build->tables && given == table; i++)
		if (build->version[i] == version)
			given = build->copy[i];
	if (table && given == table && build->tables < TABLES_MAX && copy_table(build, table, version)) {
		build->original[build->tables] = table;
		build->version[build->tables] = version;
		given = build->copy[build->tables++];
	}
	pthread_mutex_unlock(&engines_lock);
	return given;
}

/* NULL if there are too many. */
static struct build *build_of(const struct api_base *real)
{
	struct build *build = NULL;

	pthread_mutex_lock(&engines_lock);
	for (size_t i = 0; i < BUILDS_MAX && !build; i++)
		if (!builds[i].real || builds[i].real == real)
			build = &builds[i];
	if (build && !build->real)
		*build = (struct build){.real = real,
					.base = {wrappers[build - builds].get_api, real->get_version_string}};
	pthread_mutex_unlock(&engines_lock);
	return build;
}

PUBLIC const struct api_base *OrtGetApiBase(void);
PUBLIC const struct api_base *OrtGetApiBase(void)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;
	const struct api_base *(*find)(void), *real;
	struct build *build = NULL;
	const char *version;

	*(void **)&find = engine_real("OrtGetApiBase", __builtin_return_address(0));
	if (!find)
		return NULL;
	real = find();
	if (!engines_on())
		return real;
	version = real->get_version_string();
	/* The table has been append-only since 1.0; version 2 may change that. */
	if (version && strncmp(version, "1.", 2) == 0)
		build = build_of(real);
	else if (!atomic_flag_test_and_set(&said))
		layer_say("unknown ONNX Runtime version %s: passed through", version ? version : "(none)");
	return build ? &build->base : real;
}
