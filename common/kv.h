/* SPDX-License-Identifier: MIT */
/* The protocol's codec: a message consists of `key=value` lines ended by an empty line. It is
 * independent of the meaning of keys. */
#ifndef COMMON_KV_H
#define COMMON_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "limits.h"

#define KV_PAIRS_MAX 4096

/* A parsed message. Keys and values point into the parsed buffer. The first of a repeated key
 * counts. */
struct kv {
	size_t count;
	struct {
		const char *key;
		const char *value;
	} pair[KV_PAIRS_MAX];
};

/* Length in bytes of the first complete message in `buf`, including its empty line; 0 if more bytes
 * are needed; -EMSGSIZE if a line exceeds LINE_BYTES_MAX or the message MESSAGE_BYTES_MAX, even if
 * it is incomplete. */
long kv_frame(const char *buf, size_t len);

/* Parse one framed message in place (`=` and newlines become NUL). Returns 0,
 * or -EINVAL (a line without `=`, an empty key, a key not of [a-z0-9_.], a NUL
 * or another control byte), -E2BIG (too many pairs); `*line` (from 1) is the
 * line at fault. */
int kv_parse(char *buf, size_t len, struct kv *out, size_t *line);

/* Value of a key, or NULL. */
const char *kv_get(const struct kv *kv, const char *key);

/* The number in a key. Returns 1, 0 if the key is absent (`*out` is unchanged), -EINVAL if the
 * value is not a plain decimal, or -ERANGE if it is outside [min, max]. */
int kv_u64(const struct kv *kv, const char *key, uint64_t min, uint64_t max, uint64_t *out);

/* A message that is being written. The buffer grows as needed; a failed allocation is recorded in
 * `error`. */
struct kv_out {
	char *data;
	size_t len, size;
	int error; /* 0, -ENOMEM or -EMSGSIZE, in which case the message must not be sent */
};

void kv_add(struct kv_out *out, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
void kv_add_u64(struct kv_out *out, const char *key, uint64_t value);
void kv_end(struct kv_out *out);   /* append the empty line */
void kv_reset(struct kv_out *out); /* keep the memory */
void kv_free(struct kv_out *out);

/* Is `name` a valid model name: [A-Za-z0-9._:-]{1,64}? */
bool model_name_valid(const char *name);

#endif
