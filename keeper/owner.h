/* SPDX-License-Identifier: MIT */
/* One keeper for each sysroot: two that write the same knobs would each save the other's values as
 * originals. */
#ifndef KEEPER_OWNER_H
#define KEEPER_OWNER_H

#include "../probes/board.h"

#define OWNER_DIR "/run/flamed-keeper" /* directory of the real machine's lock, accessible to root only */

/* Own the sysroot for the lifetime of this process; waits for a keeper that is about to exit.
 * Returns a descriptor to be kept open, or a negative errno: -EBUSY with the name of the holder in
 * `who`; -EACCES, -EROFS and others when no lock file can be created. */
int owner_claim(const struct sysroot *root, char *who, size_t size);

#endif
