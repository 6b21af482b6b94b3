/* SPDX-License-Identifier: MIT */
/* flamectl profile --background MODEL: measure a model by its command in flamed.conf while no program needs the machine
 * for a deadline. flamed-profile@MODEL.service runs it. */
#include "ctl.h"

#include <errno.h>
#include <ini.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../common/clock.h"
#include "child.h"

#define POLL_NS   (100 * NS_PER_MS) /* interval of polling flamed while measuring */
#define IDLE_NS   (2 * NS_PER_S)    /* interval of polling while a deadline session is open */
#define STALL_NS  (300 * NS_PER_S)  /* a command without a new sample for this time is considered hung */
#define STALL_KEY "FLAMED_STALL_NS" /* the same, for tests */
#define GRACE_NS  (2 * NS_PER_S)

struct wanted {
	const char *model;
	char command[LINE_BYTES_MAX], directory[LINE_BYTES_MAX];
	char section[MODEL_NAME_MAX + 16];
};

/* State of the machine and the model, as reported by flamed. */
struct state {
	bool busy;      /* a deadline session is open */
	bool ready;     /* the surface is ready */
	bool measuring; /* a profile of the model is under way */
	uint64_t samples;
};

static int on_key(void *arg, const char *section, const char *key, const char *value)
{
	struct wanted *wanted = arg;

	if (strcmp(section, wanted->section) != 0)
		return 1;
	if (strcmp(key, "command") == 0)
		snprintf(wanted->command, sizeof(wanted->command), "%s", value);
	else if (strcmp(key, "working_directory") == 0)
		snprintf(wanted->directory, sizeof(wanted->directory), "%s", value);
	return 1;
}

static int read_wanted(const struct ctl *ctl, const char *config, struct wanted *wanted)
{
	int line;

	snprintf(wanted->section, sizeof(wanted->section), "model %s", wanted->model);
	line = ini_parse(config, on_key, wanted);
	if (line != 0) {
		ctl_error(ctl, line < 0 ? "%s: cannot be read" : "%s:%d: not understood", config, line);
		return -EINVAL;
	}
	if (!wanted->command[0]) {
		ctl_error(ctl, "%s: no command in [%s]: give one, like command = /usr/local/bin/infer --loop", config,
			  wanted->section);
		return -ENOENT;
	}
	return 0;
}

static int ask_state(struct ctl *ctl, const char *model, struct state *state)
{
	size_t n;
	int rc;

	*state = (struct state){0};
	if (ctl_ask(ctl, "status") < 0)
		return -EIO;
	state->busy = ctl_u64(ctl, "sessions") > 0;
	for (size_t i = 0; *ctl_text(ctl, "profile.%zu.id", i); i++)
		state->measuring |= strcmp(model, ctl_text(ctl, "profile.%zu.model", i)) == 0;
	rc = ctl_find_model(ctl, model, &n);
	if (rc > 0) {
		state->ready = strcmp(ctl_text(ctl, "model.%zu.state", n), "ready") == 0;
		state->samples = ctl_u64(ctl, "model.%zu.samples", n);
	}
	return rc < 0 ? rc : 0;
}

static int wait_for_idle(struct ctl *ctl, const struct wanted *wanted, struct state *state)
{
	bool warned = false;
	int rc;

	while ((rc = ask_state(ctl, wanted->model, state)) == 0 && state->busy && !state->ready) {
		if (!warned)
			ctl_error(ctl, "%s waits: a deadline session is open", wanted->model);
		warned = true;
		clock_sleep_ns(IDLE_NS);
	}
	return rc;
}

/* Terminate the command and every process in its group. */
static void end_group(pid_t pid, int *status)
{
	kill(-pid, SIGCONT);
	kill(-pid, SIGTERM);
	if (child_wait(pid, GRACE_NS, status, NULL) == 0) {
		kill(-pid, SIGKILL);
		child_wait(pid, GRACE_NS, status, NULL);
	}
}

static uint64_t stall_ns(void)
{
	const char *text = getenv(STALL_KEY);

	return text && *text ? strtoull(text, NULL, 10) : STALL_NS;
}

/* Run the command, stopped while a deadline session is open. Returns 1 when it exits by itself, 0
 * when measuring is complete, or a negative errno. */
