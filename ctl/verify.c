/* SPDX-License-Identifier: MIT */
/* flamectl verify: check the installation end to end, from the socket to the knobs and back; report
 * faults and their remedies. */
#include "ctl.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../common/clock.h"
#include "../common/point.h"
#include "../common/units.h"
#include "cuda.h"
#include "installation.h"
#include "json.h"
#include "layers.h"
#include "../layers/cuda/cupti/cupti.h"

#define SCRATCH_MODEL "flamed-verify"
#define SCRATCH_NS    1000000000ULL /* deadline of the test request; no client waits for it */
#define HAND_BACK_NS  5000000000ULL
#define TOLERANCE     0.02 /* of a clock read back, as frequency tables are rounded */

enum result { CHECK_OK, CHECK_NOTE, CHECK_FAILED };

struct verify {
	struct ctl *ctl;
	unsigned failed, notes, shown;
};

static void say(struct verify *verify, enum result result, const char *name, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void say(struct verify *verify, enum result result, const char *name, const char *format, ...)
{
	static const char *const words[] = {"ok", "note", "FAILED"};
	static const char *const colours[] = {SGR_GREEN, SGR_YELLOW, SGR_RED};
	const struct ctl *ctl = verify->ctl;
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	verify->failed += result == CHECK_FAILED;
	verify->notes += result == CHECK_NOTE;
	if (!ctl->json) {
		printf("%s%-6s%s  %-9s  %s\n", sgr(ctl, colours[result]), words[result], sgr(ctl, SGR_OFF), name, text);
	} else {
		printf("%s\n    {\"check\": \"%s\", \"result\": \"%s\", \"text\": ", verify->shown ? "," : "", name,
		       words[result]);
		json_string(stdout, text);
		printf("}");
	}
	verify->shown++;
}

/* Does this process have the group in effect? */
static bool in_group(gid_t gid)
{
	gid_t groups[256];
	int count = getgroups(256, groups);

	if (geteuid() == 0 || getegid() == gid)
		return true;
	for (int i = 0; i < count; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

static void check_socket(struct verify *verify)
{
	const char *path = verify->ctl->socket;
	const struct group *group;
	struct stat st;

	if (stat(path, &st) < 0) {
		say(verify, CHECK_FAILED, "socket", "%s: %s. Start flamed: systemctl start flamed", path,
		    strerror(errno));
		return;
	}
	group = getgrgid(st.st_gid);
	if (!S_ISSOCK(st.st_mode))
		say(verify, CHECK_FAILED, "socket", "%s is not a socket", path);
	else if (st.st_mode & 0002)
		say(verify, CHECK_NOTE, "socket", "%s is open to every user of this machine (mode %04o)", path,
		    st.st_mode & 07777);
	else
		say(verify, CHECK_OK, "socket", "%s, group %s, mode %04o", path, group ? group->gr_name : "?",
		    st.st_mode & 07777);
	if (in_group(st.st_gid) || st.st_uid == geteuid())
		say(verify, CHECK_OK, "group", "you may use it");
	else
		say(verify, CHECK_FAILED, "group",
		    "you are not in group %s: sudo usermod -aG %s $USER, then log in again",
		    group ? group->gr_name : "?", group ? group->gr_name : "flamed");
}

static int check_daemon(struct verify *verify)
{
	struct ctl *ctl = verify->ctl;

	if (ctl_ask(ctl, "hello") < 0) {
		say(verify, CHECK_FAILED, "daemon", "no answer; see the message above");
		return -ENOTCONN;
	}
	if (ctl_u64(ctl, "protocol") != 1)
		say(verify, CHECK_FAILED, "daemon", "uses protocol version %s, this flamectl uses version 1",
		    ctl_text(ctl, "protocol"));
	else if (strcmp(ctl_text(ctl, "version"), FLAMED_VERSION) != 0)
		say(verify, CHECK_NOTE, "daemon",
		    "is version %s, flamectl is " FLAMED_VERSION "; restart flamed after an upgrade",
		    ctl_text(ctl, "version"));
	else
		say(verify, CHECK_OK, "daemon", "flamed %s answers", ctl_text(ctl, "version"));
	return 0;
}

static void check_keeper(struct verify *verify)
{
	struct ctl *ctl = verify->ctl;
	int journal_errno = (int)ctl_u64(ctl, "keeper.journal_errno");

	if (strcmp(ctl_text(ctl, "keeper.state"), "running") != 0)
		say(verify, CHECK_FAILED, "keeper",
		    "%s: no clock can be moved. See journalctl -u flamed -u flamed-keeper -e",
		    ctl_text(ctl, "keeper.state"));
	else if (journal_errno)
		say(verify, CHECK_FAILED, "keeper",
		    "cannot write its journal (%s), so it writes no knob: check free space and owner of the state "
		    "directory",
		    strerror(journal_errno));
	else
		say(verify, CHECK_OK, "keeper", "running, pid %s", ctl_text(ctl, "keeper.pid"));
}

/* Returns the number of clocks that can be controlled. */
static int check_board(struct verify *verify)
{
	struct ctl *ctl = verify->ctl;
	int movable = 0;

	for (int c = 0; c < CLOCK_COUNT; c++) {
		const char *name = clock_name((enum clock_id)c), *state = ctl_text(ctl, "clock.%s.state", name);
		char min[32], max[32];

		if (!ctl_u64(ctl, "clock.%s.controllable", name)) {
			say(verify, CHECK_NOTE, name, "%s", ctl_text(ctl, "clock.%s.why_not", name));
			continue;
		}
		movable++;
		format_frequency(min, sizeof(min), ctl_u64(ctl, "clock.%s.min_hz", name));
		format_frequency(max, sizeof(max), ctl_u64(ctl, "clock.%s.max_hz", name));
		if (strcmp(state, "ok") == 0)
			say(verify, CHECK_OK, name, "%s to %s in %s steps, by %s", min, max,
			    ctl_text(ctl, "clock.%s.steps", name), ctl_text(ctl, "clock.%s.method", name));
		else
			say(verify, strcmp(state, "foreign") == 0 ? CHECK_NOTE : CHECK_FAILED, name, "%s. %s", state,
			    ctl_text(ctl, "keeper.text"));
	}
	if (movable == 0)
		say(verify, CHECK_FAILED, "clocks",
		    "none can be controlled: flamed serves requests, but saves no power here");
	if (*ctl_text(ctl, "power.sensor"))
		say(verify, CHECK_OK, "power", "%s", ctl_text(ctl, "power.sensor"));
	else
		say(verify, CHECK_NOTE, "power", "%s", ctl_text(ctl, "power.why_not"));
	if (*ctl_text(ctl, "board.other_owners"))
		say(verify, CHECK_NOTE, "owners", "%s set clocks too; flamed leaves the knobs that they write alone",
		    ctl_text(ctl, "board.other_owners"));
	return movable;
}

/* Compare the clocks that `begin wait=1` promised with those read back by flamed. */
static void compare_clocks(struct verify *verify, const uint64_t promised[CLOCK_COUNT])
{
	struct ctl *ctl = verify->ctl;

	if (ctl_ask(ctl, "status") < 0)
		return;
	for (int c = 0; c < CLOCK_COUNT; c++) {
		const char *name = clock_name((enum clock_id)c), *owner = ctl_text(ctl, "clock.%s.owner", name);
		uint64_t actual = ctl_u64(ctl, "clock.%s.cur_hz", name),
			 ceiling = ctl_u64(ctl, "clock.%s.ceiling_hz", name);
		uint64_t wanted = ceiling && ceiling < promised[c] ? ceiling : promised[c];
		double error = wanted ? ((double)actual - (double)wanted) / (double)wanted : 0;
		char is[32], should[32];

		if (!ctl_u64(ctl, "clock.%s.controllable", name) || !promised[c])
			continue;
		format_frequency(is, sizeof(is), actual);
		format_frequency(should, sizeof(should), wanted);
		if (error > TOLERANCE || error < -TOLERANCE)
			say(verify, CHECK_NOTE, name,
			    "was set to %s and runs at %s: idle, throttled, or slow to follow", should, is);
		else if (strcmp(owner, "flamed") != 0)
			say(verify, CHECK_FAILED, name, "was set to %s but is owned by %s", should, owner);
		else
			say(verify, CHECK_OK, name, "set to %s and read back", is);
	}
}

static int call(struct ctl *ctl, const char *op, const char *key, const char *value, bool begin)
{
	struct kv_out out = {0};
	int rc;

	kv_add(&out, "op", "%s", op);
	kv_add(&out, key, "%s", value);
	if (begin) {
		kv_add_u64(&out, "deadline_ns", SCRATCH_NS);
		kv_add(&out, "wait", "1");
	}
	rc = ctl_call(ctl, &out);
	kv_free(&out);
	return rc;
}

/* Apply clocks once, for a scratch model. It was never measured, so the clocks can only go up, and
 * its request is not ended, so nothing is learned. */
static void check_apply(struct verify *verify)
{
	static const char *const keys[CLOCK_COUNT] = {"cpu_hz", "gpu_hz", "mem_hz"};
	struct ctl *ctl = verify->ctl;
	uint64_t promised[CLOCK_COUNT], begin_ns;
	char session[24], took[32];

	if (call(ctl, "open", "model", SCRATCH_MODEL, false) < 0) {
		say(verify, CHECK_FAILED, "session", "cannot be opened; see the message above");
		return;
	}
	snprintf(session, sizeof(session), "%s", ctl_text(ctl, "session"));
	begin_ns = clock_now_ns();
	if (call(ctl, "begin", "session", session, true) < 0) {
		say(verify, CHECK_FAILED, "begin", "was refused; see the message above");
		return;
	}
	format_duration(took, sizeof(took), clock_now_ns() - begin_ns);
	say(verify, CHECK_OK, "begin", "answered with the clocks applied in %s", took);
	for (int c = 0; c < CLOCK_COUNT; c++)
		promised[c] = ctl_u64(ctl, "%s", keys[c]);
	compare_clocks(verify, promised);
	wire_close(&ctl->wire); /* ends session and request */
}

static bool handed_back(struct ctl *ctl)
{
	for (int c = 0; c < CLOCK_COUNT; c++)
		if (strcmp(ctl_text(ctl, "clock.%s.owner", clock_name((enum clock_id)c)), "flamed") == 0)
			return false;
	return ctl_u64(ctl, "keeper.journal_knobs") == 0;
}

static void check_hand_back(struct verify *verify)
{
	uint64_t until_ns = clock_now_ns() + HAND_BACK_NS;
	struct ctl *ctl = verify->ctl;

	do {
		if (ctl_ask(ctl, "status") < 0)
			break;
		if (ctl_u64(ctl, "sessions")) {
			say(verify, CHECK_NOTE, "release", "another session began; flamed keeps the clocks");
			return;
		}
		if (handed_back(ctl)) {
			say(verify, CHECK_OK, "release", "the clocks were released, and the journal is empty");
			return;
		}
		clock_sleep_ns(50 * NS_PER_MS);
	} while (clock_now_ns() < until_ns);
	say(verify, CHECK_FAILED, "release",
	    "the clocks were not released within %llu s of the last session; `flamectl release` forces it",
	    (unsigned long long)(HAND_BACK_NS / NS_PER_S));
}

/* Check the layers for unmodified programs. */
static void check_layers(struct verify *verify)
{
	char why[256];

	for (size_t i = 0; i < layers_count(); i++) {
		int rc = layers_check(i, why, sizeof(why));

		if (rc == 0)
			say(verify, CHECK_OK, layers_name(i), "flamectl run governs programs that use %s",
			    layers_api(i));
		else
			say(verify, rc == -ENOEXEC ? CHECK_FAILED : CHECK_NOTE, layers_name(i), "%s", why);
	}
}

static void check_all(struct verify *verify)
{
	struct ctl *ctl = verify->ctl;
	int movable;

	check_socket(verify);
	if (check_daemon(verify) < 0 || ctl_ask(ctl, "status") < 0)
		return;
	check_keeper(verify);
	movable = check_board(verify);
	if (ctl_u64(ctl, "sessions") || *ctl_text(ctl, "profile.0.id")) {
		say(verify, CHECK_NOTE, "begin",
		    "not tested: there are open sessions, and their deadlines take precedence");
	} else if (movable) {
		check_apply(verify);
		check_hand_back(verify);
	}
}

static void check_driver(struct verify *verify, const struct cuda_report *report)
{
	int major = report->version / 1000, minor = report->version % 1000 / 10;

	if (!report->loaded)
		say(verify, CHECK_NOTE, "driver", "no CUDA driver: %s", report->why);
	else if (report->version < CUDA_VERSION_MIN)
		say(verify, CHECK_FAILED, "driver",
		    "CUDA %d.%d: the layer needs 11.3 or later (JetPack 5), and is inactive", major, minor);
	else
		say(verify, CHECK_OK, "driver", "CUDA %d.%d", major, minor);
	if (!report->loaded)
		return;
	if (report->error)
		say(verify, CHECK_FAILED, "device", "the driver returns error %d; see nvidia-smi or, on Jetson, dmesg",
		    report->error);
	else if (report->devices == 0)
		say(verify, CHECK_FAILED, "device", "the driver reports no device");
	else
		say(verify, CHECK_OK, "device", "%s, compute capability %d.%d%s", report->name, report->major,
		    report->minor, report->devices > 1 ? ", and others" : "");
}

/* Check the permissions of CUDA programs under flamed, and of tools that measure them, on this machine. */
static void check_cuda(struct verify *verify)
{
	const char *injection = getenv("NVTX_INJECTION64_PATH"), *profiler = getenv("CUDA_INJECTION64_PATH");
	struct cuda_report report;
	struct nvml_report nvml;
	char why[256];
	int restricted;

	for (size_t i = 0; i < layers_count(); i++) {
		int rc = strcmp(layers_name(i), "cuda") == 0 ? layers_check(i, why, sizeof(why)) : -ENODEV;

		if (rc == 0)
			say(verify, CHECK_OK, "layer", "flamectl run preloads it");
		else if (rc != -ENODEV)
			say(verify, CHECK_FAILED, "layer", "%s", why);
	}
	if (cuda_ask(&report) < 0)
		say(verify, CHECK_FAILED, "driver", "a process that loads libcuda.so.1 crashes");
	else
		check_driver(verify, &report);
	if (injection && *injection)
		say(verify, CHECK_NOTE, "nvtx",
		    "NVTX_INJECTION64_PATH is %s: FLAMED_BOUNDARY=nvtx:NAME cannot be used with it", injection);
	else
		say(verify, CHECK_OK, "nvtx", "FLAMED_BOUNDARY=nvtx:NAME can use ranges as inferences");
	if (report.loaded && profiler && *profiler)
		say(verify, CHECK_NOTE, "cupti", "CUDA_INJECTION64_PATH is %s: flamectl profile --cupti uses events",
		    profiler);
	else if (report.loaded && !cupti_allowed("", report.version, geteuid() == 0, why, sizeof(why)))
		say(verify, CHECK_NOTE, "cupti", "flamectl profile --cupti uses events: %s", why);
	else if (report.loaded)
		say(verify, CHECK_OK, "cupti", "no obstacle to flamectl profile --cupti was found");
	if (cuda_ask_nvml(&nvml) == 0)
		say(verify, CHECK_OK, "nvml",
		    "%s: graphics up to %u MHz, memory up to %u MHz, which root may lock; "
		    "a board file with method = nvml lets flamed do it",
		    nvml.bus_id, nvml.graphics_mhz, nvml.memory_mhz);
	else if (nvml.missing[0])
		say(verify, CHECK_NOTE, "nvml", "NVML has no %s: its driver is too old to lock clocks", nvml.missing);
	else if (report.loaded)
		say(verify, CHECK_NOTE, "nvml", "no GPU whose clocks NVML can lock: on Jetson they are in sysfs");
	restricted = cuda_counters_restricted();
	if (profiler && *profiler)
		say(verify, CHECK_NOTE, "profiler", "CUDA_INJECTION64_PATH is %s: a profiler uses CUPTI", profiler);
	else if (restricted > 0 && geteuid() != 0)
		say(verify, CHECK_NOTE, "profiler",
		    "only root may profile (RmProfilingAdminOnly); flamed's layer needs no profiler");
	else if (restricted < 0)
		say(verify, CHECK_NOTE, "profiler",
		    "no NVIDIA kernel module with a setting for profilers; on Jetson up to JetPack 6 they need root");
	else
		say(verify, CHECK_OK, "profiler", "nsys and torch.profiler can record traces for flamectl import");
}

int cmd_verify(struct ctl *ctl, int argc, char **argv)
{
	struct verify verify = {.ctl = ctl};
	int count, rest;

	if (ctl_options(ctl, NULL, 0, argc, argv, &count, &rest))
		return 2;
	if (count > 2 || (count == 2 && strcmp(argv[1], "cuda") != 0))
		return ctl_usage(ctl, "unexpected argument: %s", argv[count - 1]);
	if (ctl->json)
		printf("{\n  \"checks\": [");
	if (count == 2) {
		check_cuda(&verify);
	} else {
		check_all(&verify);
		check_layers(&verify);
	}
	if (ctl->json)
		printf("\n  ],\n  \"failed\": %u,\n  \"notes\": %u\n}\n", verify.failed, verify.notes);
	else if (verify.failed)
		printf("\n%u of %u checks failed.\n", verify.failed, verify.shown);
	else
		printf("\nAll checks passed%s.\n", verify.notes ? ", with the notes above" : "");
	return verify.failed ? 1 : 0;
}
