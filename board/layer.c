/* SPDX-License-Identifier: MIT */
/* libflamed-board-opencl.so: an OpenCL layer that makes any program feel the
 * clocks of the board in $FLAMED_BOARD. Each kernel is followed in its queue by
 * a marker that waits until the kernel has also ended by the board's clocks;
 * the host is held back after each launch as if its own work took longer. */
#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl_layer.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "../common/clock.h"
#include "calibration.h"
#include "lane.h"
#include "layer_event.h"
#include "waits.h"

#define NAME_MOST       128
#define QUEUE_PROPERTIES_MOST 16
#define CATCH_UP_NS     (2 * NS_PER_MS)  /* further behind than that, the host was waiting, not slow */
#define FIRST_HOST_NS   (1 * NS_PER_MS)  /* most that an unknown launch is taken to cost: it may have compiled */
#define KNOWN_RUNS      2
#define LATES           4096

#define EXPORT __attribute__((visibility("default")))

/* One launch on its way: from the enqueue to its end on the board. */
struct launch {
	cl_event real, user, marker;
	bool handed_out; /* the program holds the marker as its event */
	cl_int status;
	uint64_t key, launched_ns, prompt_ns;
	cl_ulong at[TIME_COUNT];
};

static struct {
	bool on;
	char dir[SYSFS_PATH_MAX];
	struct page *page;
	struct lane lane;
	struct layer_events events;
	pthread_mutex_t lock; /* calibration and the figures below */
	struct calibration calibration;
	int64_t device_clock; /* CLOCK_MONOTONIC less the device's clock, least seen */
	uint64_t launches, late_ns[LATES], last_end_ns, last_due_ns;
	struct waits waits;
} layer = { .events.lock = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .device_clock = INT64_MAX };

/* The host side, thread by thread. */
static _Thread_local struct {
	uint64_t chain;  /* key of the last launch since a wait */
	uint64_t at_ns;  /* where the host is by the board's CPU clock */
	uint64_t prompt_ns; /* the same, had this machine never been late since its last wait */
	uint64_t first_ns;  /* its first launch or, before that, upload since then; 0: none */
	uint64_t launches;
	uint64_t cpu_ns; /* of this thread, when it last left us */
	uint64_t since_ns; /* end of its last wait */
} host;

static const cl_icd_dispatch *target;
static cl_icd_dispatch dispatch;

static uint64_t thread_cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void calibration_path(char *path, size_t size)
{
	snprintf(path, size, "%s/%s", layer.dir, CALIBRATION_FILE);
}

/* An execution of `ns` on this machine, as the board's cycles. At the highest
 * clocks it takes ns x exec_slow whatever the memory's share. */
static struct cost exec_cost(double ns)
{
	const struct page *page = layer.page;
	double mem = page->max_hz[CLOCK_MEM] ? page->opencl.mem_share : 0, gpu = 1 - mem;
	double all = ns * page->opencl.exec_slow / cbrt(gpu * gpu * gpu + mem * mem * mem) / NS_PER_S;

	return (struct cost){
		.gpu_cycles = all * gpu * (double)page->max_hz[CLOCK_GPU],
		.mem_cycles = all * mem * (double)page->max_hz[CLOCK_MEM],
	};
}

static double host_stretch(void)
{
	double hz = (double)page_hz(layer.page, CLOCK_CPU), top = (double)layer.page->max_hz[CLOCK_CPU];

	return layer.page->opencl.host_slow * (hz > 0 ? top / hz : 1);
}

/* Kernels */

static cl_ulong event_time(cl_event event, cl_profiling_info which)
{
	cl_ulong at = 0;

	if (target->clGetEventProfilingInfo(event, which, sizeof(at), &at, NULL) != CL_SUCCESS)
		return 0;
	return at;
}

/* The real kernel has ended; from here the board's clocks decide. Called by
 * the OpenCL implementation. */
