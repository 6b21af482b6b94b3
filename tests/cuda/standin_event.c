/* SPDX-License-Identifier: MIT */
/* The stand-in's events. */
#include "standin.h"

EXPORT CUresult cuEventCreate(CUevent *out, unsigned int flags)
{
	struct event *event;

	ENTER;
	if (flags & ~7U)
		RETURN(CUDA_ERROR_INVALID_VALUE);
	event = handle_new(sizeof(*event), EVENT);
	event->timing = !(flags & CU_EVENT_DISABLE_TIMING);
	*out = (CUevent)event;
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuEventDestroy_v2(CUevent event)
{
	ENTER;
	if (!alive(event, EVENT))
		RETURN(CUDA_ERROR_INVALID_HANDLE);
	((struct event *)event)->handle.magic = DEAD;
	RETURN(CUDA_SUCCESS);
}

static CUresult record(CUevent handle, CUstream where)
{
	struct event *event = (struct event *)handle;
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream = stream_of(where, &rc);

	if (!stream)
		return rc;
	if (!alive(handle, EVENT))
		return CUDA_ERROR_INVALID_HANDLE;
	pthread_mutex_lock(&state);
	event->capture = stream->capture;
	event->captured_in = stream->capture ? stream : NULL;
	rc = stream->capture && stream->capture->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
	pthread_mutex_unlock(&state);
	if (event->capture)
		return rc;
	return stream_push(stream, &(struct op){.kind = OP_RECORD, .event = event});
}

EXPORT CUresult cuEventRecord(CUevent event, CUstream stream)
{
	ENTER;
	RETURN(record(event, stream));
}

EXPORT CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags)
{
	ENTER;
	RETURN(flags & ~1U ? CUDA_ERROR_INVALID_VALUE : record(event, stream));
}

/* A captured event never completes, and asking for it ends the capture. */
static CUresult askable(struct event *event)
{
	CUresult rc;

	if (!alive(event, EVENT))
		return CUDA_ERROR_INVALID_HANDLE;
	pthread_mutex_lock(&state);
	rc = unsafe_during_capture();
	if (event->capture) {
		invalidate(event->capture);
		rc = CUDA_ERROR_CAPTURED_EVENT;
	}
	pthread_mutex_unlock(&state);
	return rc;
}

EXPORT CUresult cuEventQuery(CUevent handle)
{
	struct event *event = (struct event *)handle;
	CUresult rc;

	ENTER;
	rc = askable(event);
	if (rc != CUDA_SUCCESS)
		RETURN(rc);
	pthread_mutex_lock(&state);
	rc = event->done < event->generation ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
	pthread_mutex_unlock(&state);
	RETURN(rc);
}

EXPORT CUresult cuEventSynchronize(CUevent handle)
{
	struct event *event = (struct event *)handle;
	uint64_t until;
	CUresult rc;

	ENTER;
	rc = askable(event);
	if (rc != CUDA_SUCCESS)
		RETURN(rc);
	pthread_mutex_lock(&state);
	until = event->generation;
	while (event->done < until)
		pthread_cond_wait(&progress, &state);
	pthread_mutex_unlock(&state);
	host_waited(&(struct stream){.end_ns = event->at_ns, .due_ns = event->due_ns});
	RETURN(CUDA_SUCCESS);
}

EXPORT CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end)
{
	struct event *a = (struct event *)start, *b = (struct event *)end;
	CUresult rc;

	ENTER;
	rc = askable(a);
	if (rc == CUDA_SUCCESS)
		rc = askable(b);
	if (rc != CUDA_SUCCESS)
		RETURN(rc);
	pthread_mutex_lock(&state);
	if (!a->timing || !b->timing || a->generation == 0 || b->generation == 0)
		rc = CUDA_ERROR_INVALID_HANDLE;
	else if (a->done < a->generation || b->done < b->generation)
		rc = CUDA_ERROR_NOT_READY;
	else
		*ms = (float)((double)(int64_t)(b->at_ns - a->at_ns) / 1e6);
	pthread_mutex_unlock(&state);
	RETURN(rc);
}

EXPORT CUresult cuStreamWaitEvent(CUstream handle, CUevent what, unsigned int flags)
{
	struct event *event = (struct event *)what;
	CUresult rc = CUDA_SUCCESS;
	struct stream *stream;

	ENTER;
	stream = stream_of(handle, &rc);
	if (!stream || !alive(event, EVENT) || flags & ~1U)
		RETURN(CUDA_ERROR_INVALID_HANDLE);
	pthread_mutex_lock(&state);
	if (event->capture && !stream->capture) {
		stream->capture = event->capture; /* the capture continues in this stream too */
	} else if (stream->capture && stream->capture != event->capture) {
		invalidate(stream->capture);
		pthread_mutex_unlock(&state);
		RETURN(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED); /* it would depend on work outside the capture */
	}
	if (stream->capture && event->captured_in && stream == stream->capture->origin)
		event->captured_in->unjoined = false;
	pthread_mutex_unlock(&state);
	if (stream->capture || event->generation == 0)
		RETURN(CUDA_SUCCESS);
	RETURN(stream_push(stream, &(struct op){.kind = OP_WAIT_EVENT, .event = event}));
}
