/* SPDX-License-Identifier: MIT */
/* FNV-1a, 64 bit: a hash for keys that nobody chooses with an eye to collisions. */
#ifndef COMMON_HASH_H
#define COMMON_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_FIRST 0xcbf29ce484222325ULL

/* The hash of `data` behind the data that `hash` is of; HASH_FIRST: of nothing yet. */
static inline uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
	const unsigned char *byte = data;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ byte[i]) * 0x100000001b3ULL;
	return hash;
}

#endif
