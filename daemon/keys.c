/* SPDX-License-Identifier: MIT */
/* Checked access to the keys of a message: an error reply names the key at fault. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon.h"

bool want_u64(struct connection *c, const struct kv *kv, const char *key, uint64_t min, uint64_t max, uint64_t *out)
{
	int rc = kv_u64(kv, key, min, max, out);

	if (rc == -EINVAL)
		reply_error(c, EINVAL, "%s: not a whole number: %.64s", key, kv_get(kv, key));
	else if (rc == -ERANGE)
		reply_error(c, ERANGE, "%s: %.64s is outside %" PRIu64 " to %" PRIu64, key, kv_get(kv, key), min, max);
	return rc >= 0;
}

bool need_u64(struct connection *c, const struct kv *kv, const char *key, uint64_t min, uint64_t max, uint64_t *out)
{
	if (kv_get(kv, key))
		return want_u64(c, kv, key, min, max, out);
	reply_error(c, EINVAL, "%s: missing", key);
	return false;
}

bool need_model(struct connection *c, const struct kv *kv, const char **out)
{
	*out = kv_get(kv, "model");
	if (!*out)
		reply_error(c, EINVAL, "model: missing");
	else if (!model_name_valid(*out))
		reply_error(c, EINVAL, "model: a name is 1 to %d of A-Z a-z 0-9 . _ : -", MODEL_NAME_MAX);
	return *out && model_name_valid(*out);
}

bool is_admin(const struct connection *c)
{
	return user_owner(c->uid) == USER_ADMIN;
}

bool need_admin(struct connection *c, const char *what)
{
	if (!is_admin(c))
		reply_error(c, EPERM, "op: %s is reserved for root and the user that flamed runs as", what);
	return is_admin(c);
}

bool want_phase(struct connection *c, const struct kv *kv, enum phase *phase, uint32_t *context)
{
	const char *name = kv_get(kv, "phase");
	uint64_t tokens = *context;

	if (name && phase_parse(name, phase) < 0) {
		reply_error(c, EINVAL, "phase: %.64s is not one of run, prefill, decode", name);
		return false;
	}
	if (!want_u64(c, kv, "context", 0, CONTEXT_TOKENS_MAX, &tokens))
		return false;
	*context = *phase == PHASE_RUN ? 0 : (uint32_t)tokens;
	return true;
}

/* Parse one `cpu_ns:gpu_ns[:s]`, ended by a comma or the end of the string. Returns the rest, or
 * NULL. */
static const char *parse_layer(const char *text, struct layer *layer)
{
	char *end;

	if (*text < '0' || *text > '9')
		return NULL;
	layer->cpu_ns = strtoull(text, &end, 10);
	if (*end != ':' || end[1] < '0' || end[1] > '9')
		return NULL;
	layer->gpu_ns = strtoull(end + 1, &end, 10);
	if (layer->cpu_ns > DEADLINE_NS_MAX || layer->gpu_ns > DEADLINE_NS_MAX)
		return NULL;
	layer->sync = end[0] == ':' && end[1] == 's';
	end += layer->sync ? 2 : 0;
	if (*end != ',' && *end != '\0')
		return NULL;
	return *end == ',' ? end + 1 : end;
}

bool want_layers(struct connection *c, const struct kv *kv, enum phase phase, uint32_t context, struct op_point point,
		 struct layer **layers, size_t *count)
{
	enum layer_source source = layer_source_parse(kv_get(kv, "layer_source"));
	struct layer *array = NULL;
	char key[32] = "layers";

	*count = 0;
	for (unsigned part = 1; kv_get(kv, key); part++) {
		for (const char *text = kv_get(kv, key); *text;) {
			struct layer layer = {.phase = phase,
					      .context = context,
					      .point = point,
					      .layer = (uint32_t)*count,
					      .source = source};

			if (!array && !(array = calloc(LAYERS_MAX, sizeof(*array)))) {
				reply_error(c, ENOMEM, "%s: out of memory", key);
				return false;
			}
			text = *count < LAYERS_MAX ? parse_layer(text, &layer) : NULL;
			if (!text) {
				reply_error(c, EINVAL,
					    "%s: layer %zu is not cpu_ns:gpu_ns[:s], or there are more than %d layers",
					    key, *count, LAYERS_MAX);
				free(array);
				return false;
			}
			array[(*count)++] = layer;
		}
		snprintf(key, sizeof(key), "layers.%u", part);
	}
	*layers = array;
	return true;
}

const char *state_word(enum surface_state state)
{
	static const char *const words[] = {"none", "learning", "extrapolated", "ready"};

	return words[state];
}

const char *source_word(enum bound_source source)
{
	static const char *const words[] = {"envelope", "fit", "neighbour", "cell"};

	return words[source];
}

const char *regime_word(enum regime regime)
{
	static const char *const words[] = {"unknown", "launch-bound", "execution-bound", "mixed"};

	return words[regime];
}
