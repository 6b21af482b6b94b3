/* SPDX-License-Identifier: MIT */
/* The stand-in's captures and graphs. A call that the reference forbids during a capture
 * ends it, for all threads. */
#include "standin.h"

#include <stdlib.h>
#include <string.h>

struct capture *captures;
static uint64_t last_id;
static __thread CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

void invalidate(struct capture *capture)
{
	capture->invalid = true;
}

CUresult unsafe_during_capture(void)
{
	CUresult rc = CUDA_SUCCESS;

	if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED)
		return CUDA_SUCCESS;
	for (struct capture *c = captures; c; c = c->next) {
		bool own = pthread_equal(c->thread, pthread_self()) && c->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
		bool other = c->mode == CU_STREAM_CAPTURE_MODE_GLOBAL && thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;

		if (!own && !other)
			continue;
		invalidate(c);
		rc = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	}
	return rc;
}

static struct graph *graph_new(void)
{
	struct graph *graph = handle_new(sizeof(*graph), GRAPH);

	graph->ops = calloc(NODES_MAX, sizeof(*graph->ops));
	if (!graph->ops)
		abort();
	return graph;
}

EXPORT CUresult cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode)
{
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream;
	struct capture *capture;

	ENTER;
	stream = stream_of(handle, &rc);
	if (!stream || mode < 0 || mode > 2)
		RETURN(stream ? CUDA_ERROR_INVALID_VALUE : rc);
	if (stream == legacy_stream() || stream->capture)
		RETURN(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
	capture = calloc(1, sizeof(*capture));
	if (!capture)
		RETURN(CUDA_ERROR_OUT_OF_MEMORY);
	*capture = (struct capture){.mode = mode, .thread = pthread_self(), .origin = stream, .graph = graph_new()};
	pthread_mutex_lock(&state);
	capture->id = ++last_id;
	capture->next = captures;
	captures = capture;
	stream->capture = capture;
	pthread_mutex_unlock(&state);
	RETURN(CUDA_SUCCESS);
}

/* With `state` held. Every stream that took part leaves. */
static bool release_streams(struct capture *capture, struct stream *const *all, size_t count)
{
	bool unjoined = false;

	for (size_t i = 0; i < count; i++) {
		if (all[i]->capture != capture)
			continue;
		unjoined |= all[i]->unjoined;
		all[i]->capture = NULL;
		all[i]->unjoined = false;
	}
	return unjoined;
}

/* With `state` held: the capture is over, and its streams are as before. False: some were not joined. */
bool capture_over(struct capture *capture)
{
	struct stream *all[STREAMS_MAX];
	size_t count = streams_list(all, STREAMS_MAX);

	for (struct capture **at = &captures; *at; at = &(*at)->next)
		if (*at == capture) {
			*at = capture->next;
			break;
		}
	return !release_streams(capture, all, count);
}

EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph)
{
	struct stream *stream;
	struct capture *capture;
	CUresult rc = CUDA_SUCCESS;

	ENTER;
	stream = stream_of(handle, &rc);
	if (!stream)
		RETURN(rc);
	if (graph)
		*graph = NULL;
	pthread_mutex_lock(&state);
	capture = stream->capture;
	if (!capture)
		rc = CUDA_ERROR_INVALID_VALUE;
	else if (capture->origin != stream)
		rc = CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
	else if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && !pthread_equal(capture->thread, pthread_self()))
		rc = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
	if (rc == CUDA_SUCCESS) {
		if (!capture_over(capture))
			rc = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
		if (capture->invalid)
			rc = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
		if (rc == CUDA_SUCCESS && graph)
			*graph = (CUgraph)capture->graph;
		free(capture);
	}
	pthread_mutex_unlock(&state);
	RETURN(rc);
}

static CUresult capture_info(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id)
{
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream = stream_of(handle, &rc);

	if (!stream)
		return rc;
	pthread_mutex_lock(&state);
	*status = !stream->capture         ? CU_STREAM_CAPTURE_STATUS_NONE :
		  stream->capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED :
					     CU_STREAM_CAPTURE_STATUS_ACTIVE;
	if (id && *status == CU_STREAM_CAPTURE_STATUS_ACTIVE) /* the only one with valid data */
		*id = stream->capture->id;
	for (struct capture *c = captures; c && stream == legacy_stream(); c = c->next)
		if (c->origin->blocking)
			rc = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
	pthread_mutex_unlock(&state);
	return rc;
}

EXPORT CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status)
{
	ENTER;
	RETURN(capture_info(stream, status, NULL));
}

EXPORT CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id,
					  CUgraph *graph, const CUgraphNode **nodes, size_t *count)
{
	ENTER;
	if (graph || nodes || count)
		RETURN(CUDA_ERROR_NOT_SUPPORTED);
	RETURN(capture_info(stream, status, id));
}

EXPORT CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
	CUstreamCaptureMode before = thread_mode;

	ENTER_ANY(false);
	if (!mode || *mode < 0 || *mode > 2)
		RETURN(CUDA_ERROR_INVALID_VALUE);
	thread_mode = *mode;
	*mode = before;
	RETURN(CUDA_SUCCESS);
}

