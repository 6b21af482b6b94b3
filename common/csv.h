/* SPDX-License-Identifier: MIT */
/* Comma-separated text with one header line, read and written; columns are found by name. Quoting is not supported,
 * since no field needs it. */
#ifndef COMMON_CSV_H
#define COMMON_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CSV_COLUMNS_MAX 32
#define CSV_MESSAGE_MAX 192

struct csv {
	char *next;  /* into the caller's buffer, which is split in place */
	size_t line; /* of the last row, from 1 (the header) */
	size_t columns;
	const char *name[CSV_COLUMNS_MAX];
	const char *field[CSV_COLUMNS_MAX]; /* of the last row; "" where empty */
	char message[CSV_MESSAGE_MAX];      /* after an error: "line 3: 5 fields, the header has 6" */
};

/* Read the header of a NUL-terminated text, which must outlive `csv`.
 * CRLF line ends and a UTF-8 byte order mark are accepted.
 * Returns 0, or -EINVAL with `message`. */
int csv_open(struct csv *csv, char *text);

/* Next row; empty lines and lines starting with '#' are skipped.
 * Returns 1, 0 at the end, -EINVAL with `message`. */
int csv_next(struct csv *csv);

/* Index of a column, or -1. */
int csv_column(const struct csv *csv, const char *name);

/* A CSV text that is being written, in memory that grows as needed; starts as {0}. */
struct csv_out {
	char *text; /* NUL-terminated; NULL before the first field */
	size_t len, size;
	bool in_row; /* the next field comes after a comma */
	bool failed; /* out of memory: nothing is added any more */
};

/* Append a field. The text holds no comma and no line end. */
void csv_add(struct csv_out *out, const char *text);
void csv_add_u64(struct csv_out *out, uint64_t value);
void csv_end_row(struct csv_out *out);
/* The text, which the caller frees; NULL when out of memory. `out` is {0} again. */
char *csv_take(struct csv_out *out);

#endif
