/* SPDX-License-Identifier: MIT */
/* Where one inference ends and the next begins, found from nothing but the
 * order of launches and host waits. Pure: no I/O, no time, no GPU API.
 *
 * A segment is what is launched between two host waits; it is known by a hash
 * over (kernel, sizes) of its launches. The shortest cycle of segments seen
 * three times over is an inference. One-off segments (warm-up) never repeat
 * and are left out; segments of a single kernel (tuning) must repeat far
 * longer. Once a one-segment inference is known, other segments that come
 * again (another shape, prefill and decode) are inferences of their own. */
#ifndef LAYERS_CORE_BOUNDARY_H
#define LAYERS_CORE_BOUNDARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BOUNDARY_HISTORY        512   /* segments in the history */
#define BOUNDARY_PERIOD_MAX     64    /* segments of one inference */
#define BOUNDARY_REPEATS        3     /* repetitions of a cycle before it is accepted */
#define BOUNDARY_TUNING_REPEATS 24    /* the same for a segment of a single kernel */
#define BOUNDARY_PATIENCE       4     /* repetitions needed after a cycle broke; doubled after each break */
#define BOUNDARY_VARIANTS       16    /* shapes of one program known at the same time */
#define BOUNDARY_WINDOW         64    /* segments over which unknown ones are counted, */
#define BOUNDARY_STRANGERS_MAX  32    /* and how many of them are too many */
#define BOUNDARY_BREAKS_MAX     16    /* broken cycles before giving up */
#define BOUNDARY_LAUNCHES_MAX   65536 /* without a host wait, or before a cycle is found, */
#define BOUNDARY_SEGMENTS_MAX   8192  /* and the same in segments; an autotuner makes thousands */

enum boundary_rule {
	BOUNDARY_AUTO,   /* any host wait closes a segment */
	BOUNDARY_READ,   /* only a blocking read or map, or waiting for a read */
	BOUNDARY_FINISH, /* only a finish */
	BOUNDARY_KERNEL, /* the launch of a named kernel */
	BOUNDARY_COUNT,  /* every N launches */
	BOUNDARY_RANGE   /* a range named by the program: found by the back end */
};

enum boundary_wait { WAIT_READ, WAIT_FINISH, WAIT_EVENT };

struct boundary_config {
	enum boundary_rule rule;
	uint64_t kernel;   /* boundary_hash() of the name, BOUNDARY_KERNEL */
	uint32_t count;    /* BOUNDARY_COUNT */
	const char *range; /* BOUNDARY_RANGE: points into the parsed text */
};

/* Result of a launch or wait; flags, as one launch can be both the first and the last of an
 * inference. */
enum boundary_mark {
	MARK_NONE = 0,
	MARK_BEGIN = 1,   /* an inference begins with this launch */
	MARK_END = 2,     /* it ended here */
	MARK_CHANGED = 4, /* with MARK_END: its launches differed from those announced at its begin */
	MARK_LOCKED = 8,  /* a cycle was found: the next launch may begin an inference */
	MARK_OFF = 16     /* given up: boundary_why() returns the reason */
};

struct boundary_segment {
	uint64_t hash, first; /* hash of all launches, and of the first one */
	uint64_t kernel;      /* of the first launch */
	uint32_t launches;
	bool single;     /* contains one kernel only */
	bool upload;     /* input was written before it: if a segment opens an inference, it is this one */
	uint64_t gap_ns; /* host time from the previous wait to the first launch */
};

struct boundary {
	struct boundary_config config;
	struct boundary_segment now; /* the segment in progress */
	struct boundary_segment history[BOUNDARY_HISTORY];
	size_t count;                       /* segments closed so far */
	size_t broken_at, breaks, patience; /* of cycles that were accepted and then broke */
	uint64_t quiet, quiet_segments;     /* launches and segments since a cycle last held */
	size_t period, position;            /* of the cycle; 0: not found yet */
	struct boundary_segment cycle[BOUNDARY_PERIOD_MAX];
	struct {
		struct boundary_segment segment;
		uint32_t seen;
		size_t last;
	} variant[BOUNDARY_VARIANTS];
	size_t strangers, window;
	bool related; /* the next segment to close belongs to the program's family, whatever its launches */
	bool begun;   /* MARK_BEGIN was returned, MARK_END not yet */
	uint64_t announced, ended; /* fingerprints */
	const char *why;
};

/* Parse "read", "finish", "kernel:NAME", "count:N" or "nvtx:NAME"; NULL and "" are BOUNDARY_AUTO.
 * Returns 0 or -EINVAL. */
int boundary_parse(const char *text, struct boundary_config *out);

void boundary_init(struct boundary *boundary, const struct boundary_config *config);

/* FNV-1a hash, continued from `seed` (0: from its initial value). */
uint64_t boundary_hash(uint64_t seed, const void *data, size_t size);

/* A launch is about to be made. `kernel` is the hash of its name, `identity` the hash of name and
 * sizes, `gap_ns` the host time since the last wait or launch; `upload` tells whether input was
 * written since then. Returns flags. */
unsigned boundary_launch(struct boundary *boundary, uint64_t kernel, uint64_t identity, uint64_t gap_ns, bool upload);

/* The latest launch begins an inference, as the caller knows; `hash` is the hash of all its launches, see
 * boundary_hash(), or 0 if unknown. Returns MARK_BEGIN, or MARK_NONE if it cannot be one. */
unsigned boundary_expect(struct boundary *boundary, uint64_t hash);

/* Whether such a wait would close the current segment. `hash` receives the hash of its launches so far. */
bool boundary_closes(const struct boundary *boundary, enum boundary_wait kind);
uint64_t boundary_now(const struct boundary *boundary);

/* The host waited until every launch was done. `related`: whatever its launches, the segment is another kind of step of
 * the same program, as a prompt is beside tokens; it counts neither as unknown nor as MARK_CHANGED. Returns flags. */
unsigned boundary_wait(struct boundary *boundary, enum boundary_wait kind, bool related);

/* The segment that was closed last; there has been one. */
const struct boundary_segment *boundary_last(const struct boundary *boundary);

/* Fingerprint of the inference that began last (announced), or that ended last. */
uint64_t boundary_announced(const struct boundary *boundary);
uint64_t boundary_ended(const struct boundary *boundary);

/* The reason for MARK_OFF, for people. */
const char *boundary_why(const struct boundary *boundary);

#endif
