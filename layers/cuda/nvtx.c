/* SPDX-License-Identifier: MIT */
/* FLAMED_BOUNDARY=nvtx:NAME: a range that the program itself names is one
 * inference, from its begin to its end, or to the wait for what was launched
 * in it if that comes later. NVTX is header-only; its first call opens
 * $NVTX_INJECTION64_PATH and calls InitializeInjectionNvtx2() there (NVTX 3,
 * nvtxDetail/nvtxTypes.h). Ranges of several threads, and those that one
 * thread starts before it ends others, are in flight at the same time. */
#include "nvtx.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include "../../common/clock.h"
#include "../core/session.h"

#define RANGES_MAX  16 /* in flight; further ones are not followed */
#define NO_RANGE    (-1)
#define DOMAINS_MAX 32 /* with the default one; any further domains share a stack of pushed ranges */

/* Callback numbers, and the table they are written to. */
enum { MODULE_CORE = 1, MODULE_CORE2 = 5 };
enum {
	CORE_START_EX = 4,
	CORE_START_A = 5,
	CORE_END = 7,
	CORE_PUSH_EX = 8,
	CORE_PUSH_A = 9,
	CORE_PUSH_W = 10,
	CORE_POP = 11
};
enum {
	CORE2_START_EX = 2,
	CORE2_END = 3,
	CORE2_PUSH_EX = 4,
	CORE2_POP = 5,
	CORE2_REGISTER_A = 10,
	CORE2_CREATE_A = 12,
	CORE2_CREATE_W = 13
};
enum { EXPORT_CALLBACKS = 1 };
enum { MESSAGE_ASCII = 1, MESSAGE_REGISTERED = 3 };

typedef void (*any_function)(void);
typedef const void *(*get_export_table)(uint32_t id);
struct callbacks_table {
	size_t size;
	int (*module_functions)(int module, any_function ***out, unsigned int *count);
};
struct attributes {
	uint16_t version, size;
	uint32_t category;
	int32_t colour_type;
	uint32_t colour;
	int32_t payload_type, reserved;
	uint64_t payload;
	int32_t message_type;
	const char *message; /* or the handle of a registered string */
};

struct range {
	bool used, closed;
	struct layer_session *session;
	struct session_request request;
	uint64_t begin_ns;
	size_t track;    /* of the last launch in it */
	uint64_t number; /* of that launch; 0: none */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct range ranges[RANGES_MAX];
static uint64_t waited_for[TRACKS_MAX], started;
static uint64_t fingerprint;
static char domains[DOMAINS_MAX]; /* their addresses are the handles; the first one is the default domain */
static size_t domain_count = 1;
static __thread int open_range = NO_RANGE;   /* the newest range of this thread */
static __thread unsigned depth[DOMAINS_MAX]; /* number of pushed ranges, of each domain */
static __thread size_t open_domain;          /* of that range */
static __thread unsigned open_depth;

/* A free range, else the oldest one that has ended without a wait. */
static int take(void)
{
	struct range before = {0};
	int found = NO_RANGE;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < RANGES_MAX; i++) {
		if (!ranges[i].used) {
			found = i;
			break;
		}
		if (ranges[i].closed && (found == NO_RANGE || ranges[i].begin_ns < ranges[found].begin_ns))
			found = i;
	}
	if (found != NO_RANGE) {
		before = ranges[found];
		ranges[found] = (struct range){.used = true, .session = before.session};
	}
	pthread_mutex_unlock(&lock);
	if (before.used)
		session_cancel(before.session, before.request);
	return found;
}

static int begin(void)
{
	const struct inference inference = {.fingerprint = fingerprint};
	int index = layer_on() ? take() : NO_RANGE;
	struct range *range = index != NO_RANGE ? &ranges[index] : NULL;
	bool layers;

	if (range && !range->session) {
		range->session = session_new();
		if (range->session)
			session_found(range->session, fingerprint);
	}
	if (!range || !range->session)
		return NO_RANGE;
	range->request = session_begin(range->session, &inference, 0, &layers);
	range->begin_ns = clock_now_ns();
	return index;
}

/* With the lock held: whether the host knows that everything launched in the range is complete. */
static bool settled(const struct range *range)
{
	return range->number == 0 || waited_for[range->track] >= range->number;
}

static void finish(struct range *range, uint64_t now_ns, bool may_block)
{
	session_end(range->session, range->request, now_ns - range->begin_ns, NULL, 0, may_block);
	pthread_mutex_lock(&lock);
	range->used = false;
	pthread_mutex_unlock(&lock);
}

static void end(int index)
{
	uint64_t now_ns = clock_now_ns();
	struct range *range = &ranges[index];
	bool over;

	pthread_mutex_lock(&lock);
	over = range->used && settled(range);
	range->closed = !over;
	pthread_mutex_unlock(&lock);
	if (over)
		finish(range, now_ns, true);
}

void nvtx_launched(size_t track, uint64_t number)
{
	if (open_range == NO_RANGE)
		return;
	pthread_mutex_lock(&lock);
	ranges[open_range].track = track;
	ranges[open_range].number = number;
	pthread_mutex_unlock(&lock);
}

void nvtx_waited(size_t track, uint64_t through, bool may_block)
{
	uint64_t now_ns = clock_now_ns();
	struct range *over[RANGES_MAX];
	size_t count = 0;

	pthread_mutex_lock(&lock);
	if (through > waited_for[track])
		waited_for[track] = through;
	for (size_t i = 0; i < RANGES_MAX; i++)
		if (ranges[i].used && ranges[i].closed && settled(&ranges[i])) {
			ranges[i].closed = false;
			over[count++] = &ranges[i];
		}
	pthread_mutex_unlock(&lock);
	for (size_t i = 0; i < count; i++)
		finish(over[i], now_ns, may_block);
}

