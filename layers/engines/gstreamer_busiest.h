/* SPDX-License-Identifier: MIT */
/* The element of a pipeline that works most: the one whose buffers are requests if the user names none. */
#ifndef LAYERS_ENGINES_GSTREAMER_BUSIEST_H
#define LAYERS_ENGINES_GSTREAMER_BUSIEST_H

#include <gst/gst.h>

/* A buffer is about to be pushed from one element into the next; NULL: the pad's parent is not an element. */
void busiest_enters(const GstElement *from, const GstElement *into);

/* That push has returned. Returns the name of the busiest element once enough buffers have reached a sink, to be
 * freed by the caller, else NULL. */
gchar *busiest_returned(void);

#endif
