/* SPDX-License-Identifier: MIT */
/* Submissions and host waits. A queue's submissions are the commands of its stream; fences and
 * semaphores store the newest command that they cover. */
#include "layer.h"

#include <stdlib.h>
#include <string.h>

static void got_queue(struct device *device, VkQueue handle, uint32_t family)
{
	size_t i = 0;

	pthread_mutex_lock(&device->lock);
	while (i < device->queues && device->queue[i].handle != handle)
		i++;
	if (i == device->queues && i < VULKAN_QUEUES_MAX)
		device->queue[device->queues++] = (struct queue){.handle = handle, .family = family};
	pthread_mutex_unlock(&device->lock);
}

static VKAPI_ATTR void VKAPI_CALL get_queue(VkDevice handle, uint32_t family, uint32_t index, VkQueue *queue)
{
	struct device *device = device_of(handle);

	device->next.GetDeviceQueue(handle, family, index, queue);
	if (device_watched(device) && *queue)
		got_queue(device, *queue, family);
}

static VKAPI_ATTR void VKAPI_CALL get_queue2(VkDevice handle, const VkDeviceQueueInfo2 *info, VkQueue *queue)
{
	struct device *device = device_of(handle);

	device->next.GetDeviceQueue2(handle, info, queue);
	if (device_watched(device) && *queue && !(info->flags & VK_DEVICE_QUEUE_CREATE_PROTECTED_BIT))
		got_queue(device, *queue, info->queueFamilyIndex);
}

struct queue *device_queue(struct device *device, VkQueue handle)
{
	struct queue *queue = NULL;

	pthread_mutex_lock(&device->lock);
	for (size_t i = 0; i < device->queues && !queue; i++)
		if (device->queue[i].handle == handle)
			queue = &device->queue[i];
	pthread_mutex_unlock(&device->lock);
	return queue;
}

/* Its stream, which a thread that makes a swapchain may take away; NULL: none. `wanted`: there is a launch. */
static struct stream *stream_of(struct device *device, struct queue *queue, bool wanted)
{
	struct stream *stream;

	pthread_mutex_lock(&device->lock);
	if (wanted && !queue->stream && !queue->refused) {
		queue->stream = stream_take();
		queue->refused = !queue->stream;
	}
	stream = queue->stream;
	pthread_mutex_unlock(&device->lock);
	return stream;
}

void device_leave(struct device *device)
{
	struct stream *streams[VULKAN_QUEUES_MAX];
	size_t count = 0;

	atomic_store(&device->watched, false);
	pthread_mutex_lock(&device->lock);
	for (size_t i = 0; i < device->queues; i++) {
		if (device->queue[i].stream)
			streams[count++] = device->queue[i].stream;
		device->queue[i].stream = NULL;
		device->queue[i].refused = true;
	}
	pthread_mutex_unlock(&device->lock);
	while (count > 0)
		stream_leave(streams[--count]);
}

static size_t streams_of(struct device *device, struct stream *streams[VULKAN_QUEUES_MAX])
{
	size_t count = 0;

	pthread_mutex_lock(&device->lock);
	for (size_t i = 0; i < device->queues; i++)
		if (device->queue[i].stream)
			streams[count++] = device->queue[i].stream;
	pthread_mutex_unlock(&device->lock);
	return count;
}

void device_compiles(struct device *device)
{
	struct stream *streams[VULKAN_QUEUES_MAX];
	size_t count = streams_of(device, streams);

	while (count > 0)
		stream_spoil(streams[--count]);
}

/* A submission of either form, with its parts. */
struct submission {
	struct device *device;
	struct queue *queue;
	struct stream *stream; /* of the queue; NULL: none */
	struct command **commands;
	size_t command_count, buffers;
	struct launch *own; /* launches of several command buffers, concatenated */
	const struct launch *launches;
	size_t count, groups;
	bool timed;
	struct launch_call call;
	struct launch_token *tokens; /* of the groups of launches, if they are recorded */
	uint64_t *kernels;           /* the first of each group */
	size_t token_count;
	uint32_t last;      /* of the batches that it consists of: the last one with a launch */
	struct cover cover; /* by which a fence or semaphore that it signals tells that it is complete */
};

