/* SPDX-License-Identifier: MIT */
/* Where one inference ends and the next begins, found from nothing but the
 * order of launches and host waits. Pure: no I/O, no time, no OpenCL.
 *
 * A segment is what is launched between two host waits; it is known by a hash
 * over (kernel, sizes) of its launches. The shortest cycle of segments seen
 * three times over is an inference. One-off segments (warm-up) never repeat
 * and are left out; segments of a single kernel (tuning) must repeat far
 * longer. Once a one-segment inference is known, other segments that come
 * again (another shape, prefill and decode) are inferences of their own. */
#ifndef PROBES_OPENCL_BOUNDARY_H
#define PROBES_OPENCL_BOUNDARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOUNDARY_HISTORY       512 /* segments remembered */
#define BOUNDARY_PERIOD_MAX    64  /* segments of one inference */
#define BOUNDARY_REPEATS       3   /* times a cycle is seen before it is believed */
#define BOUNDARY_TUNING_REPEATS 24 /* the same for a segment of one kernel only */
#define BOUNDARY_PATIENCE      4   /* repeats needed after a cycle broke; twice as many after each break */
#define BOUNDARY_VARIANTS      16  /* shapes of one program known at a time */
#define BOUNDARY_WINDOW        64  /* segments over which strangers are counted ... */
#define BOUNDARY_STRANGERS_MAX 32  /* ... and how many of them are too many */
#define BOUNDARY_BREAKS_MAX    16  /* broken cycles before giving up */
#define BOUNDARY_LAUNCHES_MAX  65536 /* without a host wait, or without a cycle found ... */
#define BOUNDARY_SEGMENTS_MAX  8192  /* ... and segments; a tuner makes thousands */

enum boundary_rule {
	BOUNDARY_AUTO,   /* any host wait closes a segment */
	BOUNDARY_READ,   /* only a blocking read or map, or waiting for a read */
	BOUNDARY_FINISH, /* only a finish */
	BOUNDARY_KERNEL, /* the launch of a named kernel */
	BOUNDARY_COUNT   /* every N launches */
};

enum boundary_wait { WAIT_READ, WAIT_FINISH, WAIT_EVENT };

struct boundary_config {
	enum boundary_rule rule;
	uint64_t kernel; /* boundary_hash() of the name, BOUNDARY_KERNEL */
	uint32_t count;  /* BOUNDARY_COUNT */
};

/* What a launch or wait turned out to be; flags, since one launch can be both
 * the first and the last of an inference. */
enum boundary_mark {
	MARK_NONE = 0,
	MARK_BEGIN = 1,   /* an inference begins with this launch */
	MARK_END = 2,     /* it ended here */
	MARK_CHANGED = 4, /* with MARK_END: it was not the one announced at its begin */
	MARK_LOCKED = 8,  /* a cycle was found: the next launch can begin one */
	MARK_OFF = 16     /* given up: boundary_why() says why */
};

struct boundary_segment {
	uint64_t hash, first; /* of all launches, and of the first one */
	uint64_t kernel;      /* of the first one */
	uint32_t launches;
	bool single; /* one kernel only */
	bool upload; /* input was written before it: it opens an inference, if anything does */
	uint64_t gap_ns; /* host time between the wait before and the first launch */
};

struct boundary {
	struct boundary_config config;
	struct boundary_segment now;        /* the one being filled */
	struct boundary_segment history[BOUNDARY_HISTORY];
	size_t count;                       /* segments ever closed */
	size_t broken_at, breaks, patience; /* of cycles believed and then broken */
	uint64_t quiet, quiet_segments;     /* launches, segments since a cycle last held */
	size_t period, position;            /* of the cycle; 0: none yet */
	struct boundary_segment cycle[BOUNDARY_PERIOD_MAX];
	struct {
		struct boundary_segment segment;
		uint32_t seen;
		size_t last;
	} variant[BOUNDARY_VARIANTS];
	size_t strangers, window;
	bool begun;       /* MARK_BEGIN given, MARK_END not yet */
	uint64_t announced, ended; /* fingerprints */
	const char *why;
};

/* "read", "finish", "kernel:NAME", "count:N"; NULL and "" are BOUNDARY_AUTO.
 * Returns 0 or -EINVAL. */
int boundary_parse(const char *text, struct boundary_config *out);

void boundary_init(struct boundary *boundary, const struct boundary_config *config);

/* FNV-1a, continued from `seed` (0: its start). */
uint64_t boundary_hash(uint64_t seed, const void *data, size_t size);

/* A launch is about to be made: `kernel` is the hash of its name, `identity`
 * that of name and sizes, `gap_ns` the host time since the last wait or
 * launch, `upload` whether input was written since then. Returns flags. */
unsigned boundary_launch(struct boundary *boundary, uint64_t kernel, uint64_t identity, uint64_t gap_ns, bool upload);

/* The host waited, and what was launched is done. Returns flags. */
unsigned boundary_wait(struct boundary *boundary, enum boundary_wait kind);

/* Name of the inference that began last (announced) or ended last. */
uint64_t boundary_announced(const struct boundary *boundary);
uint64_t boundary_ended(const struct boundary *boundary);

/* After MARK_OFF, for people. */
const char *boundary_why(const struct boundary *boundary);

#endif
