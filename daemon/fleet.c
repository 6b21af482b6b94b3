/* SPDX-License-Identifier: MIT */
/* Exchange of measurements between boards of the same kind: op=export sends a model's samples and the board and mode
 * that they are valid for, op=import uses such a reply as a prior. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/file.h"
#include "daemon.h"
#include "installation.h"

#define FORMAT      1   /* of the export */
#define EXPORT_ROWS 256 /* the most measured ones; some 24 KB of a message */

static int by_count(const void *a, const void *b)
{
	uint32_t x = ((const struct sample *)a)->n, y = ((const struct sample *)b)->n;

	return (x < y) - (x > y);
}

/* Software that latencies depend on, besides the board and its mode. */
static void add_software(struct kv_out *out, const struct daemon *d)
{
	struct board_software software;

	board_software(&software, &d->root);
	kv_add(out, "kernel", "%s", software.kernel);
	kv_add(out, "driver", "%s", software.driver);
	kv_add(out, "system", "%s", software.system);
}

/* Returns false after an error that names the version. */
static bool is_of_this_software(const struct daemon *d, struct connection *c, const struct kv *kv)
{
	struct board_software software;

	board_software(&software, &d->root);
	const char *const here[][2] = {{"kernel", software.kernel},
				       {"driver", software.driver},
				       {"system", software.system}};
	for (size_t i = 0; i < sizeof(here) / sizeof(here[0]); i++) {
		const char *there = kv_get(kv, here[i][0]) ? kv_get(kv, here[i][0]) : "";
		if (strcmp(there, here[i][1]) == 0)
			continue;
		reply_error(c, EXDEV, "%s: measured with \"%s\", this board has \"%s\"; --other-versions takes them",
			    here[i][0], there, here[i][1]);
		return false;
	}
	return true;
}

/* line.0 is the header. */
static void add_lines(struct kv_out *out, char *text)
{
	char key[24], *rest = text, *line;

	for (unsigned i = 0; (line = strsep(&rest, "\n")) && *line; i++) {
		snprintf(key, sizeof(key), "line.%u", i);
		kv_add(out, key, "%s", line);
	}
}

void fleet_export(struct daemon *d, struct connection *c, const struct kv *kv)
{
	CLEANUP_MEM struct sample *samples = NULL;
	CLEANUP_MEM char *text = NULL;
	const char *model;

	if (!need_model(c, kv, &model) || !need_admin(c, "export"))
		return;
	struct entry *entry = library_find(&d->library, model, USER_ADMIN);
	if (entry && !model_read(d, c, entry, PHASE_RUN, 0))
		return;
	long count = entry ? model_samples(entry->model, &samples) : 0;
	if (count == 0) {
		reply_error(c, ENOENT,
			    "model: this board has no measurement of %s; flamectl models lists the known models",
			    model);
		return;
	}
	if (count > 0) {
		qsort(samples, (size_t)count, sizeof(*samples), by_count);
		text = samples_format(samples, count < EXPORT_ROWS ? (size_t)count : EXPORT_ROWS);
	}
	if (!text) {
		reply_error(c, ENOMEM, "out of memory");
		return;
	}
	struct kv_out *out = reply_begin(c);
	kv_add_u64(out, "format", FORMAT);
	kv_add(out, "version", "%s", FLAMED_VERSION);
	kv_add(out, "board", "%s", d->board.name);
	kv_add(out, "mode", "%s", d->library.mode);
	add_software(out, d);
	kv_add(out, "model", "%s", model);
	add_lines(out, text);
	reply_end(c);
}

/* Returns false after an error that names the key: samples of another kind of board, mode or format are not valid
 * here, nor those of other versions unless they are asked for. */
static bool is_of_this_kind(const struct daemon *d, struct connection *c, const struct kv *kv)
{
	const char *board = kv_get(kv, "board"), *mode = kv_get(kv, "mode");
	uint64_t format, other_versions = 0;

	if (!need_u64(c, kv, "format", 1, UINT32_MAX, &format) ||
	    (kv_get(kv, "other_versions") && !need_u64(c, kv, "other_versions", 0, 1, &other_versions)))
		return false;
	if (format > FORMAT)
		reply_error(c, EPROTO, "format: %s was exported by flamed %s, which is newer than this",
			    kv_get(kv, "model"), kv_get(kv, "version") ? kv_get(kv, "version") : "?");
	else if (!board || strcmp(board, d->board.name) != 0)
		reply_error(c, EXDEV, "board: measured on \"%s\", this is \"%s\"", board ? board : "", d->board.name);
	else if (!mode || strcmp(mode, d->library.mode) != 0)
		reply_error(c, EXDEV, "mode: measured in power mode \"%s\", this board is in \"%s\"", mode ? mode : "",
			    d->library.mode);
	else
		return other_versions || is_of_this_software(d, c, kv);
	return false;
}

void fleet_import(struct daemon *d, struct connection *c, const struct kv *kv)
{
	char key[24], message[256] = "";
	const char *model, *line;
	int rc;

	if (!need_model(c, kv, &model) || !need_admin(c, "import") || !is_of_this_kind(d, c, kv))
		return;
	CLEANUP_MEM char *csv = calloc(1, MESSAGE_BYTES_MAX);
	size_t len = 0;
	for (unsigned i = 0; csv; i++) {
		snprintf(key, sizeof(key), "line.%u", i);
		line = kv_get(kv, key);
		if (!line)
			break;
		len += (size_t)snprintf(csv + len, MESSAGE_BYTES_MAX - len, "%s\n", line);
	}
	rc = csv ? library_inherit(&d->library, model, csv, message, sizeof(message)) : -ENOMEM;
	if (rc < 0) {
		reply_error(c, -rc, "line: %s", message[0] ? message : strerror(-rc));
		return;
	}
	struct kv_out *out = reply_begin(c);
	kv_add_u64(out, "points", (uint64_t)rc);
	add_software(out, d);
	reply_end(c);
}
