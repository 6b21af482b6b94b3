/* SPDX-License-Identifier: MIT */
/* llama.cpp: one llama_decode() or llama_encode() is one step of a model; its batch distinguishes prompts from tokens,
 * and gives the context. If the model runs on a GPU, the step continues after the call and is seen by the layer of the
 * GPU's API: this layer then passes it through. */
#include "engines.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#include "../../common/clock.h"

#define PUBLIC       __attribute__((visibility("default")))
#define CONTEXTS_MAX 16 /* llama_contexts at the same time; further ones are passed through */
/* if the wait after the call exceeds this fraction (1/10) of it, the call was not the whole step */
#define WAIT_SHARE   10
#define WAIT_DECIDES 3 /* majority of steps of one kind that decides, */
#define WAIT_MOST    8 /* and its limit, so that a wrong decision on a busy machine can be corrected */
#define DESCRIPTION  256

/* The head of the structure, which is the same in every version since batches were introduced. It
 * is passed by value: fields added by other versions are copied as bytes of the caller's stack, and
 * are read only by the engine. */
struct llama_batch {
	int32_t n_tokens;
	const int32_t *token;
	const float *embd;
	const int32_t *pos;
	const int32_t *n_seq_id;
	int32_t *const *seq_id;
	const int8_t *logits;
	unsigned char rest[64];
};

/* A batch as the engine returns it; one of another version may be longer. */
struct made_batch {
	struct llama_batch batch;
	unsigned char more[256];
};

/* Further functions of the engine; missing in some versions. */
struct functions {
	int32_t (*decode)(void *context, struct llama_batch batch);
	int32_t (*encode)(void *context, struct llama_batch batch);
	bool known; /* the layout of its batches is the one above */
	void (*synchronize)(void *context);
	const void *(*get_model)(const void *context);
	int32_t (*model_desc)(const void *model, char *buffer, size_t size);
	uint64_t (*model_size)(const void *model);
	uint64_t (*model_params)(const void *model);
};

struct context_state {
	void *context;
	struct functions engine;
	uint64_t fingerprint;
	uint32_t tokens;  /* in the context, as counted */
	int balance;      /* steps that continued after the call minus steps that did not */
	bool passed;      /* computes on a GPU, */
	bool said;        /* and a message said so */
	uint64_t step_ns; /* of the newest call, */
	bool stepped;     /* that was not waited for yet */
};

static struct context_state places[CONTEXTS_MAX];
static struct functions newest; /* engine found by any thread */

/* The library has no version number. A function of it that makes a batch, of tokens alone, shows the
 * layout; older versions take two parameters more. */
static bool layout_known(const void *caller)
{
	static const int32_t tokens[3];
	struct made_batch (*get_one)(const int32_t *tokens, int32_t count, int32_t position, int32_t sequence);
	struct llama_batch batch;

	*(void **)&get_one = engine_real("llama_batch_get_one", caller);
	if (!get_one)
		return false;
	batch = get_one(tokens, 3, 0, 0).batch;
	return batch.n_tokens == 3 && batch.token == tokens && !batch.embd && !batch.pos && !batch.n_seq_id &&
	       !batch.seq_id && !batch.logits;
}

static void say_unknown(void)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;

	if (!atomic_flag_test_and_set(&said))
		layer_say("unknown version of llama.cpp, whose batches differ: passed through");
}

/* The functions of the engine that serves `context`, called from `caller`. A process may hold several
 * builds of llama.cpp, as add-ons with one each: a function of one must never get a context of
 * another. decode is NULL if there is no engine. */
static struct functions find_engine(const void *caller, const void *context)
{
	static _Thread_local const void *last;
	static _Thread_local struct functions engine; /* of `last` */

	if (last == caller)
		return engine;
	void *decode = engine_real("llama_decode", caller);
	if (decode && decode != (void *)engine.decode) {
		*(void **)&engine.decode = decode;
		*(void **)&engine.encode = engine_real("llama_encode", caller);
		*(void **)&engine.synchronize = engine_real("llama_synchronize", caller);
		*(void **)&engine.get_model = engine_real("llama_get_model", caller);
		*(void **)&engine.model_desc = engine_real("llama_model_desc", caller);
		*(void **)&engine.model_size = engine_real("llama_model_size", caller);
		*(void **)&engine.model_params = engine_real("llama_model_n_params", caller);
		engine.known = layout_known(caller);
	}
	pthread_mutex_lock(&engines_lock);
	if (decode)
		newest = engine;
	struct functions found = newest;
	/* a caller without an engine, as after a tail call: the context identifies it */
	for (size_t i = 0; !decode && i < CONTEXTS_MAX; i++)
		if (places[i].context == context)
			found = places[i].engine;
	pthread_mutex_unlock(&engines_lock);
	if (decode)
		last = caller;
	return found;
}

