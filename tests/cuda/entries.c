/* SPDX-License-Identifier: MIT */
/* Calls the driver's entry points one by one, for test_entries.py.
 *
 * usage: entries forward SYMBOL...         call each with arguments that are told apart, and print which arrived where
 *        entries owners NAME VERSION FLAGS print whose function each way of asking for it returns
 *        entries launch SYMBOL SYNC RUNS   RUNS times: 5 launches by SYMBOL, a wait by SYNC
 *        entries set SYMBOL RUNS SHAPES    replays of a graph, one of whose nodes is set before each to one of SHAPES
 *        entries graphs N                  replays of a graph, and then of another shape; N others come and go
 *        entries captures N                captures of N streams at the same time
 *        entries devices N                 one launch on N devices
 *        entries next                      what RTLD_NEXT finds in a library that is preloaded behind the layer */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "mirror.h"
#include "../../layers/cuda/api.h"

typedef int any(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t,
		uintptr_t, uintptr_t, uintptr_t);

static void *driver;

static int call(void *function, const uintptr_t a[MIRROR_ARGUMENTS])
{
	return ((any *)function)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]);
}

static const char *owner_of(const void *function)
{
	Dl_info info;

	if (!function)
		return "nobody";
	if (!dladdr(function, &info))
		return "?";
	return strstr(info.dli_fname, "libflamed-cuda") ? "layer" :
	       strstr(info.dli_fname, "libcuda")        ? "driver" :
							  "other";
}

static const char *name_of(const void *function)
{
	Dl_info info;

	return function && dladdr(function, &info) && info.dli_sname ? info.dli_sname : "-";
}

/* "SYMBOL OWNER NOTED 1 2 3 ...": the position in the call of each argument that the driver got, 0 for one that is none
 * of them. An argument of 32 bits arrives cut. */
static void forward(const char *symbol)
{
	static uint64_t area[MIRROR_ARGUMENTS][64];
	const struct mirror_call *(*last)(void);
	void *function = dlsym(driver, symbol);
	uintptr_t sent[MIRROR_ARGUMENTS];

	*(void **)&last = dlsym(driver, "mirror_last");
	for (size_t i = 0; i < MIRROR_ARGUMENTS; i++)
		sent[i] = (uintptr_t)area[i];
	if (!function || !last)
		exit(3);
	call(function, sent);
	printf("%s %s %s", symbol, owner_of(function), last()->name);
	for (size_t i = 0; i < MIRROR_ARGUMENTS; i++) {
		size_t j = 0;

		while (j < MIRROR_ARGUMENTS && sent[j] != last()->arguments[i] &&
		       (uint32_t)sent[j] != last()->arguments[i])
			j++;
		printf(" %zu", j < MIRROR_ARGUMENTS ? j + 1 : 0);
	}
	printf("\n");
}

static void owners(const char *name, int version, cuuint64_t flags)
{
	CUresult (*v1)(const char *, void **, int, cuuint64_t);
	__typeof__(&cuGetProcAddress_v2) v2;
	CUdriverProcAddressQueryResult status;
	void *by_v1 = NULL, *by_v2 = NULL, *by_handle = dlsym(driver, name);

	*(void **)&v1 = dlsym(driver, "cuGetProcAddress");
	*(void **)&v2 = dlsym(driver, "cuGetProcAddress_v2");
	if (!v1 || !v2)
		exit(3);
	v1(name, &by_v1, version, flags);
	v2(name, &by_v2, version, flags, &status);
	printf("dlsym %s %s\nv1 %s %s\nv2 %s %s\n", owner_of(by_handle), name_of(by_handle), owner_of(by_v1),
	       name_of(by_v1), owner_of(by_v2), name_of(by_v2));
}

static void launches(const char *symbol, const char *wait, unsigned long runs)
{
	static int function, stream, other;
	CUlaunchConfig config = {8, 1, 1, 128, 1, 1, 0, (CUstream)&stream, NULL, 0};
	CUDA_LAUNCH_PARAMS list[] = {{(CUfunction)&function, 8, 1, 1, 128, 1, 1, 0, (CUstream)&stream, NULL},
				     {(CUfunction)&function, 8, 1, 1, 128, 1, 1, 0, (CUstream)&other, NULL}};
	uintptr_t f = (uintptr_t)&function, s = (uintptr_t)&stream;
	const struct {
		const char *name;
		uintptr_t arguments[MIRROR_ARGUMENTS];
	} forms[] = {{"cuLaunchKernelEx", {(uintptr_t)&config, f}},
		     {"cuLaunchKernel", {f, 8, 1, 1, 128, 1, 1, 0, s}},
		     {"cuLaunchCooperativeKernelMultiDevice", {(uintptr_t)list, 2}},
		     {"cuLaunchCooperativeKernel", {f, 8, 1, 1, 128, 1, 1, 0, s}},
		     {"cuLaunchGridAsync", {f, 8, 2, s}},
		     {"cuLaunchGrid", {f, 8, 2}},
		     {"cuLaunch", {f}},
		     {"cuGraphLaunch", {f, s}}};
	void *launch = dlsym(driver, symbol), *sync = dlsym(driver, wait);
	size_t form = 0;

	while (strncmp(symbol, forms[form].name, strlen(forms[form].name)) != 0)
		form++;
	for (unsigned long i = 0; i < runs; i++) {
		for (int j = 0; j < 5; j++)
			call(launch, forms[form].arguments);
		call(sync, (uintptr_t[MIRROR_ARGUMENTS]){strstr(wait, "Ctx") ? 0 : s});
	}
}

