/* SPDX-License-Identifier: MIT */
/* NVTX ranges of scripts, by the genuine headers. */
#include "ranges.h"

#ifdef NVTX
#include <nvtx3/nvToolsExt.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

static nvtxEventAttributes_t attributes_of(const char *name, nvtxDomainHandle_t domain)
{
	nvtxEventAttributes_t attributes = {.version = NVTX_VERSION, .size = NVTX_EVENT_ATTRIB_STRUCT_SIZE};

	attributes.messageType = domain ? NVTX_MESSAGE_TYPE_REGISTERED : NVTX_MESSAGE_TYPE_ASCII;
	if (domain)
		attributes.message.registered = nvtxDomainRegisterStringA(domain, name);
	else
		attributes.message.ascii = name;
	return attributes;
}

static void *stop(void *range)
{
	nvtxRangeEnd((nvtxRangeId_t)(uintptr_t)range);
	return NULL;
}

bool range_call(const struct line *line, void **range)
{
	static nvtxDomainHandle_t domain;
	nvtxEventAttributes_t attributes;
	wchar_t wide[64] = L"";
	pthread_t thread;

	if (!domain)
		domain = nvtxDomainCreateA("engine");
	if (is(line, "push")) {
		nvtxRangePushA(line->word[1]);
	} else if (is(line, "push-w")) {
		mbstowcs(wide, line->word[1], sizeof(wide) / sizeof(*wide) - 1);
		nvtxRangePushW(wide);
	} else if (is(line, "pop")) {
		nvtxRangePop();
	} else if (is(line, "push-in")) {
		attributes = attributes_of(line->word[1], domain);
		nvtxDomainRangePushEx(domain, &attributes);
	} else if (is(line, "pop-in")) {
		nvtxDomainRangePop(domain);
	} else if (is(line, "start")) {
		attributes = attributes_of(line->word[1], NULL);
		*range = (void *)(uintptr_t)nvtxRangeStartEx(&attributes);
	} else if (is(line, "stop")) {
		stop(*range);
	} else if (is(line, "stop-elsewhere")) {
		if (pthread_create(&thread, NULL, stop, *range) != 0)
			abort();
		pthread_join(thread, NULL);
	} else {
		return false;
	}
	return true;
}
#else
bool range_call(const struct line *line, void **range)
{
	(void)line;
	(void)range;
	return false;
}
#endif
