/* SPDX-License-Identifier: MIT */
/* A Vulkan program without any use of flamed. Options are words like runs=40; the last line on stdout is a hash of the
 * results. */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "setup.h"

#define CROWD_MAX 32
#define PART_US   5000

struct options want = {
	.runs = 30, .kernels = 6, .submits = 1, .rounds = 256, .devices = 1, .flight = 1, .group = 1, .wait = "fence"};

static uint64_t thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Dispatches `from` to `to`, each group after the one before. */
static void dispatch(struct engine *engine, VkCommandBuffer commands, unsigned from, unsigned to)
{
	const VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
					 .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
					 .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT};

	vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, engine->layout, 0, 1, &engine->set, 0, NULL);
	for (unsigned i = from; i < to; i++) {
		vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, engine->pipeline[want.single ? 0 : i % 3]);
		vkCmdDispatch(commands, want.single ? 8 : 1 + (i * 3 + want.size) % 32, 1, 1);
		if ((i + 1) % want.group == 0)
			vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
					     VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, 0, 1, &barrier, 0, NULL, 0, NULL);
	}
}

static void record(struct engine *engine, VkCommandBuffer commands, unsigned from, unsigned to)
{
	const VkCommandBufferInheritanceInfo inherit = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_INHERITANCE_INFO};
	const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
						.pInheritanceInfo = &inherit};

	if (want.secondary) {
		CHECK(vkBeginCommandBuffer(engine->secondary, &begin));
		dispatch(engine, engine->secondary, from, to);
		CHECK(vkEndCommandBuffer(engine->secondary));
	}
	CHECK(vkBeginCommandBuffer(commands, &begin));
	if (want.secondary)
		vkCmdExecuteCommands(commands, 1, &engine->secondary);
	else
		dispatch(engine, commands, from, to);
	CHECK(vkEndCommandBuffer(commands));
}

/* `count` command buffers in one call, each with the next value of the timeline; `gated`: the last one waits at the
 * gate. */
static void submit(struct engine *engine, const VkCommandBuffer *commands, unsigned count, VkFence fence, bool gated)
{
	const bool timeline = strncmp(want.wait, "timeline", 8) == 0;
	const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT;
	const VkSemaphoreSubmitInfo gate = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
					    .semaphore = engine->gate,
					    .value = engine->gate_value,
					    .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
	VkTimelineSemaphoreSubmitInfo values[SUBMITS_MAX];
	VkSubmitInfo infos[SUBMITS_MAX];
	VkCommandBufferSubmitInfo buffers[SUBMITS_MAX];
	VkSemaphoreSubmitInfo signals[SUBMITS_MAX];
	VkSubmitInfo2 infos2[SUBMITS_MAX];
	uint64_t value[SUBMITS_MAX];

	for (unsigned i = 0; i < count; i++) {
		const bool waits = gated && i + 1 == count;

		value[i] = timeline ? ++engine->value : 0;
		values[i] = (VkTimelineSemaphoreSubmitInfo){.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
							    .waitSemaphoreValueCount = waits,
							    .pWaitSemaphoreValues = &engine->gate_value,
							    .signalSemaphoreValueCount = timeline,
							    .pSignalSemaphoreValues = &value[i]};
		infos[i] = (VkSubmitInfo){.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
					  .pNext = timeline || waits ? &values[i] : NULL,
					  .waitSemaphoreCount = waits,
					  .pWaitSemaphores = &engine->gate,
					  .pWaitDstStageMask = &stage,
					  .commandBufferCount = 1,
					  .pCommandBuffers = &commands[i],
					  .signalSemaphoreCount = timeline,
					  .pSignalSemaphores = &engine->timeline};
		buffers[i] = (VkCommandBufferSubmitInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
							 .commandBuffer = commands[i]};
		signals[i] = (VkSemaphoreSubmitInfo){.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
						     .semaphore = engine->timeline,
						     .value = value[i],
						     .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
		infos2[i] = (VkSubmitInfo2){.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
					    .waitSemaphoreInfoCount = waits,
					    .pWaitSemaphoreInfos = &gate,
					    .commandBufferInfoCount = 1,
					    .pCommandBufferInfos = &buffers[i],
					    .signalSemaphoreInfoCount = timeline,
					    .pSignalSemaphoreInfos = &signals[i]};
	}
	if (want.submit2)
		CHECK(vkQueueSubmit2(engine->queue, count, infos2, fence));
	else
		CHECK(vkQueueSubmit(engine->queue, count, infos, fence));
}

static void open_gate(struct engine *engine, uint64_t value)
{
	const VkSemaphoreSignalInfo open = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO,
					    .semaphore = engine->gate,
					    .value = value};

	CHECK(vkSignalSemaphore(engine->device, &open));
}

