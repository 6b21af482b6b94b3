/* SPDX-License-Identifier: MIT */
/* The manager of a stage that is flamed itself: the unmodified daemon and its keeper in virtual time. */
#ifndef TESTS_POPULATION_FLAMED_H
#define TESTS_POPULATION_FLAMED_H

#include "../vtime/client.h"
#include "../vtime/plant.h"
#include "../vtime/world.h"
#include "stage.h"

struct flamed {
	struct world world;
	struct plant plant;
	struct client client[LOOP_SESSIONS_MAX];
	uint64_t session[LOOP_SESSIONS_MAX], request[LOOP_SESSIONS_MAX];
	uint64_t start_ns;
};

/* Start the daemon of $RELEASE_DIR on the run's board. */
void flamed_start(struct flamed *flamed, const struct stage_run *run, struct manager *manager);
/* True when it ended with 0. */
bool flamed_stop(struct flamed *flamed);

#endif
