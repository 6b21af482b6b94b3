/* SPDX-License-Identifier: MIT */
/* flamed: command line, startup, signals, shutdown. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../common/clock.h"
#include "../common/file.h"
#include "../common/log.h"
#include "daemon.h"
#include "installation.h"
#include "notify.h"

#define STATUS_FAILED    1
#define STATUS_USAGE     2
#define HELLO_NS         (3 * NS_PER_S) /* start without the keeper if it has not answered by then */
#define SPARE_FDS        64
#define MAPPED_BYTES_MIN (128 * 1024) /* larger blocks are returned to the system when they are freed */
#define NICE             (-10)

static const char usage[] =
	"usage: flamed [--config FILE] [--sysroot DIR] [--runtime-dir DIR] [--state-dir DIR]\n"
	"              [--check-config] [--restore]\n"
	"Run inference at the lowest clocks that meet each request's deadline; see flamed(8).\n"
	"  --config FILE      configuration file (default " SYSCONFDIR "/flamed.conf)\n"
	"  --sysroot DIR      prefix every /sys and /proc path with DIR; needs no privilege\n"
	"  --runtime-dir DIR  directory of flamed.sock (default /run/flamed)\n"
	"  --state-dir DIR    directory of learned models and the knob journal (default /var/lib/flamed)\n"
	"  --check-config     check the configuration, report errors, and exit\n"
	"  --restore          restore the knobs that a killed flamed left behind, and exit\n"
	"  --version          print the version\n";

enum action { ACTION_RUN, ACTION_CHECK, ACTION_RESTORE, ACTION_DONE };

/* Returns the action, or -1 after a usage error. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"sysroot", required_argument, NULL, 'r'},
		{"runtime-dir", required_argument, NULL, 'R'},
		{"state-dir", required_argument, NULL, 's'},
		{"check-config", no_argument, NULL, 'C'},
		{"restore", no_argument, NULL, 'P'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int action = ACTION_RUN, c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->config = optarg;
			o->config_named = true;
			break;
		case 'r': o->sysroot = path_prefix(optarg); break;
		case 'R': o->runtime_dir = optarg; break;
		case 's':
			o->state_dir = optarg;
			o->state_dir_named = true;
			break;
		case 'C': action = ACTION_CHECK; break;
		case 'P': action = ACTION_RESTORE; break;
		case 'h': fputs(usage, stdout); return ACTION_DONE;
		case 'V': puts("flamed " FLAMED_VERSION); return ACTION_DONE;
		default: fputs(usage, stderr); return -1;
		}
	}
	if (optind == argc)
		return action;
	fprintf(stderr, "flamed: unexpected argument %s\n%s", argv[optind], usage);
	return -1;
}

static int restore_in(const struct sysroot *root, const char *dir)
{
	char journal[PATH_MAX];
	struct replay replay;
	int rc;

	if (snprintf(journal, sizeof(journal), "%s/journal", dir) >= (int)sizeof(journal))
		return -ENAMETOOLONG;
	rc = keeper_restore(root, journal, &replay);
	if (replay.in_use)
		log_error("%s: in use by a keeper, which restores its knobs when it ends", journal);
	else if (rc < 0)
		log_error("%s: %s", journal, strerror(-rc));
	else if (rc > 0 || replay.left > 0)
		log_notice("%s: %d knobs restored, %u left alone because they were changed by others", journal, rc,
			   replay.left);
	return rc;
}

/* Restore from our own journal, and from that of the keeper service, which has its own state
 * directory. */
static int restore(const struct options *o)
{
	struct sysroot root = {o->sysroot};
	int rc = restore_in(&root, o->state_dir);

	if (!o->state_dir_named) {
		int other = restore_in(&root, "/var/lib/flamed-keeper");

		rc = rc < 0 ? rc : other;
	}
	return rc < 0 ? STATUS_FAILED : 0;
}

static void apply_config(struct daemon *d)
{
	struct governor_options options = board_governor_options(&d->config);

	governor_configure(&d->governor, &options);
	clocks_configure(&d->clocks, &d->config);
	log_set_level(d->config.log_level);
}