/* Of batch `batch`. */
static void add_command(struct submission *out, uint32_t batch, VkCommandBuffer handle)
{
	struct command *command;

	pthread_mutex_lock(&out->device->lock);
	command = table_get(&out->device->commands, HANDLE(handle));
	pthread_mutex_unlock(&out->device->lock);
	out->buffers++;
	if (!command || command->count == 0)
		return;
	out->commands[out->command_count++] = command;
	out->last = batch;
	out->count += command->count;
	out->groups += command->groups_count;
	out->timed &= !command->untimed && command->stamps;
}

/* Where the oldest one is that is still remembered. */
static size_t first_cover(const struct semaphore *semaphore)
{
	return semaphore->count > VULKAN_SIGNALS_MAX ? semaphore->count - VULKAN_SIGNALS_MAX : 0;
}

/* A queue that waits for another one, as a transfer queue does: when it is over, so is what it waited for, which a
 * submission that signals the least sufficient value does. Of equal values, as binary semaphores have them, the newest
 * counts. */
static void inherit(struct submission *out, VkSemaphore handle, uint64_t value)
{
	struct semaphore *semaphore;

	if (out->cover.stream)
		return;
	pthread_mutex_lock(&out->device->lock);
	semaphore = table_get(&out->device->semaphores, HANDLE(handle));
	for (size_t i = semaphore ? first_cover(semaphore) : 0; semaphore && i < semaphore->count; i++) {
		const struct cover *one = &semaphore->cover[i % VULKAN_SIGNALS_MAX];

		if (one->stream && one->stream != out->queue->stream && one->value >= value &&
		    (!out->cover.stream || one->value <= out->cover.value))
			out->cover = *one;
	}
	pthread_mutex_unlock(&out->device->lock);
}

static void signal_semaphore(struct device *device, VkSemaphore handle, uint64_t value, struct cover cover)
{
	struct semaphore *semaphore;

	cover.value = value;
	pthread_mutex_lock(&device->lock);
	semaphore = table_get(&device->semaphores, HANDLE(handle));
	if (!semaphore && cover.stream)
		semaphore = table_add(&device->semaphores, HANDLE(handle), sizeof(*semaphore));
	if (semaphore)
		semaphore->cover[semaphore->count++ % VULKAN_SIGNALS_MAX] = cover;
	pthread_mutex_unlock(&device->lock);
}

static void signal_fence(struct device *device, VkFence handle, struct cover cover)
{
	struct fence *fence;

	if (!handle)
		return;
	pthread_mutex_lock(&device->lock);
	fence = table_get(&device->fences, HANDLE(handle));
	if (!fence && cover.stream)
		fence = table_add(&device->fences, HANDLE(handle), sizeof(*fence));
	if (fence)
		fence->cover = cover;
	pthread_mutex_unlock(&device->lock);
}

static bool join_launches(struct submission *out)
{
	size_t at = 0;

	if (out->command_count == 1) {
		out->launches = out->commands[0]->launches;
		return true;
	}
	out->own = calloc(out->count, sizeof(*out->own));
	for (size_t i = 0; out->own && i < out->command_count; i++) {
		memcpy(out->own + at, out->commands[i]->launches, out->commands[i]->count * sizeof(*out->own));
		at += out->commands[i]->count;
	}
	out->launches = out->own;
	return out->own != NULL;
}

/* Every group of launches with its timestamps. Tokens from an earlier execution of the same buffer
 * become invalid. */
static void fill_tokens(struct submission *out)
{
	out->tokens = calloc(out->groups, sizeof(*out->tokens));
	out->kernels = calloc(out->groups, sizeof(*out->kernels));
	if (!out->tokens || !out->kernels)
		return;
	for (size_t i = 0; i < out->command_count; i++) {
		const struct command *command = out->commands[i];
		uint64_t serial = stamps_serial(command->stamps);

		for (size_t j = 0; j < command->groups_count; j++) {
			const struct launch_group *group = &command->groups[j];

			stamps_hold(command->stamps);
			out->tokens[out->token_count] =
				(struct launch_token){command->stamps, serial, group->first, group->last};
			out->kernels[out->token_count++] = group->kernel;
		}
	}
}

