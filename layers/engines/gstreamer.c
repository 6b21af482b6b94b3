/* SPDX-License-Identifier: MIT */
/* A GStreamer tracer: each buffer through a named element is a request. No pipeline is changed:
 *	GST_TRACERS="flamed(element=detector,deadline=33ms)" gst-launch-1.0 ...
 * Parameters: element (its name, else the busiest one), deadline or rate (else those of flamectl run, else those of
 * the model in flamed.conf), model (else $FLAMED_MODEL, else the element's name). */
#define GST_USE_UNSTABLE_API
#include <gst/gst.h>
#include <gst/gsttracer.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "../../common/clock.h"
#include "../../common/kv.h"
#include "../../common/units.h"
#include "../../lib/flamed.h"
#include "../core/core.h"
#include "../core/summary.h"
#include "gstreamer_busiest.h"
#include "installation.h"

#define IN_FLIGHT_MAX   8    /* buffers inside the element; further ones are not requests */
#define REORDER_MAX     4    /* newer buffers that may leave before one, as from an encoder with B-frames */
#define DESCRIPTORS_MAX 1024 /* of the process, among which connections to flamed are looked for */

/* Where buffers leave the element, as learned from the first one that does. */
enum leaving {
	LEAVES_UNKNOWN,
	LEAVES_HERE,     /* in the chain function that took them in; for a sink, when it returns */
	LEAVES_ELSEWHERE /* in another thread: the element has its own queue */
};

/* A buffer inside the element. */
struct inside {
	gint64 request; /* 0 or negative: none */
	guint64 begin_ns;
	GstClockTime pts;
	gpointer thread; /* in whose chain function it is; NULL: that returned */
	guint passed;    /* newer buffers that left */
};

typedef struct {
	GstTracer parent;
	gchar *element, *model; /* element: read by several threads; NULL: not chosen yet, or none */
	gchar *opened;          /* model of the session */
	gboolean automatic;     /* the busiest element is taken, */
	gint choosing;          /* which is not known yet */
	guint64 deadline_ns, rate_mhz;
	struct flamed *flamed;
	int session;
	GMutex lock;
	struct inside inside[IN_FLIGHT_MAX]; /* oldest first */
	guint count, unfollowed;             /* unfollowed: buffers inside that are not among those above */
	gpointer thread;                     /* the newest one inside the element's chain function; NULL: none */
	enum leaving leaving;
	gboolean sink;
	gboolean keeps_pts;     /* of an element with its own queue: a buffer left as it entered */
	guint64 buffers, ended; /* ended: requests, without those withdrawn */
	gint64 newest;          /* request */
	gint warned;            /* that flamed is not there, or knows no deadline */
} FlamedTracer;

typedef struct {
	GstTracerClass parent_class;
} FlamedTracerClass;

GType flamed_tracer_get_type(void);
G_DEFINE_TYPE(FlamedTracer, flamed_tracer, GST_TYPE_TRACER)

static GstElement *element_of(GstPad *pad)
{
	GstObject *parent = pad ? GST_OBJECT_PARENT(pad) : NULL;

	return parent && GST_IS_ELEMENT(parent) ? GST_ELEMENT(parent) : NULL;
}

static gboolean is_ours(FlamedTracer *self, const GstElement *element)
{
	return element && g_strcmp0(GST_OBJECT_NAME(element), g_atomic_pointer_get(&self->element)) == 0;
}

/* A buffer, counted from the oldest, is no longer inside the element. With the lock held. */
static struct inside take(FlamedTracer *self, guint at)
{
	struct inside buffer = {0};

	if (at >= self->count)
		return buffer;
	buffer = self->inside[at];
	memmove(self->inside + at, self->inside + at + 1, (--self->count - at) * sizeof(self->inside[0]));
	return buffer;
}

/* The buffer in the chain function that this thread runs, or `count`. With the lock held. */
static guint of_thread(const FlamedTracer *self)
{
	guint at = 0;

	while (at < self->count && self->inside[at].thread != g_thread_self())
		at++;
	return at;
}