static void CL_CALLBACK on_real_end(cl_event event, cl_int status, void *user_data)
{
	static const cl_profiling_info which[TIME_COUNT] = { CL_PROFILING_COMMAND_QUEUED, CL_PROFILING_COMMAND_SUBMIT,
							     CL_PROFILING_COMMAND_START, CL_PROFILING_COMMAND_END };
	struct launch *launch = user_data;
	struct lane_item item = { .launched_ns = launch->launched_ns, .prompt_ns = launch->prompt_ns, .ticket = launch };
	struct calibration_entry *entry;
	uint64_t start_ns;
	double ns;

	launch->status = status;
	for (int i = 0; i < TIME_COUNT; i++)
		launch->at[i] = event_time(event, which[i]);
	ns = launch->at[TIME_END] > launch->at[TIME_START] ? (double)(launch->at[TIME_END] - launch->at[TIME_START]) : 0;
	pthread_mutex_lock(&layer.lock);
	if (launch->at[TIME_END]) {
		int64_t clock = (int64_t)(clock_now_ns() - launch->at[TIME_END]);

		if (clock < layer.device_clock)
			layer.device_clock = clock;
	}
	start_ns = launch->at[TIME_START] + (uint64_t)layer.device_clock;
	entry = calibration_find(&layer.calibration, launch->key);
	if (entry && status == CL_COMPLETE && ns > 0) {
		calibration_exec(&layer.calibration, entry, ns);
		ns = entry->exec_ns;
	}
	pthread_mutex_unlock(&layer.lock);
	item.cost = exec_cost(ns);
	/* Unless something else held it up: compiling, a transfer, another queue. */
	if (launch->at[TIME_START] && start_ns > item.launched_ns + CATCH_UP_NS)
		item.launched_ns = start_ns - CATCH_UP_NS;
	lane_push(&layer.lane, &item);
}

static void lane_real(void *arg, struct lane_item *item)
{
	(void)arg;
	(void)item; /* has ended before it was pushed */
}

static void lane_done(void *arg, struct lane_item *item)
{
	struct launch *launch = item->ticket;
	uint64_t now_ns = clock_now_ns();

	(void)arg;
	pthread_mutex_lock(&layer.lock);
	layer.late_ns[layer.launches++ % LATES] = now_ns > item->end_ns ? now_ns - item->end_ns : 0;
	layer.last_end_ns = item->end_ns;
	layer.last_due_ns = item->due_ns;
	launch->at[TIME_START] = (cl_ulong)((int64_t)item->start_ns - layer.device_clock);
	launch->at[TIME_END] = (cl_ulong)((int64_t)item->end_ns - layer.device_clock);
	if (launch->at[TIME_SUBMIT] > launch->at[TIME_START])
		launch->at[TIME_SUBMIT] = launch->at[TIME_START];
	if (launch->at[TIME_QUEUED] > launch->at[TIME_SUBMIT])
		launch->at[TIME_QUEUED] = launch->at[TIME_SUBMIT];
	pthread_mutex_unlock(&layer.lock);
	if (launch->handed_out)
		layer_event_end(&layer.events, launch->marker, launch->at);
	target->clSetUserEventStatus(launch->user, launch->status < 0 ? launch->status : CL_COMPLETE);
	target->clReleaseEvent(launch->user);
	target->clReleaseEvent(launch->real);
	target->clReleaseEvent(launch->marker);
	free(launch);
}

static cl_int create_user_event(cl_command_queue queue, cl_event *event)
{
	cl_context context;
	cl_int rc = target->clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof(context), &context, NULL);

	if (rc == CL_SUCCESS)
		*event = target->clCreateUserEvent(context, &rc);
	return rc;
}

static cl_int CL_API_CALL release_event(cl_event event)
{
	layer_event_release(&layer.events, event);
	return target->clReleaseEvent(event);
}

/* Hold the queue up behind a kernel that has just been enqueued. What has gone
 * wrong half-way is undone: nothing ever waits for an event nobody sets. */
static cl_int follow(cl_command_queue queue, struct launch *launch, cl_event *event)
{
	cl_int rc = create_user_event(queue, &launch->user);

	if (rc != CL_SUCCESS)
		return rc;
	rc = target->clEnqueueMarkerWithWaitList(queue, 1, &launch->user, &launch->marker);
	if (rc != CL_SUCCESS)
		goto release_user;
	launch->handed_out = event && layer_event_add(&layer.events, launch->marker) == 0;
	if (event) {
		*event = launch->handed_out ? launch->marker : launch->real;
		target->clRetainEvent(*event);
	}
	rc = target->clSetEventCallback(launch->real, CL_COMPLETE, on_real_end, launch);
	if (rc == CL_SUCCESS)
		return CL_SUCCESS;
	if (event)
		release_event(*event);
	target->clReleaseEvent(launch->marker);
release_user:
	target->clSetUserEventStatus(launch->user, CL_COMPLETE);
	target->clReleaseEvent(launch->user);
	return rc;
}

/* The launch at hand by name, sizes and those before it. */
static uint64_t launch_key(cl_kernel kernel, cl_uint dims, const size_t *global, const size_t *local)
{
	char name[NAME_MOST] = "";

	target->clGetKernelInfo(kernel, CL_KERNEL_FUNCTION_NAME, sizeof(name) - 1, name, NULL);
	return calibration_key(host.chain, name, global, local, dims);
}

