/* SPDX-License-Identifier: MIT */
#include "image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char image[262144];

/* One kernel with the stand-in's arguments. Its first block alone writes, so that results do not depend on an order. */
static const char ptx_head[] = ".version 6.4\n.target sm_52\n.address_size 64\n";
static const char ptx_kernel[] =
	".visible .entry %s(.param .u64 memory, .param .f32 argument)\n{\n"
	".reg .pred %%p<4>; .reg .b32 %%r<6>; .reg .b64 %%rd<4>; .reg .f32 %%f<4>;\n"
	"ld.param.u64 %%rd1, [memory]; ld.param.f32 %%f1, [argument];\n"
	"mov.u32 %%r1, %%tid.x; mov.u32 %%r2, %%ctaid.x; mov.u32 %%r3, 0;\n"
	"setp.ge.u32 %%p1, %%r1, %d; @%%p1 bra OUT;\n"
	"mul.wide.u32 %%rd2, %%r1, 4; add.u64 %%rd3, %%rd1, %%rd2; ld.global.f32 %%f2, [%%rd3];\n"
	"AGAIN: fma.rn.f32 %%f2, %%f2, 0f3F7FBE77, %%f1; add.u32 %%r3, %%r3, 1;\n"
	"setp.lt.u32 %%p2, %%r3, %u; @%%p2 bra AGAIN;\n"
	"setp.ne.u32 %%p3, %%r2, 0; @%%p3 bra OUT; st.global.f32 [%%rd3], %%f2;\nOUT: ret;\n}\n";

static size_t add(size_t used, const char *text)
{
	return used + (size_t)snprintf(image + used, sizeof(image) - used, "%s", text);
}

const char *image_ptx(const struct script *script)
{
	size_t used = add(0, ptx_head);
	char text[sizeof(ptx_kernel) + 128];

	for (size_t i = 0; i < script->lines; i++) {
		char *const *word = script->line[i].word;

		if (strcmp(word[0], "kernel") != 0)
			continue;
		snprintf(text, sizeof(text), ptx_kernel, word[1], ELEMENTS,
			 (unsigned)strtoul(word[2], NULL, 10) / 4 + 1);
		used = add(used, text);
	}
	return image;
}

const char *image_standin(const struct script *script)
{
	size_t used = add(0, "//standin\n");
	char text[256] = "";

	for (size_t i = 0; i < script->lines; i++) {
		char *const *word = script->line[i].word;

		if (strcmp(word[0], "cost") == 0)
			snprintf(text, sizeof(text), "%s %s %s\n", word[1], word[2], word[3]);
		else if (strcmp(word[0], "kernel") == 0)
			snprintf(text, sizeof(text), "kernel %s %s %s %s %d %s\n", word[1], word[2], word[3], word[4],
				 ELEMENTS, word[5]);
		else
			continue;
		used = add(used, text);
	}
	return image;
}

const char *image_read(const struct script *script, const char *path)
{
	FILE *in = fopen(path, "r");

	if (!in || fread(image, 1, sizeof(image) - 1, in) == 0)
		script_fail(script, NULL, path);
	fclose(in);
	return image;
}