static void end(FlamedTracer *self, const struct inside *buffer)
{
	guint64 total_ns = clock_now_ns() - buffer->begin_ns;

	if (buffer->request <= 0)
		return;
	flamed_end(self->flamed, buffer->request, total_ns);
	g_mutex_lock(&self->lock);
	self->ended++;
	g_mutex_unlock(&self->lock);
	atomic_fetch_add_explicit(&core.launches, 1, memory_order_relaxed);
	summary_inference(total_ns, self->deadline_ns && total_ns > self->deadline_ns);
}

/* The element dropped the buffer, or it is not known when it leaves. */
static void withdraw(FlamedTracer *self, const struct inside *buffer)
{
	if (buffer->request > 0)
		flamed_withdraw(self->flamed, buffer->request);
}

static void say_once(FlamedTracer *self, const gchar *what)
{
	if (g_atomic_int_compare_and_exchange(&self->warned, FALSE, TRUE))
		g_printerr("flamed-gstreamer: %s; the pipeline runs without it until it is there\n", what);
}

static void say_no_deadline(FlamedTracer *self)
{
	if (g_atomic_int_compare_and_exchange(&self->warned, FALSE, TRUE))
		g_printerr(
			"flamed-gstreamer: no deadline for model %s: give the tracer deadline=33ms or rate=30fps, or "
			"set one in its section of flamed.conf; the pipeline runs without flamed\n",
			self->opened);
}

static void enters(FlamedTracer *self, gboolean sink, GstClockTime pts)
{
	struct inside buffer = {.request = flamed_begin(self->flamed, self->session, 0),
				.begin_ns = clock_now_ns(),
				.pts = pts,
				.thread = g_thread_self()};
	struct inside left_out = {0};

	if (buffer.request == -ENOTCONN)
		say_once(self, "the connection to flamed broke");
	else if (buffer.request == -EINVAL)
		say_no_deadline(self);
	g_mutex_lock(&self->lock);
	self->thread = g_thread_self();
	self->buffers++;
	if (buffer.request > 0)
		self->newest = buffer.request;
	self->sink = sink;
	if (sink)
		self->leaving = LEAVES_HERE;
	if (self->count == IN_FLIGHT_MAX && self->inside[0].passed)
		left_out = take(self, 0); /* dropped, most likely */
	if (self->count < IN_FLIGHT_MAX) {
		self->inside[self->count++] = buffer;
	} else {
		left_out = buffer;
		self->unfollowed++;
	}
	g_mutex_unlock(&self->lock);
	withdraw(self, &left_out);
}

/* The buffer that leaves an element with its own queue, and those dropped before it. A timestamp that did not enter is
 * that of a buffer that is not followed or, from an element that changes timestamps, of the oldest. With the lock
 * held. */
static struct inside take_by_pts(FlamedTracer *self, GstClockTime pts, struct inside *dropped, guint *count)
{
	struct inside buffer = {0};
	guint at = 0;

	while (at < self->count && self->inside[at].pts != pts)
		at++;
	if (!GST_CLOCK_TIME_IS_VALID(pts) || at == self->count) {
		if (self->unfollowed && (self->keeps_pts || self->count == 0)) {
			self->unfollowed--;
			return buffer;
		}
		self->keeps_pts = FALSE;
		return take(self, 0);
	}
	self->keeps_pts = TRUE;
	buffer = take(self, at);
	while (at > 0)
		self->inside[--at].passed++;
	while (self->count && self->inside[0].passed > REORDER_MAX)
		dropped[(*count)++] = take(self, 0);
	return buffer;
}

