/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "../../common/clock.h"
#include "../../common/limits.h"
#include "../../estimator/model.h"
#include "client.h"
#include "worst.h"

#define FLOODERS      200
#define HALF_BYTES    60000 /* of a message that is not whole */
#define LAYERS_EACH   4000
#define MESSAGE_BYTES 65536
#define FULL_SAMPLES  60 /* of each of MODELS_PER_UID_MAX models, with the layers a share of memory */
#define FULL_LAYERS   (MEASURED_PER_UID_MAX / MODELS_PER_UID_MAX / MODEL_LAYER_BYTES - 6 * FULL_SAMPLES)

/* Written and forgotten: replies are read only to make room. */
static void push(int fd, const char *message, size_t len)
{
	char sink[65536];

	while (len > 0) {
		ssize_t n = send(fd, message, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return;
		while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
		if (n < 0)
			clock_sleep_ns(NS_PER_MS);
		else {
			message += n;
			len -= (size_t)n;
		}
	}
}

/* 80 models opened in turn, more than a user's share of memory. */
static void worst_models(void)
{
	char message[128], reply[4096];

	for (unsigned i = 0;; i++) {
		int fd = connect_within(in_dir("run/flamed.sock"), 5000);

		snprintf(message, sizeof(message), "op=open\nmodel=large%u\n\n", i % 80);
		ask(fd, message, reply, sizeof(reply));
		close(fd);
	}
}

/* The layers of an end, and its last line. A line holds 4 KiB: 200 layers each. */
static size_t add_layers(char end[MESSAGE_BYTES], size_t out, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (i % 200 == 0)
			out += (size_t)snprintf(end + out, MESSAGE_BYTES - out,
						i ? "\nlayers.%u=" : "layers=", i / 200);
		out += (size_t)snprintf(end + out, MESSAGE_BYTES - out, "%s%u:%u", i % 200 ? "," : "", 3000 + i % 7,
					4000 + i % 11);
	}
	return out + (size_t)snprintf(end + out, MESSAGE_BYTES - out, ":s\n\n");
}

/* Ends with layers, of ever more models, and a question that wants the fit of them. */
static void end_with(const char *name, unsigned count)
{
	static char end[MESSAGE_BYTES];
	char message[256], session[32], request[32], reply[4096];

	for (unsigned model = 0;; model++) {
		int fd = connect_within(in_dir("run/flamed.sock"), 5000);

		snprintf(message, sizeof(message), "op=open\nmodel=%s%u\n\n", name, model % 60);
		ask(fd, message, reply, sizeof(reply));
		value_of(reply, "session=", session, sizeof(session));
		for (unsigned n = 0; n < 20; n++) {
			size_t out;

			snprintf(message, sizeof(message), REQUEST, session);
			ask(fd, message, reply, sizeof(reply));
			value_of(reply, "request=", request, sizeof(request));
			out = (size_t)snprintf(end, sizeof(end), "op=end\nrequest=%s\ntotal_ns=%u\nack=1\n", request,
					       30000000 + n);
			out = add_layers(end, out, count);
			push(fd, end, out);
		}
		snprintf(message, sizeof(message), "op=surface\nmodel=%s%u\n\n", name, model % 60);
		push(fd, message, strlen(message));
		clock_sleep_ns(NS_PER_MS);
		close(fd);
	}
}

static void worst_layers(void)
{
	end_with("deep", LAYERS_EACH);
}

/* As many as flamed fits. */
static void worst_fits(void)
{
	end_with("fit", LAYERS_FITTED_MAX);
}

/* A thousand connections, each with questions queued. */
static void worst_questions(void)
{
	static int fd[QUESTIONERS];

	for (int i = 0; i < QUESTIONERS; i++)
		fd[i] = connect_within(in_dir("run/flamed.sock"), 5000);
	for (;;) {
		for (int i = 0; i < QUESTIONERS; i++)
			push(fd[i], "op=status\n\nop=models\n\n", 22);
		clock_sleep_ns(NS_PER_MS);
	}
}

/* As many requests in flight as one may have, and begins without end from as many connections. */
static void worst_requests(void)
{
	static int fd[FLOODERS];
	char reply[4096], session[32], name[64];
	size_t len[FLOODERS] = {0};
	static char flood[FLOODERS][8 * 128];

	for (int i = 0; i < FLOODERS; i++) {
		fd[i] = connect_within(in_dir("run/flamed.sock"), 5000);
		snprintf(name, sizeof(name), "op=open\nmodel=flood%d\n\n", i % 8);
		ask(fd[i], name, reply, sizeof(reply));
		value_of(reply, "session=", session, sizeof(session));
		for (int k = 0; k < 8; k++)
			len[i] += (size_t)snprintf(flood[i] + len[i], sizeof(flood[i]) - len[i], REQUEST, session);
	}
	for (;;)
		for (int i = 0; i < FLOODERS; i++)
			push(fd[i], flood[i], len[i]);
}

