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
#define ID_BITS     8  /* of a range's id, that give its slot and 1; 0: it is not followed */
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
	uint64_t id; /* until it ends; 0 after that */
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
static __thread uint64_t open_range;         /* the newest range that this thread began; any thread may end it */
static __thread unsigned depth[DOMAINS_MAX]; /* number of pushed ranges, of each domain */
static __thread uint64_t pushed_range;       /* of these, the one that is followed, */
static __thread size_t pushed_domain;        /* its domain, and its place in the stack */
static __thread unsigned pushed_depth;

/* With the lock held: the range of this id; NULL: it has ended, or is not followed. */
static struct range *find(uint64_t id)
{
	size_t slot = (size_t)(id & ((1U << ID_BITS) - 1)) - 1; /* of none: too large */

	return slot < RANGES_MAX && ranges[slot].id == id ? &ranges[slot] : NULL;
}

static bool is_open(uint64_t id)
{
	bool open;

	pthread_mutex_lock(&lock);
	open = find(id) != NULL;
	pthread_mutex_unlock(&lock);
	return open;
}

/* A free range, else the oldest one that has ended without a wait; NULL: there is none. `id` receives an id, with or
 * without a range. */
static struct range *take(uint64_t *id)
{
	struct range before = {0}, *found = NULL;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < RANGES_MAX && layer_on(); i++) {
		if (!ranges[i].used) {
			found = &ranges[i];
			break;
		}
		if (ranges[i].closed && (!found || ranges[i].begin_ns < found->begin_ns))
			found = &ranges[i];
	}
	*id = ++started << ID_BITS;
	if (found) {
		*id += (uint64_t)(found - ranges) + 1;
		before = *found;
		*found = (struct range){.used = true, .session = before.session};
	}
	pthread_mutex_unlock(&lock);
	if (before.used)
		session_cancel(before.session, before.request, false);
	return found;
}

/* The id of a range that begins. */
static uint64_t begin(void)
{
	const struct inference inference = {.fingerprint = fingerprint};
	uint64_t id;
	struct range *range = take(&id);
	bool layers;

	if (range && !range->session) {
		range->session = session_new();
		if (range->session)
			session_found(range->session, fingerprint);
	}
	if (!range || !range->session)
		return id;
	range->request = session_begin(range->session, &inference, 0, &layers);
	range->begin_ns = clock_now_ns();
	pthread_mutex_lock(&lock);
	range->id = id;
	pthread_mutex_unlock(&lock);
	open_range = id;
	return id;
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

static void end(uint64_t id)
{
	uint64_t now_ns = clock_now_ns();
	struct range *range;
	bool over = false;

	pthread_mutex_lock(&lock);
	range = find(id);
	if (range) {
		over = settled(range);
		range->closed = !over;
		range->id = 0;
	}
	pthread_mutex_unlock(&lock);
	if (over)
		finish(range, now_ns, true);
}

void nvtx_launched(size_t track, uint64_t number)
{
	struct range *range;

	if (!open_range)
		return;
	pthread_mutex_lock(&lock);
	range = find(open_range);
	if (range) {
		range->track = track;
		range->number = number;
	} else {
		open_range = 0;
	}
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
	if (wanted(name) && !is_open(open_range) && !is_open(pushed_range)) {
		pushed_range = begin();
		pushed_domain = domain;
		pushed_depth = depth[domain];
	}
	return (int)depth[domain]++;
}

static int pop_from(size_t domain)
{
	if (depth[domain] == 0)
		return -1;
	depth[domain]--;
	if (pushed_range && domain == pushed_domain && depth[domain] == pushed_depth) {
		end(pushed_range);
		pushed_range = 0;
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

static uint64_t start_a(const char *name)
{
	uint64_t id;

	if (wanted(name))
		return begin();
	pthread_mutex_lock(&lock);
	id = ++started << ID_BITS;
	pthread_mutex_unlock(&lock);
	return id;
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

static void domain_end(void *domain, uint64_t id)
{
	(void)domain;
	end(id);
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
		put(table, count, CORE_END, (any_function)end);
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
