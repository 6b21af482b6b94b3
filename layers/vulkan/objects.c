/* SPDX-License-Identifier: MIT */
#include "layer.h"

#include <search.h>
#include <stdlib.h>

static int by_handle(const void *a, const void *b)
{
	uint64_t x = ((const struct object *)a)->handle, y = ((const struct object *)b)->handle;

	return (x > y) - (x < y);
}

void *table_get(void *const *table, uint64_t handle)
{
	const struct object key = {handle};
	void *const *found = tfind(&key, table, by_handle);

	return found ? *found : NULL;
}

void *table_take(void **table, uint64_t handle)
{
	const struct object key = {handle};
	void *found = table_get(table, handle);

	if (found)
		tdelete(&key, table, by_handle);
	return found;
}

void *table_add(void **table, uint64_t handle, size_t size)
{
	struct object *object = calloc(1, size);

	free(table_take(table, handle)); /* the handle was reused, and the end of its object not seen */
	if (!object)
		return NULL;
	object->handle = handle;
	if (!tsearch(object, table, by_handle)) {
		free(object);
		return NULL;
	}
	return object;
}

void table_forget(struct device *device, void **table, uint64_t handle)
{
	void *object;

	pthread_mutex_lock(&device->lock);
	object = table_take(table, handle);
	pthread_mutex_unlock(&device->lock);
	free(object);
}

struct visit {
	void (*visit)(void *object, void *arg);
	void *arg;
};

static void visit_node(const void *node, VISIT which, void *arg)
{
	const struct visit *visit = arg;

	if (which == postorder || which == leaf)
		visit->visit(*(void *const *)node, visit->arg);
}

void table_each(void *table, void (*visit)(void *object, void *arg), void *arg)
{
	struct visit both = {visit, arg};

	twalk_r(table, visit_node, &both);
}

void table_free(void **table, void (*destroy)(void *object))
{
	tdestroy(*table, destroy);
	*table = NULL;
}
