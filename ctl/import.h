/* SPDX-License-Identifier: MIT */
/* A recorded trace of a CUDA program, independent of the tool that recorded it: launches, kernels,
 * waits and named ranges, on one time base. */
#ifndef CTL_IMPORT_H
#define CTL_IMPORT_H

#include <stddef.h>
#include <stdint.h>

#define TRACE_MESSAGE_MAX 256

enum trace_kind {
	TRACE_LAUNCH,  /* host: a kernel or graph was launched; `correlation` finds its kernels */
	TRACE_KERNEL,  /* device */
	TRACE_WAIT,    /* host: blocked until the device finished */
	TRACE_COPY,    /* host: blocked until a copy was done; a wait if `correlation` finds one to the host */
	TRACE_TO_HOST, /* device: a copy to the host */
	TRACE_RANGE    /* named by the program (NVTX, record_function) */
};

struct trace_event {
	enum trace_kind kind;
	uint64_t begin_ns, end_ns;
	uint64_t correlation; /* 0: none */
	uint64_t thread;      /* of the host */
	char *name;           /* owned; NULL: none */
};

struct trace {
	struct trace_event *event;
	size_t count, size;
	char message[TRACE_MESSAGE_MAX]; /* after an error: its cause, and the table or event */
};

/* Add an event; its name is copied. Returns 0, -ENOMEM, -E2BIG (TRACE_EVENTS_MAX), or -EINVAL with
 * `message`, which names `where`, if it ends before it begins. */
int trace_add(struct trace *trace, struct trace_event event, const char *where);
void trace_free(struct trace *trace);
/* Set trace->message; returns -EINVAL. */
int trace_refuse(struct trace *trace, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Classify a host function by name: TRACE_LAUNCH, TRACE_WAIT, TRACE_COPY, or -1. */
int trace_host_kind(const char *name);

/* import_nsys.c: the SQLite export of Nsight Systems (`nsys export --type
 * sqlite`; its schema: "SQLite Schema Reference" of the User Guide). Returns 0
 * or -errno with `message`. */
int trace_read_nsys(const char *path, struct trace *trace);
/* import_json.c: trace events in JSON, from torch.profiler (Kineto) or any tool that writes
 * Chrome's Trace Event Format with the categories and correlation ids of CUPTI. */
int trace_read_json(const char *path, struct trace *trace);

#endif