/* The function `name` for `context`, called from `caller`; NULL: its engine is not known, or lacks it. */
static void *find_function(const char *name, const void *caller, const void *context)
{
	void *found = engine_real(name, caller);

	if (!found) { /* a caller without an engine: any function of the context's one leads to the others */
		const struct functions engine = find_engine(caller, context);

		if (engine.decode)
			found = engine_real(name, *(void *const *)&engine.decode);
	}
	return found;
}

/* Identifies a model across processes: hash of the engine's description. */
static uint64_t fingerprint(const struct functions *engine, void *context)
{
	const void *model = engine->get_model ? engine->get_model(context) : NULL;
	char text[DESCRIPTION] = "";
	uint64_t hash = boundary_hash(0, "llama", 5), number;

	if (!model)
		return hash;
	if (engine->model_desc && engine->model_desc(model, text, sizeof(text)) > 0)
		hash = boundary_hash(hash, text, strnlen(text, sizeof(text)));
	number = engine->model_size ? engine->model_size(model) : 0;
	hash = boundary_hash(hash, &number, sizeof(number));
	number = engine->model_params ? engine->model_params(model) : 0;
	return boundary_hash(hash, &number, sizeof(number));
}

/* With the lock held. `engine` serves a new context; NULL: only a known context is looked up. Returns NULL if the table
 * is full. */
static struct context_state *place_of(void *context, const struct functions *engine)
{
	struct context_state *spare = NULL;

	for (size_t i = 0; i < CONTEXTS_MAX; i++) {
		if (places[i].context == context)
			return &places[i];
		if (!places[i].context && !spare)
			spare = &places[i];
	}
	if (!spare || !engine)
		return NULL;
	*spare = (struct context_state){.context = context,
					.engine = *engine,
					.fingerprint = fingerprint(engine, context)};
	return spare;
}

/* The sequence of token `i`, the first one where the batch names none. */
static int32_t sequence_of(const struct llama_batch *batch, int32_t i)
{
	if (!batch->seq_id || !batch->seq_id[i] || (batch->n_seq_id && batch->n_seq_id[i] < 1))
		return 0;
	return batch->seq_id[i][0];
}

/* Several sequences of one token each are tokens too: they request all of their logits, a prompt only its last. So
 * does a text to be embedded, whose tokens are of one sequence, from its begin. Such a batch amid a sequence verifies
 * tokens that were drafted: it is a step, of a model of its own for each length. 0: a prompt. */
static uint32_t sequences(const struct llama_batch *batch)
{
	bool begins = !batch->pos || batch->pos[0] <= 0;

	if (batch->n_tokens <= 1 || !batch->logits)
		return batch->n_tokens <= 1 ? 1 : 0;
	for (int32_t i = 0; i < batch->n_tokens; i++)
		if (!batch->logits[i] || (begins && i > 0 && sequence_of(batch, i) == sequence_of(batch, i - 1)))
			return 0;
	return (uint32_t)batch->n_tokens;
}

/* Position 0 begins a new conversation; if the program leaves positions to the engine, tokens are
 * counted. */
static void count_tokens(struct context_state *place, const struct llama_batch *batch, uint32_t steps)
{
	if (batch->pos && batch->pos[batch->n_tokens - 1] >= 0)
		place->tokens = (uint32_t)batch->pos[batch->n_tokens - 1] + 1;
	else
		place->tokens += steps ? 1 : (uint32_t)batch->n_tokens;
}

/* The program is about to wait for the newest step, which the engine may still be computing.
 * Returns true if it was. */
static void look_at_wait(void *context)
{
	void (*synchronize)(void *) = NULL;
	struct context_state *place;
	uint64_t begin_ns;

	pthread_mutex_lock(&engines_lock);
	place = place_of(context, NULL);
	if (place && place->stepped) {
		synchronize = place->engine.synchronize;
		place->stepped = false;
	}
	pthread_mutex_unlock(&engines_lock);
	if (!synchronize)
		return;
	begin_ns = clock_now_ns();
	synchronize(context);
	pthread_mutex_lock(&engines_lock);
	place->balance += clock_now_ns() - begin_ns > place->step_ns / WAIT_SHARE ? 1 : -1;
	place->balance = place->balance > WAIT_MOST  ? WAIT_MOST :
			 place->balance < -WAIT_MOST ? -WAIT_MOST :
						       place->balance;
	place->passed = place->balance >= WAIT_DECIDES;
	bool say = place->passed && !place->said;
	place->said |= say;
	pthread_mutex_unlock(&engines_lock);
	if (say)
		layer_say("llama.cpp computes on a GPU here: the layer of its interface sees the inferences");
}

/* `real` is llama_decode() or, with `encodes`, llama_encode(): the latter's tokens are a prompt, not part of the
 * context. */
