/* SPDX-License-Identifier: MIT */
#include "csv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Next line that is neither empty nor a comment, NUL-terminated in place; NULL at the end. */
static char *next_line(struct csv *csv)
{
	while (*csv->next) {
		char *line = csv->next, *end = strchr(line, '\n');

		csv->next = end ? end + 1 : line + strlen(line);
		csv->line++;
		if (end)
			*end = '\0';
		line[strcspn(line, "\r")] = '\0';
		if (*line && *line != '#')
			return line;
	}
	return NULL;
}

static char *trim(char *field)
{
	char *end;

	field += strspn(field, " \t");
	end = field + strlen(field);
	while (end > field && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	return field;
}

/* Split at commas. Returns the number of fields, or -1 if there are more than `max`. */
static int split(char *line, const char **field, size_t max)
{
	size_t count = 0;

	for (;;) {
		char *comma = strchr(line, ',');

		if (comma)
			*comma = '\0';
		if (count == max)
			return -1;
		field[count++] = trim(line);
		if (!comma)
			return (int)count;
		line = comma + 1;
	}
}

int csv_open(struct csv *csv, char *text)
{
	char *line;
	int count;

	memset(csv, 0, sizeof(*csv));
	csv->next = strncmp(text, "\xef\xbb\xbf", 3) == 0 ? text + 3 : text;
	line = next_line(csv);
	if (!line) {
		snprintf(csv->message, sizeof(csv->message), "line 1: no header line");
		return -EINVAL;
	}
	count = split(line, csv->name, CSV_COLUMNS_MAX);
	if (count < 0) {
		snprintf(csv->message, sizeof(csv->message), "line %zu: more than %d columns", csv->line,
			 CSV_COLUMNS_MAX);
		return -EINVAL;
	}
	csv->columns = (size_t)count;
	for (size_t i = 0; i < csv->columns; i++) {
		if (csv_column(csv, csv->name[i]) == (int)i)
			continue;
		snprintf(csv->message, sizeof(csv->message), "line %zu: column %.64s appears twice", csv->line,
			 csv->name[i]);
		return -EINVAL;
	}
	return 0;
}

int csv_next(struct csv *csv)
{
	char *line = next_line(csv);
	int count;

	if (!line)
		return 0;
	count = split(line, csv->field, CSV_COLUMNS_MAX);
	if (count < 0 || (size_t)count != csv->columns) {
		snprintf(csv->message, sizeof(csv->message), "line %zu: %s%d fields, the header has %zu", csv->line,
			 count < 0 ? "over " : "", count < 0 ? CSV_COLUMNS_MAX : count, csv->columns);
		return -EINVAL;
	}
	return 1;
}

int csv_column(const struct csv *csv, const char *name)
{
	for (size_t i = 0; i < csv->columns; i++)
		if (strcmp(csv->name[i], name) == 0)
			return (int)i;
	return -1;
}

static void append(struct csv_out *out, const char *text, size_t len)
{
	if (!out->failed && out->len + len >= out->size) {
		size_t size = 2 * (out->len + len + 1);
		char *grown = realloc(out->text, size);

		if (grown) {
			out->text = grown;
			out->size = size;
		}
		out->failed = !grown;
	}
	if (out->failed)
		return;
	memcpy(out->text + out->len, text, len);
	out->len += len;
	out->text[out->len] = '\0';
}

void csv_add(struct csv_out *out, const char *text)
{
	if (out->in_row)
		append(out, ",", 1);
	append(out, text, strlen(text));
	out->in_row = true;
}

void csv_add_u64(struct csv_out *out, uint64_t value)
{
	char digits[21];

	snprintf(digits, sizeof(digits), "%" PRIu64, value);
	csv_add(out, digits);
}

void csv_end_row(struct csv_out *out)
{
	append(out, "\n", 1);
	out->in_row = false;
}

char *csv_take(struct csv_out *out)
{
	char *text = out->text;

	if (out->failed) {
		free(text);
		text = NULL;
	}
	*out = (struct csv_out){0};
	return text;
}
