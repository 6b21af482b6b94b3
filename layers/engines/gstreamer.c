/* SPDX-License-Identifier: MIT */
/* A GStreamer tracer: each buffer through a named element is a request. No pipeline is changed:
 *	GST_TRACERS="flamed(element=detector,deadline=33ms)" gst-launch-1.0 ...
 * Parameters: element (its name), deadline or rate, model (else $FLAMED_MODEL, else the element's name). */
#define GST_USE_UNSTABLE_API
#include <gst/gst.h>
#include <gst/gsttracer.h>

#include <string.h>

#include "../../common/kv.h"
#include "../../common/units.h"
#include "../../lib/flamed.h"
#include "installation.h"

#define IN_FLIGHT_MAX 8 /* buffers inside the element; further ones are not requests */

/* Where buffers leave the element, as learned from the first one that does. */
enum leaving {
	LEAVES_UNKNOWN,
	LEAVES_HERE,     /* in the chain function that took them in; for a sink, when it returns */
	LEAVES_ELSEWHERE /* in another thread: the element has its own queue */
};

typedef struct {
	GstTracer parent;
	gchar *element, *model;
	guint64 deadline_ns, rate_mhz;
	struct flamed *flamed;
	int session;
	GMutex lock;
	gint64 request[IN_FLIGHT_MAX]; /* of buffers inside, oldest first; 0 or negative: no request */
	guint inside;
	gpointer thread; /* thread inside the element's chain function; NULL: none */
	enum leaving leaving;
	guint64 buffers, begun;
} FlamedTracer;

typedef struct {
	GstTracerClass parent_class;
} FlamedTracerClass;

GType flamed_tracer_get_type(void);
G_DEFINE_TYPE(FlamedTracer, flamed_tracer, GST_TYPE_TRACER)

static gboolean is_ours(const FlamedTracer *self, GstPad *pad)
{
	GstObject *parent = pad ? GST_OBJECT_PARENT(pad) : NULL;

	return parent && GST_IS_ELEMENT(parent) && g_strcmp0(GST_OBJECT_NAME(parent), self->element) == 0;
}

/* The oldest buffer left the element. With the lock held; returns its request, 0 if there is none. */
static gint64 take_oldest(FlamedTracer *self)
{
	gint64 request = self->inside ? self->request[0] : 0;

	if (self->inside)
		memmove(self->request, self->request + 1, --self->inside * sizeof(self->request[0]));
	return request;
}

static void enters(FlamedTracer *self, gboolean sink)
{
	gint64 request = flamed_begin(self->flamed, self->session, 0);

	g_mutex_lock(&self->lock);
	self->thread = g_thread_self();
	self->buffers++;
	self->begun += request > 0;
	if (sink)
		self->leaving = LEAVES_HERE;
	/* a buffer that never comes out must not block the table for ever */
	gint64 lost = self->inside == IN_FLIGHT_MAX ? take_oldest(self) : 0;
	self->request[self->inside++] = request;
	g_mutex_unlock(&self->lock);
	if (lost > 0)
		flamed_end(self->flamed, lost, 0);
}

static void leaves(FlamedTracer *self)
{
	gint64 dropped[IN_FLIGHT_MAX], request;
	guint count = 0;

	g_mutex_lock(&self->lock);
	if (self->inside && self->leaving == LEAVES_UNKNOWN)
		self->leaving = self->thread == g_thread_self() ? LEAVES_HERE : LEAVES_ELSEWHERE;
	/* Older buffers that did not come out of their own chain function were dropped. */
	while (self->leaving == LEAVES_HERE && self->inside > 1)
		dropped[count++] = take_oldest(self);
	request = take_oldest(self);
	g_mutex_unlock(&self->lock);
	if (request > 0)
		flamed_end(self->flamed, request, 0);
	while (count > 0)
		if (dropped[--count] > 0)
			flamed_end(self->flamed, dropped[count], 0);
}

/* The chain function returned: a sink has finished with the buffer, and an element without a queue
 * has dropped a buffer that did not come out. */
static void returned(FlamedTracer *self)
{
	g_mutex_lock(&self->lock);
	self->thread = NULL;
	gint64 request = self->leaving == LEAVES_HERE ? take_oldest(self) : 0;
	g_mutex_unlock(&self->lock);
	if (request > 0)
		flamed_end(self->flamed, request, 0);
}

static void before_push(GObject *object, GstClockTime at, GstPad *pad)
{
	FlamedTracer *self = (FlamedTracer *)object;
	GstPad *peer = gst_pad_get_peer(pad);

	(void)at;
	if (is_ours(self, pad))
		leaves(self);
	if (is_ours(self, peer))
		enters(self, GST_ELEMENT(GST_OBJECT_PARENT(peer))->numsrcpads == 0);
	if (peer)
		gst_object_unref(peer);
}

static void before_buffer(GObject *object, GstClockTime at, GstPad *pad, GstBuffer *buffer)
{
	(void)buffer;
	before_push(object, at, pad);
}

/* A buffer list counts as one buffer. */
static void before_list(GObject *object, GstClockTime at, GstPad *pad, GstBufferList *list)
{
	(void)list;
	before_push(object, at, pad);
}

static void after_push(GObject *object, GstClockTime at, GstPad *pad, GstFlowReturn result)
{
	FlamedTracer *self = (FlamedTracer *)object;
	GstPad *peer = gst_pad_get_peer(pad);

	(void)at;
	(void)result;
	if (is_ours(self, peer))
		returned(self);
	if (peer)
		gst_object_unref(peer);
}