/* `ns` of the host's work on this machine, at the board's CPU clock; what takes long is held back
 * as it goes, so that a clock that moves meanwhile is felt. */
static void host_works(double ns)
{
	for (;;) {
		double stretch = host_stretch(), step = fmin(ns * stretch, (double)LANE_SLICE_NS);

		page_busy(layer.page, CLOCK_CPU, (uint64_t)step, (uint64_t)step);
		host.at_ns += (uint64_t)step;
		host.prompt_ns += (uint64_t)step;
		ns -= step / stretch;
		if (ns * stretch < 1)
			break;
		lane_sleep_until(host.at_ns);
	}
}

/* Where the host ends this launch by the board's CPU clock. */
static uint64_t host_advance(uint64_t key)
{
	uint64_t spent_ns = thread_cpu_ns() - host.cpu_ns, now_ns = clock_now_ns();
	struct calibration_entry *entry;
	double ns = (double)spent_ns;

	pthread_mutex_lock(&layer.lock);
	entry = calibration_find(&layer.calibration, key);
	if (entry) {
		calibration_host(&layer.calibration, entry, ns);
		ns = entry->host_ns;
	}
	if ((!entry || entry->host_runs < KNOWN_RUNS) && ns > FIRST_HOST_NS)
		ns = FIRST_HOST_NS;
	pthread_mutex_unlock(&layer.lock);
	/* Before the first launch the host may have waited for anything, which is not lateness that it could catch up with. */
	if (host.launches == 0 || now_ns > host.at_ns + spent_ns + CATCH_UP_NS)
		host.at_ns = now_ns - spent_ns;
	if (host.launches++ == 0)
		host.prompt_ns = host.at_ns;
	if (host.first_ns == 0)
		host.first_ns = now_ns;
	host_works(ns);
	host.chain = key;
	return host.at_ns;
}

/* The kernel runs all the same; only its length is this machine's. */
static void give_up(struct launch *launch, cl_int error, cl_event *event)
{
	fprintf(stderr, "flamed-board-opencl: OpenCL error %d; kernels are no longer slowed down\n", error);
	layer.on = false;
	if (event)
		*event = launch->real;
	else
		target->clReleaseEvent(launch->real);
	free(launch);
}

static cl_int CL_API_CALL enqueue_kernel(cl_command_queue queue, cl_kernel kernel, cl_uint dims, const size_t *offset, const size_t *global,
					 const size_t *local, cl_uint waits, const cl_event *wait_list, cl_event *event)
{
	struct launch *launch = layer.on ? calloc(1, sizeof(*launch)) : NULL;
	cl_int rc;

	if (!launch)
		return target->clEnqueueNDRangeKernel(queue, kernel, dims, offset, global, local, waits, wait_list, event);
	rc = target->clEnqueueNDRangeKernel(queue, kernel, dims, offset, global, local, waits, wait_list, &launch->real);
	if (rc != CL_SUCCESS) {
		free(launch);
		return rc;
	}
	launch->key = launch_key(kernel, dims, global, local);
	launch->launched_ns = host_advance(launch->key);
	launch->prompt_ns = host.prompt_ns;
	rc = follow(queue, launch, event);
	if (rc != CL_SUCCESS)
		give_up(launch, rc, event);
	lane_sleep_until(host.at_ns);
	host.cpu_ns = thread_cpu_ns();
	return CL_SUCCESS;
}

static cl_int CL_API_CALL enqueue_task(cl_command_queue queue, cl_kernel kernel, cl_uint waits, const cl_event *wait_list, cl_event *event)
{
	static const size_t one = 1;

	return enqueue_kernel(queue, kernel, 1, NULL, &one, &one, waits, wait_list, event);
}

/* Input is on its way: not slowed down, but an inference begins with it. */

static void uploads(void)
{
	if (host.first_ns == 0)
		host.first_ns = clock_now_ns();
}

static cl_int CL_API_CALL write_buffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, const void *from,
				       cl_uint waits, const cl_event *wait_list, cl_event *event)
{
	uploads();
	return target->clEnqueueWriteBuffer(queue, buffer, blocking, offset, size, from, waits, wait_list, event);
}

/* Waits: the host's time goes on from their end. */

