/* SPDX-License-Identifier: MIT */
/* The metrics of a daemon as one text, in either of the two formats that
 * scrapers read. For flamectl and flamed-exporter; not part of libflamed's API. */
#ifndef LIB_SCRAPE_H
#define LIB_SCRAPE_H

#include <stdbool.h>
#include <stdio.h>
#include "wire.h"

enum scrape_format {
	SCRAPE_OPENMETRICS, /* application/openmetrics-text; version=1.0.0 */
	SCRAPE_PROMETHEUS   /* text/plain; version=0.0.4: counters are named with their _total in HELP and TYPE too */
};

/* Value of an HTTP Content-Type header for the format. */
const char *scrape_content_type(enum scrape_format format);

/* Ask the daemon behind `wire` for all its metrics, page by page, and write them to `out`, ended by `# EOF` in
 * OpenMetrics. `timeout_ns` is for each page. Returns 0, or the negative errno of the first wire_call() that failed;
 * the text in `out` is then incomplete and must not be used. */
int scrape_write(struct wire *wire, uint64_t timeout_ns, enum scrape_format format, FILE *out);

#endif