/* Parse "element=NAME,deadline=33ms". Returns FALSE after an error message. */
static gboolean parse(FlamedTracer *self, const gchar *text)
{
	g_auto(GStrv) parts = g_strsplit(text ? text : "", ",", -1);

	for (gchar **part = parts; *part; part++) {
		g_auto(GStrv) pair = g_strsplit(g_strstrip(*part), "=", 2);
		const gchar *value = pair[0] && pair[1] ? pair[1] : "";
		guint64 number = 0;

		if (!pair[0])
			continue;
		if (strcmp(pair[0], "element") == 0 && *value) {
			self->element = g_strdup(value);
		} else if (strcmp(pair[0], "model") == 0 && model_name_valid(value)) {
			self->model = g_strdup(value);
		} else if (strcmp(pair[0], "deadline") == 0 && parse_deadline_ns(value, &number) == 0 && number > 0) {
			self->deadline_ns = number;
		} else if (strcmp(pair[0], "rate") == 0 && parse_rate_mhz(value, &number) == 0 && number > 0) {
			self->rate_mhz = number;
		} else {
			g_printerr("flamed-gstreamer: \"%s\" is not one of element=NAME, deadline=33ms, rate=30fps or "
				   "model=NAME\n",
				   *part);
			return FALSE;
		}
	}
	if (!self->element)
		g_printerr(
			"flamed-gstreamer: element= is missing: GST_TRACERS=\"flamed(element=NAME,deadline=33ms)\"\n");
	return self->element != NULL;
}

static gboolean open_session(FlamedTracer *self)
{
	const gchar *given = g_getenv("FLAMED_MODEL"), *model = self->model                      ? self->model :
								given && model_name_valid(given) ? given :
												   self->element;

	if (!model_name_valid(model)) {
		g_printerr("flamed-gstreamer: \"%s\" is not a model name; give one with model=NAME\n", model);
		return FALSE;
	}
	int rc = flamed_open(&self->flamed, NULL);
	if (rc < 0) {
		g_printerr("flamed-gstreamer: no connection to flamed: %s; the pipeline runs without it\n",
			   g_strerror(-rc));
		return FALSE;
	}
	if (!flamed_connected(self->flamed))
		g_printerr("flamed-gstreamer: flamed is not running; the pipeline runs without it until it is\n");
	self->session = self->rate_mhz ? flamed_stream(self->flamed, model, self->rate_mhz, 0, FLAMED_TIMEOUT) :
					 flamed_session(self->flamed, model, self->deadline_ns, FLAMED_TIMEOUT);
	if (self->session < 0)
		g_printerr("flamed-gstreamer: flamed refused a session for %s: %s\n", model,
			   g_strerror(-self->session));
	return self->session >= 0;
}

static void constructed(GObject *object)
{
	FlamedTracer *self = (FlamedTracer *)object;
	g_autofree gchar *params = NULL;

	G_OBJECT_CLASS(flamed_tracer_parent_class)->constructed(object);
	g_object_get(object, "params", &params, NULL);
	if (!parse(self, params) || !open_session(self))
		return; /* the pipeline runs as it would without the tracer */
	gst_tracing_register_hook(GST_TRACER(self), "pad-push-pre", G_CALLBACK(before_buffer));
	gst_tracing_register_hook(GST_TRACER(self), "pad-push-list-pre", G_CALLBACK(before_list));
	gst_tracing_register_hook(GST_TRACER(self), "pad-push-post", G_CALLBACK(after_push));
	gst_tracing_register_hook(GST_TRACER(self), "pad-push-list-post", G_CALLBACK(after_push));
}

/* A short pipeline may end before flamed has seen its first buffers: wait, at most a second, until
 * they are counted. */
static void wait_for_answers(FlamedTracer *self)
{
	gint64 until_us = g_get_monotonic_time() + G_USEC_PER_SEC;
	uint64_t ended = 0;

	while (flamed_connected(self->flamed) == 1 &&
	       flamed_session_counts(self->flamed, self->session, &ended, NULL) == 0 && ended < self->begun &&
	       g_get_monotonic_time() < until_us)
		g_usleep(1000);
}

static void finalize(GObject *object)
{
	FlamedTracer *self = (FlamedTracer *)object;
	if (self->element && self->session >= 0 && self->buffers == 0)
		g_printerr("flamed-gstreamer: no buffer went through an element named %s\n", self->element);
	while (self->inside)
		flamed_end(self->flamed, take_oldest(self), 0);
	wait_for_answers(self);
	flamed_close(self->flamed);
	g_free(self->element);
	g_free(self->model);
	g_mutex_clear(&self->lock);
	G_OBJECT_CLASS(flamed_tracer_parent_class)->finalize(object);
}

static void flamed_tracer_class_init(FlamedTracerClass *class)
{
	G_OBJECT_CLASS(class)->constructed = constructed;
	G_OBJECT_CLASS(class)->finalize = finalize;
}

static void flamed_tracer_init(FlamedTracer *self)
{
	self->session = -1;
	g_mutex_init(&self->lock);
}

static gboolean plugin_init(GstPlugin *plugin)
{
	return gst_tracer_register(plugin, "flamed", flamed_tracer_get_type());
}

#define PACKAGE "flamed"
GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, flamed, "Deadlines for the buffers of an element", plugin_init,
		  FLAMED_VERSION, "MIT/X11", "flamed", "flamed")
