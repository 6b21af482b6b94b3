/* SPDX-License-Identifier: MIT */
#include "layer.h"

#include <stdlib.h>
#include <string.h>
#include "../../common/clock.h"

#define TRIAL_STAMPS  64   /* in one command buffer of the trial */
#define TRIAL_ROUNDS  8    /* the fastest round counts */
#define STAMP_NS_MAX  5000 /* maximum cost of a timestamp: 100 of them are 1 % of an inference of 50 ms */
#define TRIAL_WAIT_NS (2 * NS_PER_S)

struct stamps {
	struct device *device;
	VkQueryPool pool;
	uint32_t count;
	atomic_uint held;
	_Atomic uint64_t serial;
	bool submitted;          /* before */
	atomic_bool written;     /* an execution is over, so that every timestamp has a defined state */
	_Atomic uint64_t before; /* the first timestamp of the execution before this one; 0: none */
};

struct stamps *stamps_new(struct device *device, uint32_t count)
{
	const VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
					    .queryType = VK_QUERY_TYPE_TIMESTAMP,
					    .queryCount = count};
	struct stamps *stamps = calloc(1, sizeof(*stamps));

	if (!stamps)
		return NULL;
	if (device->next.CreateQueryPool(device->handle, &info, NULL, &stamps->pool) != VK_SUCCESS) {
		free(stamps);
		return NULL;
	}
	stamps->device = device;
	stamps->count = count;
	stamps->held = 1;
	return stamps;
}

void stamps_hold(struct stamps *stamps)
{
	atomic_fetch_add(&stamps->held, 1);
}

void stamps_let_go(struct stamps *stamps)
{
	if (!stamps || atomic_fetch_sub(&stamps->held, 1) != 1)
		return;
	stamps->device->next.DestroyQueryPool(stamps->device->handle, stamps->pool, NULL);
	free(stamps);
}

uint32_t stamps_count(const struct stamps *stamps)
{
	return stamps->count;
}

VkQueryPool stamps_pool(const struct stamps *stamps)
{
	return stamps->pool;
}

uint64_t stamps_renew(struct stamps *stamps)
{
	return atomic_fetch_add(&stamps->serial, 1) + 1;
}

uint64_t stamps_serial(const struct stamps *stamps)
{
	return atomic_load(&stamps->serial);
}

/* Read a timestamp without waiting. */
static bool read_one(const struct stamps *stamps, uint32_t at, uint64_t *ticks)
{
	return stamps->device->next.GetQueryPoolResults(stamps->device->handle, stamps->pool, at, 1, sizeof(*ticks),
							ticks, sizeof(*ticks), VK_QUERY_RESULT_64_BIT) == VK_SUCCESS;
}

void stamps_submitting(struct stamps *stamps, bool polled)
{
	uint64_t ticks;

	if (stamps->submitted && polled) {
		atomic_store(&stamps->before, read_one(stamps, 0, &ticks) ? ticks : 0);
		atomic_store(&stamps->written, true);
	}
	stamps->submitted = true;
}

static bool read_pair(const struct launch_token *token, uint64_t ticks[2])
{
	const struct stamps *stamps = token->object;

	return stamps_serial(stamps) == token->serial && read_one(stamps, token->first, &ticks[0]) &&
	       read_one(stamps, token->last, &ticks[1]);
}

bool stamp_times(const struct launch_token *token, struct launch_times *out)
{
	const struct stamps *stamps = token->object;
	uint64_t ticks[2];

	if (!read_pair(token, ticks) || ticks[0] == 0 || ticks[1] < ticks[0]) /* wrapped counters give no times */
		return false;
	out->queued_ns = 0;
	out->start_ns = (uint64_t)((double)ticks[0] * stamps->device->tick_ns);
	out->end_ns = out->start_ns + (uint64_t)((double)(ticks[1] - ticks[0]) * stamps->device->tick_ns);
	return true;
}

/* Until the device begins, the timestamps are those of the execution before, or of none. The first one is written
 * after all have been reset. */
bool stamp_complete(const struct launch_token *token)
{
	const struct stamps *stamps = token->object;
	uint64_t first, ticks[2];

	return atomic_load(&stamps->written) && read_one(stamps, 0, &first) && first > atomic_load(&stamps->before) &&
	       read_pair(token, ticks);
}

void stamp_release(const struct launch_token *token)
{
	stamps_let_go(token->object);
}

struct stamp_trial {
	struct device *device;
	VkCommandPool pool;
	VkCommandBuffer with, without;
	VkFence fence;
	VkQueue queue;
	struct stamps *stamps;
};

/* The first queue family that supports compute and timestamps. */
static int trial_family(const struct device *device, const VkDeviceCreateInfo *info)
{
	for (uint32_t i = 0; i < info->queueCreateInfoCount; i++) {
		const VkDeviceQueueCreateInfo *queue = &info->pQueueCreateInfos[i];
		uint32_t family = queue->queueFamilyIndex;

		if (family < device->families && device->family[family].flags & VK_QUEUE_COMPUTE_BIT &&
		    queue->flags == 0 &&
		    device->family[family].stamp_bits >= 36) /* the useful minimum: one minute in ns */
			return (int)family;
	}
	return -1;
}

static VkResult record_trial(struct stamp_trial *trial, VkCommandBuffer buffer, bool with)
{
	const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
	const struct device_table *next = &trial->device->next;
	VkResult rc = next->BeginCommandBuffer(buffer, &begin);

	if (rc != VK_SUCCESS)
		return rc;
	if (with)
		next->CmdResetQueryPool(buffer, trial->stamps->pool, 0, TRIAL_STAMPS);
	for (uint32_t i = 0; with && i < TRIAL_STAMPS; i++)
		next->CmdWriteTimestamp(buffer, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, trial->stamps->pool, i);
	return next->EndCommandBuffer(buffer);
}

