/* SPDX-License-Identifier: MIT */
#include "submit.h"

#include <pthread.h>
#include <stdlib.h>
#include "../../common/clock.h"
#include "../slower.h"
#include "held.h"
#include "recorded.h"

/* One submission that is held. */
struct held_item {
	struct device *device;
	struct stamp_slot *slot;
	struct reaper *reaper;
	uint64_t number, key, launched_ns, prompt_ns;
	double from_ns, to_ns; /* device's clock */
	struct held_item *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

#define REAPERS 64 /* queues of all devices; submissions of further ones are not held */

/* Submissions of a queue that were passed to the driver, and perhaps still run; a thread waits for them in their order.
 * Those of another queue may end before them. */
static struct reaper {
	VkQueue queue; /* NULL: none yet. A later queue may have the handle of one whose device was destroyed. */
	struct held_item *first, **last;
} reapers[REAPERS];

/* --- from the driver to the board ---------------------------------------------- */

static void lane_real(void *arg, struct lane_item *item)
{
	(void)arg;
	(void)item; /* it ended before it was pushed */
}

static void lane_done(void *arg, struct lane_item *item)
{
	struct held_item *held = item->ticket;
	double clock_ns = held->device->clock_ns;

	(void)arg;
	slower_done(item);
	held_done(held->number, held->from_ns, held->to_ns, (double)item->start_ns - clock_ns,
		  (double)item->end_ns - clock_ns);
	free(held);
}

static void *reap(void *arg)
{
	struct reaper *reaper = arg;

	for (;;) {
		struct held_item *held;
		struct lane_item item = {0};
		struct device *device;
		uint64_t ticks[2] = {0};
		double clock_ns;

		pthread_mutex_lock(&lock);
		while (!reaper->first)
			pthread_cond_wait(&changed, &lock);
		held = reaper->first;
		reaper->first = held->next;
		if (!reaper->first)
			reaper->last = &reaper->first;
		pthread_mutex_unlock(&lock);
		device = held->device;
		device->WaitForFences(device->handle, 1, &held->slot->fence, VK_TRUE, UINT64_MAX);
		device->GetQueryPoolResults(device->handle, held->slot->stamps, 0, 2, sizeof(ticks), ticks,
					    sizeof(*ticks), VK_QUERY_RESULT_64_BIT);
		held->from_ns = (double)ticks[0] * device->tick_ns;
		held->to_ns = (double)ticks[1] * device->tick_ns;
		pthread_mutex_lock(&lock);
		clock_ns = (double)clock_now_ns() - held->to_ns;
		if (device->clock_ns == 0 || clock_ns < device->clock_ns)
			device->clock_ns = clock_ns;
		clock_ns = device->clock_ns;
		pthread_mutex_unlock(&lock);
		item = (struct lane_item){.launched_ns = held->launched_ns,
					  .prompt_ns = held->prompt_ns,
					  .ticket = held};
		slower_executed(held->key, held->to_ns - held->from_ns, (uint64_t)(held->from_ns + clock_ns), &item);
		pthread_mutex_lock(&lock);
		held->slot->busy = false;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
		lane_push(&slower.lane, &item);
	}
	return NULL;
}

/* The reaper of a queue, started at its first submission; NULL: there is none, and none can be started. With the lock
 * held. */
static struct reaper *reaper_of(VkQueue queue)
{
	struct reaper *reaper = reapers;
	pthread_t thread;

	while (reaper < reapers + REAPERS && reaper->queue && reaper->queue != queue)
		reaper++;
	if (reaper == reapers + REAPERS || reaper->queue)
		return reaper < reapers + REAPERS ? reaper : NULL;
	*reaper = (struct reaper){.queue = queue, .last = &reaper->first};
	if (pthread_create(&thread, NULL, reap, reaper) == 0) {
		pthread_detach(thread);
		return reaper;
	}
	reaper->queue = NULL;
	return NULL;
}

void submit_start(void)
{
	static const struct lane_ops ops = {.real = lane_real, .done = lane_done};

	slower_start("vulkan", &ops);
}

/* --- from the program to the driver -------------------------------------------- */

static bool make_slot(struct device *device, struct stamp_slot *slot)
{
	const VkCommandBufferAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
						      .commandPool = device->pool,
						      .commandBufferCount = 2};
	const VkQueryPoolCreateInfo stamps = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
					      .queryType = VK_QUERY_TYPE_TIMESTAMP,
					      .queryCount = 2};
	const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
	const VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
	VkCommandBuffer buffers[2];

	if (device->AllocateCommandBuffers(device->handle, &allocate, buffers) != VK_SUCCESS ||
	    device->set_loader_data(device->handle, buffers[0]) != VK_SUCCESS ||
	    device->set_loader_data(device->handle, buffers[1]) != VK_SUCCESS ||
	    device->CreateQueryPool(device->handle, &stamps, NULL, &slot->stamps) != VK_SUCCESS ||
	    device->CreateFence(device->handle, &fence, NULL, &slot->fence) != VK_SUCCESS)
		return false;
	slot->before = buffers[0];
	slot->after = buffers[1];
	for (uint32_t i = 0; i < 2; i++) {
		if (device->BeginCommandBuffer(buffers[i], &info) != VK_SUCCESS)
			return false;
		if (i == 0)
			device->CmdResetQueryPool(buffers[i], slot->stamps, 0, 2);
		device->CmdWriteTimestamp(buffers[i], VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, slot->stamps, i);
		if (device->EndCommandBuffer(buffers[i]) != VK_SUCCESS)
			return false;
	}
	return true;
}

