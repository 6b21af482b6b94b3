/* SPDX-License-Identifier: MIT */
/* flamed-keeper: the only process that writes knobs. Started by flamed with one end of a socket
 * pair, or by systemd on the first connection to its socket. It serves one flamed and exits with
 * it. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../common/file.h"
#include "../common/log.h"
#include "../common/units.h"
#include "installation.h"
#include "keeper.h"

#define FIRST_FD     3 /* as passed by systemd's socket activation, and by flamed */
#define USAGE_STATUS 2

static const char usage[] =
	"usage: flamed-keeper [--fd N | --listen] [--sysroot DIR] [--state-dir DIR] [--boards-dir DIR]\n"
	"Write the clock knobs for flamed, which starts this program; see flamed-keeper(8).\n"
	"  --fd N            socket to flamed (default 3)\n"
	"  --listen          serve one client of the socket passed by systemd\n"
	"  --sysroot DIR     prefix every /sys and /proc path with DIR\n"
	"  --state-dir DIR   directory of the knob journal (default /var/lib/flamed)\n"
	"  --boards-dir DIR  directory of board files (default " BOARDS_DIR ")\n"
	"  --version         print the version\n";

struct options {
	int fd;
	bool listen;
	const char *sysroot, *state_dir, *boards_dir;
};

/* Returns 0, the exit status, or -1 when done with success. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"fd", required_argument, NULL, 'f'},         {"listen", no_argument, NULL, 'l'},
		{"sysroot", required_argument, NULL, 'r'},    {"state-dir", required_argument, NULL, 's'},
		{"boards-dir", required_argument, NULL, 'b'}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},          {NULL, 0, NULL, 0},
	};
	uint64_t number;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			if (parse_u64(optarg, &number) < 0 || number > INT_MAX) {
				fprintf(stderr, "flamed-keeper: --fd: not a descriptor number: %s\n", optarg);
				return USAGE_STATUS;
			}
			o->fd = (int)number;
			break;
		case 'l': o->listen = true; break;
		case 'r': o->sysroot = path_prefix(optarg); break;
		case 's': o->state_dir = optarg; break;
		case 'b': o->boards_dir = optarg; break;
		case 'h': fputs(usage, stdout); return -1;
		case 'V': puts("flamed-keeper " FLAMED_VERSION); return -1;
		default: fputs(usage, stderr); return USAGE_STATUS;
		}
	}
	if (optind == argc)
		return 0;
	fputs(usage, stderr);
	return USAGE_STATUS;
}

/* Is the peer root, or the owner of the socket? */
static bool is_flamed(int fd)
{
	struct sockaddr_un address = {0};
	struct ucred peer;
	struct stat st;
	socklen_t size = sizeof(peer), length = sizeof(address) - 1;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return false;
	if (peer.uid == 0)
		return true;
	return getsockname(FIRST_FD, (struct sockaddr *)&address, &length) == 0 && address.sun_path[0] == '/' &&
	       stat(address.sun_path, &st) == 0 && peer.uid == st.st_uid;
}

/* Accept one client of systemd's socket. Returns a descriptor or a negative errno. */
static int accept_one(void)
{
	const char *pid = secure_getenv("LISTEN_PID"), *fds = secure_getenv("LISTEN_FDS");
	uint64_t number;

	if (!pid || !fds || parse_u64(pid, &number) < 0 || number != (uint64_t)getpid() || strcmp(fds, "1") != 0)
		return -ENOTCONN;
	int fd = accept4(FIRST_FD, NULL, NULL, SOCK_CLOEXEC);
	int rc = fd < 0 ? -errno : fd;
	if (rc >= 0 && !is_flamed(fd)) {
		close(fd);
		rc = -EPERM;
	}
	close(FIRST_FD);
	return rc;
}

int main(int argc, char **argv)
{
	struct options o = {FIRST_FD, false, "", "/var/lib/flamed", BOARDS_DIR ""};
	char journal[PATH_MAX];
	int rc = parse_options(argc, argv, &o), type;
	socklen_t len = sizeof(type);

	if (rc)
		return rc < 0 ? 0 : rc;
	log_init(LOG_LEVEL_INFO, "keeper", true);
	if (o.listen)
		o.fd = accept_one();
	if (o.fd < 0) {
		log_error("cannot accept a client: %s", strerror(-o.fd));
		return 1;
	}
	if (getsockopt(o.fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET) {
		log_error("descriptor %d is not a SOCK_SEQPACKET socket; this program is started by flamed", o.fd);
		return USAGE_STATUS;
	}
	rc = dir_make(o.state_dir, 0700);
	if (rc < 0)
		log_error("%s: %s; no knob will be written", o.state_dir, strerror(-rc));
	if (snprintf(journal, sizeof(journal), "%s/journal", o.state_dir) >= (int)sizeof(journal)) {
		log_error("--state-dir: path too long: %s", o.state_dir);
		return USAGE_STATUS;
	}
	struct sysroot root = {o.sysroot};
	return keeper_run(o.fd, &root, o.boards_dir, journal);
}