static void replay(CUgraphExec exec)
{
	static int stream;

	call(dlsym(driver, "cuGraphLaunch"), (uintptr_t[MIRROR_ARGUMENTS]){(uintptr_t)exec, (uintptr_t)&stream});
	call(dlsym(driver, "cuStreamSynchronize"), (uintptr_t[MIRROR_ARGUMENTS]){(uintptr_t)&stream});
}

static CUgraphExec instantiate(void *graph)
{
	CUgraphExec exec = graph; /* the driver here returns none */

	call(dlsym(driver, "cuGraphInstantiateWithFlags"),
	     (uintptr_t[MIRROR_ARGUMENTS]){(uintptr_t)&exec, (uintptr_t)graph});
	return exec;
}

static void set(const char *symbol, unsigned long runs, unsigned long shapes)
{
	static int graph, function, node;
	CUDA_KERNEL_NODE_PARAMS_v2 v2 = {.kern = (CUkernel)&function, .blockDimX = 128};
	CUDA_KERNEL_NODE_PARAMS_v1 v1 = {.func = (CUfunction)&function, .blockDimX = 128};
	CUgraphNodeParams any_kind = {.type = CU_GRAPH_NODE_TYPE_KERNEL, .kernel = {.kern = (CUkernel)&function}};
	bool v2_wanted = strstr(symbol, "_v2"), any_wanted = strcmp(symbol, "cuGraphExecNodeSetParams") == 0;
	void *setter = dlsym(driver, symbol);
	CUgraphExec exec = instantiate(&graph);

	for (unsigned long i = 0; i < runs; i++) {
		v1.gridDimX = v2.gridDimX = any_kind.kernel.gridDimX = (unsigned)(i % shapes + 1);
		call(setter, (uintptr_t[MIRROR_ARGUMENTS]){(uintptr_t)exec, (uintptr_t)&node,
							   any_wanted ? (uintptr_t)&any_kind :
							   v2_wanted  ? (uintptr_t)&v2 :
									(uintptr_t)&v1});
		replay(exec);
	}
}

static void shape(CUgraphExec exec, void *node, unsigned blocks)
{
	static int function;
	const CUDA_KERNEL_NODE_PARAMS_v2 params = {.func = (CUfunction)&function, .gridDimX = blocks, .blockDimX = 128};

	call(dlsym(driver, "cuGraphExecKernelNodeSetParams_v2"),
	     (uintptr_t[MIRROR_ARGUMENTS]){(uintptr_t)exec, (uintptr_t)node, (uintptr_t)&params});
}

static void graphs(size_t count)
{
	static char nodes[2];
	CUgraphExec exec = instantiate(nodes);
	char *others = malloc(count); /* an address for each */

	shape(exec, &nodes[0], 1);
	for (int i = 0; i < 8; i++)
		replay(exec);
	for (size_t i = 0; others && i < count; i++) {
		CUgraphExec other = instantiate(&others[i]);

		shape(other, &others[i], 1);
		call(dlsym(driver, "cuGraphExecDestroy"), (uintptr_t[MIRROR_ARGUMENTS]){(uintptr_t)other});
	}
	free(others);
	for (int i = 0; i < 8; i++)
		replay(exec);
	shape(exec, &nodes[1], 1);
	for (int i = 0; i < 8; i++)
		replay(exec);
}

#define MANY 32

static void captures(size_t count)
{
	static uint64_t streams[MANY];
	void *begin = dlsym(driver, "cuStreamBeginCapture_v2");

	for (size_t i = 0; i < count && i < MANY; i++)
		call(begin, (uintptr_t[MIRROR_ARGUMENTS]){(uintptr_t)&streams[i]});
}

static void devices(size_t count)
{
	static uint64_t function, streams[MANY];
	CUDA_LAUNCH_PARAMS list[MANY] = {0};

	for (size_t i = 0; i < MANY; i++) {
		list[i].function = (CUfunction)&function;
		list[i].hStream = (CUstream)&streams[i];
	}
	call(dlsym(driver, "cuLaunchCooperativeKernelMultiDevice"),
	     (uintptr_t[MIRROR_ARGUMENTS]){(uintptr_t)list, count});
}

int main(int argc, char **argv)
{
	driver = dlopen("libcuda.so.1", RTLD_NOW);
	if (!driver || argc < 2)
		return 2;
	if (strcmp(argv[1], "forward") == 0)
		for (int i = 2; i < argc; i++)
			forward(argv[i]);
	else if (strcmp(argv[1], "owners") == 0 && argc == 5)
		owners(argv[2], atoi(argv[3]), strtoull(argv[4], NULL, 10));
	else if (strcmp(argv[1], "launch") == 0 && argc == 5)
		launches(argv[2], argv[3], strtoul(argv[4], NULL, 10));
	else if (strcmp(argv[1], "set") == 0 && argc == 5)
		set(argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
	else if (strcmp(argv[1], "graphs") == 0 && argc == 3)
		graphs(strtoul(argv[2], NULL, 10));
	else if (strcmp(argv[1], "captures") == 0 && argc == 3)
		captures(strtoul(argv[2], NULL, 10));
	else if (strcmp(argv[1], "devices") == 0 && argc == 3)
		devices(strtoul(argv[2], NULL, 10));
	else if (strcmp(argv[1], "next") == 0)
		printf("%d\n", getpagesize());
	else
		return 2;
	return 0;
}
