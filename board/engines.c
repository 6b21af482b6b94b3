/* SPDX-License-Identifier: MIT */
/* libflamed-board-engines.so: preloaded, it makes engines that compute on the CPU (llama.cpp, ONNX
 * Runtime 1.x, elements of GStreamer) as slow as the CPU of the board in $FLAMED_BOARD: each inference takes
 * as long as the board would need for the CPU time of the calling thread, calibrated by the first inferences of
 * its kind. It comes after libflamed-engines.so in LD_PRELOAD, so that flamed sees the board's times. */
#include <dlfcn.h>
#include <link.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../common/clock.h"
#include "../common/file.h"
#include "slower.h"

#define EXPORT       __attribute__((visibility("default")))
#define CONTEXTS     64         /* tokens of context between two knots of the cost of a step */
#define TABLES_MAX   8          /* versions of struct OrtApi that one process requests */
#define ORT_SESSIONS 64         /* of ONNX Runtime that are told apart */
#define COMMAND_MAX  (2U << 20) /* bytes of a command line (ARG_MAX) */

/* Indices in struct OrtApi, the same in every 1.x (onnxruntime_c_api.h). */
enum {
	RUN = 9,
	GET_ELEMENT_COUNT = 64,
	GET_TENSOR_TYPE_AND_SHAPE = 65,
	RELEASE_STATUS = 93,
	RELEASE_TENSOR_TYPE_AND_SHAPE = 99,
};

/* The head of llama_batch, the same in every version that has batches; later fields are passed on unread. */
struct llama_batch {
	int32_t n_tokens;
	const void *token, *embd;
	const int32_t *pos;
	uint64_t rest[11];
};

struct api_base {
	void **(*get_api)(uint32_t version);
	const char *(*get_version_string)(void);
};

typedef void *(*run_fn)(void *session, const void *options, const char *const *input_names, const void *const *inputs,
			size_t input_count, const char *const *output_names, size_t output_count, void **outputs);

static struct {
	void **table;
	run_fn run;
} patched[TABLES_MAX];
static const void *sessions[ORT_SESSIONS]; /* in the order of their first runs */
static uint64_t command_hash;              /* models, sizes and pipelines are named on the command line */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* No execution queue is needed. */
static void nothing(void *arg, struct lane_item *item)
{
	(void)arg;
	(void)item;
}

static void start(void)
{
	static const struct lane_ops ops = {nothing, nothing, NULL};
	CLEANUP_MEM char *command = NULL;
	size_t len = 0;

	if (file_read("/proc/self/cmdline", COMMAND_MAX, &command, &len) == 0)
		command_hash = calibration_key(0, command, len);
	slower_start("engines", &ops);
}

static bool board_applies(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start);
	return slower.on;
}

__attribute__((destructor)) static void report(void)
{
	slower_report();
}

/* The function that an object other than flamed's own defines: an engine may have been loaded
 * privately (RTLD_LOCAL), where no search by name finds it. */
static void *real_of(const char *name)
{
	struct link_map *map = NULL;
	void *program = dlopen(NULL, RTLD_LAZY), *found = NULL;

	if (!program || dlinfo(program, RTLD_DI_LINKMAP, &map))
		map = NULL;
	for (; map && !found; map = map->l_next) {
		void *object = *map->l_name ? dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD) : NULL;
		void *symbol = object ? dlsym(object, name) : NULL;
		Dl_info where;

		if (symbol && dladdr(symbol, &where) && (uintptr_t)where.dli_fbase == map->l_addr &&
		    !strstr(where.dli_fname, "libflamed-"))
			found = symbol;
		if (object)
			dlclose(object);
	}
	if (program)
		dlclose(program);
	return found;
}

/* The same, looked for once. */
static uintptr_t found_once(_Atomic(uintptr_t) *known, const char *name)
{
	if (!*known)
		*known = (uintptr_t)real_of(name);
	return *known;
}

/* ---- llama.cpp ---- */

static uint64_t step_key(int32_t tokens, int32_t knot)
{
	const int32_t what[2] = {tokens, knot};

	return calibration_key(command_hash, what, sizeof(what));
}

/* The cost grows with the context: it is calibrated at knots, and linear between them. Beyond the last known knot it
 * grows as before it. */
static double step_cost(const struct llama_batch *batch, uint64_t cpu_ns)
{
	int32_t position = batch->pos ? batch->pos[0] : 0, knot = position / CONTEXTS;
	double ns = slower_cost(step_key(batch->n_tokens, knot), cpu_ns),
	       next_ns = slower_cost(step_key(batch->n_tokens, knot + 1), 0),
	       before_ns = slower_cost(step_key(batch->n_tokens, knot - 1), 0),
	       growth_ns = next_ns > 0   ? next_ns - ns :
			   before_ns > 0 ? ns - before_ns :
					   0;

	return ns + fmax(growth_ns, 0) * (position % CONTEXTS) / CONTEXTS;
}

EXPORT int32_t llama_decode(void *context, struct llama_batch batch);
EXPORT int32_t llama_decode(void *context, struct llama_batch batch)
{
	static _Atomic(uintptr_t) known;
	int32_t (*real)(void *context, struct llama_batch batch) =
		(int32_t(*)(void *, struct llama_batch))found_once(&known, "llama_decode");
	uint64_t begin_ns, spent_ns;
	int32_t rc;

	if (!real)
		return -1;
	if (!board_applies())
		return real(context, batch);
	begin_ns = clock_now_ns();
	spent_ns = slower_thread_ns();
	rc = real(context, batch);
	slower_worked(step_cost(&batch, slower_thread_ns() - spent_ns), begin_ns);
	return rc;
}