static void leaves(FlamedTracer *self, GstClockTime pts)
{
	struct inside dropped[IN_FLIGHT_MAX], buffer;
	guint count = 0;

	g_mutex_lock(&self->lock);
	if (self->count && self->leaving == LEAVES_UNKNOWN)
		self->leaving = self->thread == g_thread_self() || of_thread(self) < self->count ? LEAVES_HERE :
												   LEAVES_ELSEWHERE;
	if (self->leaving == LEAVES_ELSEWHERE) {
		buffer = take_by_pts(self, pts, dropped, &count);
	} else {
		buffer = take(self, of_thread(self));
		/* Those that did not come out of their own chain function were dropped. */
		for (guint i = 0; i < self->count;)
			if (self->inside[i].thread)
				i++;
			else
				dropped[count++] = take(self, i);
	}
	g_mutex_unlock(&self->lock);
	end(self, &buffer);
	for (guint i = 0; i < count; i++)
		withdraw(self, &dropped[i]);
}

/* The chain function returned: a sink has finished with the buffer, and an element without a queue
 * has dropped a buffer that did not come out. */
static void returned(FlamedTracer *self)
{
	struct inside buffer = {0};
	gboolean sink;
	guint at;

	g_mutex_lock(&self->lock);
	self->thread = NULL;
	sink = self->sink;
	at = of_thread(self);
	if (self->leaving == LEAVES_HERE)
		buffer = take(self, at);
	else if (at < self->count)
		self->inside[at].thread = NULL;
	g_mutex_unlock(&self->lock);
	if (sink)
		end(self, &buffer);
	else
		withdraw(self, &buffer);
}

static void before_push(GObject *object, GstPad *pad, GstClockTime pts)
{
	FlamedTracer *self = (FlamedTracer *)object;
	GstPad *peer = gst_pad_get_peer(pad);

	GstElement *from = element_of(pad), *into = element_of(peer);

	if (g_atomic_int_get(&self->choosing))
		busiest_enters(from, into);
	if (is_ours(self, from))
		leaves(self, pts);
	if (is_ours(self, into))
		enters(self, into->numsrcpads == 0, pts);
	if (peer)
		gst_object_unref(peer);
}

static void before_buffer(GObject *object, GstClockTime at, GstPad *pad, GstBuffer *buffer)
{
	(void)at;
	before_push(object, pad, GST_BUFFER_PTS(buffer));
}

/* A buffer list counts as one buffer. */
static void before_list(GObject *object, GstClockTime at, GstPad *pad, GstBufferList *list)
{
	(void)at;
	before_push(object, pad,
		    gst_buffer_list_length(list) ? GST_BUFFER_PTS(gst_buffer_list_get(list, 0)) : GST_CLOCK_TIME_NONE);
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
	return TRUE;
}

static gboolean open_session(FlamedTracer *self, const gchar *element)
{
	const gchar *given = core.config.model, *model = self->model ? self->model : *given ? given : element;

	if (!model_name_valid(model)) {
		g_printerr("flamed-gstreamer: \"%s\" is not a model name; give one with model=NAME\n", model);
		return FALSE;
	}
	int rc = core_connect(&self->flamed);
	if (rc < 0) {
		g_printerr("flamed-gstreamer: no connection to flamed: %s; the pipeline runs without it\n",
			   g_strerror(-rc));
		return FALSE;
	}
	if (!flamed_connected(self->flamed))
		say_once(self, "flamed is not running");
	self->session = self->rate_mhz ? flamed_stream(self->flamed, model, self->rate_mhz, 0, FLAMED_TIMEOUT) :
					 flamed_session(self->flamed, model, self->deadline_ns, FLAMED_TIMEOUT);
	if (self->session >= 0 && flamed_session_state(self->flamed, self->session) < 0)
		say_once(self,
			 flamed_connected(self->flamed) ? "flamed does not answer" : "the connection to flamed broke");
	if (self->session < 0)
		g_printerr("flamed-gstreamer: flamed refused a session for %s: %s\n", model,
			   g_strerror(-self->session));
	self->opened = g_strdup(model);
	summary_model(model);
	return self->session >= 0;
}