static void waited(void)
{
	uint64_t now_ns = clock_now_ns();

	pthread_mutex_lock(&layer.lock);
	if (host.since_ns && host.launches > 0 && layer.last_end_ns > host.since_ns && layer.last_end_ns <= now_ns)
		waits_add(&layer.waits, &(struct wait){ .launches = host.launches, .at_ns = now_ns, .since_ns = host.since_ns,
							.first_ns = host.first_ns, .end_ns = layer.last_end_ns, .due_ns = layer.last_due_ns });
	pthread_mutex_unlock(&layer.lock);
	host.at_ns = host.since_ns = now_ns;
	host.launches = host.first_ns = 0;
	host.chain = 0;
	host.cpu_ns = thread_cpu_ns();
}

static cl_int CL_API_CALL finish(cl_command_queue queue)
{
	cl_int rc = target->clFinish(queue);

	waited();
	return rc;
}

static cl_int CL_API_CALL wait_for_events(cl_uint count, const cl_event *events)
{
	cl_int rc = target->clWaitForEvents(count, events);

	waited();
	return rc;
}

static cl_int CL_API_CALL read_buffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, void *to,
				      cl_uint waits, const cl_event *wait_list, cl_event *event)
{
	cl_int rc = target->clEnqueueReadBuffer(queue, buffer, blocking, offset, size, to, waits, wait_list, event);

	if (blocking)
		waited();
	return rc;
}

static void *CL_API_CALL map_buffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_map_flags flags, size_t offset, size_t size,
				    cl_uint waits, const cl_event *wait_list, cl_event *event, cl_int *error)
{
	void *at = target->clEnqueueMapBuffer(queue, buffer, blocking, flags, offset, size, waits, wait_list, event, error);

	if (blocking)
		waited();
	if (!(flags & CL_MAP_READ))
		uploads();
	return at;
}

/* Queues are profiled, for the real times. */

static cl_command_queue CL_API_CALL create_queue(cl_context context, cl_device_id device, cl_command_queue_properties properties, cl_int *error)
{
	return target->clCreateCommandQueue(context, device, properties | CL_QUEUE_PROFILING_ENABLE, error);
}

static cl_command_queue CL_API_CALL create_queue_with(cl_context context, cl_device_id device, const cl_queue_properties *properties,
						      cl_int *error)
{
	cl_queue_properties all[QUEUE_PROPERTIES_MOST + 3];
	cl_queue_properties flags = CL_QUEUE_PROFILING_ENABLE;
	size_t count = 0;

	for (; properties && *properties && count < QUEUE_PROPERTIES_MOST; properties += 2) {
		if (properties[0] == CL_QUEUE_PROPERTIES) {
			flags |= properties[1];
			continue;
		}
		all[count++] = properties[0];
		all[count++] = properties[1];
	}
	all[count++] = CL_QUEUE_PROPERTIES;
	all[count++] = flags;
	all[count] = 0;
	return target->clCreateCommandQueueWithProperties(context, device, all, error);
}

/* Events: a marker that stands for a kernel is that kernel, with its times on the board. */

static cl_int answer(const void *value, size_t len, size_t size, void *to, size_t *size_ret)
{
	if (to && size < len)
		return CL_INVALID_VALUE;
	if (to)
		memcpy(to, value, len);
	if (size_ret)
		*size_ret = len;
	return CL_SUCCESS;
}

static cl_int CL_API_CALL profiling_info(cl_event event, cl_profiling_info which, size_t size, void *to, size_t *size_ret)
{
	struct layer_event record;
	enum layer_time time = TIME_END; /* and CL_PROFILING_COMMAND_COMPLETE */

	if (!layer_event_get(&layer.events, event, &record))
		return target->clGetEventProfilingInfo(event, which, size, to, size_ret);
	if (!record.ended)
		return CL_PROFILING_INFO_NOT_AVAILABLE;
	if (which == CL_PROFILING_COMMAND_QUEUED)
		time = TIME_QUEUED;
	else if (which == CL_PROFILING_COMMAND_SUBMIT)
		time = TIME_SUBMIT;
	else if (which == CL_PROFILING_COMMAND_START)
		time = TIME_START;
	return answer(&record.at[time], sizeof(record.at[time]), size, to, size_ret);
}

static cl_int CL_API_CALL event_info(cl_event event, cl_event_info which, size_t size, void *to, size_t *size_ret)
{
	static const cl_command_type type = CL_COMMAND_NDRANGE_KERNEL;
	struct layer_event record;

	if (which == CL_EVENT_COMMAND_TYPE && layer_event_get(&layer.events, event, &record))
		return answer(&type, sizeof(type), size, to, size_ret);
	return target->clGetEventInfo(event, which, size, to, size_ret);
}

