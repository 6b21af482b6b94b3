/* SPDX-License-Identifier: MIT */
/* The module with the kernels of a script, as text for the driver. Each takes (float *memory, float argument). */
#ifndef TESTS_CUDA_IMAGE_H
#define TESTS_CUDA_IMAGE_H

#include "script.h"

#define ELEMENTS 256 /* floats of a buffer */

/* For the stand-in (standin_module.c). */
const char *image_standin(const struct script *script);
/* PTX for a real GPU, of kernels that work for as long as the script says, in proportion. */
const char *image_ptx(const struct script *script);
/* What a file holds; ends the program where it cannot be read. */
const char *image_read(const struct script *script, const char *path);

#endif