static bool wanted(const char *name)
{
	return name && core.config.boundary.range && strcmp(name, core.config.boundary.range) == 0;
}

static const char *text_of(const struct attributes *attributes)
{
	if (!attributes || attributes->size < sizeof(*attributes))
		return NULL;
	return attributes->message_type == MESSAGE_ASCII || attributes->message_type == MESSAGE_REGISTERED ?
		       attributes->message :
		       NULL;
}

static int push(size_t domain, const char *name)
{
	if (open_range == NO_RANGE && wanted(name)) {
		open_range = begin();
		open_domain = domain;
		open_depth = depth[domain];
	}
	return (int)depth[domain]++;
}

static int pop_from(size_t domain)
{
	if (depth[domain] == 0)
		return -1;
	depth[domain]--;
	if (open_range != NO_RANGE && domain == open_domain && depth[domain] == open_depth) {
		int index = open_range;

		open_range = NO_RANGE;
		end(index);
	}
	return (int)depth[domain];
}

static int push_a(const char *name)
{
	return push(0, name);
}

/* Counted, so that its pop ends no other range; its name is not compared. */
static int push_w(const wchar_t *name)
{
	(void)name;
	return push(0, NULL);
}

static int push_ex(const struct attributes *attributes)
{
	return push(0, text_of(attributes));
}

static int pop(void)
{
	return pop_from(0);
}

static void *domain_create(const void *name)
{
	void *domain;

	(void)name;
	pthread_mutex_lock(&lock);
	domain = &domains[domain_count];
	if (domain_count + 1 < DOMAINS_MAX)
		domain_count++;
	pthread_mutex_unlock(&lock);
	return domain;
}

static size_t domain_index(const void *domain)
{
	size_t index = (uintptr_t)domain - (uintptr_t)domains;

	return index < DOMAINS_MAX ? index : 0; /* NULL is the default domain */
}

static int domain_push(void *domain, const struct attributes *attributes)
{
	return push(domain_index(domain), text_of(attributes));
}

static int domain_pop(void *domain)
{
	return pop_from(domain_index(domain));
}

/* The low bits of an id give the range; 0: not one of ours. */
static uint64_t start_a(const char *name)
{
	int index = wanted(name) ? begin() : NO_RANGE;
	uint64_t serial;

	pthread_mutex_lock(&lock);
	serial = ++started;
	pthread_mutex_unlock(&lock);
	if (index != NO_RANGE) {
		open_range = index;
		open_depth = UINT32_MAX; /* no pop ends it */
	}
	return serial << 8 | (uint64_t)(index + 1);
}

static uint64_t start_ex(const struct attributes *attributes)
{
	return start_a(text_of(attributes));
}

static uint64_t domain_start(void *domain, const struct attributes *attributes)
{
	(void)domain;
	return start_ex(attributes);
}

static void end_id(uint64_t id)
{
	int index = (int)(id & 0xff) - 1;

	if (index < 0 || index >= RANGES_MAX)
		return;
	if (open_range == index)
		open_range = NO_RANGE;
	end(index);
}

static void domain_end(void *domain, uint64_t id)
{
	(void)domain;
	end_id(id);
}

/* Return a copy as the registered string; NVTX never unregisters one. */
static void *register_string(void *domain, const char *text)
{
	(void)domain;
	return text ? strdup(text) : NULL;
}

static void put(any_function **table, unsigned int count, unsigned int id, any_function function)
{
	if (id < count && table[id])
		*table[id] = function;
}

CUDA_EXPORT int InitializeInjectionNvtx2(get_export_table get);
CUDA_EXPORT int InitializeInjectionNvtx2(get_export_table get)
{
	const struct callbacks_table *callbacks = get ? get(EXPORT_CALLBACKS) : NULL;
	any_function **table = NULL;
	unsigned int count = 0;

	if (!callbacks || callbacks->size < sizeof(*callbacks) || !layer_begin() || !nvtx_on())
		return 0;
	fingerprint = boundary_hash(0, core.config.boundary.range, strlen(core.config.boundary.range));
	if (callbacks->module_functions(MODULE_CORE, &table, &count)) {
		put(table, count, CORE_START_EX, (any_function)start_ex);
		put(table, count, CORE_START_A, (any_function)start_a);
		put(table, count, CORE_END, (any_function)end_id);
		put(table, count, CORE_PUSH_EX, (any_function)push_ex);
		put(table, count, CORE_PUSH_A, (any_function)push_a);
		put(table, count, CORE_PUSH_W, (any_function)push_w);
		put(table, count, CORE_POP, (any_function)pop);
	}
	if (callbacks->module_functions(MODULE_CORE2, &table, &count)) {
		put(table, count, CORE2_START_EX, (any_function)domain_start);
		put(table, count, CORE2_END, (any_function)domain_end);
		put(table, count, CORE2_PUSH_EX, (any_function)domain_push);
		put(table, count, CORE2_POP, (any_function)domain_pop);
		put(table, count, CORE2_REGISTER_A, (any_function)register_string);
		put(table, count, CORE2_CREATE_A, (any_function)domain_create);
		put(table, count, CORE2_CREATE_W, (any_function)domain_create);
	}
	return 1;
}
