/* SPDX-License-Identifier: MIT */
/* Comma-separated text with one header line; columns are found by name. No
 * quoting: no field of ours needs it. */
#ifndef COMMON_CSV_H
#define COMMON_CSV_H

#include <stddef.h>

#define CSV_COLUMNS_MAX 32
#define CSV_MESSAGE_MAX 192

struct csv {
	char *next;    /* into the caller's buffer, which is cut up in place */
	size_t line;   /* of the last row, from 1 (the header) */
	size_t columns;
	const char *name[CSV_COLUMNS_MAX];
	const char *field[CSV_COLUMNS_MAX]; /* of the last row; "" where empty */
	char message[CSV_MESSAGE_MAX];      /* after an error: "line 3: 5 fields, the header has 6" */
};

/* Read the header of a NUL-terminated text, which must outlive `csv`.
 * CRLF line ends and a UTF-8 byte order mark are accepted.
 * Returns 0, or -EINVAL with `message`. */
int csv_open(struct csv *csv, char *text);

/* Next row; empty lines and lines starting with '#' are passed over.
 * Returns 1, 0 at the end, -EINVAL with `message`. */
int csv_next(struct csv *csv);

/* Index of a column, or -1. */
int csv_column(const struct csv *csv, const char *name);

#endif
