/* SPDX-License-Identifier: MIT */
/* Exchange of measurements between boards of the same kind: op=export sends a model's samples and the board and mode
 * that they are valid for, op=import uses such a reply as a prior. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/file.h"
#include "daemon.h"
#include "imports.h"
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

static void reply_imported(struct daemon *d, struct connection *c, int rc, const char *message)
{
	if (rc < 0) {
		reply_error(c, -rc, "line: %.255s", message[0] ? message : strerror(-rc));
		return;
	}
	struct kv_out *out = reply_begin(c);
	kv_add_u64(out, "points", (uint64_t)rc);
	add_software(out, d);
	reply_end(c);
}

/* Read the lines of the message, and add them to what is stored. */
static void import(struct daemon *d, void *out)
{
	const struct importing *importing = &d->importing;
	CLEANUP_MEM char *csv = calloc(1, MESSAGE_BYTES_MAX);
	const char *line;
	char key[24];
	size_t len = 0;

	for (unsigned i = 0; csv; i++) {
		snprintf(key, sizeof(key), "line.%u", i);
		line = kv_get(importing->message, key);
		if (!line)
			break;
		len += (size_t)snprintf(csv + len, MESSAGE_BYTES_MAX - len, "%s\n", line);
	}
	imports_add(&d->library, importing->model, importing->mode, csv, out);
}

static void help(struct daemon *d)
{
	library_sandbox(&d->library);
	import(d, d->importing.helper.page);
}

static void on_imported(void *daemon, unsigned events)
{
	struct daemon *d = daemon;
	struct importing *importing = &d->importing;
	struct connection *asker = importing->asker;
	bool done = helper_has_done(&importing->helper);
	const char *message;
	int rc = -EIO;

	(void)events;
	if (done)
		rc = imports_take(&d->library, importing->model, importing->mode, importing->helper.page, &message);
	importing->asker = NULL;
	if (asker && done)
		reply_imported(d, asker, rc, message);
	else if (asker)
		reply_error(asker, EIO, "import: the process that reads and stores it was ended");
	helper_end(&importing->helper);
	if (asker)
		connection_resume(asker);
	if (d->was_used)
		board_rescan_later(d);                   /* it was put off */
	server_repeat(d->server, importing->helper.uid); /* those who wait to import */
}

void fleet_import(struct daemon *d, struct connection *c, const struct kv *kv)
{
	struct importing *importing = &d->importing;
	size_t bytes = imports_bytes(&d->library);
	const char *model, *message;

	if (!need_model(c, kv, &model) || !need_admin(c, "import") || !is_of_this_kind(d, c, kv))
		return;
	if (importing->helper.pid) {
		connection_repeat(c);
		return;
	}
	strcpy(importing->model, model);
	strcpy(importing->mode, d->library.mode);
	importing->message = kv;
	if (helper_start(d, &importing->helper, bytes, c->uid, true, help, on_imported)) {
		importing->asker = c;
		connection_hold(c);
	} else { /* no helper process: here */
		CLEANUP_MEM void *page = calloc(1, bytes);
		int rc = -ENOMEM;

		message = "";
		if (page) {
			import(d, page);
			rc = imports_take(&d->library, model, importing->mode, page, &message);
		}
		reply_imported(d, c, rc, message);
	}
	importing->message = NULL;
}

void fleet_closed(struct daemon *d, const struct connection *c)
{
	if (d->importing.asker == c)
		d->importing.asker = NULL;
}
