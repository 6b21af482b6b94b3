/* SPDX-License-Identifier: MIT */
/* The part of a layer between an unmodified program and its GPU that does not depend on the API:
 *
 *	core.c      environment, messages, the switch that turns a layer off, the end of the program
 *	stream.c    launches and waits in the order of one thread or queue, and their times
 *	boundary.c  which of them make one inference (pure)
 *	session.c   the dialogue with flamed
 *	summary.c   lines and tables for people
 *
 * A back end is one shared library: it intercepts an API, calls core_start()
 * once, feeds a stream with launches and waits, and returns the times of
 * launches. Two rules keep a program alive. No lock is held while a driver is
 * called (it may call back into the program, and the program into the layer);
 * and any fault of the layer ends in layer_off(), after which every call goes
 * straight through. */
#ifndef LAYERS_CORE_CORE_H
#define LAYERS_CORE_CORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "../../common/kv.h"
#include "../../common/limits.h"
#include "boundary.h"

#define LAYER_STREAMS_MAX     32     /* threads or queues that launch at the same time; further ones are not observed */
#define LAYER_SUMMARY_MAX     262144 /* latencies kept for quantiles */
#define LAYER_CONNECTIONS_MAX 64     /* to flamed that the child of a fork closes; further ones it keeps */

/* Identifies a launch, or a group of launches, to its back end: an event, or a pair of timestamps
 * in a query pool. */
struct launch_token {
	void *object;
	uint64_t serial;
	uint32_t first, last;
};

/* In ns of one clock of the device. */
struct launch_times {
	uint64_t queued_ns; /* 0: unknown */
	uint64_t start_ns, end_ns;
};

/* Every function is called with no lock held. */
struct layer_backend {
	/* "opencl": messages begin with flamed-opencl, unnamed models are called opencl-FINGERPRINT */
	const char *name;
	/* Times of a launch for whose end the host has waited. False if unknown. */
	bool (*times)(const struct launch_token *token, struct launch_times *out);
	/* Is the launch complete? Does not wait. */
	bool (*complete)(const struct launch_token *token);
	/* The token is no longer used. */
	void (*release)(const struct launch_token *token);
	/* How times() measures, see flamed_layer_source(); NULL: on the device. */
	const char *(*source)(void);
	/* A readable name of a kernel, for FLAMED_TRACE; NULL: unknown. */
	const char *(*kernel_name)(uint64_t kernel);
	/* The kernel of such a name, for FLAMED_BOUNDARY=kernel:NAME; 0: it is no name. NULL: its boundary_hash(). */
	uint64_t (*kernel_of)(const char *name);
	/* Number of consecutive polls of the newest command until it is complete, after which polling counts as the
	 * program's method of waiting; 0: a single successful poll counts as a wait. */
	unsigned polls_believed;
	bool ranges;       /* supports FLAMED_BOUNDARY=nvtx:NAME */
	bool own_deadline; /* gets deadlines from elsewhere than the environment too */
};

/* Settings from the environment, read once; see docs/layers.md. */
struct layer_config {
	char model[MODEL_NAME_MAX + 1];  /* FLAMED_MODEL; "": named by its fingerprint */
	uint64_t deadline_ns;            /* FLAMED_DEADLINE_NS; 0: none */
	uint64_t rate_mhz;               /* of a stream: a schedule, which libflamed reads; 0: not set */
	bool profile;                    /* FLAMED_PROFILE */
	uint32_t budget;                 /* FLAMED_BUDGET: maximum number of points to measure; 0: flamed's choice */
	struct boundary_config boundary; /* FLAMED_BOUNDARY */
	const char *summary;             /* FLAMED_SUMMARY: a path, or the number of a descriptor */
	const char *trace;               /* FLAMED_TRACE: a path */
};

struct layer_core {
	const struct layer_backend *backend;
	struct layer_config config;
	atomic_bool on;
	atomic_ulong launches;
	atomic_bool overlap_told; /* a message has said that inferences overlap, */
	atomic_bool gave_up_told; /* or that a stream cannot be followed */
};
extern struct layer_core core;

static inline bool layer_on(void)
{
	return atomic_load_explicit(&core.on, memory_order_relaxed);
}

/* Read the environment. Returns false if there is nothing to do, so that nothing need be
 * intercepted. Call it once, before any other function of the core; the layer stays off. */
bool core_start(const struct layer_backend *backend);

/* The back end is ready: layer_on() is true from now on. The layer is off in a forked child (after
 * exec it starts again), and is shut down when the library is unloaded or the program exits. */
void core_go(void);

struct flamed;
/* flamed_open() and flamed_close(). The child of a fork does not keep the connection, so that it ends with the program
 * even if the child lives on. */
int core_connect(struct flamed **out);
void core_disconnect(struct flamed *flamed);

/* Print a line "flamed-opencl: ..." on stderr. The layer stays on. Preserves errno. */
void layer_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Like layer_say(), and turn the layer off. Must not be called with a lock held. */
void layer_off(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
