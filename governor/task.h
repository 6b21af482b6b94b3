/* SPDX-License-Identifier: MIT */
/* What a decision is about: the requests' demands, the price of points, and whether a point fits. */
#ifndef GOVERNOR_TASK_H
#define GOVERNOR_TASK_H

#include "governor.h"

/* Factors on the bounds of a surface, or of a session's requests: margin and slow-down; past misses, where the task counts them. */
double task_base_factor(const struct governor_task *t, const struct surface *surface);
double task_past_factor(const struct governor_task *t, uint32_t session);

/* Demands of requests, in the order of their deadlines. `past`: with what past misses put on the bounds. */
void task_demands(struct governor_task *t, const struct governor_request *requests, size_t count, bool past);

/* By the governor's objective; the horizon counts for energy only. */
void task_price(struct governor_task *t, float horizon_ns);

/* Is every request in time at this point, after so long a move? */
bool task_fits(const struct governor_task *t, size_t point, double move_ns);

/* Chance that the task's only request misses at a point after so long a move. */
double task_risk(const struct governor_task *t, size_t point, double move_ns);
#define RISK_SMALL 0.12 /* of one request: what hardly ever happens */

/* Share of power saved by moving, and how much a move has to save. */
double task_gain(const struct governor_task *t, size_t from, size_t to);
double task_gain_needed(const struct governor_task *t, size_t to);
#define PAYBACK_REQUESTS 32 /* a move has to be worth its time within so many */

/* From the end of a request at this point to the next of its session, as far as can be told; negative: none. */
double task_gap_ns(const struct governor_task *t, size_t point);
#define GAP_SHARE 0.8 /* of a gap may be spent on moving: neither is ever quite as expected */

/* Fill in what follows from out->point. */
void task_describe(const struct governor_task *t, struct decision *out);

#endif
