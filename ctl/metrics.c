/* SPDX-License-Identifier: MIT */
/* flamectl metrics: the metrics that flamed-exporter serves, on stdout. */
#include "ctl.h"

#include "../lib/scrape.h"

int cmd_metrics(struct ctl *ctl, int argc, char **argv)
{
	bool prometheus = false;
	const struct ctl_option options[] = {{"--prometheus", NULL, &prometheus}};
	int count, rest, rc;

	rc = ctl_options(ctl, options, 1, argc, argv, &count, &rest);
	if (rc)
		return rc;
	if (count > 1 || rest < argc)
		return ctl_usage(ctl, "unexpected argument: %s", argv[count > 1 ? 1 : rest]);
	if (ctl->json)
		return ctl_usage(ctl, "metrics are always OpenMetrics text; --json does not apply");
	rc = ctl_connect(ctl);
	if (rc < 0)
		return 1;
	rc = scrape_write(&ctl->wire, CTL_TIMEOUT_NS, prometheus ? SCRAPE_PROMETHEUS : SCRAPE_OPENMETRICS, stdout);
	if (rc < 0) {
		ctl_failed(ctl, rc);
		return 1;
	}
	return 0;
}