/* Poll like an engine, with pauses between; the first polls, whose number is given, without pauses and all in vain. */
static void poll_fence(struct engine *engine, VkFence fence)
{
	for (unsigned i = 0; i < want.polls; i++)
		if (vkGetFenceStatus(engine->device, fence) != VK_NOT_READY)
			exit(6);
	if (want.polls)
		open_gate(engine, engine->gate_value);
	while (vkGetFenceStatus(engine->device, fence) == VK_NOT_READY)
		usleep(20);
}

static void wait_for_value(const struct engine *engine, uint64_t value)
{
	const VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
					  .semaphoreCount = 1,
					  .pSemaphores = &engine->timeline,
					  .pValues = &value};

	CHECK(vkWaitSemaphores(engine->device, &info, FOREVER));
}

/* For all but the last submission of a run, which is then let go. */
static void wait_for_parts(struct engine *engine)
{
	wait_for_value(engine, engine->value - 1);
	usleep(PART_US);
	open_gate(engine, engine->gate_value);
	wait_for_value(engine, engine->value);
}

/* On the second queue, behind the submission that signals `value`; `count` command buffers. */
static void submit_behind(struct engine *engine, uint64_t value, const VkCommandBuffer *commands, unsigned count,
			  VkFence fence)
{
	const VkTimelineSemaphoreSubmitInfo values = {.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
						      .waitSemaphoreValueCount = 1,
						      .pWaitSemaphoreValues = &value};
	const VkPipelineStageFlags stage = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
	const VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
				   .pNext = &values,
				   .waitSemaphoreCount = 1,
				   .pWaitSemaphores = &engine->timeline,
				   .pWaitDstStageMask = &stage,
				   .commandBufferCount = count,
				   .pCommandBuffers = commands};

	CHECK(vkQueueSubmit(engine->second, 1, &info, fence));
}

static void wait_behind(struct engine *engine)
{
	CHECK(vkWaitForFences(engine->device, 1, &engine->copied, VK_TRUE, FOREVER));
	CHECK(vkResetFences(engine->device, 1, &engine->copied));
}

/* For the second queue alone, which is behind the first; `rest`: it computes as well. */
static void wait_for_second(struct engine *engine)
{
	if (want.rest)
		record(engine, engine->commands[1][0], 0, want.kernels);
	submit_behind(engine, engine->value, engine->commands[1], want.rest,
		      want.rest ? engine->copied : VK_NULL_HANDLE);
	if (want.rest)
		wait_behind(engine);
	else
		CHECK(vkQueueWaitIdle(engine->second));
}

static void wait_for(struct engine *engine, VkFence *fences, unsigned count)
{
	const VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
					  .semaphoreCount = 1,
					  .pSemaphores = &engine->timeline,
					  .pValues = &engine->value};
	uint64_t value = 0;

	if (strcmp(want.wait, "fence") == 0)
		CHECK(vkWaitForFences(engine->device, count, fences, VK_TRUE, FOREVER));
	else if (strcmp(want.wait, "poll") == 0)
		poll_fence(engine, fences[count - 1]);
	else if (strcmp(want.wait, "part") == 0 && count > 1)
		CHECK(vkWaitForFences(engine->device, 1, &fences[count - 2], VK_TRUE, FOREVER));
	else if (strcmp(want.wait, "timeline") == 0)
		CHECK(vkWaitSemaphores(engine->device, &info, FOREVER));
	else if (strcmp(want.wait, "timelineparts") == 0)
		wait_for_parts(engine);
	else if (strcmp(want.wait, "timelinesecond") == 0)
		wait_for_second(engine);
	else if (strcmp(want.wait, "timelinepoll") == 0)
		while (vkGetSemaphoreCounterValue(engine->device, engine->timeline, &value) == VK_SUCCESS &&
		       value < engine->value)
			usleep(20);
	else if (strcmp(want.wait, "queue") == 0)
		CHECK(vkQueueWaitIdle(engine->queue));
	else if (strcmp(want.wait, "device") == 0)
		CHECK(vkDeviceWaitIdle(engine->device));
	if (strcmp(want.wait, "part") == 0)
		poll_fence(engine, fences[count - 1]);
}

