/* SPDX-License-Identifier: MIT */
/* libflamed-board-engines.so: preloaded, it makes engines that compute on the CPU (llama.cpp, ONNX
 * Runtime 1.x) as slow as the CPU of the board in $FLAMED_BOARD: each inference takes as long as
 * the board would need for the CPU time of the calling thread. It comes after libflamed-engines.so in
 * LD_PRELOAD, so that flamed sees the board's times. */
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../common/clock.h"
#include "slower.h"

#define EXPORT     __attribute__((visibility("default")))
#define RUN        9  /* index of Run in struct OrtApi, the same in every 1.x (onnxruntime_c_api.h) */
#define CONTEXTS   64 /* tokens of context over which a step is taken to cost the same */
#define TABLES_MAX 8  /* versions of that struct that one process asks for */

/* The head of llama_batch, the same in every version that has batches; later fields are passed on unread. */
struct batch {
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

/* ---- llama.cpp ---- */

EXPORT int32_t llama_decode(void *context, struct batch batch);
EXPORT int32_t llama_decode(void *context, struct batch batch)
{
	static _Atomic(uintptr_t) known;
	int32_t (*real)(void *context, struct batch batch);
	uint64_t begin_ns, spent_ns;
	int32_t rc;

	if (!known)
		known = (uintptr_t)real_of("llama_decode");
	real = (int32_t(*)(void *, struct batch))known;
	if (!real)
		return -1;
	if (!board_applies())
		return real(context, batch);
	begin_ns = clock_now_ns();
	spent_ns = slower_thread_ns();
	const int32_t what[2] = {batch.n_tokens, batch.pos ? batch.pos[0] / CONTEXTS : 0};
	rc = real(context, batch);
	slower_worked(calibration_key(0, what, sizeof(what)), begin_ns, slower_thread_ns() - spent_ns);
	return rc;
}

/* ---- ONNX Runtime ---- */

static void *run(void *session, const void *options, const char *const *input_names, const void *const *inputs,
		 size_t input_count, const char *const *output_names, size_t output_count, void **outputs)
{
	uint64_t begin_ns = clock_now_ns(), spent_ns = slower_thread_ns();
	void *status =
		patched[0].run(session, options, input_names, inputs, input_count, output_names, output_count, outputs);

	slower_worked(0, begin_ns, slower_thread_ns() - spent_ns);
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
