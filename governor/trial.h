/* SPDX-License-Identifier: MIT */
/* Trials: requests run where only they can tell whether it is in time. They may miss: a session has few misses to
 * spend on them, most of these while its model is new. */
#ifndef GOVERNOR_TRIAL_H
#define GOVERNOR_TRIAL_H

#include "governor.h"

#define TRIAL_EVERY 16 /* requests: how often a session that has learned looks for another trial */

/* Where the newest request is to be tried instead of at `best`, the governor's choice, that is in time by its bound
 * (`feasible`) or is not; SIZE_MAX: nowhere. The cost of moves is up to date. */
size_t trial_now(const struct governor_task *t, size_t best, bool feasible);

/* Between requests: where the next one is to be tried, reached in a gap of which so much may go into moving; SIZE_MAX: nowhere. */
size_t trial_ahead(const struct governor_task *t, double free_ns);

#endif
