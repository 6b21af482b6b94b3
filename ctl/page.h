/* SPDX-License-Identifier: MIT */
/* The page of flamectl run --report: HTML from flamed's records of requests. */
#ifndef CTL_PAGE_H
#define CTL_PAGE_H

#include "../common/point.h"
#include "ctl.h"

#define PAGE_RECORDS_MAX 4096 /* dots of a picture; in a longer run a dot is the slowest of several requests */

struct page_record {
	uint64_t end_ns;   /* on the daemon's clock */
	uint64_t total_ns; /* latency, */
	uint64_t asked_ns; /* and until when it was due */
	uint64_t power_uw; /* smoothed over the last requests; 0: not known */
	struct op_point point;
};

struct report_page {
	size_t count;
	size_t each;      /* requests that a record stands for */
	size_t waiting;   /* of the next one, heard so far */
	uint64_t heard;   /* requests */
	uint64_t skipped; /* requests that were too frequent for a record each */
	struct page_record next, record[PAGE_RECORDS_MAX];
};

/* Take the records of a reply to op=tally with trace=1. */
void page_take(struct report_page *page, const struct ctl *ctl);

/* Write the page. The reply that `ctl` holds is the last tally; the query for the surface replaces it. Returns 0 or
 * -EIO. */
int page_write(struct report_page *page, struct ctl *ctl, const char *model, char *const *command, FILE *out);

#endif