/* Graphs */

EXPORT CUresult cuGraphCreate(CUgraph *graph, unsigned int flags)
{
	ENTER_ANY(false);
	if (flags)
		RETURN(CUDA_ERROR_INVALID_VALUE);
	*graph = (CUgraph)graph_new();
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuGraphClone(CUgraph *out, CUgraph graph)
{
	struct graph *from = (struct graph *)graph, *clone;

	ENTER_ANY(false);
	if (!alive(from, GRAPH))
		RETURN(CUDA_ERROR_INVALID_VALUE);
	clone = graph_new();
	clone->count = from->count;
	memcpy(clone->ops, from->ops, from->count * sizeof(*from->ops));
	*out = (CUgraph)clone;
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count)
{
	ENTER_ANY(false);
	if (!alive(graph, GRAPH) || nodes || !count)
		RETURN(CUDA_ERROR_INVALID_VALUE);
	*count = ((struct graph *)graph)->count;
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuGraphDestroy(CUgraph graph)
{
	ENTER_ANY(false);
	if (!alive(graph, GRAPH))
		RETURN(CUDA_ERROR_INVALID_VALUE);
	((struct graph *)graph)->handle.magic = DEAD;
	free(((struct graph *)graph)->ops);
	RETURN(CUDA_SUCCESS);
}

static CUresult copy_ops(struct graph_exec *exec, const struct graph *graph)
{
	free(exec->ops);
	exec->ops = calloc(graph->count ? graph->count : 1, sizeof(*exec->ops));
	if (!exec->ops)
		return CUDA_ERROR_OUT_OF_MEMORY;
	memcpy(exec->ops, graph->ops, graph->count * sizeof(*exec->ops));
	exec->count = graph->count;
	return CUDA_SUCCESS;
}

static CUresult instantiate(CUgraphExec *out, CUgraph graph)
{
	struct graph_exec *exec;

	if (!alive(graph, GRAPH) || !out)
		return CUDA_ERROR_INVALID_VALUE;
	exec = handle_new(sizeof(*exec), GRAPH_EXEC);
	*out = (CUgraphExec)exec;
	return copy_ops(exec, (struct graph *)graph);
}

EXPORT CUresult cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph, CUgraphNode *node, char *log, size_t size)
{
	ENTER;
	if (node)
		*node = NULL;
	if (log && size)
		*log = '\0';
	RETURN(instantiate(exec, graph));
}

EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
	ENTER;
	RETURN(flags & ~15ULL ? CUDA_ERROR_INVALID_VALUE : instantiate(exec, graph));
}

EXPORT CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *params)
{
	ENTER;
	if (!params)
		RETURN(CUDA_ERROR_INVALID_VALUE);
	params->result_out = 0;
	RETURN(instantiate(exec, graph));
}

struct CUgraphExecUpdateResultInfo_st {
	int result;
	CUgraphNode node, from;
};

/* The same kinds of nodes in the same order; their parameters may differ. */
EXPORT CUresult cuGraphExecUpdate_v2(CUgraphExec handle, CUgraph graph, CUgraphExecUpdateResultInfo *info)
{
	struct graph_exec *exec = (struct graph_exec *)handle;
	const struct graph *from = (struct graph *)graph;
	bool same;

	ENTER;
	if (!alive(exec, GRAPH_EXEC) || !alive(from, GRAPH) || !info)
		RETURN(CUDA_ERROR_INVALID_VALUE);
	same = exec->count == from->count;
	for (size_t i = 0; same && i < exec->count; i++)
		same = exec->ops[i].kind == from->ops[i].kind;
	*info = (CUgraphExecUpdateResultInfo){.result = same ? 0 : 2}; /* CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED */
	if (!same)
		RETURN(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
	streams_wait_idle();
	RETURN(copy_ops(exec, from));
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec handle)
{
	struct graph_exec *exec = (struct graph_exec *)handle;

	ENTER;
	if (!alive(exec, GRAPH_EXEC))
		RETURN(CUDA_ERROR_INVALID_VALUE);
	exec->handle.magic = DEAD;
	free(exec->ops);
	exec->ops = NULL;
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuGraphUpload(CUgraphExec exec, CUstream handle)
{
	CUresult rc = CUDA_SUCCESS;

	ENTER;
	if (!stream_of(handle, &rc))
		RETURN(rc);
	RETURN(alive(exec, GRAPH_EXEC) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

EXPORT CUresult cuGraphLaunch(CUgraphExec handle, CUstream where)
{
	struct graph_exec *exec = (struct graph_exec *)handle;
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream;

	ENTER;
	stream = stream_of(where, &rc);
	if (!stream)
		RETURN(rc);
	if (!alive(exec, GRAPH_EXEC))
		RETURN(CUDA_ERROR_INVALID_VALUE);
	standin_launching(514, 515);
	RETURN(stream_push_graph(stream, exec->ops, exec->count));
}
