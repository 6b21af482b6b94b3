/* SPDX-License-Identifier: MIT */
/* A library that is preloaded behind the layer, wraps a function of libc and one of the driver, and finds the next one
 * of each as such libraries do. */
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((visibility("default"))) int getpagesize(void)
{
	int (*next)(void);

	*(void **)&next = dlsym(RTLD_NEXT, "getpagesize");
	printf("%s\n", dlsym(RTLD_NEXT, "cuLaunchKernel") ? "a launch" : "no launch");
	return next();
}

__attribute__((visibility("default"))) int cuLaunchKernel(void);
__attribute__((visibility("default"))) int cuLaunchKernel(void)
{
	return 0;
}
