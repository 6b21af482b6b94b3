/* SPDX-License-Identifier: MIT */
/* The time of an element is the time of its chain function, less the pushes into further elements inside it. Sinks,
 * which wait for the clock, and elements with a queue of their own, which wait for room in it, do not count. */
#include "gstreamer_busiest.h"

#include <string.h>

#include "../../common/clock.h"

#define ELEMENTS_MAX 64 /* compared; further ones are ignored */
#define DEPTH_MAX    64 /* pushes within pushes; the time of deeper ones is that of the element around them */
#define FRAMES_WARM  2  /* buffers at sinks while formats are negotiated and memory is allocated, */
#define FRAMES       8  /* and those after them that decide */

struct push {
	const GstElement *into;
	guint64 begin_ns, inner_ns;
};

/* Pushes that this thread is inside of, outermost first. */
static _Thread_local struct {
	struct push push[DEPTH_MAX];
	guint depth;
} thread;

struct candidate {
	const GstElement *element;
	gchar *name;
	guint64 ns;
	gboolean waits; /* has a queue */
};

static struct {
	GMutex lock;
	struct candidate element[ELEMENTS_MAX];
	guint elements, frames;
} seen;

/* With the lock held. */
static struct candidate *candidate_of(const GstElement *element)
{
	guint i = 0;

	while (i < seen.elements && seen.element[i].element != element)
		i++;
	if (i == seen.elements && i < ELEMENTS_MAX)
		seen.element[seen.elements++] =
			(struct candidate){.element = element, .name = g_strdup(GST_OBJECT_NAME(element))};
	return i < ELEMENTS_MAX ? &seen.element[i] : NULL;
}

void busiest_enters(const GstElement *from, const GstElement *into)
{
	const struct push *outer =
		thread.depth > 0 && thread.depth <= DEPTH_MAX ? &thread.push[thread.depth - 1] : NULL;

	/* its buffers leave in another thread than they came in by */
	if (from && from->numsinkpads > 0 && (!outer || outer->into != from)) {
		g_mutex_lock(&seen.lock);
		struct candidate *candidate = candidate_of(from);
		if (candidate)
			candidate->waits = TRUE;
		g_mutex_unlock(&seen.lock);
	}
	if (thread.depth < DEPTH_MAX)
		thread.push[thread.depth] = (struct push){.into = into, .begin_ns = clock_now_ns()};
	thread.depth++;
}

/* With the lock held. */
static gchar *busiest(void)
{
	const struct candidate *most = NULL;

	for (guint i = 0; i < seen.elements; i++)
		if (!seen.element[i].waits && seen.element[i].ns > (most ? most->ns : 0))
			most = &seen.element[i];
	return most ? g_strdup(most->name) : NULL;
}

gchar *busiest_returned(void)
{
	struct push *push;
	guint64 ns;
	gchar *name = NULL;

	if (thread.depth == 0 || --thread.depth >= DEPTH_MAX)
		return NULL;
	push = &thread.push[thread.depth];
	ns = clock_now_ns() - push->begin_ns;
	if (thread.depth > 0)
		push[-1].inner_ns += ns;
	if (!push->into)
		return NULL;
	g_mutex_lock(&seen.lock);
	struct candidate *candidate = candidate_of(push->into);
	if (push->into->numsrcpads == 0)
		seen.frames++;
	else if (candidate && seen.frames >= FRAMES_WARM)
		candidate->ns += ns - push->inner_ns;
	if (seen.frames >= FRAMES_WARM + FRAMES)
		name = busiest();
	g_mutex_unlock(&seen.lock);
	return name;
}
