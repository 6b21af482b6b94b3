/* SPDX-License-Identifier: MIT */
/* Engines that compute on the CPU and have functions that begin and end an inference: llama.cpp and
 * ONNX Runtime. A preloaded library intercepts one function of each; no GPU API is involved, and no
 * boundary has to be found. Their argument layouts are part of those programs' ABI: unknown
 * versions are passed through. */
#ifndef LAYERS_ENGINES_ENGINES_H
#define LAYERS_ENGINES_ENGINES_H

#include <pthread.h>
#include <stdbool.h>
#include "../core/core.h"
#include "../core/session.h"

/* One inference of an engine, from engine_begin() to engine_end(). */
struct engine_call {
	bool known; /* reported to flamed, or to a trace or summary */
	struct session_request request;
	uint64_t begin_ns;
};

/* Of the tables of contexts and sessions. The child of a fork has it free, whatever other threads did. */
extern pthread_mutex_t engines_lock;

/* True if the environment enables the layer; read at the first call. */
bool engines_on(void);

/* An inference begins, of the model identified by `fingerprint`. May block, but only when profiling. */
struct engine_call engine_begin(uint64_t fingerprint, enum phase phase, uint32_t context);
void engine_end(const struct engine_call *call);
/* The inference failed, or was not one: withdraw it. `again`: it was not run, and is tried again. */
void engine_cancel(const struct engine_call *call, bool again);

/* The function `name` that the caller at `address` would get without this library; NULL: none. It is the next one in
 * the global order, perhaps of another preloaded library; otherwise that of an engine which was loaded privately
 * (RTLD_LOCAL, as node does with its add-ons), looked up in the caller's object. */
void *engine_real(const char *name, const void *address);

#endif
