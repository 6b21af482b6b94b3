/* SPDX-License-Identifier: MIT */
/* Loads an add-on privately, as node does, and calls it. usage: program ADDON TIMES [SECOND]
 * SECOND is another add-on, called from another thread after each call of the first. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef int addon_fn(int tokens);

static addon_fn *load(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	addon_fn *addon = NULL;

	if (!handle) {
		fprintf(stderr, "%s\n", dlerror());
		exit(2);
	}
	*(void **)&addon = dlsym(handle, "addon");
	return addon;
}

static void *one_token(void *arg)
{
	addon_fn *addon = NULL;

	*(void **)&addon = arg;
	if (addon(1) != 0)
		exit(1);
	return NULL;
}

int main(int argc, char **argv)
{
	addon_fn *addon = argc > 2 ? load(argv[1]) : NULL, *second = argc > 3 ? load(argv[3]) : NULL;
	pthread_t thread;

	if (!addon)
		return 2;
	for (int i = 0; i < atoi(argv[2]); i++) {
		if (addon(i == 0 ? 40 : 1))
			return 1;
		if (second) {
			pthread_create(&thread, NULL, one_token, *(void **)&second);
			pthread_join(thread, NULL);
		}
		usleep(50000); /* each is answered before the next */
	}
	return 0;
}
