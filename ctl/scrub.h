/* SPDX-License-Identifier: MIT */
/* Text without the data of a machine's owner: names of the host and of users, paths, network addresses. */
#ifndef CTL_SCRUB_H
#define CTL_SCRUB_H

#include <stdbool.h>
#include <stddef.h>

/* Names of the host and of its users, which are removed from all text that does not come from the kernel. */
struct private_words {
	size_t count, room;
	char **word;
};

/* Returns 0, or -ENOMEM: then some may be missing. The caller frees them in either case. */
int scrub_find_words(struct private_words *words);
void scrub_free_words(struct private_words *words);

/* Copy the text with names replaced by PRIVATE, paths outside sysfs and flamed's own files by PATH, and addresses
 * (e-mail, IP, Bluetooth, Ethernet) by ADDRESS. The caller frees the copy. NULL when out of memory. */
char *scrub(const struct private_words *words, const char *text);

/* Does the text contain the address of a Bluetooth or Ethernet device? */
bool scrub_has_device_address(const char *text);

#endif
