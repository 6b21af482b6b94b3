/* SPDX-License-Identifier: MIT */
#include "csv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Cut the next line that is not empty or a comment off. NULL at the end. */
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

/* Split at commas. Returns the number of fields, or -1 when over `max`. */
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
		snprintf(csv->message, sizeof(csv->message), "line %zu: more than %d columns", csv->line, CSV_COLUMNS_MAX);
		return -EINVAL;
	}
	csv->columns = (size_t)count;
	for (size_t i = 0; i < csv->columns; i++) {
		if (csv_column(csv, csv->name[i]) == (int)i)
			continue;
		snprintf(csv->message, sizeof(csv->message), "line %zu: column %.64s appears twice", csv->line, csv->name[i]);
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
