/* SPDX-License-Identifier: MIT */
/* Aligned tables for people: columns as wide as their widest cell. */
#ifndef CLIENT_TABLE_H
#define CLIENT_TABLE_H

#include "ctl.h"

#define TABLE_COLUMNS_MAX 16
#define TABLE_CELL_MAX    96

struct table {
	size_t columns, cells, size;
	struct cell {
		char text[TABLE_CELL_MAX];
		const char *sgr; /* NULL: plain */
	} *cell;
	bool right[TABLE_COLUMNS_MAX], spare[TABLE_COLUMNS_MAX];
	int error;
};

/* Titles; a leading '?' marks a column that a narrow terminal can do without
 * (the last ones go first), a '>' after it aligns the column to the right. Ends
 * with NULL. */
void table_init(struct table *table, const char *const *titles);

/* Next cell, row by row; too long a text is cut. */
void table_add(struct table *table, const char *code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Print and free. `indent` spaces before each line; a column that is empty in
 * every row is left out. */
void table_print(struct table *table, const struct ctl *ctl, int indent);

/* Columns that a UTF-8 text takes on a terminal (none of ours is wide). */
size_t text_width(const char *text);

#endif