/* In another thread, as soon as the device has completed the run's submission: record its buffer again, with more
 * dispatches. */
static void *reuse(void *arg)
{
	struct engine *engine = arg;

	wait_for_value(engine, engine->reuse_value);
	record(engine, engine->commands[0][0], 0, 2 * want.kernels);
	return NULL;
}

/* In another thread, which begins to wait before the run is submitted. */
static void *wait_elsewhere(void *arg)
{
	struct engine *engine = arg;

	wait_for_value(engine, engine->last_value);
	return NULL;
}

/* On the second queue, for which nothing has to be waited, before the first one may begin. */
static void go_aside(struct engine *engine)
{
	const VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO};

	CHECK(vkQueueSubmit(engine->second, 1, &info, engine->copied));
	CHECK(vkWaitForFences(engine->device, 1, &engine->copied, VK_TRUE, FOREVER));
	CHECK(vkResetFences(engine->device, 1, &engine->copied));
	CHECK(vkQueueWaitIdle(engine->second));
	open_gate(engine, engine->gate_value);
}

static void upload(struct engine *engine)
{
	const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};

	CHECK(vkBeginCommandBuffer(engine->copy, &begin));
	vkCmdFillBuffer(engine->copy, engine->buffer, ITEMS * 2, 1024, 7);
	CHECK(vkEndCommandBuffer(engine->copy));
	submit(engine, &engine->copy, 1, VK_NULL_HANDLE, false);
}

static void one(struct engine *engine, unsigned run)
{
	unsigned half = run % want.flight, per = want.kernels / want.submits;
	VkFence *fences = engine->fence[half];
	uint64_t begin_ns = thread_ns();
	bool elsewhere = strcmp(want.wait, "timelinethread") == 0;
	pthread_t reuser, waiter;

	if (want.hold && run >= want.flight) /* those after it are held until their turn */
		open_gate(engine, run + 1 - want.flight);
	if (want.flight > 1 && run >= want.flight) /* the one that used these buffers before */
		wait_for(engine, fences, want.submits);
	CHECK(vkResetFences(engine->device, want.submits, fences));
	if (want.late && run == want.runs / 2)
		want.size = 5;
	if (want.reset) {
		record(engine, engine->commands[half][0], 0, 1);
		CHECK(vkResetCommandPool(engine->device, engine->pool[half], 0));
	}
	if (want.upload)
		upload(engine);
	engine->last_value = engine->value + want.submits;
	if (elsewhere)
		pthread_create(&waiter, NULL, wait_elsewhere, engine);
	for (unsigned i = 0; i < want.submits; i++) {
		unsigned last = i + 1 == want.submits ? want.kernels : (i + 1) * per;
		VkCommandBuffer commands = engine->commands[want.recycle ? i % 2 : half][want.recycle ? 0 : i];
		bool gated = want.hold ||
			     ((want.polls || want.aside || want.batch || engine->inner) && i + 1 == want.submits);

		if (want.recycle && i >= 2) { /* the pool's last submission is complete, the one after it may run */
			CHECK(vkWaitForFences(engine->device, 1, &fences[i - 2], VK_TRUE, FOREVER));
			CHECK(vkResetCommandPool(engine->device, engine->pool[i % 2], 0));
		}
		if (!want.resubmit || run < want.flight)
			record(engine, commands, i * per, last);
		if (want.batch && i + 1 < want.submits)
			continue;
		engine->reuse_value = engine->value + 1;
		if (want.reuse)
			pthread_create(&reuser, NULL, reuse, engine);
		engine->gate_value = want.hold ? run + 1 : engine->gate_value + gated;
		submit(engine, want.batch ? engine->commands[half] : &commands, want.batch ? want.submits : 1,
		       strncmp(want.wait, "timeline", 8) ? fences[i] : VK_NULL_HANDLE, gated);
		if (want.reuse)
			pthread_join(reuser, NULL);
		if (want.behind && i == 1) {
			submit_behind(engine, engine->value - 1, NULL, 0, engine->copied);
			wait_behind(engine);
		}
	}
	if (want.aside)
		go_aside(engine);
	if (engine->inner) {
		one(engine->inner, run);
		open_gate(engine, engine->gate_value);
	}
	if (elsewhere)
		pthread_join(waiter, NULL);
	if (want.compile && run % 2) {
		VkPipeline pipeline = make_pipeline(engine, 10000 + run);

		vkDestroyPipeline(engine->device, pipeline, NULL);
	}
	if (want.flight == 1)
		wait_for(engine, fences, want.submits);
	if (run >= want.runs / 2)
		engine->host_ns += thread_ns() - begin_ns;
	if (want.pause_us)
		usleep(want.pause_us);
}

