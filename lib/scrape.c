/* SPDX-License-Identifier: MIT */
#include "scrape.h"

#include <errno.h>
#include <string.h>

const char *scrape_content_type(enum scrape_format format)
{
	return format == SCRAPE_OPENMETRICS ? "application/openmetrics-text; version=1.0.0; charset=utf-8" :
					      "text/plain; version=0.0.4; charset=utf-8";
}

/* In OpenMetrics a family is named without the suffix that its type adds to the samples (_total,
 * _info). The older format has neither that rule, nor units, nor the type info. */
static void write_line(const char *line, enum scrape_format format, const char **suffix, FILE *out)
{
	char name[128], type[32];

	if (format == SCRAPE_PROMETHEUS) {
		if (strncmp(line, "# UNIT ", 7) == 0)
			return;
		if (sscanf(line, "# TYPE %127s %31s", name, type) == 2) {
			bool info = strcmp(type, "info") == 0;

			*suffix = strcmp(type, "counter") == 0 ? "_total" : info ? "_info" : "";
			fprintf(out, "# TYPE %s%s %s\n", name, *suffix, info ? "gauge" : type);
			return;
		}
		if (sscanf(line, "# HELP %127s", name) == 1) {
			fprintf(out, "# HELP %s%s%s\n", name, *suffix, line + strlen("# HELP ") + strlen(name));
			return;
		}
	}
	fprintf(out, "%s\n", line);
}

static int next_page(struct wire *wire, uint64_t from, uint64_t timeout_ns)
{
	struct kv_out ask = {0};
	int rc;

	kv_add(&ask, "op", "metrics");
	kv_add_u64(&ask, "from", from);
	kv_end(&ask);
	rc = ask.error ? ask.error : wire_call(wire, &ask, timeout_ns);
	kv_free(&ask);
	return rc;
}

int scrape_write(struct wire *wire, uint64_t timeout_ns, enum scrape_format format, FILE *out)
{
	uint64_t from = 0, next;
	const char *suffix = "";

	do {
		int rc = next_page(wire, from, timeout_ns);

		if (rc < 0)
			return rc;
		for (size_t i = 0; i < wire->reply.count; i++)
			if (strncmp(wire->reply.pair[i].key, "text.", 5) == 0)
				write_line(wire->reply.pair[i].value, format, &suffix, out);
		next = wire_u64(wire, "next", 0);
		if (next && next <= from)
			return -EPROTO;
		from = next;
	} while (from);
	if (format == SCRAPE_OPENMETRICS)
		fputs("# EOF\n", out);
	return ferror(out) ? -EIO : 0;
}
