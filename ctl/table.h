/* SPDX-License-Identifier: MIT */
/* Aligned tables for people: columns as wide as their widest cell. */
#ifndef CTL_TABLE_H
#define CTL_TABLE_H

#include "ctl.h"

#define TABLE_COLUMNS_MAX 16
#define TABLE_CELL_MAX    96

struct table {
	size_t columns, cells, size;
	struct cell {
		char text[TABLE_CELL_MAX];
		const char *sgr; /* NULL: plain */
	} * cell;
	bool right[TABLE_COLUMNS_MAX], spare[TABLE_COLUMNS_MAX];
	int error;
};

/* Column titles, ended by NULL. A leading '?' marks a column that may be dropped on a narrow
 * terminal (the last ones first); then a '>' aligns the column to the right. */
void table_init(struct table *table, const char *const *titles);

/* Add the next cell, row by row; text that is too long is cut. */
void table_add(struct table *table, const char *code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Print the table and free it. `indent` spaces precede each line; a column that is empty in every
 * row is left out. */
void table_print(struct table *table, const struct ctl *ctl, int indent);

/* Columns that a UTF-8 text takes on a terminal (no wide characters occur). */
size_t text_width(const char *text);

#endif
