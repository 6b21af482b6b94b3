/* SPDX-License-Identifier: MIT */
#include "script.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void script_fail(const struct script *script, const struct line *line, const char *text)
{
	fprintf(stderr, "engine: %s:%d: %s\n", script->path, line ? line->number : 0, text);
	exit(2);
}

void script_read(struct script *script)
{
	FILE *in = fopen(script->path, "re");
	char text[512];
	size_t open[16], depth = 0;
	int number = 0;

	if (!in)
		script_fail(script, NULL, "cannot be read");
	while (fgets(text, sizeof(text), in)) {
		struct line *line = &script->line[script->lines];

		number++;
		text[strcspn(text, "#\n")] = '\0';
		*line = (struct line){.number = number};
		for (char *save = NULL, *word = strtok_r(text, " \t", &save); word && line->words < WORDS_MAX;
		     word = strtok_r(NULL, " \t", &save))
			line->word[line->words++] = strdup(word);
		if (line->words == 0)
			continue;
		for (int i = line->words; i < WORDS_MAX; i++)
			line->word[i] = strdup("");
		if (strcmp(line->word[0], "loop") == 0 || strcmp(line->word[0], "every") == 0 ||
		    strcmp(line->word[0], "unless") == 0)
			open[depth++] = script->lines;
		if (strcmp(line->word[0], "end") == 0) {
			if (depth == 0)
				script_fail(script, line, "end without loop");
			script->line[open[--depth]].end = script->lines + 1;
		}
		if (++script->lines == LINES_MAX)
			script_fail(script, line, "too long");
	}
	fclose(in);
	if (depth > 0)
		script_fail(script, NULL, "loop without end");
}
