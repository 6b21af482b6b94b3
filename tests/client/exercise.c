/* SPDX-License-Identifier: MIT */
/* Calls libflamed by commands on stdin, one a line, and prints what each call
 * returned; driven by test_lib.py. */
#include <flamed.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct flamed *flamed;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void print_decision(long long rc, const struct flamed_decision *d)
{
	printf("%lld applied=%d feasible=%d cpu=%llu gpu=%llu predicted=%llu bound=%llu settle=%llu\n", rc, d->applied,
	       d->feasible, (unsigned long long)d->cpu_hz, (unsigned long long)d->gpu_hz,
	       (unsigned long long)d->predicted_ns, (unsigned long long)d->bound_ns, (unsigned long long)d->settle_ns);
}

static int infer(void *arg, const struct flamed_point *point)
{
	const struct timespec work = {.tv_nsec = 1000000};
	int *calls = arg;

	++*calls;
	nanosleep(&work, NULL); /* an inference of no duration would be noise */
	return point->cpu_hz ? 0 : -1;
}

struct job {
	int session, count;
	uint64_t slowest_ns; /* of the calls that must not block */
};

/* Until `count` requests got through: a begin is refused while too many of the session were not replied to. */
static void *work(void *arg)
{
	struct job *job = arg;

	for (int i = 0; i < job->count;) {
		uint64_t begin_ns = now_ns(), took_ns;
		int64_t request = i % 8 ? flamed_begin(flamed, job->session, 0) :
					  flamed_begin_wait(flamed, job->session, 0, FLAMED_TIMEOUT, NULL);

		took_ns = now_ns() - begin_ns;
		if (i % 8 && took_ns > job->slowest_ns)
			job->slowest_ns = took_ns;
		if (request == -EAGAIN)
			sched_yield();
		else
			i++;
		flamed_end(flamed, request, 1000);
	}
	return NULL;
}

static void threads(int session, int threads_count, int count)
{
	pthread_t thread[16];
	struct job job[16];

	for (int i = 0; i < threads_count; i++) {
		job[i] = (struct job){.session = session, .count = count};
		pthread_create(&thread[i], NULL, work, &job[i]);
	}
	for (int i = 0; i < threads_count; i++)
		pthread_join(thread[i], NULL);
	printf("done\n");
}

static void layers(long long request, int count)
{
	struct flamed_layer *layer = calloc((size_t)count, sizeof(*layer));

	for (int i = 0; i < count; i++)
		layer[i] = (struct flamed_layer){1000 + (uint64_t)i, 20000 + (uint64_t)i, i + 1 == count};
	printf("%d\n", flamed_end_layers(flamed, request, 5000000, layer, (size_t)count));
	free(layer);
}

/* Act like a program that closes every descriptor and then opens a file of its own under all numbers up to 31.
 * Prints whether each still is that file after some calls. */
static void steal(const char *path, int session)
{
	struct stat own, now;
	int same = 1, file;

	for (int fd = 3; fd < 32; fd++)
		close(fd);
	file = open(path, O_RDWR | O_CREAT, 0600);
	for (int fd = 4; fd < 32; fd++)
		dup2(file, fd);
	fstat(file, &own);
	for (int i = 0; i < 3; i++)
		flamed_end(flamed, flamed_begin(flamed, session, 0), 1000);
	flamed_session_close(flamed, session);
	for (int fd = 3; fd < 32; fd++)
		same &= fstat(fd, &now) == 0 && now.st_ino == own.st_ino;
	printf("%d %lld\n", same, (long long)lseek(file, 0, SEEK_END));
	for (int fd = 3; fd < 32; fd++)
		close(fd);
}

/* The child goes on reading commands; the parent after it. Returns 1 in the
 * child. */
static int fork_off(void)
{
	pid_t pid = fork();

	if (pid == 0)
		return 1;
	waitpid(pid, NULL, 0);
	printf("back\n");
	return 0;
}

/* A line of stdin. */
struct command {
	char word[4][100];
	int words;
	long long number;       /* the second word, */
	uint64_t second, third; /* and those after it */
};

static const char *name_of(const struct command *c)
{
	return strcmp(c->word[1], "-") ? c->word[1] : NULL;
}

static void call_session(const struct command *c)
{
	uint64_t begin_ns = now_ns();
	int rc = flamed_session(flamed, name_of(c), c->second, c->third);

	printf("%d %llu\n", rc, (unsigned long long)(now_ns() - begin_ns));
}

static void call_begin(const struct command *c)
{
	uint64_t begin_ns = now_ns();
	long long rc = flamed_begin(flamed, (int)c->number, c->second);

	printf("%lld %llu\n", rc, (unsigned long long)(now_ns() - begin_ns));
}

