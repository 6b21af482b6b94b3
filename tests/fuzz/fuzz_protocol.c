/* SPDX-License-Identifier: MIT */
/* Frames and parses a stream as the daemon does. */
#include <stdlib.h>
#include <string.h>
#include "../../common/kv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct kv kv;
	char *buf = malloc(size ? size : 1), *next = buf;
	size_t left = size;

	if (!buf)
		return 0;
	memcpy(buf, data, size);
	for (;;) {
		long whole = kv_frame(next, left);
		uint64_t value;
		size_t line;

		if (whole <= 0)
			break;
		if (whole > MESSAGE_BYTES_MAX)
			abort();
		if (kv_parse(next, (size_t)whole, &kv, &line) == 0) {
			for (size_t i = 0; i < kv.count; i++)
				(void)kv_u64(&kv, kv.pair[i].key, 1, 1000, &value);
			if (kv_get(&kv, "model"))
				(void)model_name_valid(kv_get(&kv, "model"));
		}
		next += whole;
		left -= (size_t)whole;
	}
	free(buf);
	return 0;
}
