/* SPDX-License-Identifier: MIT */
/* Board files, read by flamed and by the keeper. */
#include <stdlib.h>
#include <string.h>
#include "../../probes/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct board_file file;
	char *text = malloc(size + 1), message[192] = "";

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (board_file_parse(text, &file, message, sizeof(message)) && message[0] == '\0')
		abort();
	for (int id = 0; id < CLOCK_COUNT; id++) {
		if (file.clock[id].paths > BOARD_FILE_DEVICES_MAX || file.clock[id].count > GRID_AXIS_MAX)
			abort();
		for (size_t i = 0; i < file.clock[id].count; i++)
			if (file.clock[id].hz[i] == 0)
				abort();
	}
	free(text);
	return 0;
}
