/* SPDX-License-Identifier: MIT */
/* The samples CSV, as stored by the daemon and given to flamectl. */
#include <stdlib.h>
#include <string.h>
#include "../../estimator/sample.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), message[256] = "";
	struct sample *row = NULL;
	size_t count = 0;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (samples_parse(text, size % 2 == 0, &row, &count, message, sizeof(message), NULL, NULL) < 0 &&
	    message[0] == '\0')
		abort();
	free(row);
	free(text);
	return 0;
}
