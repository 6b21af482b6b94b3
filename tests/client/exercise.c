/* SPDX-License-Identifier: MIT */
/* Calls libflamed as its stdin says, one command a line, and prints what each
 * returned; test_lib.py holds the other end. */
#include <flamed.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
	printf("%lld applied=%d feasible=%d cpu=%llu gpu=%llu predicted=%llu bound=%llu settle=%llu\n", rc, d->applied, d->feasible,
	       (unsigned long long)d->cpu_hz, (unsigned long long)d->gpu_hz, (unsigned long long)d->predicted_ns,
	       (unsigned long long)d->bound_ns, (unsigned long long)d->settle_ns);
}

static int infer(void *arg, const struct flamed_point *point)
{
	int *calls = arg;

	++*calls;
	return point->cpu_hz ? 0 : -1;
}

struct job {
	int session, count;
	uint64_t slowest_ns; /* of the calls that must not block */
};

static void *work(void *arg)
{
	struct job *job = arg;

	for (int i = 0; i < job->count; i++) {
		uint64_t begin_ns = now_ns(), took_ns;
		int64_t request = i % 8 ? flamed_begin(flamed, job->session, 0) : flamed_begin_wait(flamed, job->session, 0, FLAMED_TIMEOUT, NULL);

		took_ns = now_ns() - begin_ns;
		if (i % 8 && took_ns > job->slowest_ns)
			job->slowest_ns = took_ns;
		flamed_end(flamed, request, 1000);
	}
	return NULL;
}

static void threads(int session, int threads_count, int count)
{
	pthread_t thread[16];
	struct job job[16];

	for (int i = 0; i < threads_count; i++) {
		job[i] = (struct job){ .session = session, .count = count };
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
		layer[i] = (struct flamed_layer){ 1000 + (uint64_t)i, 20000 + (uint64_t)i, i + 1 == count };
	printf("%d\n", flamed_end_layers(flamed, request, 5000000, layer, (size_t)count));
	free(layer);
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

int main(void)
{
	char line[256], word[4][100];

	setvbuf(stdin, NULL, _IONBF, 0); /* a forked child must not share read-ahead */
	while (fgets(line, sizeof(line), stdin)) {
		struct flamed_decision decision = { 0 };
		int n = sscanf(line, "%99s %99s %99s %99s", word[0], word[1], word[2], word[3]);
		long long number = n > 1 ? atoll(word[1]) : 0;
		uint64_t second = n > 2 ? strtoull(word[2], NULL, 10) : 0, third = n > 3 ? strtoull(word[3], NULL, 10) : 0;
		const char *verb = n > 0 ? word[0] : "";

		if (!strcmp(verb, "open")) {
			printf("%d\n", flamed_open(&flamed, n > 1 ? word[1] : NULL));
		} else if (!strcmp(verb, "connected")) {
			printf("%d\n", flamed_connected(flamed));
		} else if (!strcmp(verb, "session")) {
			uint64_t begin_ns = now_ns();
			int rc = flamed_session(flamed, strcmp(word[1], "-") ? word[1] : NULL, second, third);

			printf("%d %llu\n", rc, (unsigned long long)(now_ns() - begin_ns));
		} else if (!strcmp(verb, "close")) {
			printf("%d\n", flamed_session_close(flamed, (int)number));
		} else if (!strcmp(verb, "state")) {
			printf("%d\n", flamed_session_state(flamed, (int)number));
		} else if (!strcmp(verb, "phase")) {
			printf("%d\n", flamed_phase(flamed, (int)number, word[2], (uint32_t)third));
		} else if (!strcmp(verb, "begin")) {
			uint64_t begin_ns = now_ns();
			long long rc = flamed_begin(flamed, (int)number, second);

			printf("%lld %llu\n", rc, (unsigned long long)(now_ns() - begin_ns));
		} else if (!strcmp(verb, "wait")) {
			long long rc = flamed_begin_wait(flamed, (int)number, second, third, &decision);

			print_decision(rc, &decision);
		} else if (!strcmp(verb, "decision")) {
			int rc = flamed_decision(flamed, number, &decision);

			print_decision(rc, &decision);
		} else if (!strcmp(verb, "end")) {
			printf("%d\n", flamed_end(flamed, number, second));
		} else if (!strcmp(verb, "layers")) {
			layers(number, (int)second);
		} else if (!strcmp(verb, "counts")) {
			uint64_t ended, missed;
			int rc = flamed_session_counts(flamed, (int)number, &ended, &missed);

			printf("%d %llu %llu\n", rc, (unsigned long long)ended, (unsigned long long)missed);
		} else if (!strcmp(verb, "profile")) {
			int calls = 0, rc = flamed_profile(flamed, word[1], NULL, 0, (uint32_t)second, infer, &calls);

			printf("%d %d\n", rc, calls);
		} else if (!strcmp(verb, "threads")) {
			threads((int)number, (int)second, (int)third);
		} else if (!strcmp(verb, "fork")) {
			if (fork_off())
				printf("forked\n");
		} else if (!strcmp(verb, "exit")) {
			break;
		} else {
			printf("?\n");
		}
		fflush(stdout);
	}
	flamed_close(flamed);
	return 0;
}