/* Other instances of the same program, and a device of each, which compute nothing. */
static struct engine crowd[CROWD_MAX];
static VkInstance crowd_instance[CROWD_MAX];

static void make_crowd(const VkInstanceCreateInfo *info)
{
	for (unsigned i = 0; i < want.crowd && i < CROWD_MAX; i++) {
		CHECK(vkCreateInstance(info, NULL, &instance));
		make_device(&crowd[i]);
		crowd_instance[i] = instance;
	}
}

static void free_crowd(void)
{
	for (unsigned i = 0; i < want.crowd && i < CROWD_MAX; i++) {
		vkDestroyDevice(crowd[i].device, NULL);
		vkDestroyInstance(crowd_instance[i], NULL);
	}
}

/* The child exits at once or, where its parent will be killed, outlives that. */
static void fork_off(void)
{
	pid_t child = fork();

	if (child == 0 && want.kill) {
		fclose(stdout);
		fclose(stderr);
		sleep(60);
	}
	if (child == 0)
		exit(0);
	if (!want.kill)
		waitpid(child, NULL, 0);
	printf("child %d\n", child);
	fflush(stdout);
}

static void *work(void *arg)
{
	struct engine *engine = arg;

	for (unsigned i = 0; i < want.runs; i++) {
		one(engine, i);
		if (want.fork && i == want.runs / 2)
			fork_off();
		if (want.exec && i == want.runs / 2)
			execl("/proc/self/exe", "engine", "runs=30", "pause_us=20000", "afresh", NULL);
		if (want.kill && i == want.runs / 2)
			raise(SIGKILL);
		if (want.leave && i == want.runs / 2)
			exit(0);
	}
	if (want.hold)
		open_gate(engine, want.runs);
	CHECK(vkQueueWaitIdle(engine->queue));
	return NULL;
}

/* One thread, two queues in turn, and one timeline; the first queue is five submissions ahead. */
static void take_turns(struct engine *engines)
{
	for (unsigned i = 0; i < want.runs; i++) {
		one(&engines[0], i);
		if (i < 5)
			continue;
		engines[1].value = engines[0].value;
		one(&engines[1], i);
		engines[0].value = engines[1].value;
	}
}

/* Devices before the one that counts, at whose address it may be. */
static void work_before(void)
{
	for (unsigned i = 0; i < want.again; i++) {
		struct engine engine = {0};

		make_engine(&engine);
		one(&engine, 0);
		free_engine(&engine);
	}
}

static void swapchain(struct engine *engine)
{
	const VkSwapchainCreateInfoKHR info = {.sType = VK_STRUCTURE_TYPE_SWAPCHAIN_CREATE_INFO_KHR};
	PFN_vkCreateSwapchainKHR create =
		(PFN_vkCreateSwapchainKHR)vkGetDeviceProcAddr(engine->device, "vkCreateSwapchainKHR");
	VkSwapchainKHR chain;

	if (!create || create(engine->device, &info, NULL, &chain) != VK_SUCCESS)
		printf("no swapchain\n");
}

static void shared_swapchains(struct engine *engine)
{
	const VkSwapchainCreateInfoKHR info = {.sType = VK_STRUCTURE_TYPE_SWAPCHAIN_CREATE_INFO_KHR};
	VkSwapchainKHR chain;

	CHECK(vkCreateSharedSwapchainsKHR(engine->device, 1, &info, NULL, &chain));
}

/* A call that Vulkan forbids and drivers survive: a fence with a flag that does not exist. */
static void call_wrongly(struct engine *engine)
{
	const VkFenceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO, .flags = 1U << 30};
	VkFence fence;

	CHECK(vkCreateFence(engine->device, &info, NULL, &fence));
	vkDestroyFence(engine->device, fence, NULL);
}

