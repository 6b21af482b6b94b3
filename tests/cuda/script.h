/* SPDX-License-Identifier: MIT */
/* Scripts of driver calls for tests/cuda/engine.c.
 *
 * A script is lines of words, `#` begins a comment:
 *	cost launch|graph CYCLES NS          host side of a launch (stand-in only)
 *	kernel NAME GPU_CYCLES MEM_CYCLES NS [sink]
 *	stream S [nonblocking]    event E    (declared before use; stream 0: the default one)
 *	loop N ... end                       N may be `runs`
 *	every N OFFSET ... end               only if the number of the innermost loop modulo N is OFFSET
 *	unless N OFFSET ... end              only if it is not
 *	launch KERNEL GRID BLOCK S [plain|ex|coop] [times]    GRID may be A+i/B, i counting the loop
 *	upload|download S    copy-in|copy-out (synchronous)    sync S   ctxsync
 *	upload-2d|upload-3d|download-2d|download-3d S    copy-in-2d|copy-in-3d|copy-out-2d|copy-out-3d
 *	copy-out-unaligned (2D)              the same by rows, or by slices of rows
 *	record E S   wait S E   eventsync E   poll S   pollevent E   query E (once)   hostfunc S   callback S
 *	capture S global|local|relaxed   endcapture S G   clone G G   instantiate G X [flags]   update X G   replay X S
 *	drop-graph G   drop-exec X   drop-stream S   sleep US   fork   expect-error CODE (of the next call)
 *	reset   retain   release (of the primary context)
 *	context C   use C (of the stand-in, where any context has all)
 *	push NAME   push-w NAME (wide)   pop   push-in NAME   pop-in (of a domain)   start NAME R   stop R
 *	stop-elsewhere R (in another thread) NVTX ranges (engine-nvtx)
 *	inference                            one is over here */
#ifndef TESTS_CUDA_SCRIPT_H
#define TESTS_CUDA_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define WORDS_MAX 8
#define LINES_MAX 512

struct line {
	char *word[WORDS_MAX]; /* "" past the last */
	int words, number;
	size_t end; /* of a block: the line after it */
};

struct script {
	const char *path;
	struct line line[LINES_MAX];
	size_t lines;
};

/* Is this the line's first word? */
static inline bool is(const struct line *line, const char *word)
{
	return strcmp(line->word[0], word) == 0;
}

/* Read script->path; ends the program where it is no script. */
void script_read(struct script *script);

/* Say what is wrong with a line (NULL: with the script as a whole), and end the program. */
_Noreturn void script_fail(const struct script *script, const struct line *line, const char *text);

#endif
