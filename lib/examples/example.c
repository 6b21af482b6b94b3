/* SPDX-License-Identifier: MIT */
/* An inference loop under flamed.
 *
 *	cc example.c $(pkg-config --cflags --libs libflamed) -o example
 *	flamectl run --model example --deadline 20ms -- ./example 100
 *
 * It runs as well without flamed: then the clocks are whatever they are. */
#include <flamed.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The work of one inference; a real program calls its engine here. */
static double infer(void)
{
	double sum = 0;

	for (int i = 1; i < 200000; i++)
		sum += 1.0 / i;
	return sum;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 100;
	struct flamed_decision decision;
	struct flamed *flamed;
	uint64_t ended = 0, missed = 0;
	double sum = 0;
	int session;

	flamed_open(&flamed, NULL);
	/* Model and deadline: what `flamectl run` put into the environment, or
	 * our own. */
	session = flamed_session(flamed, getenv("FLAMED_MODEL") ? NULL : "example",
				 getenv("FLAMED_DEADLINE_NS") ? 0 : 20000000, FLAMED_TIMEOUT);
	if (session < 0)
		fprintf(stderr, "example: going on without flamed: %s\n", strerror(-session));
	for (int i = 0; i < count; i++) {
		int64_t request = flamed_begin_wait(flamed, session, 0, FLAMED_TIMEOUT, &decision);

		sum += infer();
		flamed_end(flamed, request, 0);
	}
	flamed_session_counts(flamed, session, &ended, &missed);
	printf("example: %d inferences, %llu of %llu under flamed late (%.3f)\n", count, (unsigned long long)missed,
	       (unsigned long long)ended, sum / count);
	flamed_close(flamed);
	return 0;
}
