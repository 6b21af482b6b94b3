/* SPDX-License-Identifier: MIT */
/* The keeper's functions, and the messages between it and flamed: fixed-size records over a
 * SOCK_SEQPACKET pair. The keeper does not trust their contents. */
#ifndef KEEPER_KEEPER_H
#define KEEPER_KEEPER_H

#include <stddef.h>
#include "../probes/board.h"

#define KEEPER_MAGIC 0x464c4b31U /* "FLK1" */

enum keeper_op {
	/* to the keeper */
	KEEPER_APPLY = 1, /* point: move every clock whose hz is not 0 */
	KEEPER_RELEASE,   /* restore every knob to its original value */
	KEEPER_RESCAN,    /* after hotplug or resume: scan for devices and apply again; answered by KEEPER_NOTICE */
	/* from the keeper */
	KEEPER_HELLO,    /* first message, and reply to SENSORS; sensor descriptors (SCM_RIGHTS), ceilings as found */
	KEEPER_APPLIED,  /* reply to APPLY */
	KEEPER_RELEASED, /* reply to RELEASE */
	KEEPER_NOTICE,   /* something changed by itself: a foreign write, a knob lost or returned */
	/* to the keeper, in versions that have it: find the power sensors again, and send their descriptors */
	KEEPER_SENSORS
};

struct keeper_request {
	uint32_t magic, op;
	uint64_t serial;
	struct op_point point;
};

enum knob_state { KNOB_OK, KNOB_FOREIGN, KNOB_REFUSED, KNOB_LOST, KNOB_DEGRADED };

struct keeper_reply {
	uint32_t magic, op;
	uint64_t serial;                    /* of the newest request handled; older ones were superseded */
	struct op_point actual;             /* read back; 0 where unknown */
	struct op_point ceiling;            /* set by others; 0: none */
	uint64_t write_ns[CLOCK_COUNT];     /* time the writes of each clock blocked */
	int32_t error[CLOCK_COUNT];         /* 0 or a negative errno, for the worst knob of each clock */
	uint32_t state[CLOCK_COUNT];        /* enum knob_state */
	uint32_t saved;                     /* knobs in the journal */
	int32_t journal_error;              /* 0, or a negative errno, in which case no knob is written */
	uint32_t sensor_count;              /* number of descriptors in this message, HELLO only */
	uint8_t sensor_rail[2 * RAILS_MAX]; /* rail << 1 | file, of each descriptor */
	char text[192];                     /* message for people; "" if nothing happened */
	/* HELLO only: frequency table of the memory clock, whose files only root may read; 0: none */
	uint32_t mem_steps;
	uint64_t mem_hz[GRID_AXIS_MAX];
	/* parts of write_ns for devices that went up, and for those that went down */
	uint64_t up_ns[CLOCK_COUNT], down_ns[CLOCK_COUNT];
	uint32_t boards; /* number of device changes; when it grows, flamed should detect devices again */
};

/* Add a memory clock, which only the keeper can read, to flamed's board. A settle time from a board file is kept. */
void keeper_hello_merge(struct board *board, const struct keeper_reply *hello);

/* Run the keeper on one end of a socket pair until the other end closes or SIGTERM arrives, then restore every knob. It
 * detects the board itself and accepts no path from flamed. `boards_dir` may be NULL. `journal` is a file in the state
 * directory; an existing one is replayed first, and the keeper serves even if some of its knobs cannot be restored.
 * Returns the exit status: 0, or 1 if a knob could not be restored or another keeper owns the journal. The journal is
 * kept while it contains a knob to be restored, including knobs of offline or suspended devices. */
int keeper_run(int fd, const struct sysroot *root, const char *boards_dir, const char *journal);

/* Replay an existing journal: restore every knob that still has the value written by flamed, discard a journal of
 * another boot, and remove the file. If it is damaged, every readable entry is restored and the file is renamed
 * JOURNAL.damaged. Knobs that cannot be written, or whose device is offline or suspended, stay in the journal.
 * Returns the number of restored knobs (0 if there is no journal), or a negative errno: of a journal that cannot be
 * read, or of a knob that could not be written, which may be any, -EBUSY included. */
struct replay {
	unsigned left; /* number of knobs that others changed */
	bool in_use;   /* a keeper is still using the journal; nothing was done */
};
int keeper_restore(const struct sysroot *root, const char *journal, struct replay *out);

#endif