/* Before the call of the driver. While that call runs, the device may complete the submission, and another thread that
 * waited for it may free its command buffers or record them again. */
static void submitting(struct submission *out)
{
	out->stream = stream_of(out->device, out->queue, out->count > 0);
	if (out->cover.stream)
		out->queue->awaited = out->cover;
	out->cover = out->queue->awaited;
	if (!out->stream)
		return;
	for (size_t i = 0; i < out->command_count; i++)
		stream_arguments(out->stream, out->commands[i]->pushed);
	if (out->count > 0 && join_launches(out))
		stream_launching(out->stream, &out->call, out->launches, out->count, out->timed, false);
	else if (out->buffers > 0)
		stream_uploading(out->stream);
	if (out->call.record && out->groups > 0)
		fill_tokens(out);
	for (size_t i = 0; i < out->command_count; i++)
		if (out->commands[i]->used > 0)
			stamps_submitting(out->commands[i]->stamps,
					  out->token_count > 0 && core.config.boundary.rule >= BOUNDARY_KERNEL);
	/* No other thread submits to the queue at the same time, so that this will be its number. */
	out->cover = (struct cover){.stream = out->stream,
				    .number = stream_commands(out->stream) + 1,
				    .other = out->queue->awaited.stream,
				    .other_number = out->queue->awaited.number};
}

/* The driver accepted or refused the submission. */
static void submitted(struct submission *out, VkResult rc)
{
	bool taken = rc == VK_SUCCESS;

	if (out->call.known)
		stream_launched(out->stream, &out->call, taken, out->tokens, out->kernels, out->token_count);
	else if (out->stream && taken)
		stream_enqueued(out->stream);
	if (rc == VK_ERROR_DEVICE_LOST)
		layer_off("the device was lost");
}

/* False: pass the submission on unchanged; there is nothing to release. */
static bool new_submission(struct submission *out, struct device *device, VkQueue handle, size_t buffers)
{
	*out = (struct submission){.device = device, .timed = true};
	if (!device_watched(device))
		return false;
	out->queue = device_queue(device, handle);
	if (!out->queue)
		return false;
	out->commands = calloc(buffers + 1, sizeof(struct command *));
	return out->commands != NULL;
}

/* Called after filling it in, before the driver. */
static void hand_over(struct submission *submission)
{
	for (size_t i = 0; i < submission->command_count; i++)
		if (submission->commands[i]->stamps)
			stamps_renew(submission->commands[i]->stamps);
	submitting(submission);
}

static void drop(struct submission *submission)
{
	free(submission->commands);
	free(submission->own);
	free(submission->tokens);
	free(submission->kernels);
}

static const VkTimelineSemaphoreSubmitInfo *timeline_of(const VkSubmitInfo *info)
{
	for (const VkBaseInStructure *in = info->pNext; in; in = in->pNext)
		if (in->sType == VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO)
			return (const void *)in;
	return NULL;
}

static void take_apart(struct submission *out, uint32_t count, const VkSubmitInfo *infos)
{
	for (uint32_t i = 0; i < count; i++) {
		const VkTimelineSemaphoreSubmitInfo *timeline = timeline_of(&infos[i]);

		for (uint32_t j = 0; j < infos[i].commandBufferCount; j++)
			add_command(out, i, infos[i].pCommandBuffers[j]);
		for (uint32_t j = 0; j < infos[i].waitSemaphoreCount; j++)
			inherit(out, infos[i].pWaitSemaphores[j],
				timeline && j < timeline->waitSemaphoreValueCount ? timeline->pWaitSemaphoreValues[j] :
										    0);
	}
}

/* The semaphores of a batch are signalled before the launches of later ones are complete: they cover only the commands
 * before the submission. */
static struct cover cover_of_batch(const struct submission *submission, uint32_t batch)
{
	struct cover cover = submission->cover;

	if (submission->stream && batch < submission->last) {
		cover.number--;
		cover.other = NULL;
	}
	return cover;
}

