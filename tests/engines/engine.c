/* SPDX-License-Identifier: MIT */
/* A stand-in for an engine's library, with the batch of an old llama.cpp: three fields more at the end than today's. */
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>

#define PUBLIC __attribute__((visibility("default")))

struct old_batch {
	int32_t n_tokens;
	int32_t *token;
	float *embd;
	int32_t *pos;
	int32_t *n_seq_id;
	int32_t **seq_id;
	int8_t *logits;
	int32_t all_pos_0, all_pos_1, all_seq_id;
};

PUBLIC int llama_decode(void *context, struct old_batch batch);
int llama_decode(void *context, struct old_batch batch)
{
	int *calls = context;

	++*calls;
	return batch.all_pos_0 == 11 && batch.all_pos_1 == 22 && batch.all_seq_id == 33 && batch.n_tokens > 0 ? 0 : -7;
}

/* ONNX Runtime of a version that nobody knows yet. */
static const void *const *get_api(uint32_t version)
{
	static const void *const table[4];

	(void)version;
	return table;
}

static const char *get_version_string(void)
{
	return "2.0.1";
}

struct api_base {
	const void *const *(*get_api)(uint32_t version);
	const char *(*get_version_string)(void);
};

PUBLIC const struct api_base *OrtGetApiBase(void);
const struct api_base *OrtGetApiBase(void)
{
	static const struct api_base base = {get_api, get_version_string};

	return &base;
}

PUBLIC int addon(int tokens);
/* What an add-on does that was loaded privately with its engine. */
int addon(int tokens)
{
	static int calls;
	struct old_batch batch = {.n_tokens = tokens, .all_pos_0 = 11, .all_pos_1 = 22, .all_seq_id = 33};
	int rc = llama_decode(&calls, batch);

	printf("decode %d rc %d calls %d ort %s\n", tokens, rc, calls, OrtGetApiBase()->get_version_string());
	return rc;
}