static cl_int CL_API_CALL retain_event(cl_event event)
{
	layer_event_retain(&layer.events, event);
	return target->clRetainEvent(event);
}

/* Start and end */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

__attribute__((destructor)) static void report(void)
{
	char path[SYSFS_PATH_MAX + 32];
	size_t count;

	if (!layer.on || layer.launches == 0)
		return;
	pthread_mutex_lock(&layer.lock);
	count = layer.launches < LATES ? layer.launches : LATES;
	qsort(layer.late_ns, count, sizeof(layer.late_ns[0]), by_value);
	fprintf(stderr, "flamed-board-opencl: %" PRIu64 " launches; ends reported late by %.0f us (median), %.0f us (p99); waits %.2f %% too long\n",
		layer.launches, (double)layer.late_ns[count / 2] / 1e3, (double)layer.late_ns[count * 99 / 100] / 1e3,
		waits_late_percent(&layer.waits));
	waits_write(&layer.waits, getenv("FLAMED_BOARD_WAITS"));
	calibration_path(path, sizeof(path));
	if (layer.calibration.changed && calibration_save(&layer.calibration, path))
		fprintf(stderr, "flamed-board-opencl: %s: not saved\n", path);
	pthread_mutex_unlock(&layer.lock);
}

/* The lane's thread stays behind in the parent. */
static void forked(void)
{
	layer.on = false;
}

static int start(void)
{
	static const struct lane_ops ops = { .real = lane_real, .done = lane_done };
	const char *dir = getenv("FLAMED_BOARD");
	char path[SYSFS_PATH_MAX + 32];
	int rc;

	if (!dir || strlen(dir) >= sizeof(layer.dir))
		return -ENOENT;
	memcpy(layer.dir, dir, strlen(dir) + 1);
	layer.page = page_attach(dir, &rc);
	if (!layer.page)
		return rc;
	calibration_path(path, sizeof(path));
	rc = calibration_load(&layer.calibration, path);
	if (rc && rc != -ENOENT)
		fprintf(stderr, "flamed-board-opencl: %s: %s; calibrating anew\n", path, strerror(-rc));
	rc = lane_start(&layer.lane, layer.page, &ops);
	if (rc == 0)
		pthread_atfork(NULL, NULL, forked);
	return rc;
}

static void intercept(void)
{
	dispatch.clEnqueueNDRangeKernel = enqueue_kernel;
	dispatch.clEnqueueTask = enqueue_task;
	dispatch.clFinish = finish;
	dispatch.clWaitForEvents = wait_for_events;
	dispatch.clEnqueueReadBuffer = read_buffer;
	dispatch.clEnqueueWriteBuffer = write_buffer;
	dispatch.clEnqueueMapBuffer = map_buffer;
	dispatch.clCreateCommandQueue = create_queue;
	dispatch.clCreateCommandQueueWithProperties = create_queue_with;
	dispatch.clGetEventProfilingInfo = profiling_info;
	dispatch.clGetEventInfo = event_info;
	dispatch.clRetainEvent = retain_event;
	dispatch.clReleaseEvent = release_event;
}

EXPORT cl_int CL_API_CALL clGetLayerInfo(cl_layer_info which, size_t size, void *to, size_t *size_ret)
{
	static const cl_layer_api_version version = CL_LAYER_API_VERSION_100;
	static const char name[] = "flamed-board";

	if (which == CL_LAYER_API_VERSION)
		return answer(&version, sizeof(version), size, to, size_ret);
	if (which == CL_LAYER_NAME)
		return answer(name, sizeof(name), size, to, size_ret);
	return CL_INVALID_VALUE;
}

EXPORT cl_int CL_API_CALL clInitLayer(cl_uint entries, const cl_icd_dispatch *target_dispatch, cl_uint *entries_ret,
				      const cl_icd_dispatch **dispatch_ret)
{
	size_t size = entries * sizeof(void *);
	int rc;

	if (!target_dispatch || !entries_ret || !dispatch_ret)
		return CL_INVALID_VALUE;
	target = target_dispatch;
	memcpy(&dispatch, target_dispatch, size < sizeof(dispatch) ? size : sizeof(dispatch));
	rc = start();
	layer.on = rc == 0;
	if (layer.on)
		intercept();
	else
		fprintf(stderr, "flamed-board-opencl: $FLAMED_BOARD=%s: %s; nothing is slowed down\n",
			getenv("FLAMED_BOARD") ? getenv("FLAMED_BOARD") : "", strerror(-rc));
	*entries_ret = sizeof(dispatch) / sizeof(void *);
	*dispatch_ret = &dispatch;
	return CL_SUCCESS;
}