static void status_line(struct daemon *d)
{
	notify_status("%s: %u sessions, %zu models, %zu operating points%s%s", d->board.name, d->sessions,
		      d->library.count, d->clocks.grid.points, clocks_fault(&d->clocks)[0] ? "; degraded: " : "",
		      clocks_fault(&d->clocks));
}

static int open_socket(struct daemon *d)
{
	char path[PATH_MAX];
	int fd = d->passed_fd;

	if (fd != -1) {
		if (fd < 0)
			log_error("the descriptor passed by the service manager is not a listening Unix stream socket");
		return fd;
	}
	if (snprintf(path, sizeof(path), "%s/flamed.sock", d->options->runtime_dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = server_listen(path, d->config.socket_group);
	if (fd < 0)
		log_error("%s: %s%s", path, strerror(-fd), fd == -EADDRINUSE ? "; another flamed serves it" : "");
	return fd;
}

/* The keeper has reported the knobs that it found: set up everything that depends on the clocks. */
static void start(struct daemon *d)
{
	struct server_handlers handlers = {dispatch_message, dispatch_beside_others, dispatch_closed, d};
	int fd, rc = clocks_init(&d->clocks, &d->board, &d->config);

	if (rc < 0) {
		log_error("cannot build the clock table: %s", strerror(-rc));
		goto failed;
	}
	rc = board_load_models(d);
	if (rc < 0) {
		log_error("governor: %s", strerror(-rc));
		goto failed;
	}
	apply_config(d);
	board_log(&d->board);
	fd = open_socket(d);
	if (fd < 0)
		goto failed;
	d->server = server_new(d->loop, fd, &handlers);
	if (!d->server) {
		log_error("cannot serve the socket: out of memory or file descriptors");
		goto failed;
	}
	log_info("ready: %zu operating points", d->clocks.grid.points);
	notify_ready();
	status_line(d);
	return;
failed:
	d->failed = true;
	loop_stop(d->loop);
}

static void take_sensors(struct daemon *d, int fds[RAILS_MAX][2])
{
	power_meter_free(d->power.meter);
	d->power.meter = d->config.power_sensor && d->board.rails ?
				 power_meter_new(&d->board, &d->root, (const int(*)[2])fds) :
				 NULL;
}

static void close_all(int fds[RAILS_MAX][2])
{
	for (size_t i = 0; i < RAILS_MAX; i++)
		for (int k = 0; k < 2; k++)
			if (fds[i][k] >= 0)
				close(fds[i][k]);
}

static void on_keeper_reply(void *arg, const struct keeper_reply *reply, int fds[RAILS_MAX][2])
{
	struct daemon *d = arg;

	if (reply->op == KEEPER_HELLO)
		d->found = *reply;
	if (reply->boards != d->boards && reply->op != KEEPER_HELLO)
		board_rescan_later(d);
	d->boards = reply->boards;
	if (reply->op == KEEPER_HELLO && !d->server) {
		keeper_hello_merge(&d->board, reply);
		take_sensors(d, fds);
		d->clocks.last = *reply;
		loop_timer_stop(d->hello);
		start(d);
		return;
	}
	if (reply->op == KEEPER_HELLO)
		board_rescan_later(d); /* its descriptors are those of the sensors that this keeper found */
	if (reply->op == KEEPER_HELLO && d->config.power_sensor)
		take_sensors(d, fds);
	else
		close_all(fds);
	dispatch_keeper_reply(d, reply);
}

static void on_keeper_lost(void *arg)
{
	struct daemon *d = arg;

	if (!d->server)
		return;
	dispatch_keeper_lost(d);
}

/* The keeper did not answer: serve without it, and report that. */
static void on_hello_late(void *arg)
{
	struct daemon *d = arg;
	int none[RAILS_MAX][2];

	log_error("the keeper does not answer; serving without moving any clock");
	memset(none, -1, sizeof(none));
	take_sensors(d, none);
	start(d);
}

/* Without a keeper nothing can be written. Knobs that a killed flamed left are restored by --restore. */
static void start_shadow(struct daemon *d)
{
	char journal[PATH_MAX];
	int none[RAILS_MAX][2];

	log_notice("shadow mode: the kernel's governors choose the clocks, nothing is written");
	if (snprintf(journal, sizeof(journal), "%s/journal", d->options->state_dir) < (int)sizeof(journal) &&
	    access(journal, F_OK) == 0)
		log_warning("%s: clocks of an earlier run have not been put back; flamed --restore does", journal);
	board_hide_unread(d, &d->board);
	memset(none, -1, sizeof(none));
	take_sensors(d, none);
	start(d);
}

static void on_reload(void *arg)
{
	struct daemon *d = arg;
	char message[CONFIG_MESSAGE_MAX];
	struct config *fresh = malloc(sizeof(*fresh));

	notify_reloading();
	if (!fresh) {
		log_error("reload: out of memory; keeping the old configuration");
	} else if (config_load(fresh, d->options->config, !d->options->config_named, message) < 0) {
		log_error("%s; keeping the old configuration", message);
	} else {
		if (memcmp(fresh->use, d->config.use, sizeof(fresh->use)) ||
		    fresh->power_sensor != d->config.power_sensor || fresh->mode != d->config.mode)
			log_warning("[flamed] mode, changes of [clocks] and of sensor in [power] take effect at the "
				    "next start");
		fresh->mode = d->config.mode;
		memcpy(fresh->use, d->config.use, sizeof(fresh->use));
		fresh->power_sensor = d->config.power_sensor;
		d->config = *fresh;
		if (d->server)
			apply_config(d);
		log_info("configuration reloaded");
	}
	if (d->clocks.keeper)
		keeper_link_rescan(d->clocks.keeper);
	board_rescan_later(d);
	free(fresh);
	notify_ready();
}

static void on_terminate(void *arg)
{
	struct daemon *d = arg;

	notify_stopping();
	loop_stop(d->loop);
}

/* Models that sessions want after a change of the power mode. Those that were not read before the first client was
 * served are read while no client waits. */
static void on_read(void *arg)
{
	struct daemon *d = arg;

	if (sessions_read(d) || (!d->sessions && library_read_next(&d->library)))
		loop_timer_in(d->read, LIBRARY_READ_NS);
}

static void on_watchdog(void *arg)
{
	struct daemon *d = arg;

	notify_watchdog();
	status_line(d);
	loop_timer_in(d->watchdog, notify_watchdog_ns());
}

/* Allow a descriptor for every connection and those that the daemon itself uses. */
static void raise_descriptors(void)
{
	struct rlimit limit;
	rlim_t want = CONNECTIONS_MAX + SPARE_FDS;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= want)
		return;
	limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < want)
		log_warning("limit of %llu file descriptors: fewer than %d connections are possible",
			    (unsigned long long)limit.rlim_cur, CONNECTIONS_MAX);
}

