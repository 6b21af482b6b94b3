/* SPDX-License-Identifier: MIT */
/* Shadow mode: the kernel's governors choose the clocks, flamed writes nothing. It learns from the clocks that it reads
 * while a request runs, decides as if it managed the clocks, and keeps account of both. */
#ifndef DAEMON_SHADOW_H
#define DAEMON_SHADOW_H

#include <stdbool.h>
#include <stdint.h>
#include "../common/kv.h"
#include "../common/point.h"

struct daemon;
struct request;

/* Readings of the clocks while one request runs in shadow. */
struct clock_readings {
	uint32_t count;
	bool blind; /* a managed clock could not be read, or flamed held the clocks for others */
	double sum_hz[CLOCK_COUNT];
	uint64_t least_hz[CLOCK_COUNT], most_hz[CLOCK_COUNT];
};

/* Of estimates: if every prediction erred to one side, as estimated, if every prediction erred to the other. */
enum shadow_case { SHADOW_LOW, SHADOW_MID, SHADOW_HIGH, SHADOW_CASES };

/* Sums over the requests of one model, or of one tag. Plain numbers: a file and a reply hold them by name. */
struct shadow_ledger {
	double since_s;  /* real time of the first request, seconds of the epoch */
	double until_s;  /* and of the newest */
	double requests; /* that ended in shadow */
	double judged;   /* with clocks that were read and a model that was known; all further sums are over these */
	double missed;   /* as the kernel's governors chose */
	double would_miss[SHADOW_CASES]; /* as flamed would have chosen */
	double window_s; /* time that energy is counted over: of each request, the longer of both runs */
	double ran_s, would_run_s;
	double cycles[CLOCK_COUNT], would_cycles[CLOCK_COUNT]; /* clock x time run */
	double metered; /* requests with power in watts. Energy is of these; where there are none, relative cost x s */
	double energy_j, would_j[SHADOW_CASES];
	double power_new,
		power_new_sq; /* readings at points not measured before, and squares of log (measured / predicted) */
	double power_old, power_old_sq; /* readings at points measured often */
};

/* A request in shadow begins, and ends after `total_ns`: it is counted and learned from. Returns the expected time at
 * the point that flamed decided. */
void shadow_begin(struct daemon *d, struct request *request);
uint64_t shadow_end(struct daemon *d, struct request *request, uint64_t total_ns);

/* The grid point at which the request ran: the mean of the readings. False: not known, or (`steady`) the clocks
 * moved. */
bool shadow_point(const struct daemon *d, const struct request *request, bool steady, struct op_point *out);

/* Expected time of the request at the current clocks, and the requests measured there; 0: not known. */
uint64_t shadow_expected_ns(struct daemon *d, const struct request *request, uint32_t *measured);

/* Timer, and when power is read: read the clocks for the requests that run in shadow. */
void shadow_poll(void *daemon);

/* Keys PREFIX.NAME of a ledger. */
void ledger_report(struct kv_out *out, const char *prefix, const struct shadow_ledger *ledger);

/* A ledger as the text of a file, which the caller frees with kv_free(), and back. 0, or -EINVAL with a message. */
void ledger_format(struct kv_out *out, const struct shadow_ledger *ledger);
int ledger_parse(struct shadow_ledger *ledger, char *text, char *message, size_t size);

#endif
