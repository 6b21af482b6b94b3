/* SPDX-License-Identifier: MIT */
/* flamed.conf. */
#include <stdlib.h>
#include <string.h>
#include "../../daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config config;
	char *text = malloc(size + 1), message[CONFIG_MESSAGE_MAX];

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (config_parse(&config, text, "fuzz.conf", message) < 0 && message[0] == '\0')
		abort();
	free(text);
	return 0;
}
