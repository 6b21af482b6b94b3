/* SPDX-License-Identifier: MIT */
/* Reading a journal: from text to entries. The text is not trusted. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "../common/file.h"
#include "../common/units.h"
#include "journal.h"
#include "knob.h"

#define HEADER "flamed-journal 1"

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decode "=VALUE", percent-encoded. False if it is malformed or too long. */
static bool decode(const char *text, char out[KNOB_VALUE_MAX])
{
	size_t n = 0;

	if (*text != '=')
		return false;
	for (const char *p = text + 1; *p; p++) {
		int c = (unsigned char)*p;
		if (c == '%') {
			int high = hex(p[1]), low = high < 0 ? -1 : hex(p[2]);
			if (low < 0)
				return false;
			c = high * 16 + low;
			p += 2;
		}
		if (c == '\0' || n + 1 >= KNOB_VALUE_MAX)
			return false;
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return true;
}

/* Cut off the next word of a line; NULL at the end of the line. */
static char *word(char **line)
{
	char *start = *line + strspn(*line, " ");
	size_t len = strcspn(start, " ");

	if (len == 0)
		return NULL;
	*line = start + len;
	if (**line)
		*(*line)++ = '\0';
	return start;
}

static bool parse_save(struct journal_text *out, uint64_t slot, char *rest)
{
	const char *path = word(&rest), *value = word(&rest), *unlimited = word(&rest);

	if (!path || !value || slot != out->count || out->count == KNOBS_MAX || !knob_kind_of(path))
		return false;
	struct journal_entry *e = &out->entry[out->count];
	memset(e, 0, sizeof(*e));
	if (strlen(path) >= sizeof(e->path) || !decode(value, e->original))
		return false;
	strcpy(e->path, path);
	e->unlimited = unlimited && !strcmp(unlimited, "unlimited");
	out->count++;
	return true;
}

static bool parse_value(struct journal_text *out, bool held, uint64_t slot, char *rest)
{
	const char *code = word(&rest);
	char value[KNOB_VALUE_MAX] = "";

	if (!code || slot >= out->count || !decode(code, value))
		return false;
	struct journal_entry *e = &out->entry[slot];
	if (held) {
		memcpy(e->ours[OURS_BEFORE], e->ours[OURS_HELD], sizeof(value));
		memcpy(e->ours[OURS_HELD], value, sizeof(value));
		e->ours[OURS_SEEN][0] = '\0';
	} else {
		memcpy(e->ours[OURS_SEEN], value, sizeof(value));
	}
	return true;
}

static bool parse_line(struct journal_text *out, size_t number, char *line)
{
	uint64_t slot;

	if (number == 1)
		return !strcmp(line, HEADER);
	const char *verb = word(&line), *second = word(&line);
	if (!verb || !second)
		return false;
	if (number == 2) {
		if (strcmp(verb, "boot") != 0 || strlen(second) >= sizeof(out->boot_id))
			return false;
		strcpy(out->boot_id, second);
		return true;
	}
	if (parse_u64(second, &slot) < 0)
		return false;
	if (!strcmp(verb, "save"))
		return parse_save(out, slot, line);
	bool held = !strcmp(verb, "held");
	return (held || !strcmp(verb, "seen")) && parse_value(out, held, slot, line);
}

void journal_parse(const char *text, size_t len, struct journal_text *out)
{
	char line[SYSFS_PATH_MAX + 4 * KNOB_VALUE_MAX];
	size_t number = 0;

	memset(out, 0, sizeof(*out));
	for (size_t at = 0; at < len;) {
		const char *end = memchr(text + at, '\n', len - at);
		if (!end) /* incomplete last line: the keeper was killed while writing it */
			break;
		size_t n = (size_t)(end - (text + at));
		number++;
		bool ok = n < sizeof(line) && !memchr(text + at, '\0', n);
		if (ok) {
			memcpy(line, text + at, n);
			line[n] = '\0';
			ok = parse_line(out, number, line);
		}
		if (!ok && out->damaged_line == 0)
			out->damaged_line = number;
		at += n + 1;
	}
}
