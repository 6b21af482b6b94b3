/* SPDX-License-Identifier: MIT */
/* The OpenCL back end of layers/core:
 *
 *	layer.c     entry points that the ICD loader calls
 *	dispatch.c  the functions a program calls instead of the driver's
 *	handles.c   what must be known of queues and kernels
 *	record.c    a stream for each thread, events as its tokens */
#ifndef LAYERS_OPENCL_LAYER_H
#define LAYERS_OPENCL_LAYER_H

#define CL_TARGET_OPENCL_VERSION 300
#define CL_USE_DEPRECATED_OPENCL_1_1_APIS
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#define CL_USE_DEPRECATED_OPENCL_2_0_APIS
#include <CL/cl_layer.h>
#ifndef CL_LAYER_NAME /* headers of 2022.01, as in Ubuntu 22.04 */
#define CL_LAYER_NAME 0x4241
#endif
#include "../core/core.h"
#include "../core/stream.h"

#define LAYER_QUEUES_MAX  256  /* queues known at the same time; further ones are not observed */
#define LAYER_KERNELS_MAX 4096 /* cached kernel names; others are queried each time */
#define LAYER_NAMES_MAX   1024

struct opencl_layer {
	cl_icd_dispatch target; /* the next layer or the driver */
};
extern struct opencl_layer layer;
extern const struct layer_backend backend;

/* dispatch.c: fill in the intercepted functions. */
void dispatch_fill(cl_icd_dispatch *out);

/* handles.c. A queue as the program requested it. */
struct queue_info {
	bool hidden;   /* profiling was added by the layer */
	bool profiled; /* its kernels have times */
};

void queue_created(cl_command_queue queue, bool hidden, bool profiled, const cl_queue_properties *properties);
void queue_retained(cl_command_queue queue);
void queue_released(cl_command_queue queue);
/* True if the queue is known. `out` may be NULL. */
bool queue_lookup(cl_command_queue queue, struct queue_info *out);
/* The property list with which the program created the queue, if the layer changed it: its length
 * in bytes, otherwise 0. */
size_t queue_properties(cl_command_queue queue, cl_queue_properties *out, size_t count);
bool queue_room(void); /* is there room for one more? */
/* The stream that launched on the queue last; -1: none. */
void queue_set_stream(cl_command_queue queue, int stream);
int queue_stream(cl_command_queue queue);
/* The stream's thread has ended. */
void queues_leave_stream(int stream);
/* Changes whenever a queue is created or released, when a cached lookup may refer to another object at the same
 * address, and when a thread that launched on one has ended. */
unsigned handles_generation(void);

void kernel_created(cl_kernel kernel);
/* Hash of the kernel's name; 0 if the driver does not return it. */
uint64_t kernel_name_hash(cl_kernel kernel);

/* The name for a hash, or NULL. */
const char *kernel_name(uint64_t hash);

/* record.c. A launch that is passed to the driver. */
struct event_call {
	struct stream *stream; /* NULL: not recorded */
	struct launch_call launch;
	cl_event own; /* created by the layer if the program asked for none */
	uint64_t kernel;
};

/* A kernel, copy or fill is about to be enqueued. `identity` is the hash of name and sizes, `work`
 * the number of workgroups, 0 if unknown. Returns where the driver should store the event: `event`,
 * or one owned by the layer. */
cl_event *record_launching(struct event_call *call, cl_command_queue queue, uint64_t name, uint64_t identity,
			   uint64_t work, cl_event *event);
/* It was enqueued, with `result`; `event` as returned above. */
void record_launched(struct event_call *call, cl_int result, cl_event *event);
/* Input is being transferred to the device: an inference counts from here; a non-blocking read is
 * in progress. */
void record_write(void);
void record_read(void);
/* A command other than a launch was enqueued without waiting; `event` is the program's, NULL if it
 * asked for none. */
void record_enqueued(cl_event event);
/* The driver was told to start what was launched; the call began at `begin_ns`. */
void record_flushed(uint64_t begin_ns);
/* The host waited for a queue, or for these events. */
void record_waited(enum boundary_wait kind, cl_command_queue queue);
void record_waited_events(cl_uint count, const cl_event *events);
/* The program queried the status of a command. */
void record_polled(cl_event event, cl_int status);
/* A callback was set for the completion of a command. Returns the argument for stream_called(), 0
 * if the program cannot be waiting for it. */
uint64_t record_calling(cl_event event);

#endif