static void worst_profiles(void)
{
	char reply[4096], message[128], id[32];

	for (unsigned i = 0;; i++) {
		int fd = connect_within(in_dir("run/flamed.sock"), 5000);

		snprintf(message, sizeof(message), "op=profile\nmodel=p%u\nbudget=1\n\n", i % 50);
		ask(fd, message, reply, sizeof(reply));
		if (strstr(reply, "profile=")) {
			value_of(reply, "profile=", id, sizeof(id));
			snprintf(message, sizeof(message), "op=sample\nprofile=%s\nlatency_ns=30000000\nn=5\n\n", id);
			ask(fd, message, reply, sizeof(reply));
		}
		close(fd);
	}
}

/* The largest number of requests in flight, each at another context, and begins at further ones. */
static void worst_contexts(void)
{
	char reply[4096], session[32], request[32], message[256];
	int fd = connect_within(in_dir("run/flamed.sock"), 5000);

	for (unsigned i = 0;; i++) {
		snprintf(message, sizeof(message), "op=open\nmodel=grown%u\nphase=decode\ncontext=1\n\n", i % 8);
		ask(fd, message, reply, sizeof(reply));
		if (!strstr(reply, "session="))
			break;
		value_of(reply, "session=", session, sizeof(session));
		for (unsigned n = 0; n < 40; n++) {
			snprintf(message, sizeof(message), "op=begin\nsession=%s\ncontext=%u\ndeadline_ns=%u000000\n\n",
				 session, 50 + 7 * i + n * n * 50, n < 33 ? 20 + n : 3600000);
			ask(fd, message, reply, sizeof(reply));
			if (n >= 33 || !strstr(reply, "request=")) /* the last of them stay */
				continue;
			value_of(reply, "request=", request, sizeof(request));
			snprintf(message, sizeof(message), "op=end\nrequest=%s\ntotal_ns=%u\n\n", request,
				 20000000 + n * 100000);
			push(fd, message, strlen(message));
		}
	}
	for (unsigned n = 0;; n++) {
		snprintf(message, sizeof(message), "op=begin\nsession=%s\ncontext=%u\ndeadline_ns=50000000\n\n",
			 session, 50 + n * 997 % 100000);
		ask(fd, message, reply, sizeof(reply));
		if (!strstr(reply, "request="))
			continue;
		value_of(reply, "request=", request, sizeof(request));
		snprintf(message, sizeof(message), "op=end\nrequest=%s\ntotal_ns=20000000\n\n", request);
		push(fd, message, strlen(message));
	}
}

/* Every model that a user may have, with as much as its share of memory holds, measured again before each save. */
static void worst_saves(void)
{
	char reply[4096], message[256], request[32], session[MODELS_PER_UID_MAX][32];
	int fd = connect_within(in_dir("run/flamed.sock"), 5000);

	for (unsigned i = 0; i < MODELS_PER_UID_MAX; i++) {
		snprintf(message, sizeof(message), "op=open\nmodel=full%u\nphase=decode\ncontext=100\n\n", i);
		ask(fd, message, reply, sizeof(reply));
		value_of(reply, "session=", session[i], sizeof(session[i]));
	}
	(void)!write(STDOUT_FILENO, "", 1);
	for (unsigned i = 0;; i++) {
		snprintf(message, sizeof(message), REQUEST, session[i % MODELS_PER_UID_MAX]);
		ask(fd, message, reply, sizeof(reply));
		value_of(reply, "request=", request, sizeof(request));
		snprintf(message, sizeof(message), "op=end\nrequest=%s\ntotal_ns=30000000\nack=1\n\n", request);
		ask(fd, message, reply, sizeof(reply));
		clock_sleep_ns(NS_PER_MS);
	}
}

const struct worst_kind worst_kinds[WORST_KINDS] = {
	{"models", worst_models, false},       {"layers", worst_layers, false},     {"fits", worst_fits, false},
	{"questions", worst_questions, false}, {"profiles", worst_profiles, false}, {"requests", worst_requests, false},
	{"contexts", worst_contexts, false},   {"saves", worst_saves, true},
};

