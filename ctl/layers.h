/* SPDX-License-Identifier: MIT */
/* The layers for unmodified programs that are part of flamed: how a program loads each, whether it works on this
 * machine, and the calls that each one intercepted. */
#ifndef CTL_LAYERS_H
#define CTL_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYER_KINDS_MAX 8

/* In the child, before exec: enable every installed layer. */
void layers_set_environment(void);

/* Number of layers, and the name of one ("opencl"). */
size_t layers_count(void);
const char *layers_name(size_t kind);
/* What the programs that it sees use, for people. */
const char *layers_api(size_t kind);

/* Would a program here meet this layer? Returns 0 if so; otherwise the reason is in `why`, and the
 * result is -ENOENT if the layer is not installed, -ENODEV if the machine has no driver for it, or
 * -ENOEXEC if it is broken. */
int layers_check(size_t kind, char *why, size_t size);

/* The reports of a program's layers at exit, over all its processes. */
struct layers_seen {
	bool loaded[LAYER_KINDS_MAX];
	uint64_t launches[LAYER_KINDS_MAX], inferences[LAYER_KINDS_MAX];
};

/* Create a file for the reports of a program's layers (FLAMED_SUMMARY), with its path in `path`.
 * Returns a descriptor or a negative errno. */
int layers_open_summary(char *path, size_t size);
void layers_read_summary(int fd, struct layers_seen *seen);

#endif