static void call_wait(const struct command *c)
{
	struct flamed_decision decision = {0};
	long long rc = flamed_begin_wait(flamed, (int)c->number, c->second, c->third, &decision);

	print_decision(rc, &decision);
}

static void call_decision(const struct command *c)
{
	struct flamed_decision decision = {0};
	int rc = flamed_decision(flamed, c->number, &decision);

	print_decision(rc, &decision);
}

static void call_counts(const struct command *c)
{
	uint64_t ended, missed;
	int rc = flamed_session_counts(flamed, (int)c->number, &ended, &missed);

	printf("%d %llu %llu\n", rc, (unsigned long long)ended, (unsigned long long)missed);
}

static void call_profile(const struct command *c)
{
	int calls = 0, rc = flamed_profile(flamed, c->word[1], NULL, 0, (uint32_t)c->second, infer, &calls);

	printf("%d %d\n", rc, calls);
}

static void call_profile_sample(const struct command *c)
{
	const struct flamed_measurement measurement = {.latency_ns = (uint64_t)c->number, .n = 1};
	struct flamed_point point;

	printf("%d\n", flamed_profile_sample(flamed, &measurement, c->second, &point));
}

/* Calls that print what they return and nothing else. False: it is none of them. */
static bool simple(const char *verb, const struct command *c)
{
	struct flamed_point point;
	int rc, number = (int)c->number;

	if (!strcmp(verb, "open"))
		rc = flamed_open(&flamed, c->words > 1 ? c->word[1] : NULL);
	else if (!strcmp(verb, "connected"))
		rc = flamed_connected(flamed);
	else if (!strcmp(verb, "stream"))
		rc = flamed_stream(flamed, name_of(c), c->second, c->third, FLAMED_TIMEOUT);
	else if (!strcmp(verb, "start"))
		rc = flamed_stream_start(flamed, number);
	else if (!strcmp(verb, "close"))
		rc = flamed_session_close(flamed, number);
	else if (!strcmp(verb, "state"))
		rc = flamed_session_state(flamed, number);
	else if (!strcmp(verb, "phase"))
		rc = flamed_phase(flamed, number, c->word[2], (uint32_t)c->third);
	else if (!strcmp(verb, "end"))
		rc = flamed_end(flamed, c->number, c->second);
	else if (!strcmp(verb, "withdraw"))
		rc = flamed_withdraw(flamed, c->number);
	else if (!strcmp(verb, "put_back"))
		rc = flamed_put_back(flamed, c->number);
	else if (!strcmp(verb, "layer_source"))
		rc = flamed_layer_source(flamed, c->words > 1 ? c->word[1] : "");
	else if (!strcmp(verb, "profile_open"))
		rc = flamed_profile_open(flamed, c->word[1], NULL, 0, 0, c->second, &point);
	else if (!strcmp(verb, "profile_close"))
		rc = flamed_profile_close(flamed);
	else
		return false;
	printf("%d\n", rc);
	return true;
}

static void call_layers(const struct command *c)
{
	layers(c->number, (int)c->second);
}

static void call_threads(const struct command *c)
{
	threads((int)c->number, (int)c->second, (int)c->third);
}

static void call_fork(const struct command *c)
{
	(void)c;
	if (fork_off())
		printf("forked\n");
}

static void call_steal(const struct command *c)
{
	steal(c->word[1], (int)c->second);
}

static const struct {
	const char *verb;
	void (*call)(const struct command *c);
} calls[] = {
	{"session", call_session},
	{"begin", call_begin},
	{"wait", call_wait},
	{"decision", call_decision},
	{"counts", call_counts},
	{"profile", call_profile},
	{"profile_sample", call_profile_sample},
	{"layers", call_layers},
	{"threads", call_threads},
	{"fork", call_fork},
	{"steal", call_steal},
};

static void call(const char *verb, const struct command *c)
{
	if (simple(verb, c))
		return;
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		if (!strcmp(verb, calls[i].verb)) {
			calls[i].call(c);
			return;
		}
	printf("?\n");
}

int main(void)
{
	char line[256];

	setvbuf(stdin, NULL, _IONBF, 0); /* a forked child must not share read-ahead */
	while (fgets(line, sizeof(line), stdin)) {
		struct command c = {0};
		int n = sscanf(line, "%99s %99s %99s %99s", c.word[0], c.word[1], c.word[2], c.word[3]);

		c.words = n;
		c.number = n > 1 ? atoll(c.word[1]) : 0;
		c.second = n > 2 ? strtoull(c.word[2], NULL, 10) : 0;
		c.third = n > 3 ? strtoull(c.word[3], NULL, 10) : 0;
		if (!strcmp(c.word[0], "exit"))
			break;
		call(c.word[0], &c);
		fflush(stdout);
	}
	flamed_close(flamed);
	return 0;
}
