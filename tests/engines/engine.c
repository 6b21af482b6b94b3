/* SPDX-License-Identifier: MIT */
/* A stand-in for an engine's library, with the batch of an old llama.cpp: three fields more at the end than today's.
 * With WAITS, its caller waits for a step as it begins the next (not with NEVER_WAITS in the environment), and ONNX
 * Runtime is of a version that is known. With STRANGE, a batch begins with other fields. */
#include <pthread.h>
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PUBLIC     __attribute__((visibility("default")))
#define TOKENS_MAX 64

struct old_batch {
#ifdef STRANGE
	uint64_t flags;
#endif
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
	int calls, waits;
} context = {.owner = &copy};

static void check(const struct context *of)
{
	if (of->owner == &copy)
		return;
	fprintf(stderr, "a context of another engine\n");
	_exit(3);
}

PUBLIC struct old_batch llama_batch_get_one(int32_t *tokens, int32_t count, int32_t position, int32_t sequence);
struct old_batch llama_batch_get_one(int32_t *tokens, int32_t count, int32_t position, int32_t sequence)
{
	return (struct old_batch){
		.n_tokens = count, .token = tokens, .all_pos_0 = position, .all_pos_1 = 1, .all_seq_id = sequence};
}

#ifdef WAITS
PUBLIC void llama_synchronize(void *of);
void llama_synchronize(void *of)
{
	check(of);
}

PUBLIC float *llama_get_logits(void *of);
float *llama_get_logits(void *of)
{
	check(of);
	((struct context *)of)->waits++;
	return NULL;
}

PUBLIC float *llama_get_embeddings_seq(void *of, int32_t sequence);
float *llama_get_embeddings_seq(void *of, int32_t sequence)
{
	check(of);
	(void)sequence;
	return NULL;
}

/* With SLOW_MODEL in the environment, it takes its time to say which model this is. */
PUBLIC const void *llama_get_model(const void *of);
const void *llama_get_model(const void *of)
{
	check(of);
	if (getenv("SLOW_MODEL"))
		usleep(500000);
	return &copy;
}

PUBLIC void llama_free(void *of);
void llama_free(void *of)
{
	check(of);
}

/* Its last call is one that the compiler turns into a jump: the thread's own start is then the caller. */
static void *waits_last(void *of)
{
	return llama_get_logits(of);
}
#endif

/* For sequence 0 there is no place: the program may try again. */
static int compute(void *of, struct old_batch batch)
{
	check(of);
	((struct context *)of)->calls++;
#ifdef WAITS
	usleep(2000); /* long beside the wait: the call is the whole step */
#endif
	if (batch.all_seq_id == 0)
		return 1;
	return batch.all_pos_0 == 11 && batch.all_pos_1 == 22 && batch.all_seq_id == 33 && batch.n_tokens > 0 ? 0 : -7;
}

PUBLIC int llama_decode(void *of, struct old_batch batch);
int llama_decode(void *of, struct old_batch batch)
{
	return compute(of, batch);
}

PUBLIC int llama_encode(void *of, struct old_batch batch);
int llama_encode(void *of, struct old_batch batch)
{
	return compute(of, batch);
}

/* ONNX Runtime: sessions are contexts, a run is a call. */
#ifdef WAITS
static const char *get_version_string(void)
{
	return "1.22.0";
}

static void *create_session(const void *env, const char *path, const void *options, void **out)
{
	(void)env;
	(void)options;
	if (!path)
		return &context; /* a status: it failed */
	*out = &context;
	return NULL;
}

static void *run(void *session, const void *options, const char *const *input_names, const void *const *inputs,
		 size_t input_count, const char *const *output_names, size_t output_count, void **outputs)
{
	(void)options;
	(void)output_names;
	(void)output_count;
	(void)outputs;
	check(session);
	for (size_t i = 0; i < input_count; i++)
		if (!inputs || !inputs[i] || !input_names || !input_names[i])
			return &context;
	return NULL;
}

/* Of a value that is no tensor. */
static void *get_type_and_shape(const void *value, void **out)
{
	check(value);
	(void)out;
	return &context;
}

static void *run_with_binding(void *session, const void *options, const void *binding)
{
	(void)options;
	check(session);
	return binding == &context ? NULL : &context; /* a status: it failed */
}

static void release_session(void *session)
{
	check(session);
}

static void release_status(void *status)
{
	check(status);
}

static const void *const table[160] = {
	[7] = create_session,    [9] = run, [65] = get_type_and_shape, [93] = release_status, [95] = release_session,
	[133] = run_with_binding};
#else
static const char *get_version_string(void)
{
	return "2.0.1"; /* an unknown later version */
}

static const void *const table[4];
#endif

