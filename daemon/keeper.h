/* SPDX-License-Identifier: MIT */
/* The keeper's verbs, and the messages between it and flamed: fixed-size
 * records over a SOCK_SEQPACKET pair. The keeper trusts nothing in them. */
#ifndef DAEMON_KEEPER_H
#define DAEMON_KEEPER_H

#include <stddef.h>
#include "../probes/board.h"

#define KEEPER_MAGIC 0x464c4b31U /* "FLK1" */

enum keeper_op {
	/* to the keeper */
	KEEPER_APPLY = 1, /* point: move every clock whose hz is not 0 */
	KEEPER_RELEASE,   /* put everything back as found */
	KEEPER_RESCAN,    /* hotplug, resume: look again, re-apply; answered by KEEPER_NOTICE */
	/* from the keeper */
	KEEPER_HELLO,     /* first message; sensor descriptors (SCM_RIGHTS), ceilings as found */
	KEEPER_APPLIED,   /* answer to APPLY */
	KEEPER_RELEASED,  /* answer to RELEASE */
	KEEPER_NOTICE     /* something changed on its own: foreign write, knob lost or back */
};

struct keeper_request {
	uint32_t magic, op;
	uint64_t serial;
	struct op_point point;
};

enum knob_state { KNOB_OK, KNOB_FOREIGN, KNOB_REFUSED, KNOB_LOST, KNOB_DEGRADED };

struct keeper_reply {
	uint32_t magic, op;
	uint64_t serial;          /* of the newest request taken; older ones were overtaken */
	struct op_point actual;   /* read back; 0 where unknown */
	struct op_point ceiling;  /* that others hold; 0: none */
	uint64_t write_ns[CLOCK_COUNT]; /* time the writes of each clock blocked */
	int32_t error[CLOCK_COUNT];     /* 0 or -errno of the worst knob of each clock */
	uint32_t state[CLOCK_COUNT];    /* enum knob_state */
	uint32_t saved;           /* knobs in the journal now */
	int32_t journal_error;    /* 0 or -errno: then nothing is written at all */
	uint32_t sensor_count;    /* descriptors with this message, HELLO only */
	uint8_t sensor_rail[2 * RAILS_MAX]; /* rail << 1 | file, of each descriptor */
	char text[192];           /* for people: what happened, "" for nothing */
	uint32_t mem_steps;       /* HELLO only: the memory clock, whose knobs root alone may see; 0: none */
	uint64_t mem_hz[GRID_AXIS_MAX];
};

/* Put what only the keeper can see into flamed's board: a memory clock. Keeps
 * the settle time a board file gave. */
void keeper_hello_merge(struct board *board, const struct keeper_reply *hello);

/* Run the keeper on one end of a socket pair until the other end closes or
 * SIGTERM comes, then restore every knob. It looks for the board itself and
 * takes no path from the other end. `boards_dir` may be NULL; `journal` is a
 * file in the state directory: one that was left behind is replayed first.
 * Returns the exit status: 0, or 1 when a knob could not be restored (the
 * journal is then kept). */
int keeper_run(int fd, const struct sysroot *root, const char *boards_dir, const char *journal);

/* Replay a journal left behind: restore every knob in it that still holds what
 * we wrote, drop a journal of another boot, and remove it; a damaged one is
 * set aside as JOURNAL.damaged after what can be read of it is restored.
 * Returns the number of knobs restored or -errno (-EBUSY: a keeper still runs
 * on it); no journal: 0. `left` (may be NULL) counts those somebody else
 * changed. */
int keeper_restore(const struct sysroot *root, const char *journal, unsigned *left);

#endif