static int watch_command(struct ctl *ctl, const struct wanted *wanted, pid_t pid, struct state *state, int *status)
{
	uint64_t samples = state->samples, last_ns = clock_now_ns(), limit_ns = stall_ns();
	bool stopped = false, interrupted = false, began = false;

	while (child_wait(pid, POLL_NS, status, &interrupted) == 0) {
		int rc = ask_state(ctl, wanted->model, state);

		if (rc < 0 || interrupted)
			return rc < 0 ? rc : -EINTR;
		if (state->ready || (began && !state->measuring))
			return 0; /* no further point is worth measuring */
		began |= state->measuring;
		if (state->busy != stopped) {
			kill(-pid, state->busy ? SIGSTOP : SIGCONT);
			stopped = state->busy;
			ctl_error(ctl, "%s %s", wanted->model,
				  stopped ? "pauses: a deadline session was opened" : "continues");
		}
		if (stopped || state->samples > samples) {
			samples = state->samples;
			last_ns = clock_now_ns();
		} else if (clock_now_ns() - last_ns > limit_ns) {
			ctl_error(ctl, "%s measured nothing for %llu s and was terminated", wanted->command,
				  (unsigned long long)(limit_ns / NS_PER_S));
			return -ETIMEDOUT;
		}
	}
	return 1;
}

/* One run of the command. Returns 1 to run it again, 0 when ready, -errno. */
static int run_once(struct ctl *ctl, const struct wanted *wanted, struct state *state)
{
	char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)wanted->command, NULL};
	const struct child_setup setup = {.model = wanted->model,
					  .profile = true,
					  .quiet = true,
					  .own_group = true,
					  .directory = wanted->directory[0] ? wanted->directory : NULL};
	uint64_t before = state->samples;
	pid_t pid = child_start(ctl, argv, &setup);
	int status = 0, rc;

	if (pid < 0)
		return pid;
	rc = watch_command(ctl, wanted, pid, state, &status);
	if (rc != 1) {
		end_group(pid, &status);
		return rc;
	}
	kill(-pid, SIGKILL); /* processes that the command left behind */
	if (ask_state(ctl, wanted->model, state) < 0)
		return -EIO;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		ctl_error(ctl, "%s %s %d; its measurements are kept", wanted->command,
			  WIFEXITED(status) ? "failed with status" : "was killed by signal",
			  WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
		return -ECHILD;
	}
	if (state->samples == before && !state->ready) {
		ctl_error(ctl,
			  "%s ended without a measurement: it must use libflamed, or an API that one of flamed's "
			  "layers intercepts",
			  wanted->command);
		return -ENODATA;
	}
	return state->ready ? 0 : 1;
}

/* Would flamed have any point measured now? A surface that needs no more measurements may still
 * wait for requests before it is ready. Returns 1, 0 or a negative errno. */
static int worth_measuring(struct ctl *ctl, const char *model)
{
	struct kv_out message = {0};
	char id[32];
	int rc;

	kv_add(&message, "op", "profile");
	kv_add(&message, "model", "%s", model);
	rc = ctl_call(ctl, &message);
	if (rc == 0 && ctl_u64(ctl, "done") == 0) {
		snprintf(id, sizeof(id), "%s", ctl_text(ctl, "profile"));
		kv_reset(&message);
		kv_add(&message, "op", "close");
		kv_add(&message, "profile", "%s", id);
		rc = ctl_call(ctl, &message);
		rc = rc < 0 ? rc : 1;
	}
	kv_free(&message);
	return rc;
}

static void conclude(struct ctl *ctl, const char *model, const struct state *state)
{
	if (state->ready)
		ctl_error(ctl, "%s is ready, %llu operating points known", model, (unsigned long long)state->samples);
	else
		ctl_error(ctl,
			  "%s: no further point is worth measuring now, %llu operating points known; the model "
			  "learns the rest from requests",
			  model, (unsigned long long)state->samples);
}

int profile_in_background(struct ctl *ctl, const char *config, const char *model)
{
	struct wanted wanted = {.model = model};
	struct state state;
	int rc;

	if (read_wanted(ctl, config, &wanted) < 0)
		return 2;
	do {
		rc = wait_for_idle(ctl, &wanted, &state);
		if (rc == 0 && !state.ready)
			rc = worth_measuring(ctl, model);
		if (rc == 1)
			rc = run_once(ctl, &wanted, &state);
	} while (rc == 1);
	if (rc == 0)
		conclude(ctl, model, &state);
	return rc == 0 || rc == -EINTR ? 0 : 1;
}