/* ---- ONNX Runtime ---- */

/* 0: not a tensor. */
static size_t elements(const void *value)
{
	void **table = patched[0].table, *info = NULL, *status;
	size_t count = 0;

	status = ((void *(*)(const void *, void **))table[GET_TENSOR_TYPE_AND_SHAPE])(value, &info);
	if (!status && info)
		status = ((void *(*)(const void *, size_t *))table[GET_ELEMENT_COUNT])(info, &count);
	if (status)
		((void (*)(void *))table[RELEASE_STATUS])(status);
	if (info)
		((void (*)(void *))table[RELEASE_TENSOR_TYPE_AND_SHAPE])(info);
	return count;
}

/* A session, and the sizes of its inputs. */
static uint64_t run_key(const void *session, const void *const *inputs, size_t input_count)
{
	uint64_t key;
	size_t i = 0;

	pthread_mutex_lock(&lock);
	while (i < ORT_SESSIONS && sessions[i] && sessions[i] != session)
		i++;
	if (i < ORT_SESSIONS)
		sessions[i] = session;
	pthread_mutex_unlock(&lock);
	key = calibration_key(command_hash, &i, sizeof(i));
	for (i = 0; i < input_count; i++) {
		size_t count = elements(inputs[i]);

		key = calibration_key(key, &count, sizeof(count));
	}
	return key;
}

static void *run(void *session, const void *options, const char *const *input_names, const void *const *inputs,
		 size_t input_count, const char *const *output_names, size_t output_count, void **outputs)
{
	uint64_t begin_ns = clock_now_ns(), key = run_key(session, inputs, input_count), spent_ns = slower_thread_ns();
	void *status =
		patched[0].run(session, options, input_names, inputs, input_count, output_names, output_count, outputs);

	slower_worked(slower_cost(key, slower_thread_ns() - spent_ns), begin_ns);
	return status;
}

/* Replace Run in the engine's own table, so that copies of the table have the wrapper too. The caller holds the
 * lock. */
static void patch(void **table)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)&table[RUN] & ~(page - 1);
	size_t i = 0;

	while (i < TABLES_MAX && patched[i].table && patched[i].table != table)
		i++;
	if (i == TABLES_MAX || patched[i].table || mprotect((void *)at, page, PROT_READ | PROT_WRITE))
		return;
	patched[i].table = table;
	memcpy(&patched[i].run, &table[RUN], sizeof(patched[i].run));
	*(run_fn *)&table[RUN] = run;
}

static const struct api_base *ort;

static void **get_api(uint32_t version)
{
	void **table = ort->get_api(version);

	pthread_mutex_lock(&lock);
	if (table && board_applies())
		patch(table);
	pthread_mutex_unlock(&lock);
	return table;
}

EXPORT const struct api_base *OrtGetApiBase(void);
EXPORT const struct api_base *OrtGetApiBase(void)
{
	static struct api_base base;
	const struct api_base *(*real)(void);

	*(void **)&real = real_of("OrtGetApiBase");
	if (!real)
		return NULL;
	ort = real();
	if (!ort || strncmp(ort->get_version_string(), "1.", 2) != 0)
		return ort;
	base = (struct api_base){get_api, ort->get_version_string};
	return &base;
}

/* ---- GStreamer ---- */

/* The pad that an element pushes from, the size of what it pushes, and whether a push into it came before. */
static uint64_t push_key(void *pad, void *buffer, bool entered)
{
	static _Atomic(uintptr_t) known[3];
	char *(*path_of)(void *object) = (char *(*)(void *))found_once(&known[0], "gst_object_get_path_string");
	size_t (*size_of)(void *buffer) = (size_t(*)(void *))found_once(&known[1], "gst_buffer_get_size");
	void (*release)(void *mem) = (void (*)(void *))found_once(&known[2], "g_free");
	const size_t what[2] = {size_of(buffer), entered};
	char *path = path_of(pad);
	uint64_t key = calibration_key(calibration_key(command_hash, path, strlen(path)), what, sizeof(what));

	release(path);
	return key;
}

/* An element works between the push into it and its own push, in one thread. Before that it may have waited, for a
 * buffer or for the answer to a tracer. */
EXPORT int gst_pad_push(void *pad, void *buffer);
EXPORT int gst_pad_push(void *pad, void *buffer)
{
	static _Atomic(uintptr_t) known;
	static _Thread_local uint64_t spent_ns;
	static _Thread_local bool entered;
	int (*real)(void *pad, void *buffer) = (int (*)(void *, void *))found_once(&known, "gst_pad_push");
	int rc;

	if (!board_applies())
		return real(pad, buffer);
	if (spent_ns) {
		uint64_t cpu_ns = slower_thread_ns() - spent_ns, begin_ns = clock_now_ns() - cpu_ns;

		slower_worked(slower_cost(push_key(pad, buffer, entered), cpu_ns), begin_ns);
	}
	entered = true;
	spent_ns = slower_thread_ns();
	rc = real(pad, buffer);
	entered = false;
	spent_ns = slower_thread_ns();
	return rc;
}
