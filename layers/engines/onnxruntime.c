/* SPDX-License-Identifier: MIT */
/* ONNX Runtime: a program obtains a table of functions from OrtGetApiBase(); Run in that table is
 * one inference. The program gets a copy of the table in which Run and the session constructors are
 * replaced. Entries never move: a new version only appends (onnxruntime_c_api.h; its source asserts
 * the offsets). */
#include "engines.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PUBLIC      __attribute__((visibility("default")))
#define TABLES_MAX  8   /* API versions that one process asks for */
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
};

struct api_base {
	const void *const *(*get_api)(uint32_t version);
	const char *(*get_version_string)(void);
};

typedef void *(*create_fn)(const void *env, const char *path, const void *options, void **out);
typedef void *(*create_array_fn)(const void *env, const void *data, size_t size, const void *options, void **out);
typedef void *(*run_fn)(void *session, const void *options, const char *const *input_names, const void *const *inputs,
			size_t input_count, const char *const *output_names, size_t output_count, void **outputs);

static struct {
	const struct api_base *real;
	const void *const *original[TABLES_MAX];
	const void *copy[TABLES_MAX][ENTRIES_MAX];
	uint32_t version[TABLES_MAX];
	size_t tables;
	struct {
		void *session;
		uint64_t model;
	} known[SESSIONS];
	size_t next; /* next slot to overwrite */
} ort;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Every version's table begins with the same entries: the first table requested is used. */
static const void *entry(size_t index)
{
	return ort.original[0][index];
}

static void remember(void *session, uint64_t model)
{
	pthread_mutex_lock(&lock);
	ort.known[ort.next].session = session;
	ort.known[ort.next].model = model;
	ort.next = (ort.next + 1) % SESSIONS;
	pthread_mutex_unlock(&lock);
}

static uint64_t model_of(const void *session)
{
	uint64_t model = 0;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < SESSIONS; i++)
		if (ort.known[i].session == session)
			model = ort.known[i].model;
	pthread_mutex_unlock(&lock);
	return model;
}

/* A model is identified by its file name, not by its directory, which differs between machines. */
static void *create(const void *env, const char *path, const void *options, void **out)
{
	void *status = ((create_fn)entry(CREATE_SESSION))(env, path, options, out);
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;

	if (!status)
		remember(*out, boundary_hash(0, name, strlen(name)));
	return status;
}

static void *create_from_array(const void *env, const void *data, size_t size, const void *options, void **out)
{
	void *status = ((create_array_fn)entry(CREATE_SESSION_FROM_ARRAY))(env, data, size, options, out);
	uint64_t hash;

	if (status)
		return status;
	hash = boundary_hash(boundary_hash(0, &size, sizeof(size)), data, size < HEAD_BYTES ? size : HEAD_BYTES);
	remember(*out, hash);
	return NULL;
}

static void release_session(void *session)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; session && i < SESSIONS; i++)
		if (ort.known[i].session == session)
			ort.known[i].session = NULL;
	pthread_mutex_unlock(&lock);
	((void (*)(void *))entry(RELEASE_SESSION))(session);
}

static void drop(void *status)
{
	if (status)
		((void (*)(void *))entry(RELEASE_STATUS))(status);
}

/* A different input shape is a different inference. Values other than tensors are ignored. */
static uint64_t shape_hash(uint64_t hash, const void *value)
{
	int64_t dimension[DIMENSIONS];
	size_t count = 0;
	void *info = NULL, *status;

	status = ((void *(*)(const void *, void **))entry(GET_TENSOR_TYPE_AND_SHAPE))(value, &info);
	if (status || !info) {
		drop(status);
		return hash;
	}
	status = ((void *(*)(const void *, size_t *))entry(GET_DIMENSIONS_COUNT))(info, &count);
	if (!status && count <= DIMENSIONS) {
		status = ((void *(*)(const void *, int64_t *, size_t))entry(GET_DIMENSIONS))(info, dimension, count);
		if (!status)
			hash = boundary_hash(hash, dimension, count * sizeof(dimension[0]));
	}
	drop(status);
	((void (*)(void *))entry(RELEASE_TENSOR_TYPE_AND_SHAPE))(info);
	return hash;
}

static void *run(void *session, const void *options, const char *const *input_names, const void *const *inputs,
		 size_t input_count, const char *const *output_names, size_t output_count, void **outputs)
{
	run_fn real = (run_fn)entry(RUN);
	struct engine_call call;
	uint64_t hash;
	void *status;

	if (!layer_on())
		return real(session, options, input_names, inputs, input_count, output_names, output_count, outputs);
	hash = model_of(session);
	for (size_t i = 0; i < input_count; i++) {
		hash = boundary_hash(hash, input_names[i], strlen(input_names[i]));
		hash = shape_hash(hash, inputs[i]);
	}
	call = engine_begin(boundary_hash(hash, "onnxruntime", 11), PHASE_RUN, 0);
	status = real(session, options, input_names, inputs, input_count, output_names, output_count, outputs);
	if (status)
		engine_cancel(&call);
	else
		engine_end(&call);
	return status;
}

struct segment {
	uintptr_t at, end;
};

static int find_segment(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct segment *s = arg;

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
static bool copy_table(size_t i, const void *const *table)
{
	struct segment s = {(uintptr_t)table, 0};
	size_t count;

	dl_iterate_phdr(find_segment, &s);
	count = s.end > s.at ? (s.end - s.at) / sizeof(void *) : 0;
	if (count <= RELEASE_TENSOR_TYPE_AND_SHAPE)
		return false;
	memcpy(ort.copy[i], table, (count < ENTRIES_MAX ? count : ENTRIES_MAX) * sizeof(void *));
	ort.copy[i][CREATE_SESSION] = (const void *)create;
	ort.copy[i][CREATE_SESSION_FROM_ARRAY] = (const void *)create_from_array;
	ort.copy[i][RUN] = (const void *)run;
	ort.copy[i][RELEASE_SESSION] = (const void *)release_session;
	return true;
}

static const void *const *get_api(uint32_t version)
{
	const void *const *table = ort.real->get_api(version), *const *given = table;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < ort.tables && given == table; i++)
		if (ort.version[i] == version)
			given = ort.copy[i];
	if (table && given == table && ort.tables < TABLES_MAX && copy_table(ort.tables, table)) {
		ort.original[ort.tables] = table;
		ort.version[ort.tables] = version;
		given = ort.copy[ort.tables++];
	}
	pthread_mutex_unlock(&lock);
	return given;
}

PUBLIC const struct api_base *OrtGetApiBase(void);
PUBLIC const struct api_base *OrtGetApiBase(void)
{
	static struct api_base base;
	const struct api_base *(*real)(void);
	const char *version;

	*(void **)&real = engine_real("OrtGetApiBase", __builtin_return_address(0));
	if (!real)
		return NULL;
	if (!engines_on())
		return real();
	ort.real = real();
	version = ort.real->get_version_string();
	/* The table has been append-only since 1.0; version 2 may change that. */
	if (!version || strncmp(version, "1.", 2) != 0) {
		static atomic_flag said = ATOMIC_FLAG_INIT;

		if (!atomic_flag_test_and_set(&said))
			layer_say("unknown ONNX Runtime version %s: passed through", version ? version : "(none)");
		return ort.real;
	}
	base = (struct api_base){get_api, ort.real->get_version_string};
	return &base;
}