/* A late reply costs a deadline, and the daemon uses little CPU time. The service units set the same nice value. A
 * value set by the parent process is kept, and so is the default without the privilege to change it. */
static void come_first(void)
{
	if (getpriority(PRIO_PROCESS, 0) == 0)
		(void)!setpriority(PRIO_PROCESS, 0, NICE);
}

/* The keeper is beside flamed in a build tree, otherwise where it is installed. */
static void find_keeper(char path[PATH_MAX + 32])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash) {
		snprintf(path, PATH_MAX + 32, "%.*s/flamed-keeper", (int)(slash - self), self);
		if (access(path, X_OK) == 0)
			return;
	}
	strcpy(path, LIBEXECDIR "/flamed-keeper");
}

static bool make_watches(struct daemon *d)
{
	d->hello = loop_timer(d->loop, on_hello_late, d);
	d->expiry = loop_timer(d->loop, requests_expire, d);
	d->idle = loop_timer(d->loop, clocks_idle, d);
	d->save = loop_timer(d->loop, models_save, d);
	d->read = loop_timer(d->loop, on_read, d);
	d->rescan = loop_timer(d->loop, board_rescan, d);
	d->power.timer = loop_timer(d->loop, power_sample, d);
	d->shadow_poll = loop_timer(d->loop, shadow_poll, d);
	d->work = loop_timer(d->loop, work_ahead, d);
	d->watchdog = loop_timer(d->loop, on_watchdog, d);
	d->terminate[0] = loop_signal(d->loop, SIGTERM, on_terminate, d);
	d->terminate[1] = loop_signal(d->loop, SIGINT, on_terminate, d);
	d->reload = loop_signal(d->loop, SIGHUP, on_reload, d);
	return d->hello && d->expiry && d->idle && d->save && d->read && d->rescan && d->power.timer &&
	       d->shadow_poll && d->work && d->watchdog && d->terminate[0] && d->terminate[1] && d->reload;
}