/* Does this process have a connection to flamed? Then another layer, or the program itself, sees inferences. */
static gboolean spoken_for(void)
{
	const gchar *path = secure_getenv("FLAMED_SOCKET");
	struct stat wanted, found;

	if (stat(path && *path ? path : FLAMED_SOCKET_DEFAULT, &wanted) < 0)
		return FALSE;
	for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) {
		struct sockaddr_un peer = {0};
		socklen_t size = sizeof(peer) - 1;

		if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sun_family == AF_UNIX &&
		    stat(peer.sun_path, &found) == 0 && found.st_dev == wanted.st_dev && found.st_ino == wanted.st_ino)
			return TRUE;
	}
	return FALSE;
}

static void choose(FlamedTracer *self)
{
	gchar *name = busiest_returned();

	if (name && g_atomic_int_compare_and_exchange(&self->choosing, TRUE, FALSE) && !spoken_for() &&
	    open_session(self, name))
		g_atomic_pointer_set(&self->element, name);
	else
		g_free(name);
}

static void after_push(GObject *object, GstClockTime at, GstPad *pad, GstFlowReturn result)
{
	FlamedTracer *self = (FlamedTracer *)object;
	GstPad *peer = gst_pad_get_peer(pad);

	(void)at;
	(void)result;
	if (g_atomic_int_get(&self->choosing))
		choose(self);
	if (is_ours(self, element_of(peer)))
		returned(self);
	if (peer)
		gst_object_unref(peer);
}

/* Settings from the environment, and the summary at exit; the inferences are not found by the core. */
static const struct layer_backend backend = {.name = "gstreamer", .own_deadline = true};

static gpointer start(gpointer unused)
{
	core_start(&backend);
	core_go();
	return unused;
}

static void constructed(GObject *object)
{
	static GOnce once = G_ONCE_INIT; /* there may be a tracer for each of several elements */
	FlamedTracer *self = (FlamedTracer *)object;
	g_autofree gchar *params = NULL;

	G_OBJECT_CLASS(flamed_tracer_parent_class)->constructed(object);
	g_object_get(object, "params", &params, NULL);
	g_once(&once, start, NULL);
	if (!parse(self, params))
		return; /* the pipeline runs as it would without the tracer */
	if (!self->deadline_ns && !self->rate_mhz)
		self->deadline_ns = core.config.deadline_ns;
	if (self->element && !open_session(self, self->element))
		return;
	self->automatic = !self->element;
	self->choosing = self->automatic;
	gst_tracing_register_hook(GST_TRACER(self), "pad-push-pre", G_CALLBACK(before_buffer));
	gst_tracing_register_hook(GST_TRACER(self), "pad-push-list-pre", G_CALLBACK(before_list));
	gst_tracing_register_hook(GST_TRACER(self), "pad-push-post", G_CALLBACK(after_push));
	gst_tracing_register_hook(GST_TRACER(self), "pad-push-list-post", G_CALLBACK(after_push));
}

/* A short pipeline may end before flamed has replied to its first buffers: wait, at most a second, until it has, and
 * has counted those that ended. */
static void wait_for_answers(FlamedTracer *self)
{
	gint64 until_us = g_get_monotonic_time() + G_USEC_PER_SEC;
	struct flamed_decision decision;
	uint64_t counted = 0;

	while (flamed_connected(self->flamed) == 1 &&
	       (flamed_decision(self->flamed, self->newest, &decision) == -EAGAIN ||
		(flamed_session_counts(self->flamed, self->session, &counted, NULL) == 0 && counted < self->ended)) &&
	       g_get_monotonic_time() < until_us)
		g_usleep(1000);
}

static void finalize(GObject *object)
{
	FlamedTracer *self = (FlamedTracer *)object;

	if (!self->automatic && self->session >= 0 && self->buffers == 0)
		g_printerr("flamed-gstreamer: no buffer went through an element named %s\n", self->element);
	while (self->count > 0) {
		struct inside buffer = take(self, 0);

		withdraw(self, &buffer);
	}
	wait_for_answers(self);
	core_disconnect(self->flamed);
	g_free(self->element);
	g_free(self->model);
	g_free(self->opened);
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