static struct stamp_slot *take_slot(struct device *device)
{
	struct stamp_slot *slot = NULL;

	pthread_mutex_lock(&lock);
	while (!slot) {
		for (size_t i = 0; i < SLOTS && !slot; i++)
			if (!device->slot[i].busy)
				slot = &device->slot[i];
		if (!slot)
			pthread_cond_wait(&changed, &lock);
	}
	slot->busy = true;
	pthread_mutex_unlock(&lock);
	if (slot->fence)
		return device->ResetFences(device->handle, 1, &slot->fence) == VK_SUCCESS ? slot : NULL;
	return make_slot(device, slot) ? slot : NULL;
}

static bool timed_queue(const struct device *device, VkQueue handle)
{
	for (size_t i = 0; i < device->queues; i++)
		if (device->queue[i].handle == handle)
			return device->queue[i].family == device->family;
	return false;
}

/* Hold a submission that executes `what`; NULL: it is not held. */
static struct held_item *hold(struct device *device, VkQueue queue, const struct recorded *what)
{
	struct held_item *held = slower.on && what->dispatches && device->tick_ns > 0 && timed_queue(device, queue) ?
					 calloc(1, sizeof(*held)) :
					 NULL;
	VkSubmitInfo before = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1};

	if (!held)
		return NULL;
	held->device = device;
	pthread_mutex_lock(&lock);
	held->reaper = reaper_of(queue);
	pthread_mutex_unlock(&lock);
	held->slot = held->reaper ? take_slot(device) : NULL;
	before.pCommandBuffers = held->slot ? &held->slot->before : NULL;
	if (!held->slot || device->QueueSubmit(queue, 1, &before, VK_NULL_HANDLE) != VK_SUCCESS) {
		free(held);
		return NULL;
	}
	held->key = slower_launch(&what->hash, sizeof(what->hash), &held->launched_ns, &held->prompt_ns);
	held->number = held_new();
	return held;
}

/* The driver has accepted it. */
static void holding(struct held_item *held, VkQueue queue)
{
	const VkSubmitInfo after = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
				    .commandBufferCount = 1,
				    .pCommandBuffers = &held->slot->after};

	if (held->device->QueueSubmit(queue, 1, &after, held->slot->fence) != VK_SUCCESS) {
		held_done(held->number, 0, 0, 0, 0);
		free(held);
		return;
	}
	pthread_mutex_lock(&lock);
	*held->reaper->last = held;
	held->reaper->last = &held->next;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	slower_launched();
}

/* Returns whether the command buffer has dispatches. */
static bool join(struct recorded *all, VkCommandBuffer handle)
{
	struct recorded one = recorded_of(handle);

	if (one.dispatches)
		all->hash = calibration_key(all->hash, &one.hash, sizeof(one.hash));
	all->dispatches += one.dispatches;
	return one.dispatches > 0;
}

static const VkTimelineSemaphoreSubmitInfo *timeline_of(const VkSubmitInfo *info)
{
	for (const VkBaseInStructure *in = info->pNext; in; in = in->pNext)
		if (in->sType == VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO)
			return (const void *)in;
	return NULL;
}

/* The newest held submission that is over when this one is: itself; else the newest of its queue, or `awaited`, the
 * newest whose semaphores it waits for. One on another queue may begin only after the program has seen this one end. */
static uint64_t number_of(const struct held_item *held, struct device *device, VkQueue queue, uint64_t awaited)
{
	uint64_t number = held ? held->number : awaited;

	for (size_t i = 0; i < device->queues; i++) {
		if (device->queue[i].handle != queue)
			continue;
		number = device->queue[i].newest > number ? device->queue[i].newest : number;
		device->queue[i].newest = number;
	}
	return number;
}

void submit_wait(const struct device *device, VkQueue queue)
{
	for (size_t i = 0; i < device->queues; i++)
		if (!queue || device->queue[i].handle == queue)
			held_wait(device->queue[i].newest, HELD_FOREVER);
}

