/* SPDX-License-Identifier: MIT */
/* flamectl's command line by getopt_long(3). Options and other arguments may come in any order, up to "--". */
#include "ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "installation.h"

#define OPTIONS_MAX 16
#define OPTION_BASE 256 /* getopt_long() returns OPTION_BASE + index, which is not a character */

/* The options accepted on one command line: the verb's own, then the common ones. */
struct options {
	const struct ctl_option *entry[OPTIONS_MAX];
	struct option getopt[OPTIONS_MAX + 1];
	size_t count;
};

static void add_options(struct options *options, const struct ctl_option *more, size_t count)
{
	for (size_t i = 0; i < count && options->count < OPTIONS_MAX; i++, options->count++) {
		options->entry[options->count] = &more[i];
		options->getopt[options->count] =
			(struct option){.name = more[i].name + 2,
					.has_arg = more[i].value ? required_argument : no_argument,
					.val = OPTION_BASE + (int)options->count};
	}
}

/* Report an option that getopt_long() did not accept; `argument` is where it stopped. */
static int refuse(const struct ctl *ctl, const struct options *options, int c, const char *argument)
{
	if (optopt >= OPTION_BASE)
		return ctl_usage(ctl, c == ':' ? "%s needs a value" : "%s takes no value",
				 options->entry[optopt - OPTION_BASE]->name);
	return ctl_usage(ctl, "unknown option %s", argument);
}

static void take(const struct options *options, int c)
{
	const struct ctl_option *option = options->entry[c - OPTION_BASE];

	if (option->flag)
		*option->flag = true;
	else
		*option->value = optarg;
}

int ctl_options(struct ctl *ctl, const struct ctl_option *own, size_t own_count, int argc, char **argv, int *count,
		int *rest)
{
	bool help = false;
	const struct ctl_option common[] = {{"--json", NULL, &ctl->json},
					    {"--socket", &ctl->socket, NULL},
					    {"--help", NULL, &help}};
	struct options options = {0};
	int c, kept = 1;

	add_options(&options, own, own_count);
	add_options(&options, common, sizeof(common) / sizeof(*common));
	optind = 0; /* 0 reinitialises glibc's parser */
	opterr = 0;
	while ((c = getopt_long(argc, argv, "-:", options.getopt, NULL)) != -1) {
		if (c == 1) /* not an option: move it to the front of argv */
			argv[kept++] = optarg;
		else if (c == '?' || c == ':')
			return refuse(ctl, &options, c, argv[optind - 1]);
		else
			take(&options, c);
	}
	if (help)
		ctl_help(ctl);
	*count = kept;
	*rest = optind;
	return 0;
}

int ctl_global_options(struct ctl *ctl, int argc, char **argv)
{
	bool help = false, version = false;
	const struct ctl_option global[] = {{"--json", NULL, &ctl->json},
					    {"--socket", &ctl->socket, NULL},
					    {"--help", NULL, &help},
					    {"--version", NULL, &version}};
	struct options options = {0};
	int c;

	add_options(&options, global, sizeof(global) / sizeof(*global));
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:", options.getopt, NULL)) != -1) {
		if (c == '?' || c == ':')
			return -refuse(ctl, &options, c, argv[optind - 1]);
		take(&options, c);
	}
	if (help)
		ctl_help(ctl);
	if (version) {
		puts("flamectl " FLAMED_VERSION);
		exit(0);
	}
	return optind;
}
