/* SPDX-License-Identifier: MIT */
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t text_width(const char *text)
{
	size_t width = 0;

	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static struct cell *new_cell(struct table *table)
{
	if (table->cells == table->size) {
		size_t size = table->size ? table->size * 2 : 64;
		struct cell *grown = realloc(table->cell, size * sizeof(*grown));

		if (!grown) {
			table->error = -ENOMEM;
			return NULL;
		}
		table->cell = grown;
		table->size = size;
	}
	return &table->cell[table->cells++];
}

void table_add(struct table *table, const char *code, const char *format, ...)
{
	struct cell *cell = new_cell(table);
	va_list args;

	if (!cell)
		return;
	cell->sgr = code;
	va_start(args, format);
	vsnprintf(cell->text, sizeof(cell->text), format, args);
	va_end(args);
}

void table_init(struct table *table, const char *const *titles)
{
	memset(table, 0, sizeof(*table));
	for (; titles[table->columns]; table->columns++) {
		const char *title = titles[table->columns];

		table->spare[table->columns] = *title == '?';
		title += *title == '?';
		table->right[table->columns] = *title == '>';
		table_add(table, SGR_DIM, "%s", title + (*title == '>'));
	}
}

static size_t column_width(const struct table *table, size_t column)
{
	size_t width = 0;
	bool empty = true;

	for (size_t i = column; i < table->cells; i += table->columns) {
		size_t cell = text_width(table->cell[i].text);

		width = cell > width ? cell : width;
		empty = empty && (i < table->columns || cell == 0);
	}
	return empty ? 0 : width;
}

static void print_cell(const struct ctl *ctl, const struct cell *cell, size_t width, bool right, bool last)
{
	int pad = (int)(width - text_width(cell->text));

	printf("%*s%s%s%s%*s", right ? pad : 0, "", cell->sgr ? sgr(ctl, cell->sgr) : "", cell->text,
	       cell->sgr ? sgr(ctl, SGR_OFF) : "", right || last ? 0 : pad, "");
}

/* Drop optional columns, from the last one, until the table fits. */
static void squeeze(const struct table *table, size_t room, size_t width[TABLE_COLUMNS_MAX])
{
	for (size_t c = table->columns; c-- > 0;) {
		size_t total = 0;

		for (size_t i = 0; i < table->columns; i++)
			total += width[i] ? width[i] + 2 : 0;
		if (total <= room + 2)
			return;
		if (table->spare[c])
			width[c] = 0;
	}
}

void table_print(struct table *table, const struct ctl *ctl, int indent)
{
	size_t width[TABLE_COLUMNS_MAX], last = 0;

	for (size_t c = 0; c < table->columns; c++)
		width[c] = column_width(table, c);
	if (ctl->terminal)
		squeeze(table, (size_t)(ctl->columns - indent), width);
	for (size_t c = 0; c < table->columns; c++)
		last = width[c] ? c : last;
	for (size_t row = 0; row + table->columns <= table->cells && !table->error; row += table->columns) {
		const char *gap = "";

		printf("%*s", indent, "");
		for (size_t c = 0; c < table->columns; c++) {
			if (width[c] == 0)
				continue;
			fputs(gap, stdout);
			print_cell(ctl, &table->cell[row + c], width[c], table->right[c], c == last);
			gap = "  ";
		}
		putchar('\n');
	}
	free(table->cell);
	memset(table, 0, sizeof(*table));
}
