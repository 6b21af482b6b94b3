/* SPDX-License-Identifier: MIT */
/* Shared by the tests of fits that another process makes. */
#ifndef TESTS_UNIT_APART_H
#define TESTS_UNIT_APART_H

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../estimator/model.h"

static inline void *shared_page(const struct model *model)
{
	void *page = mmap(NULL, model_apart_bytes(model), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(page != MAP_FAILED);
	return page;
}

static inline void fit_in_fork(struct model *model, enum phase phase, uint32_t context, void *page)
{
	pid_t pid = fork();

	if (pid == 0) {
		model_make_apart(model, phase, context, page);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

#endif