static const void *const *get_api(uint32_t version)
{
	(void)version;
	return table;
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

#ifdef WAITS
static void infer(void)
{
	static const char *const names[] = {"a", NULL};
	static const void *const values[] = {NULL, &context};
	const void *const *api = OrtGetApiBase()->get_api(1);
	void *(*create)(const void *, const char *, const void *, void **) = NULL;
	void *(*once)(void *, const void *, const char *const *, const void *const *, size_t, const char *const *,
		      size_t, void **) = NULL;
	void (*release)(void *) = NULL;
	void *session = NULL;

	*(const void **)&create = api[7];
	*(const void **)&once = api[9];
	*(const void **)&release = api[95];
	create(NULL, "net.onnx", NULL, &session);
	check(session);
	once(session, NULL, NULL, NULL, 0, NULL, 0, NULL);
	if (getenv("BINDS")) {
		const void *const *bound = OrtGetApiBase()->get_api(5);
		void *(*run_bound)(void *, const void *, const void *) = NULL;

		*(const void **)&run_bound = bound[133];
		if (run_bound(session, NULL, &context) != NULL || run_bound(session, NULL, NULL) != &context)
			_exit(4);
	}
	if (getenv("NULLS") &&
	    (!create(NULL, NULL, NULL, NULL) || !once(session, NULL, names, values, 2, NULL, 0, NULL) ||
	     !once(session, NULL, NULL, NULL, 1, NULL, 0, NULL)))
		_exit(5);
	release(session);
}
#endif

/* The next word of $BATCHES: a letter, and a number of tokens. p: a prompt or, of one, a token; for all others each
 * token's logits are wanted. e: a text from its begin; v: tokens amid a sequence; s: one token each of as many
 * sequences; E: as e, for the encoder; f: as p, but there is no place for it; w: as p, but it is wrong. */
static int batch_of(const char *words)
{
	static int next;
	static int32_t pos[TOKENS_MAX], counts[TOKENS_MAX], ids[TOKENS_MAX], *id[TOKENS_MAX];
	static int8_t logits[TOKENS_MAX];
	struct old_batch batch = {.all_pos_0 = 11, .all_pos_1 = 22, .all_seq_id = 33};
	char kind = 0;
	int rc;

	for (int i = 0; i < next && words; i++)
		words = strchr(words, ' ') ? strchr(words, ' ') + 1 : NULL;
	next++;
	if (!words || sscanf(words, "%c%d", &kind, &batch.n_tokens) != 2 || batch.n_tokens > TOKENS_MAX)
		return -1;
	for (int i = 0; i < batch.n_tokens; i++) {
		pos[i] = kind == 's' ? 7 : kind == 'v' ? 100 + i : i;
		counts[i] = logits[i] = 1;
		ids[i] = kind == 's' ? i : 0;
		id[i] = &ids[i];
	}
	if (kind != 'p' && kind != 'f' && kind != 'w') {
		batch.pos = pos;
		batch.n_seq_id = counts;
		batch.seq_id = id;
		batch.logits = logits;
	}
	if (kind == 'f')
		batch.all_seq_id = 0;
	if (kind == 'w')
		batch.all_pos_0 = 0;
	rc = kind == 'E' ? llama_encode(&context, batch) : llama_decode(&context, batch);
	return rc == (kind == 'f' ? 1 : kind == 'w' ? -7 : 0) ? 0 : -1;
}

#ifdef WAITS
static void *first_step(void *of)
{
	struct old_batch batch = {.n_tokens = 1, .all_pos_0 = 11, .all_pos_1 = 22, .all_seq_id = 33};

	llama_decode(of, batch);
	return NULL;
}

/* A child that is forked amid another thread's first step frees its copy of the context. */
static int fork_amid(void)
{
	int status = -1;
	pthread_t thread;
	pid_t child;

	pthread_create(&thread, NULL, first_step, &context);
	usleep(200000);
	child = fork();
	if (child == 0) {
		alarm(5);
		llama_free(&context);
		_exit(0);
	}
	waitpid(child, &status, 0);
	pthread_join(thread, NULL);
	printf("child %d\n", status);
	return status;
}
#endif

PUBLIC int addon(int tokens);
/* The calls of an add-on that was loaded privately with its engine. */
int addon(int tokens)
{
	struct old_batch batch = {.n_tokens = tokens, .all_pos_0 = 11, .all_pos_1 = 22, .all_seq_id = 33};
	int rc;
#ifdef WAITS
	pthread_t thread;
#endif

	if (getenv("BATCHES"))
		return batch_of(getenv("BATCHES"));
#ifdef WAITS
	if (getenv("SLOW_MODEL"))
		return fork_amid();
	if (getenv("EMBEDS"))
		llama_get_embeddings_seq(&context, 0);
	else if (!getenv("NEVER_WAITS"))
		llama_synchronize(&context);
	infer();
#endif
	rc = llama_decode(&context, batch);
#ifdef WAITS
	if (getenv("WAITS_LAST") && pthread_create(&thread, NULL, waits_last, &context) == 0)
		pthread_join(thread, NULL);
#endif
	printf("decode %d rc %d calls %d waits %d ort %s\n", tokens, rc, context.calls, context.waits,
	       OrtGetApiBase()->get_version_string());
	return rc;
}