/* Before the call of the driver: a thread that already waits for the value may return before that call does. */
static void signal_all(const struct submission *submission, uint32_t count, const VkSubmitInfo *infos)
{
	for (uint32_t i = 0; i < count; i++) {
		const VkTimelineSemaphoreSubmitInfo *timeline = timeline_of(&infos[i]);

		for (uint32_t j = 0; j < infos[i].signalSemaphoreCount; j++)
			signal_semaphore(submission->device, infos[i].pSignalSemaphores[j],
					 timeline && j < timeline->signalSemaphoreValueCount ?
						 timeline->pSignalSemaphoreValues[j] :
						 0,
					 cover_of_batch(submission, i));
	}
}

static VKAPI_ATTR VkResult VKAPI_CALL submit(VkQueue handle, uint32_t count, const VkSubmitInfo *infos, VkFence fence)
{
	struct device *device = device_of(handle);
	struct submission submission;
	size_t buffers = 0;
	VkResult rc;

	for (uint32_t i = 0; i < count; i++)
		buffers += infos[i].commandBufferCount;
	if (!new_submission(&submission, device, handle, buffers))
		return device->next.QueueSubmit(handle, count, infos, fence);
	take_apart(&submission, count, infos);
	hand_over(&submission);
	signal_all(&submission, count, infos);
	rc = device->next.QueueSubmit(handle, count, infos, fence);
	submitted(&submission, rc);
	if (rc == VK_SUCCESS)
		signal_fence(device, fence, submission.cover);
	drop(&submission);
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL submit2(VkQueue handle, uint32_t count, const VkSubmitInfo2 *infos, VkFence fence)
{
	struct device *device = device_of(handle);
	struct submission submission;
	size_t buffers = 0;
	VkResult rc;

	for (uint32_t i = 0; i < count; i++)
		buffers += infos[i].commandBufferInfoCount;
	if (!new_submission(&submission, device, handle, buffers))
		return device->next.QueueSubmit2(handle, count, infos, fence);
	for (uint32_t i = 0; i < count; i++) {
		for (uint32_t j = 0; j < infos[i].commandBufferInfoCount; j++)
			add_command(&submission, i, infos[i].pCommandBufferInfos[j].commandBuffer);
		for (uint32_t j = 0; j < infos[i].waitSemaphoreInfoCount; j++)
			inherit(&submission, infos[i].pWaitSemaphoreInfos[j].semaphore,
				infos[i].pWaitSemaphoreInfos[j].value);
	}
	hand_over(&submission);
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t j = 0; j < infos[i].signalSemaphoreInfoCount; j++)
			signal_semaphore(device, infos[i].pSignalSemaphoreInfos[j].semaphore,
					 infos[i].pSignalSemaphoreInfos[j].value, cover_of_batch(&submission, i));
	rc = device->next.QueueSubmit2(handle, count, infos, fence);
	submitted(&submission, rc);
	if (rc == VK_SUCCESS)
		signal_fence(device, fence, submission.cover);
	drop(&submission);
	return rc;
}

static struct cover cover_of_fence(struct device *device, VkFence handle)
{
	const struct fence *fence;
	struct cover cover = {0};

	pthread_mutex_lock(&device->lock);
	fence = table_get(&device->fences, HANDLE(handle));
	if (fence)
		cover = fence->cover;
	pthread_mutex_unlock(&device->lock);
	return cover;
}

/* The host knows that a command is complete, because it waited or because it polled. */
static void note_command(struct stream *stream, uint64_t number, bool asked)
{
	if (stream && asked)
		stream_polled(stream, number, true);
	else if (stream)
		stream_waited(stream, WAIT_FINISH, number);
}

static void note_complete(struct cover cover, bool asked)
{
	note_command(cover.other, cover.other_number, asked);
	note_command(cover.stream, cover.number, asked);
}

static void lost(VkResult rc)
{
	if (rc == VK_ERROR_DEVICE_LOST)
		layer_off("the device was lost");
}

