/* SPDX-License-Identifier: MIT */
/* flamed-board DIR: an emulated board in a directory. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "installation.h"
#include "animate.h"
#include "priority.h"

#define BOARD_DEFAULT "agx-orin"

static int usage(FILE *to, int status)
{
	fputs("usage: flamed-board DIR [--board FILE] [--once]\n"
	      "Build the sysfs tree of an edge board in DIR and keep it alive until SIGINT or SIGTERM.\n"
	      "  --board FILE  a board file, or the name of one that came along: agx-orin (default),\n"
	      "                orin-nano, raspberry-pi, rk3588\n"
	      "  --once        build the tree and exit\n"
	      "  --help, --version\n",
	      to);
	return status;
}

/* A name without a slash or dot is a board file of flamed: beside the program
 * in a build tree, else installed. */
static const char *board_path(const char *board, char *buf, size_t size)
{
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (strpbrk(board, "/."))
		return board;
	self[len > 0 ? len : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash) {
		*slash = '\0';
		snprintf(buf, size, "%.4000s/boards/%.64s.ini", self, board);
		if (access(buf, R_OK) == 0)
			return buf;
	}
	snprintf(buf, size, "%s/flamed/boards/%.64s.ini", DATADIR, board);
	return buf;
}

static int animate(const struct spec *spec, const char *dir, bool once)
{
	static struct board_run run;
	char message[SPEC_MESSAGE_MAX] = "";
	int rc = run_init(&run, spec, dir, message);

	if (rc) {
		fprintf(stderr, "flamed-board: %s\n", message);
		if (rc == -EEXIST)
			fputs("flamed-board: refusing to write there: it is no board of ours\n", stderr);
	} else if (!once) {
		printf("flamed-board: ready %s\n", dir);
		fflush(stdout);
		run_on_time();
		rc = run_loop(&run);
	}
	run_close(&run);
	return rc ? 1 : 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"board", required_argument, NULL, 'b'},
		{"once", no_argument, NULL, 'o'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	static struct spec spec;
	const char *board = BOARD_DEFAULT;
	char path[PATH_MAX], message[SPEC_MESSAGE_MAX];
	bool once = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'b': board = optarg; break;
		case 'o': once = true; break;
		case 'h': return usage(stdout, 0);
		case 'v': puts("flamed-board " FLAMED_VERSION); return 0;
		default: return usage(stderr, 2);
		}
	}
	if (optind != argc - 1)
		return usage(stderr, 2);
	if (spec_read(&spec, board_path(board, path, sizeof(path)), message)) {
		fprintf(stderr, "flamed-board: %s\n", message);
		return 2;
	}
	return animate(&spec, argv[optind], once);
}
