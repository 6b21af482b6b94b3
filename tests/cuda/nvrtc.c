/* SPDX-License-Identifier: MIT */
/* Compiles a file of CUDA C to PTX text by NVRTC, NVIDIA's compiler as a library, where there is one.
 * usage: nvrtc compute_87 FILE >PTX */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SOURCE_MAX 65536

/* X(function, parameters), of the NVRTC documentation; a program is a pointer. */
#define NVRTC_API(X) \
	X(nvrtcCreateProgram, (void **program, const char *source, const char *name, int headers, \
			       const char *const *contents, const char *const *names)) \
	X(nvrtcCompileProgram, (void *program, int count, const char *const *options)) \
	X(nvrtcGetPTXSize, (void *program, size_t *size)) \
	X(nvrtcGetPTX, (void *program, char *text)) \
	X(nvrtcGetProgramLogSize, (void *program, size_t *size)) \
	X(nvrtcGetProgramLog, (void *program, char *text))
#define FIELD(name, params) int(*name) params;
static struct {
	NVRTC_API(FIELD)
} nvrtc;

static void *open_library(void)
{
	static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"};
	const char *toolkit = getenv("CUDA_HOME");
	char path[PATH_MAX];
	void *library = NULL;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !library; i++) {
		library = dlopen(names[i], RTLD_NOW);
		if (library || !toolkit)
			continue;
		snprintf(path, sizeof(path), "%s/lib64/%s", toolkit, names[i]);
		library = dlopen(path, RTLD_NOW);
	}
	return library;
}

static int resolve(void *library)
{
#define FIND(name, params) \
	*(void **)&nvrtc.name = dlsym(library, #name); \
	if (!nvrtc.name) \
		return -1;
	NVRTC_API(FIND)
	return 0;
}

/* The compiler's text, to stdout, or what it says against the source, to stderr. */
static int compile(const char *source, const char *name, const char *architecture)
{
	char option[64];
	const char *options[] = {option, "--fmad=false"};
	void *program = NULL;
	size_t size = 0;
	char *text;
	int rc;

	snprintf(option, sizeof(option), "--gpu-architecture=%.32s", architecture);
	if (nvrtc.nvrtcCreateProgram(&program, source, name, 0, NULL, NULL))
		return 1;
	rc = nvrtc.nvrtcCompileProgram(program, 2, options);
	if (rc ? nvrtc.nvrtcGetProgramLogSize(program, &size) : nvrtc.nvrtcGetPTXSize(program, &size))
		return 1;
	text = calloc(1, size + 1);
	if (!text || (rc ? nvrtc.nvrtcGetProgramLog(program, text) : nvrtc.nvrtcGetPTX(program, text)))
		return 1;
	fputs(text, rc ? stderr : stdout);
	free(text);
	return rc != 0;
}

int main(int argc, char **argv)
{
	static char source[SOURCE_MAX];
	FILE *in = argc == 3 ? fopen(argv[2], "r") : NULL;
	void *library = open_library();

	if (!in)
		return 2;
	if (fread(source, 1, sizeof(source) - 1, in) == 0)
		return 2;
	fclose(in);
	if (!library || resolve(library)) {
		fprintf(stderr, "nvrtc: no libnvrtc.so\n");
		return 3;
	}
	return compile(source, argv[2], argv[1]);
}