static void await_signal(uint64_t *awaited, VkSemaphore semaphore, uint64_t value)
{
	uint64_t number = held_by_value((uint64_t)(uintptr_t)semaphore, value);

	*awaited = number > *awaited ? number : *awaited;
}

/* What a semaphore of batch `batch` tells, of a submission whose last dispatch is in batch `last`: of an earlier one no
 * more than what came before the submission, as the program may be about to let the rest begin. */
static uint64_t number_of_batch(uint32_t batch, uint32_t last, uint64_t before, uint64_t number)
{
	return batch < last ? before : number;
}

static void taken(struct held_item *held, VkQueue queue, VkResult rc, VkFence fence, uint64_t number)
{
	if (rc == VK_SUCCESS && fence) {
		held_forget((uint64_t)(uintptr_t)fence);
		held_signal((uint64_t)(uintptr_t)fence, 0, number);
	}
	if (held)
		holding(held, queue);
}

static VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue queue, uint32_t count, const VkSubmitInfo *infos, VkFence fence)
{
	struct device *device = device_of(queue);
	uint64_t awaited = 0, before, number;
	struct recorded all = {0};
	struct held_item *held;
	uint32_t last = 0;
	VkResult rc;

	for (uint32_t i = 0; i < count; i++) {
		const VkTimelineSemaphoreSubmitInfo *timeline = timeline_of(&infos[i]);

		for (uint32_t j = 0; j < infos[i].commandBufferCount; j++)
			last = join(&all, infos[i].pCommandBuffers[j]) ? i : last;
		for (uint32_t j = 0; j < infos[i].waitSemaphoreCount; j++)
			await_signal(&awaited, infos[i].pWaitSemaphores[j],
				     timeline && j < timeline->waitSemaphoreValueCount ?
					     timeline->pWaitSemaphoreValues[j] :
					     0);
	}
	before = number_of(NULL, device, queue, awaited);
	held = hold(device, queue, &all);
	number = number_of(held, device, queue, awaited);
	rc = device->QueueSubmit(queue, count, infos, fence);
	for (uint32_t i = 0; rc == VK_SUCCESS && i < count; i++) {
		const VkTimelineSemaphoreSubmitInfo *timeline = timeline_of(&infos[i]);

		for (uint32_t j = 0; j < infos[i].signalSemaphoreCount; j++)
			held_signal((uint64_t)(uintptr_t)infos[i].pSignalSemaphores[j],
				    timeline && j < timeline->signalSemaphoreValueCount ?
					    timeline->pSignalSemaphoreValues[j] :
					    0,
				    number_of_batch(i, last, before, number));
	}
	taken(held, queue, rc, fence, number);
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL submit2(VkQueue queue, uint32_t count, const VkSubmitInfo2 *infos, VkFence fence)
{
	struct device *device = device_of(queue);
	uint64_t awaited = 0, before, number;
	struct recorded all = {0};
	struct held_item *held;
	uint32_t last = 0;
	VkResult rc;

	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t j = 0; j < infos[i].commandBufferInfoCount; j++)
			last = join(&all, infos[i].pCommandBufferInfos[j].commandBuffer) ? i : last;
		for (uint32_t j = 0; j < infos[i].waitSemaphoreInfoCount; j++)
			await_signal(&awaited, infos[i].pWaitSemaphoreInfos[j].semaphore,
				     infos[i].pWaitSemaphoreInfos[j].value);
	}
	before = number_of(NULL, device, queue, awaited);
	held = hold(device, queue, &all);
	number = number_of(held, device, queue, awaited);
	rc = device->QueueSubmit2(queue, count, infos, fence);
	for (uint32_t i = 0; rc == VK_SUCCESS && i < count; i++)
		for (uint32_t j = 0; j < infos[i].signalSemaphoreInfoCount; j++)
			held_signal((uint64_t)(uintptr_t)infos[i].pSignalSemaphoreInfos[j].semaphore,
				    infos[i].pSignalSemaphoreInfos[j].value, number_of_batch(i, last, before, number));
	taken(held, queue, rc, fence, number);
	return rc;
}

void submit_close(struct device *device)
{
	for (size_t i = 0; i < SLOTS; i++) {
		if (device->slot[i].fence)
			device->DestroyFence(device->handle, device->slot[i].fence, NULL);
		if (device->slot[i].stamps)
			device->DestroyQueryPool(device->handle, device->slot[i].stamps, NULL);
	}
}

PFN_vkVoidFunction submit_wrapper(const char *name)
{
	static const struct wrapper wrappers[] = {
		WRAPPER("QueueSubmit", submit),
		WRAPPER("QueueSubmit2", submit2),
		WRAPPER("QueueSubmit2KHR", submit2),
	};

	return wrapper_find(wrappers, sizeof(wrappers) / sizeof(*wrappers), name);
}