static FILE *create(const char *name)
{
	FILE *file = fopen(in_dir(name), "w");

	if (!file)
		fail(name);
	return file;
}

static void write_samples(const char *name, unsigned count, unsigned step)
{
	FILE *file = create(name);

	fputs("phase,context,cpu_hz,gpu_hz,mem_hz,latency_ns,n,sd_ns,max_ns,power_uw\n", file);
	for (unsigned k = 1; k <= count; k++)
		fprintf(file, "decode,%u,1510400000,918000000,0,%u,5,1000,0,9000000\n", k * step,
			30000000 + k * step * 5 / 2);
	fclose(file);
}

void worst_write_models(const char *mode, const char *owner)
{
	char name[128];

	for (unsigned i = 0; i < 80; i++) {
		snprintf(name, sizeof(name), "state/models/large%u@%s%s.csv", i, mode, owner);
		write_samples(name, 4000, 40);
	}
}

void worst_write_full(const char *mode, const char *owner)
{
	char name[128];

	for (unsigned i = 0; i < MODELS_PER_UID_MAX; i++) {
		snprintf(name, sizeof(name), "state/models/full%u@%s%s.csv", i, mode, owner);
		write_samples(name, FULL_SAMPLES, 2000);
		snprintf(name, sizeof(name), "state/models/full%u@%s%s.layers.csv", i, mode, owner);
		FILE *file = create(name);
		fputs("phase,context,cpu_hz,gpu_hz,mem_hz,rep,layer,cpu_ns,gpu_ns,sync\n", file);
		for (unsigned k = 0; k < FULL_LAYERS; k++)
			fprintf(file, "decode,2000,1510400000,918000000,0,0,%u,%u,%u,%d\n", k, 3000 + k % 7,
				30000000U / FULL_LAYERS, k == FULL_LAYERS - 1);
		fclose(file);
	}
}

void worst_fill_models(void)
{
	static char end[MESSAGE_BYTES];
	char message[256], session[32], request[32], reply[4096];
	int fd = connect_within(in_dir("run/flamed.sock"), 5000);

	for (unsigned model = 0; model < MODELS_PER_UID_MAX; model++) {
		snprintf(message, sizeof(message), "op=open\nmodel=held%u\nphase=decode\ncontext=100\n\n", model);
		ask(fd, message, reply, sizeof(reply));
		value_of(reply, "session=", session, sizeof(session));
		for (unsigned n = 0; n < SURFACES_MAX; n++) {
			size_t out;

			snprintf(message, sizeof(message),
				 "op=begin\nsession=%s\ncontext=%u\ndeadline_ns=3600000000000\n\n", session, 100u << n);
			ask(fd, message, reply, sizeof(reply));
			value_of(reply, "request=", request, sizeof(request));
			out = (size_t)snprintf(end, sizeof(end), "op=end\nrequest=%s\ntotal_ns=%u\nack=1\n", request,
					       30000000 + n);
			add_layers(end, out,
				   MEASURED_PER_UID_MAX / MODEL_LAYER_BYTES / MODELS_PER_UID_MAX / SURFACES_MAX);
			ask(fd, end, reply, sizeof(reply));
		}
	}
}

void worst_hold_everything(void)
{
	static char half[HALF_BYTES + 16] = "op=hello\n";
	char message[256], session[32], reply[4096];
	int fd = connect_within(in_dir("run/flamed.sock"), 5000);

	for (unsigned model = 0; model < MODELS_PER_UID_MAX; model++) {
		snprintf(message, sizeof(message), "op=open\nmodel=held%u\nphase=decode\ncontext=100\n\n", model);
		ask(fd, message, reply, sizeof(reply));
		value_of(reply, "session=", session, sizeof(session));
		for (unsigned n = 0; n < REQUESTS_PER_UID_MAX / MODELS_PER_UID_MAX; n++) {
			snprintf(message, sizeof(message),
				 "op=begin\nsession=%s\ncontext=%u\ndeadline_ns=3600000000000\n\n", session, 100u << n);
			ask(fd, message, reply, sizeof(reply));
		}
	}
	for (size_t len = strlen(half); len < HALF_BYTES; len += strlen(half + len))
		snprintf(half + len, sizeof(half) - len, "k=%.100d\n", 0);
	for (unsigned i = 0; i < BUFFERED_PER_UID_MAX / HALF_BYTES - 2; i++)
		push(connect_within(in_dir("run/flamed.sock"), 5000), half, strlen(half));
	(void)!write(STDOUT_FILENO, "", 1); /* it holds all */
	for (;;)
		pause();
}
