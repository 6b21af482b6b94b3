/* SPDX-License-Identifier: MIT */
#include "summary.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../../common/file.h"
#include "../../common/units.h"
#include "core.h"

#define POINTS_MAX 64 /* operating points listed in the summary */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	uint64_t *total_ns;
	size_t size, count;
	uint64_t inferences, missed;
	char model[MODEL_NAME_MAX + 1];
	struct {
		uint64_t hz[3], count;
	} point[POINTS_MAX];
	size_t points;
	FILE *trace;
	uint64_t rep;
} sum;

void summary_inference(uint64_t total_ns, bool missed)
{
	uint64_t *grown;

	pthread_mutex_lock(&lock);
	if (sum.count == sum.size && sum.size < LAYER_SUMMARY_MAX) {
		grown = reallocarray(sum.total_ns, sum.size ? sum.size * 2 : 1024, sizeof(*grown));
		if (grown) {
			sum.total_ns = grown;
			sum.size = sum.size ? sum.size * 2 : 1024;
		}
	}
	if (sum.count < sum.size)
		sum.total_ns[sum.count++] = total_ns;
	else if (sum.size > 0)
		sum.total_ns[sum.inferences % sum.size] = total_ns; /* the newest ones */
	sum.inferences++;
	sum.missed += missed;
	pthread_mutex_unlock(&lock);
}

void summary_point(uint64_t cpu_hz, uint64_t gpu_hz, uint64_t mem_hz)
{
	const uint64_t hz[3] = {cpu_hz, gpu_hz, mem_hz};
	size_t i = 0;

	pthread_mutex_lock(&lock);
	while (i < sum.points && memcmp(sum.point[i].hz, hz, sizeof(hz)) != 0)
		i++;
	if (i < POINTS_MAX) {
		memcpy(sum.point[i].hz, hz, sizeof(hz));
		sum.point[i].count++;
		sum.points += i == sum.points;
	}
	pthread_mutex_unlock(&lock);
}

void summary_model(const char *model)
{
	pthread_mutex_lock(&lock);
	if (!sum.model[0])
		snprintf(sum.model, sizeof(sum.model), "%s", model);
	pthread_mutex_unlock(&lock);
}

/* Append a line to the file or descriptor. */
static void put(const char *line, size_t len)
{
	CLEANUP_FD int opened = -1;
	uint64_t fd = 0;

	if (!core.config.summary)
		return;
	if (parse_u64(core.config.summary, &fd) != 0) {
		opened = open(core.config.summary, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
		fd = (uint64_t)opened;
		if (opened < 0) {
			layer_say("cannot write %s: %s", core.config.summary, strerror(errno));
			return;
		}
	}
	if (fd <= INT32_MAX && write((int)fd, line, len) < 0)
		return; /* the reader has exited */
}

void summary_done(int rc)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "profile=%s\n", rc < 0 ? strerrorname_np(-rc) : "done");

	put(line, (size_t)n);
}

static int by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static uint64_t quantile(double q)
{
	size_t i = (size_t)(q * (double)sum.count);

	return sum.count ? sum.total_ns[i < sum.count ? i : sum.count - 1] : 0;
}

uint64_t summary_inferences(void)
{
	uint64_t inferences;

	pthread_mutex_lock(&lock);
	inferences = sum.inferences;
	pthread_mutex_unlock(&lock);
	return inferences;
}

void summary_write(void)
{
	char line[LINE_BYTES_MAX];
	int n;

	pthread_mutex_lock(&lock);
	if (sum.count)
		qsort(sum.total_ns, sum.count, sizeof(*sum.total_ns), by_value);
	n = snprintf(line, sizeof(line), "inferences=%llu missed=%llu median_ns=%llu p99_ns=%llu model=%s clocks=",
		     (unsigned long long)sum.inferences, (unsigned long long)sum.missed,
		     (unsigned long long)quantile(0.5), (unsigned long long)quantile(0.99), sum.model);
	for (size_t i = 0; i < sum.points && n < LINE_BYTES_MAX - 128; i++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "%s%llu:%llu:%llu:%llu", i ? "," : "",
			      (unsigned long long)sum.point[i].hz[0], (unsigned long long)sum.point[i].hz[1],
			      (unsigned long long)sum.point[i].hz[2], (unsigned long long)sum.point[i].count);
	n += snprintf(line + n, sizeof(line) - (size_t)n, " layer=%s launches=%lu\n", core.backend->name,
		      atomic_load(&core.launches));
	put(line, (size_t)n);
	free(sum.total_ns);
	sum.total_ns = NULL;
	sum.count = sum.size = 0;
	if (sum.trace)
		fclose(sum.trace);
	sum.trace = NULL;
	pthread_mutex_unlock(&lock);
}

static const char *kernel_name(uint64_t kernel)
{
	const char *name = core.backend->kernel_name ? core.backend->kernel_name(kernel) : NULL;

	return name ? name : "?";
}

/* Without clocks: the operating point that a program happens to run at is unknown here. */
static void trace_rows(const struct trace_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		fprintf(sum.trace, "run,0,,,,%llu,%zu,%llu,%llu,%d,%s,%llu,%llu\n", (unsigned long long)sum.rep, i,
			(unsigned long long)(rows[i].gap_ns + rows[i].call_ns), (unsigned long long)rows[i].run_ns,
			rows[i].sync, kernel_name(rows[i].kernel), (unsigned long long)rows[i].call_ns,
			(unsigned long long)rows[i].wait_ns);
	sum.rep++;
}

void trace_inference(const struct trace_row *rows, size_t count)
{
	if (!core.config.trace)
		return;
	pthread_mutex_lock(&lock);
	if (!sum.trace && sum.rep == 0) {
		sum.trace = fopen(core.config.trace, "we");
		if (!sum.trace)
			layer_say("cannot write %s: %s", core.config.trace, strerror(errno));
		else
			fputs("phase,context,cpu_hz,gpu_hz,mem_hz,rep,layer,cpu_ns,gpu_ns,sync,"
			      "kernel,call_ns,wait_ns\n",
			      sum.trace);
		sum.rep = sum.trace ? 0 : 1;
	}
	if (sum.trace) {
		trace_rows(rows, count);
		fflush(sum.trace); /* a forked child that exits would write them again */
	}
	pthread_mutex_unlock(&lock);
}
