/* SPDX-License-Identifier: MIT */
/* A stand-in for an engine's library, with the batch of an old llama.cpp: three fields more at the end than today's.
 * With WAITS, its caller waits for a step as it begins the next. */
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

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

/* A context is of one copy of this library, and of no use to another. */
static const char copy;
static struct context {
	const void *owner;
	int calls;
} context = {.owner = &copy};

static void check(const struct context *of)
{
	if (of->owner == &copy)
		return;
	printf("a context of another engine\n");
	_exit(3);
}

#ifdef WAITS
PUBLIC void llama_synchronize(void *of);
void llama_synchronize(void *of)
{
	check(of);
}
#endif

PUBLIC int llama_decode(void *of, struct old_batch batch);
int llama_decode(void *of, struct old_batch batch)
{
	check(of);
	((struct context *)of)->calls++;
#ifdef WAITS
	usleep(2000); /* long beside the wait: the call is the whole step */
#endif
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
	struct old_batch batch = {.n_tokens = tokens, .all_pos_0 = 11, .all_pos_1 = 22, .all_seq_id = 33};
	int rc;

#ifdef WAITS
	llama_synchronize(&context);
#endif
	rc = llama_decode(&context, batch);
	printf("decode %d rc %d calls %d ort %s\n", tokens, rc, context.calls, OrtGetApiBase()->get_version_string());
	return rc;
}
