/* SPDX-License-Identifier: MIT */
/* Calls libflamed by commands on stdin, one a line, and prints what each call
 * returned; driven by test_lib.py. */
#include <flamed.h>

#include <fcntl.h>
#include <pthread.h>
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

static void *work(void *arg)
{
	struct job *job = arg;

	for (int i = 0; i < job->count; i++) {
		uint64_t begin_ns = now_ns(), took_ns;
		int64_t request = i % 8 ? flamed_begin(flamed, job->session, 0) :
					  flamed_begin_wait(flamed, job->session, 0, FLAMED_TIMEOUT, NULL);

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

int main(void)
{
	char line[256], word[4][100];

	setvbuf(stdin, NULL, _IONBF, 0); /* a forked child must not share read-ahead */
	while (fgets(line, sizeof(line), stdin)) {
		struct flamed_decision decision = {0};
		struct flamed_point point;
		int n = sscanf(line, "%99s %99s %99s %99s", word[0], word[1], word[2], word[3]);
		long long number = n > 1 ? atoll(word[1]) : 0;
		uint64_t second = n > 2 ? strtoull(word[2], NULL, 10) : 0,
			 third = n > 3 ? strtoull(word[3], NULL, 10) : 0;
		const char *verb = n > 0 ? word[0] : "";

		if (!strcmp(verb, "open")) {
			printf("%d\n", flamed_open(&flamed, n > 1 ? word[1] : NULL));
		} else if (!strcmp(verb, "connected")) {
			printf("%d\n", flamed_connected(flamed));
		} else if (!strcmp(verb, "session")) {
			uint64_t begin_ns = now_ns();
			int rc = flamed_session(flamed, strcmp(word[1], "-") ? word[1] : NULL, second, third);

			printf("%d %llu\n", rc, (unsigned long long)(now_ns() - begin_ns));
		} else if (!strcmp(verb, "stream")) {
			printf("%d\n", flamed_stream(flamed, strcmp(word[1], "-") ? word[1] : NULL, second, third,
						     FLAMED_TIMEOUT));
		} else if (!strcmp(verb, "start")) {
			printf("%d\n", flamed_stream_start(flamed, (int)number));
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
		} else if (!strcmp(verb, "withdraw")) {
			printf("%d\n", flamed_withdraw(flamed, number));
		} else if (!strcmp(verb, "put_back")) {
			printf("%d\n", flamed_put_back(flamed, number));
		} else if (!strcmp(verb, "layer_source")) {
			printf("%d\n", flamed_layer_source(flamed, n > 1 ? word[1] : ""));
		} else if (!strcmp(verb, "layers")) {
			layers(number, (int)second);
		} else if (!strcmp(verb, "counts")) {
			uint64_t ended, missed;
			int rc = flamed_session_counts(flamed, (int)number, &ended, &missed);

			printf("%d %llu %llu\n", rc, (unsigned long long)ended, (unsigned long long)missed);
		} else if (!strcmp(verb, "profile")) {
			int calls = 0, rc = flamed_profile(flamed, word[1], NULL, 0, (uint32_t)second, infer, &calls);

			printf("%d %d\n", rc, calls);
		} else if (!strcmp(verb, "profile_open")) {
			printf("%d\n", flamed_profile_open(flamed, word[1], NULL, 0, 0, second, &point));
		} else if (!strcmp(verb, "profile_sample")) {
			const struct flamed_measurement measurement = {.latency_ns = (uint64_t)number, .n = 1};

			printf("%d\n", flamed_profile_sample(flamed, &measurement, second, &point));
		} else if (!strcmp(verb, "profile_close")) {
			printf("%d\n", flamed_profile_close(flamed));
		} else if (!strcmp(verb, "threads")) {
			threads((int)number, (int)second, (int)third);
		} else if (!strcmp(verb, "fork")) {
			if (fork_off())
				printf("forked\n");
		} else if (!strcmp(verb, "steal")) {
			steal(word[1], (int)second);
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
