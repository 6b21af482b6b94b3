/* SPDX-License-Identifier: MIT */
/* The message of libflamed-cupti.so before it subscribes, without a CUDA program: `cupti-start LIBRARY CUDA-VERSION`,
 * or `cupti-start allowed ROOT CUDA-VERSION PRIVILEGED`. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../layers/cuda/cupti/cupti.h"

int main(int argc, char **argv)
{
	char why[512] = "";
	cupti_starter *starter = NULL;
	void *library;

	if (argc == 5 && strcmp(argv[1], "allowed") == 0) {
		bool allowed = cupti_allowed(argv[2], atoi(argv[3]), atoi(argv[4]), why, sizeof(why));

		printf("%s\n", allowed ? "yes" : why);
		return 0;
	}
	library = argc == 3 ? dlopen(argv[1], RTLD_NOW) : NULL;
	if (library)
		*(void **)&starter = dlsym(library, CUPTI_STARTER);
	if (!starter)
		return 2;
	printf("%s\n", starter(atoi(argv[2]), why, sizeof(why)) ? "started" : why);
	return 0;
}
