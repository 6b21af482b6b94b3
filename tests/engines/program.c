/* SPDX-License-Identifier: MIT */
/* Loads an add-on privately, as node does, and calls it. usage: program ADDON TIMES [SECOND]
 * SECOND is another add-on, called from another thread after each call of the first. $AMID is what happens after
 * half of the calls: fork (the child calls it once more), exec (of the same, afresh) or kill. The first $PROMPTS calls
 * (default 1) are prompts. */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
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

static void amid(addon_fn *addon, char **argv)
{
	const char *what = getenv("AMID");
	pid_t child;

	if (!what)
		return;
	fflush(stdout);
	if (strcmp(what, "kill") == 0)
		raise(SIGKILL);
	if (strcmp(what, "exec") == 0) {
		unsetenv("AMID");
		execv("/proc/self/exe", argv);
	}
	child = fork();
	if (child == 0)
		exit(addon(1));
	waitpid(child, NULL, 0);
}

int main(int argc, char **argv)
{
	addon_fn *addon = argc > 2 ? load(argv[1]) : NULL, *second = argc > 3 ? load(argv[3]) : NULL;
	const char *prompts = getenv("PROMPTS");
	pthread_t thread;

	if (!addon)
		return 2;
	for (int i = 0; i < atoi(argv[2]); i++) {
		if (addon(i < (prompts ? atoi(prompts) : 1) ? 40 : 1))
			return 1;
		if (second) {
			pthread_create(&thread, NULL, one_token, *(void **)&second);
			pthread_join(thread, NULL);
		}
		usleep(50000); /* each is answered before the next */
		if (i == atoi(argv[2]) / 2)
			amid(addon, argv);
	}
	return 0;
}
