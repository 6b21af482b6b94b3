/* SPDX-License-Identifier: MIT */
/* Loads an add-on privately, as node does, and calls it. usage: program ADDON TIMES */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	void *handle = argc > 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
	int (*addon)(int) = NULL;

	if (!handle) {
		fprintf(stderr, "%s\n", dlerror());
		return 2;
	}
	*(void **)&addon = dlsym(handle, "addon");
	for (int i = 0; addon && i < atoi(argv[2]); i++) {
		if (addon(i == 0 ? 40 : 1))
			return 1;
		usleep(50000); /* each is answered before the next */
	}
	return 0;
}
