/* SPDX-License-Identifier: MIT */
/* A stream: launches and waits in the order of one thread (OpenCL) or queue (Vulkan, CUDA). It finds inferences,
 * reports them to flamed, and keeps the data to time their launches; times are queried only after an inference is
 * over. Every function takes the stream's own lock and may be called from any thread; none calls the driver except
 * through the back end's functions, and those with no lock held.
 *
 * Commands of a stream are numbered from 1 in the order in which they were given to it; a wait covers all commands
 * up to a number. */
#ifndef LAYERS_CORE_STREAM_H
#define LAYERS_CORE_STREAM_H

#include "core.h"

#define STREAM_ALL UINT64_MAX /* a wait that covers every command */

struct stream;

/* A new stream; NULL if LAYER_STREAMS_MAX are in use, or when out of memory. */
struct stream *stream_take(void);
/* The thread or queue of a stream has ended: close its sessions and release the stream. */
void stream_leave(struct stream *stream);
/* Convert a stream to a number from 0 to LAYER_STREAMS_MAX - 1, for tables of the back end, and
 * back. */
size_t stream_index(const struct stream *stream);
struct stream *stream_at(size_t index);
/* Is an inference, or a segment that may become one, in progress? */
bool stream_open(struct stream *stream);
/* Number of the newest command. */
uint64_t stream_commands(struct stream *stream);

/* One execution of a kernel. `kernel` is the hash of its name (or of code and constants),
 * `identity` that of kernel and sizes; see boundary_hash(). */
struct launch {
	uint64_t kernel, identity;
	uint64_t work; /* workgroups; 0: unknown */
};

/* A batch of launches that is passed to the driver: one kernel in OpenCL and CUDA, all kernels of
 * one submission in Vulkan. */
struct launch_call {
	bool known;   /* the stream follows it: pass it to stream_launched() */
	bool record;  /* tokens for its launches are needed */
	bool last;    /* the following are private to the stream: the batch ends an inference by the user's rule, */
	bool changed; /* and it differs from the announced one */
	uint64_t gap_ns, begin_ns;
};

/* A batch is about to be passed to the driver; `timed`: the back end can provide tokens for it; `step`: it is a whole
 * step of the program, so that it is an inference even if it never was seen before. May block, but only when
 * profiling. Fills in `call`. */
void stream_launching(struct stream *stream, struct launch_call *call, const struct launch *launches, size_t count,
		      bool timed, bool step);

/* The hash of arguments of the next batch's launches, which may contain the length of a language model's
 * context; it is not part of their identity. Call it before stream_launching(). */
void stream_arguments(struct stream *stream, uint64_t hash);

/* The driver accepted (`taken`) or refused the batch. `tokens` identify its launches, or groups of
 * overlapping launches, in order; `kernels` is the first kernel of each; count 0: none. The stream
 * owns the tokens from now on, until it calls the back end's release(). Returns the command's
 * number. */
uint64_t stream_launched(struct stream *stream, struct launch_call *call, bool taken, const struct launch_token *tokens,
			 const uint64_t *kernels, size_t count);

/* A launch that neither begins nor ends anything, in an inference that is not recorded: does the
 * work of stream_launching() and stream_launched() in one step, without reading a clock. Call it
 * before the driver. Returns false, having done nothing, if the launch is not that simple. */
bool stream_launch_plain(struct stream *stream, const struct launch *launch, uint64_t *number);

/* A command other than a launch was passed to the driver. Returns its number. */
uint64_t stream_enqueued(struct stream *stream);

/* A call that makes the driver start the launches, such as a flush; it began at `begin_ns`. */
void stream_flushed(struct stream *stream, uint64_t begin_ns);

/* Input is being transferred to the device: an inference counts from here. */
void stream_uploading(struct stream *stream);
/* The same for a transfer that began elsewhere, at `since_ns`. */
void stream_uploading_since(struct stream *stream, uint64_t since_ns);
/* A non-blocking read is in progress. */
void stream_reading(struct stream *stream);
/* The inference in progress did work that later ones do not (code was compiled): do not report it. */
void stream_spoil(struct stream *stream);

/* The host blocked until command `through` and all commands before it were complete. */
void stream_waited(struct stream *stream, enum boundary_wait kind, uint64_t through);

/* The host polled command `number`. Polling the newest command until it is complete is a wait like
 * any other. */
void stream_polled(struct stream *stream, uint64_t number, bool complete);

/* A callback was set for the completion of command `number`. Returns the argument for
 * stream_called(), 0 if the program cannot be waiting for it. Call stream_called() in the callback,
 * before the program's own: if nothing was ever enqueued in between, the program waits by callback. */
uint64_t stream_calling(struct stream *stream, uint64_t number);
void stream_called(uint64_t ticket);

/* Number of tokens held whose `object` is this one. */
uint32_t stream_holds(const void *object);

/* core.c: the program exits; the layer is already off. */
void streams_leave(void);
void streams_stop(void);

#endif