static VkResult prepare_trial(struct stamp_trial *trial, uint32_t family)
{
	const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
					      .queueFamilyIndex = family};
	const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
	VkCommandBufferAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
						.commandBufferCount = 2};
	struct device *device = trial->device;
	VkCommandBuffer buffers[2] = {NULL, NULL};
	VkResult rc = device->next.CreateCommandPool(device->handle, &pool, NULL, &trial->pool);

	if (rc != VK_SUCCESS)
		return rc;
	allocate.commandPool = trial->pool;
	rc = device->next.AllocateCommandBuffers(device->handle, &allocate, buffers);
	if (rc != VK_SUCCESS)
		return rc;
	trial->with = buffers[0];
	trial->without = buffers[1];
	device->next.GetDeviceQueue(device->handle, family, 0, &trial->queue);
	/* The loader knows only handles that passed through it. */
	if (device->set_loader_data(device->handle, trial->with) != VK_SUCCESS ||
	    device->set_loader_data(device->handle, trial->without) != VK_SUCCESS ||
	    device->set_loader_data(device->handle, trial->queue) != VK_SUCCESS)
		return VK_ERROR_INITIALIZATION_FAILED;
	trial->stamps = stamps_new(device, TRIAL_STAMPS);
	rc = device->next.CreateFence(device->handle, &fence, NULL, &trial->fence);
	if (rc == VK_SUCCESS && !trial->stamps)
		rc = VK_ERROR_OUT_OF_HOST_MEMORY;
	if (rc == VK_SUCCESS)
		rc = record_trial(trial, trial->with, true);
	return rc == VK_SUCCESS ? record_trial(trial, trial->without, false) : rc;
}

static VkResult run_trial(struct stamp_trial *trial, VkCommandBuffer buffer, uint64_t *least_ns)
{
	const VkSubmitInfo submit = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
				     .commandBufferCount = 1,
				     .pCommandBuffers = &buffer};
	struct device *device = trial->device;
	uint64_t begin_ns = clock_now_ns(), ns;
	VkResult rc = device->next.QueueSubmit(trial->queue, 1, &submit, trial->fence);

	if (rc == VK_SUCCESS)
		rc = device->next.WaitForFences(device->handle, 1, &trial->fence, VK_TRUE, TRIAL_WAIT_NS);
	ns = clock_now_ns() - begin_ns;
	*least_ns = ns < *least_ns ? ns : *least_ns;
	return rc == VK_SUCCESS ? device->next.ResetFences(device->handle, 1, &trial->fence) : rc;
}

/* Timestamps must change, and never decrease. */
static bool plausible(const struct stamp_trial *trial)
{
	uint64_t ticks[TRIAL_STAMPS];

	if (trial->device->next.GetQueryPoolResults(trial->device->handle, trial->stamps->pool, 0, TRIAL_STAMPS,
						    sizeof(ticks), ticks, sizeof(*ticks),
						    VK_QUERY_RESULT_64_BIT) != VK_SUCCESS)
		return false;
	for (size_t i = 1; i < TRIAL_STAMPS; i++)
		if (ticks[i] < ticks[i - 1])
			return false;
	return ticks[0] != 0;
}

/* The reason why timestamps are not used, or NULL. `forced`: use them regardless of their cost. */
static const char *judge(struct stamp_trial *trial, uint32_t family, bool forced)
{
	uint64_t with_ns = UINT64_MAX, without_ns = UINT64_MAX;

	if (prepare_trial(trial, family) != VK_SUCCESS)
		return "could not be tried";
	for (int i = 0; i < TRIAL_ROUNDS; i++)
		if (run_trial(trial, trial->without, &without_ns) != VK_SUCCESS ||
		    run_trial(trial, trial->with, &with_ns) != VK_SUCCESS)
			return "could not be tried";
	if (!plausible(trial))
		return "tell nothing";
	return !forced && with_ns > without_ns && (with_ns - without_ns) / TRIAL_STAMPS > STAMP_NS_MAX ?
		       "cost too much" :
		       NULL;
}

/* Once, though a program may create a device again and again. */
static void say_why(const char *name, const char *why)
{
	static _Atomic uint64_t last; /* message */
	uint64_t hash = boundary_hash(boundary_hash(0, name, strlen(name)), why, strlen(why));

	if (atomic_exchange(&last, hash) != hash)
		layer_say("timestamps of %s %s; inferences are timed as a whole", name, why);
}

void stamps_try(struct device *device, const VkPhysicalDeviceProperties *properties, const VkDeviceCreateInfo *info)
{
	const char *said = secure_getenv("FLAMED_TIMESTAMPS"), *why;
	struct stamp_trial trial = {.device = device};
	int family = trial_family(device, info);

	device->tick_ns = 0;
	if (!core.config.deadline_ns && !core.config.rate_mhz && !core.config.profile && !core.config.trace)
		return; /* times are not needed */
	if (said && strcmp(said, "off") == 0)
		return;
	why = family < 0 || !(properties->limits.timestampPeriod > 0) ?
		      "are not there" :
		      judge(&trial, (uint32_t)family, said && strcmp(said, "on") == 0);
	if (why)
		say_why(properties->deviceName, why);
	else
		device->tick_ns = (double)properties->limits.timestampPeriod;
	if (trial.fence) /* a submission that the trial no longer waited for uses its objects */
		device->next.DeviceWaitIdle(device->handle);
	stamps_let_go(trial.stamps);
	if (trial.fence)
		device->next.DestroyFence(device->handle, trial.fence, NULL);
	if (trial.pool)
		device->next.DestroyCommandPool(device->handle, trial.pool, NULL);
}
