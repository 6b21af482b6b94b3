/* SPDX-License-Identifier: MIT */
#include "task.h"

#include <stdlib.h>
#include "../../lib/flamed.h"
#include "summary.h"

size_t task_keep(struct task *task, const struct launch_token *tokens, const uint64_t *kernels, size_t count,
		 uint64_t gap_ns, uint64_t call_ns)
{
	if (!layer_on() || !task->recording || task->count + count > LAYERS_MAX)
		return 0;
	for (size_t i = 0; i < count; i++)
		task->records[task->count++] =
			(struct launch_record){tokens[i], kernels[i], i ? 0 : gap_ns, i ? 0 : call_ns, false};
	return count;
}

void task_release(struct task *task)
{
	for (size_t i = 0; i < task->count; i++)
		core.backend->release(&task->records[i].token);
	free(task->records);
	task->records = NULL;
	task->count = 0;
}

/* Collect the times of all launches. Returns the number of net layers, or 0 if a time is missing. */
static size_t harvest(const struct task *task, struct flamed_layer *layers, struct trace_row *rows)
{
	for (size_t i = 0; i < task->count; i++) {
		const struct launch_record *record = &task->records[i];
		struct launch_times times = {0};

		if (!core.backend->times(&record->token, &times) || times.end_ns == 0 || times.end_ns < times.start_ns)
			return 0;
		layers[i] = (struct flamed_layer){record->gap_ns + record->call_ns, times.end_ns - times.start_ns,
						  record->sync};
		rows[i] = (struct trace_row){record->kernel,
					     record->gap_ns,
					     record->call_ns,
					     times.queued_ns && times.start_ns > times.queued_ns ?
						     times.start_ns - times.queued_ns :
						     0,
					     times.end_ns - times.start_ns,
					     record->sync};
	}
	return task->count;
}

/* Length of an inference without a host wait: from the first queued launch to the last end. */
static uint64_t device_total(const struct task *task)
{
	struct launch_times first = {0}, last = {0};
	uint64_t begin;

	if (task->count == 0 || !core.backend->times(&task->records[0].token, &first) ||
	    !core.backend->times(&task->records[task->count - 1].token, &last))
		return 0;
	begin = first.queued_ns ? first.queued_ns : first.start_ns;
	return last.end_ns > begin ? last.end_ns - begin : 0;
}

struct launch_record *task_report(struct task *task, struct layer_session *session, bool may_block)
{
	struct flamed_layer *layers = NULL;
	struct trace_row *rows = NULL;
	size_t count = 0;

	if (task->total_ns == 0 && !task->cancel) {
		task->total_ns = device_total(task);
		task->cancel = task->total_ns == 0;
	}
	if (task->recording && !task->partial && task->count > 0 && !task->cancel) {
		layers = calloc(task->count, sizeof(*layers));
		rows = calloc(task->count, sizeof(*rows));
		if (layers && rows)
			count = harvest(task, layers, rows);
	}
	if (task->cancel)
		session_cancel(session, task->request, false);
	else
		session_end(session, task->request, task->total_ns, layers, count, may_block);
	if (count > 0)
		trace_inference(rows, count);
	for (size_t i = 0; i < task->count; i++)
		core.backend->release(&task->records[i].token);
	free(layers);
	free(rows);
	return task->records;
}

uint32_t task_holds(const struct task *task, const void *object)
{
	uint32_t held = 0;

	for (size_t i = 0; i < task->count; i++)
		held += task->records[i].token.object == object;
	return held;
}
