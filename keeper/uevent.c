/* SPDX-License-Identifier: MIT */
/* Uevents over netlink: only the kernel's multicast group, and only messages sent by the kernel. */
#include "uevent.h"

#include <errno.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KERNEL_GROUP     1
#define UEVENT_BYTES_MAX 8192

int uevent_open(void)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP};
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd < 0)
		return -errno;
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

static bool has_prefix(const char *text, const char *end, const char *prefix)
{
	size_t len = strlen(prefix);

	return (size_t)(end - text) >= len && !memcmp(text, prefix, len);
}

bool uevent_matters(const char *text, size_t len)
{
	static const char *const actions[] = {"add@", "remove@", "online@", "offline@", "bind@", "unbind@"};
	static const char *const subsystems[] = {"SUBSYSTEM=cpu",   "SUBSYSTEM=devfreq",  "SUBSYSTEM=drm",
						 "SUBSYSTEM=hwmon", "SUBSYSTEM=powercap", "SUBSYSTEM=power_supply"};
	const char *end = text + len;
	bool action = false;

	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		action |= has_prefix(text, end, actions[i]);
	while (action && text < end) {
		const char *stop = memchr(text, '\0', (size_t)(end - text));
		if (!stop)
			stop = end;
		for (size_t i = 0; i < sizeof(subsystems) / sizeof(subsystems[0]); i++)
			if (strlen(subsystems[i]) == (size_t)(stop - text) && has_prefix(text, end, subsystems[i]))
				return true;
		text = stop + 1;
	}
	return false;
}

bool uevent_drain(int fd)
{
	char text[UEVENT_BYTES_MAX];
	bool matters = false;

	for (;;) {
		struct sockaddr_nl from = {0};
		socklen_t size = sizeof(from);
		ssize_t n = recvfrom(fd, text, sizeof(text), MSG_DONTWAIT, (struct sockaddr *)&from, &size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return matters || errno == ENOBUFS; /* messages were lost, possibly a relevant one */
		matters |= from.nl_pid == 0 && uevent_matters(text, (size_t)n);
	}
}