static VKAPI_ATTR VkResult VKAPI_CALL wait_fences(VkDevice handle, uint32_t count, const VkFence *fences, VkBool32 all,
						  uint64_t timeout)
{
	struct device *device = device_of(handle);
	VkResult rc = device->next.WaitForFences(handle, count, fences, all, timeout);

	if (!device_watched(device))
		return rc;
	lost(rc);
	for (uint32_t i = 0; i < count; i++) {
		struct cover cover = cover_of_fence(device, fences[i]);

		if (!cover.stream)
			continue;
		if (rc == VK_SUCCESS &&
		    (all || count == 1 || device->next.GetFenceStatus(handle, fences[i]) == VK_SUCCESS))
			note_complete(cover, timeout == 0);
		else if (rc == VK_TIMEOUT)
			stream_polled(cover.stream, cover.number, false);
	}
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL fence_status(VkDevice handle, VkFence fence)
{
	struct device *device = device_of(handle);
	VkResult rc = device->next.GetFenceStatus(handle, fence);
	struct cover cover;

	if (!device_watched(device))
		return rc;
	lost(rc);
	cover = cover_of_fence(device, fence);
	if (rc == VK_SUCCESS)
		note_complete(cover, true);
	else if (cover.stream && rc == VK_NOT_READY)
		stream_polled(cover.stream, cover.number, false);
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL reset_fences(VkDevice handle, uint32_t count, const VkFence *fences)
{
	struct device *device = device_of(handle);

	for (uint32_t i = 0; i < count; i++)
		signal_fence(device, fences[i], (struct cover){0});
	return device->next.ResetFences(handle, count, fences);
}

static VKAPI_ATTR void VKAPI_CALL destroy_fence(VkDevice handle, VkFence fence, const VkAllocationCallbacks *allocator)
{
	struct device *device = device_of(handle);

	table_forget(device, &device->fences, HANDLE(fence));
	device->next.DestroyFence(handle, fence, allocator);
}

static VKAPI_ATTR void VKAPI_CALL destroy_semaphore(VkDevice handle, VkSemaphore semaphore,
						    const VkAllocationCallbacks *allocator)
{
	struct device *device = device_of(handle);

	table_forget(device, &device->semaphores, HANDLE(semaphore));
	device->next.DestroySemaphore(handle, semaphore, allocator);
}

/* The submission that signals the largest value up to this one, and the one that signals the largest of all. Numbers
 * do not order them, since a semaphore may be signalled by several queues. */
static struct cover cover_of_value(struct device *device, VkSemaphore handle, uint64_t value, struct cover *newest)
{
	const struct semaphore *semaphore;
	struct cover cover = {0};

	*newest = cover;
	pthread_mutex_lock(&device->lock);
	semaphore = table_get(&device->semaphores, HANDLE(handle));
	for (size_t i = semaphore ? first_cover(semaphore) : 0; semaphore && i < semaphore->count; i++) {
		const struct cover *one = &semaphore->cover[i % VULKAN_SIGNALS_MAX];

		if (one->stream && one->value <= value && one->value >= cover.value)
			cover = *one;
		if (one->stream && one->value >= newest->value)
			*newest = *one;
	}
	pthread_mutex_unlock(&device->lock);
	return cover;
}

static VKAPI_ATTR VkResult VKAPI_CALL wait_semaphores(VkDevice handle, const VkSemaphoreWaitInfo *info,
						      uint64_t timeout)
{
	struct device *device = device_of(handle);
	VkResult rc = device->next.WaitSemaphores(handle, info, timeout);
	bool any = info->flags & VK_SEMAPHORE_WAIT_ANY_BIT && info->semaphoreCount > 1;

	if (!device_watched(device))
		return rc;
	lost(rc);
	for (uint32_t i = 0; rc == VK_SUCCESS && i < info->semaphoreCount; i++) {
		uint64_t value = info->pValues[i];
		struct cover newest;

		/* Which of several semaphores was signalled? */
		if (any && (device->next.GetSemaphoreCounterValue(handle, info->pSemaphores[i], &value) != VK_SUCCESS ||
			    value < info->pValues[i]))
			continue;
		note_complete(cover_of_value(device, info->pSemaphores[i], value, &newest), timeout == 0);
	}
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL counter_value(VkDevice handle, VkSemaphore semaphore, uint64_t *value)
{
	struct device *device = device_of(handle);
	VkResult rc = device->next.GetSemaphoreCounterValue(handle, semaphore, value);
	struct cover cover, newest;

	if (!device_watched(device))
		return rc;
	lost(rc);
	if (rc != VK_SUCCESS)
		return rc;
	cover = cover_of_value(device, semaphore, *value, &newest);
	note_complete(cover, true);
	if (newest.stream && newest.value > *value)
		stream_polled(newest.stream, newest.number, false);
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL queue_idle(VkQueue handle)
{
	struct device *device = device_of(handle);
	VkResult rc = device->next.QueueWaitIdle(handle);
	struct stream *stream;
	struct queue *queue;

	if (!device_watched(device))
		return rc;
	lost(rc);
	queue = rc == VK_SUCCESS ? device_queue(device, handle) : NULL;
	if (!queue)
		return rc;
	note_complete(queue->awaited, false);
	stream = stream_of(device, queue, false);
	if (stream)
		stream_waited(stream, WAIT_FINISH, STREAM_ALL);
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL device_idle(VkDevice handle)
{
	struct device *device = device_of(handle);
	VkResult rc = device->next.DeviceWaitIdle(handle);
	struct stream *streams[VULKAN_QUEUES_MAX];
	size_t count;

	if (!device_watched(device))
		return rc;
	lost(rc);
	count = rc == VK_SUCCESS ? streams_of(device, streams) : 0;
	while (count > 0)
		stream_waited(streams[--count], WAIT_FINISH, STREAM_ALL);
	return rc;
}

static VKAPI_ATTR VkResult VKAPI_CALL bind_sparse(VkQueue handle, uint32_t count, const VkBindSparseInfo *infos,
						  VkFence fence)
{
	struct device *device = device_of(handle);

	signal_fence(device, fence, (struct cover){0}); /* covers no launch */
	return device->next.QueueBindSparse(handle, count, infos, fence);
}

/* Before it creates a swapchain. */
static void leave_alone(struct device *device)
{
	if (!device_watched(device))
		return;
	layer_say("the program presents to a screen; its device is not observed");
	device_leave(device);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_swapchain(VkDevice handle, const VkSwapchainCreateInfoKHR *info,
						       const VkAllocationCallbacks *allocator,
						       VkSwapchainKHR *swapchain)
{
	struct device *device = device_of(handle);

	leave_alone(device);
	return device->next.CreateSwapchainKHR(handle, info, allocator, swapchain);
}

static VKAPI_ATTR VkResult VKAPI_CALL create_swapchains(VkDevice handle, uint32_t count,
							const VkSwapchainCreateInfoKHR *infos,
							const VkAllocationCallbacks *allocator,
							VkSwapchainKHR *swapchains)
{
	struct device *device = device_of(handle);

	leave_alone(device);
	return device->next.CreateSharedSwapchainsKHR(handle, count, infos, allocator, swapchains);
}

/* clang-format off */
#define ENTRY(name, wrapper) {"vk" name, (PFN_vkVoidFunction)wrapper}
/* clang-format on */

const struct intercept submit_entries[] = {
	ENTRY("GetDeviceQueue", get_queue),
	ENTRY("GetDeviceQueue2", get_queue2),
	ENTRY("QueueSubmit", submit),
	ENTRY("QueueSubmit2", submit2),
	ENTRY("QueueSubmit2KHR", submit2),
	ENTRY("QueueBindSparse", bind_sparse),
	ENTRY("QueueWaitIdle", queue_idle),
	ENTRY("DeviceWaitIdle", device_idle),
	ENTRY("WaitForFences", wait_fences),
	ENTRY("GetFenceStatus", fence_status),
	ENTRY("ResetFences", reset_fences),
	ENTRY("DestroyFence", destroy_fence),
	ENTRY("WaitSemaphores", wait_semaphores),
	ENTRY("WaitSemaphoresKHR", wait_semaphores),
	ENTRY("GetSemaphoreCounterValue", counter_value),
	ENTRY("GetSemaphoreCounterValueKHR", counter_value),
	ENTRY("DestroySemaphore", destroy_semaphore),
	ENTRY("CreateSwapchainKHR", create_swapchain),
	ENTRY("CreateSharedSwapchainsKHR", create_swapchains),
	{NULL, NULL},
};