static void read_options(int argc, char **argv)
{
	static const struct {
		const char *name;
		unsigned *number;
		bool *flag;
	} options[] = {
		{"runs", &want.runs, NULL},           {"kernels", &want.kernels, NULL},
		{"submits", &want.submits, NULL},     {"rounds", &want.rounds, NULL},
		{"devices", &want.devices, NULL},     {"flight", &want.flight, NULL},
		{"size", &want.size, NULL},           {"pause_us", &want.pause_us, NULL},
		{"crowd", &want.crowd, NULL},         {"again", &want.again, NULL},
		{"group", &want.group, NULL},         {"polls", &want.polls, NULL},
		{"submit2", NULL, &want.submit2},     {"reuse", NULL, &want.reuse},
		{"recycle", NULL, &want.recycle},     {"other", NULL, &want.other},
		{"inlined", NULL, &want.inlined},     {"shared", NULL, &want.shared},
		{"resubmit", NULL, &want.resubmit},   {"compile", NULL, &want.compile},
		{"fork", NULL, &want.fork},           {"exec", NULL, &want.exec},
		{"kill", NULL, &want.kill},           {"leave", NULL, &want.leave},
		{"reset", NULL, &want.reset},         {"secondary", NULL, &want.secondary},
		{"swapchain", NULL, &want.swapchain}, {"upload", NULL, &want.upload},
		{"single", NULL, &want.single},       {"late", NULL, &want.late},
		{"afresh", NULL, &want.afresh},       {"wrong", NULL, &want.wrong},
		{"hold", NULL, &want.hold},           {"behind", NULL, &want.behind},
		{"turns", NULL, &want.turns},         {"swapchains", NULL, &want.swapchains},
		{"aside", NULL, &want.aside},         {"batch", NULL, &want.batch},
		{"rest", NULL, &want.rest},           {"nested", NULL, &want.nested},
	};

	for (int i = 1; i < argc; i++) {
		char *value = strchr(argv[i], '=');

		if (value)
			*value++ = '\0';
		if (strcmp(argv[i], "wait") == 0 && value)
			want.wait = value;
		for (size_t j = 0; j < sizeof(options) / sizeof(*options); j++) {
			if (strcmp(argv[i], options[j].name) != 0)
				continue;
			if (options[j].number && value)
				*options[j].number = (unsigned)strtoul(value, NULL, 10);
			else if (options[j].flag)
				*options[j].flag = true;
		}
	}
}

/* The shader, or one that adds another number and is otherwise the same. */
static void make_shader(void)
{
	for (size_t i = 0; i < sizeof(shader) / sizeof(*shader); i++)
		shader[i] = want.other && rounds_spirv[i] == ROUNDS_ADDED ? ROUNDS_ADDED + 2 : rounds_spirv[i];
}

/* Of a connection that the program had before exec. */
static bool has_socket(void)
{
	struct stat stat;

	for (int fd = 3; fd < 1024; fd++)
		if (fstat(fd, &stat) == 0 && S_ISSOCK(stat.st_mode))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	const VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_3};
	const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &app};
	struct engine engines[4] = {0};
	pthread_t threads[4];
	unsigned threaded;
	uint64_t hash = 0xcbf29ce484222325ULL;
	VkResult rc;

	read_options(argc, argv);
	make_shader();
	if (want.afresh && has_socket()) {
		printf("a socket outlived exec\n");
		return 5;
	}
	make_crowd(&info);
	rc = vkCreateInstance(&info, NULL, &instance);
	if (rc != VK_SUCCESS) {
		printf("no instance: %d\n", rc);
		return 4;
	}
	work_before();
	for (unsigned i = 0; i < want.devices && i < 4; i++) {
		engines[i].seed = i;
		engines[i].first = want.shared && i > 0 ? &engines[0] : NULL;
		make_engine(&engines[i]);
	}
	if (want.swapchain)
		swapchain(&engines[0]);
	if (want.swapchains)
		shared_swapchains(&engines[0]);
	if (want.wrong)
		call_wrongly(&engines[0]);
	if (want.nested)
		engines[0].inner = &engines[1];
	threaded = want.turns || want.nested ? 1 : want.devices < 4 ? want.devices : 4;
	for (unsigned i = 1; i < threaded; i++)
		pthread_create(&threads[i], NULL, work, &engines[i]);
	if (want.turns)
		take_turns(engines);
	else
		work(&engines[0]);
	for (unsigned i = 1; i < threaded; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < want.devices && i < 4; i++)
		for (uint32_t j = 0; j < ITEMS; j++)
			hash = (hash ^ engines[i].data[j]) * 0x100000001b3ULL;
	printf("host_us %.1f\n", (double)engines[0].host_ns / (want.runs - want.runs / 2) / 1e3);
	for (unsigned i = 4; i-- > 0;) /* the first one last: others may share its device */
		if (i < want.devices)
			free_engine(&engines[i]);
	vkDestroyInstance(instance, NULL);
	free_crowd();
	printf("hash %016llx\n", (unsigned long long)hash);
	return 0;
}