static void free_watches(struct daemon *d)
{
	struct loop_watch *all[] = {d->read,         d->hello,        d->expiry,      d->idle, d->save,
				    d->rescan,       d->power.timer,  d->shadow_poll, d->work, d->watchdog,
				    d->terminate[0], d->terminate[1], d->reload};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		loop_watch_free(all[i]);
}

static int run(struct daemon *d)
{
	struct keeper_link_events events = {on_keeper_reply, on_keeper_lost, d};
	struct keeper_link_options options = {.sysroot = d->root.prefix,
					      .state_dir = d->options->state_dir,
					      .boards_dir = d->config.boards_dir};
	char program[PATH_MAX + 32];
	bool service = (d->passed_fd = notify_socket()) >= 0 && d->root.prefix[0] == '\0' && d->config.keeper_socket[0];
	int rc;

	signal(SIGPIPE, SIG_IGN);
	clock_reader_init(&d->reader);
	mode_reader_init(&d->mode_reader);
	raise_descriptors();
	come_first();
	rc = dir_make(d->options->state_dir, 0750);
	if (rc < 0)
		log_error("%s: %s", d->options->state_dir, strerror(-rc));
	rc = dir_make(d->options->runtime_dir, 0755);
	if (rc < 0)
		log_error("%s: %s", d->options->runtime_dir, strerror(-rc));
	board_detect(&d->board, &d->root, d->config.boards_dir);
	d->loop = loop_new();
	if (!d->loop || !make_watches(d)) {
		log_error("cannot create the event loop: out of memory or file descriptors");
		return STATUS_FAILED;
	}
	find_keeper(program);
	options.program = program;
	options.socket = service ? d->config.keeper_socket : NULL;
	if (notify_watchdog_ns())
		loop_timer_in(d->watchdog, notify_watchdog_ns());
	if (d->config.mode == MODE_SHADOW) {
		start_shadow(d);
		rc = d->failed ? 0 : loop_run(d->loop);
	} else {
		loop_timer_in(d->hello, HELLO_NS);
		d->clocks.keeper = keeper_link_new(d->loop, &options, &events);
		rc = d->clocks.keeper ? loop_run(d->loop) : -ENOMEM;
	}
	if (rc < 0)
		log_error("exiting: %s", strerror(-rc));
	server_free(d->server);
	fitting_abandon(d);
	helper_free(&d->fitting.helper);
	helper_free(&d->importing.helper);
	if (d->clocks.grid.points)
		library_finish(&d->library);
	keeper_link_free(d->clocks.keeper);
	library_free(&d->library);
	clock_reader_close(&d->reader);
	mode_reader_close(&d->mode_reader);
	governor_free(&d->governor);
	power_meter_free(d->power.meter);
	free_watches(d);
	loop_free(d->loop);
	return rc < 0 || d->failed ? STATUS_FAILED : 0;
}

int main(int argc, char **argv)
{
	static struct daemon d;
	struct options o = {SYSCONFDIR "/flamed.conf", "", "/run/flamed", "/var/lib/flamed", false, false};
	int action = parse_options(argc, argv, &o);
	char message[CONFIG_MESSAGE_MAX];

	if (action < 0)
		return STATUS_USAGE;
	if (action == ACTION_DONE)
		return 0;
	log_init(LOG_LEVEL_INFO, NULL, true);
	if (action == ACTION_RESTORE)
		return restore(&o);
	int rc = config_load(&d.config, o.config, !o.config_named, message);
	if (rc < 0) {
		log_error("%s", message);
		return rc == -ENOMEM ? STATUS_FAILED : STATUS_USAGE;
	}
	if (action == ACTION_CHECK) {
		printf("%s: ok\n", o.config);
		return 0;
	}
	log_set_level(d.config.log_level);
	d.options = &o;
	d.root.prefix = o.sysroot;
	d.started_ns = clock_now_ns();
	(void)mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
	return run(&d);
}