static int32_t compute(const struct functions *engine, int32_t (*real)(void *context, struct llama_batch batch),
		       void *context, const struct llama_batch *batch, bool encodes)
{
	struct engine_call call = {0};
	uint64_t begin_ns, hash = 0;
	struct context_state *place = NULL;
	uint32_t steps = encodes ? 0 : sequences(batch), tokens = 0, before = 0;
	bool begin = false;
	int32_t rc;

	pthread_mutex_lock(&engines_lock);
	place = place_of(context, engine);
	if (place) {
		before = place->tokens;
		if (!encodes)
			count_tokens(place, batch, steps);
		tokens = place->tokens;
		/* A few steps show whether the call is the whole step; they are not requests themselves. */
		begin = place->balance <= -WAIT_DECIDES || !engine->synchronize;
		hash = steps > 1 ? boundary_hash(place->fingerprint, &steps, sizeof(steps)) : place->fingerprint;
	}
	pthread_mutex_unlock(&engines_lock);
	if (begin)
		call = engine_begin(hash, steps ? PHASE_DECODE : PHASE_PREFILL,
				    steps ? tokens : (uint32_t)batch->n_tokens);
	begin_ns = clock_now_ns();
	rc = real(context, *batch);
	if (rc == 0)
		engine_end(&call);
	else
		engine_cancel(&call, true); /* whatever the reason, there is no token: the next step takes its place */
	pthread_mutex_lock(&engines_lock);
	if (place) {
		place->step_ns = clock_now_ns() - begin_ns;
		place->stepped = true;
		if (rc != 0)
			place->tokens = before;
	}
	pthread_mutex_unlock(&engines_lock);
	return rc;
}

/* Are calls of this engine's requests? */
static bool observed(const struct functions *engine, const struct llama_batch *batch)
{
	if (engines_on() && !engine->known)
		say_unknown();
	return engines_on() && engine->known && batch->n_tokens >= 1;
}

PUBLIC int32_t llama_decode(void *context, struct llama_batch batch);
PUBLIC int32_t llama_decode(void *context, struct llama_batch batch)
{
	const struct functions engine = find_engine(__builtin_return_address(0), context);

	if (!engine.decode)
		return -1;
	if (!observed(&engine, &batch))
		return engine.decode(context, batch);
	return compute(&engine, engine.decode, context, &batch, false);
}

/* The encoder of a model that has one, or the text of an embedding. */
PUBLIC int32_t llama_encode(void *context, struct llama_batch batch);
PUBLIC int32_t llama_encode(void *context, struct llama_batch batch)
{
	const struct functions engine = find_engine(__builtin_return_address(0), context);

	if (!engine.encode)
		return -1;
	if (!observed(&engine, &batch))
		return engine.encode(context, batch);
	return compute(&engine, engine.encode, context, &batch, true);
}

/* The calls with which a program waits for a step, or reads its result. */
#define WAITS(type, name, parameters, arguments) \
	PUBLIC type name parameters; \
	PUBLIC type name parameters \
	{ \
		type(*real) parameters; \
\
		*(void **)&real = find_function(#name, __builtin_return_address(0), context); \
		if (engines_on()) \
			look_at_wait(context); \
		return real ? real arguments : (type)0; \
	}

WAITS(void, llama_synchronize, (void *context), (context))
WAITS(float *, llama_get_logits, (void *context), (context))
WAITS(float *, llama_get_logits_ith, (void *context, int32_t i), (context, i))
WAITS(float *, llama_get_embeddings, (void *context), (context))
WAITS(float *, llama_get_embeddings_ith, (void *context, int32_t i), (context, i))
WAITS(float *, llama_get_embeddings_seq, (void *context, int32_t sequence), (context, sequence))

PUBLIC int32_t llama_sampler_sample(void *sampler, void *context, int32_t i);
PUBLIC int32_t llama_sampler_sample(void *sampler, void *context, int32_t i)
{
	int32_t (*real)(void *, void *, int32_t);

	*(void **)&real = find_function("llama_sampler_sample", __builtin_return_address(0), context);
	if (engines_on())
		look_at_wait(context);
	return real ? real(sampler, context, i) : -1; /* LLAMA_TOKEN_NULL */
}

/* A new context may have the address of one that was freed. */
PUBLIC void llama_free(void *context);
PUBLIC void llama_free(void *context)
{
	void (*real)(void *);

	*(void **)&real = find_function("llama_free", __builtin_return_address(0), context);
	pthread_mutex_lock(&engines_lock);
	for (size_t i = 0; context && i < CONTEXTS_MAX; i++)
		if (places[i].context == context)
			places[i] = (struct context_state){0};
	pthread_mutex_unlock(&engines_lock);
	if (real)
		real(context);
}
