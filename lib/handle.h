/* SPDX-License-Identifier: MIT */
/* Private to libflamed: the handle, and the functions that its files call of each other (handle.c: the connection,
 * libflamed.c: sessions and requests, libprofile.c: profiling). All of them are called with the lock held. */
#ifndef LIB_HANDLE_H
#define LIB_HANDLE_H

#include <pthread.h>
#include <sys/un.h>
#include "flamed.h"
#include "wire.h"
#include "../common/point.h"

#define HANDLE_SESSIONS_MAX 64
#define HANDLE_REQUESTS_MAX 64
#define HANDLE_EXPECTED_MAX 256          /* replies outstanding */
#define SETTLE_NS           100000000ULL /* at the end of a program, for replies still to come */
#define RETRY_NS_MIN        100000000ULL
#define RETRY_NS_MAX        5000000000ULL

/* The message that a reply will answer; replies come in order. */
enum expected_kind { EXPECT_OPEN, EXPECT_BEGIN, EXPECT_END, EXPECT_CLOSE, EXPECT_PROFILE };

struct expected {
	enum expected_kind kind;
	int session;     /* OPEN, END */
	uint32_t epoch;  /* of the session: a number may have been used again since */
	int64_t request; /* BEGIN */
	bool withdrawn;  /* END: it does not count */
};

enum session_open { SESSION_CLOSED, SESSION_OPENING, SESSION_OPEN, SESSION_REFUSED };

struct client_session {
	bool used;
	enum session_open open;
	uint32_t epoch;
	int error;                      /* SESSION_REFUSED: the daemon's errno, */
	uint64_t retry_at_ns, retry_ns; /* and when it is asked again */
	uint64_t id;                    /* the daemon's */
	char model[MODEL_NAME_MAX + 1];
	uint64_t deadline_ns;
	uint64_t rate_mhz, first_ns; /* of a stream; 0: none, the default */
	/* of a request without a deadline, by the daemon's reply, which may be from flamed.conf; 0: none */
	uint64_t served_deadline_ns, served_rate_mhz;
	bool restart; /* the next request starts the stream again */
	enum phase phase;
	uint32_t context;
	enum flamed_state state;
	uint64_t ended, missed;
};

enum request_state {
	REQUEST_FREE,
	REQUEST_SENT,
	REQUEST_KNOWN, /* its reply was received */
	REQUEST_REFUSED,
	REQUEST_ENDING, /* ended before its reply was received, which then sends the end */
	REQUEST_LOCAL   /* of a profiling session: timed here, unknown to the daemon */
};

struct client_request {
	int64_t serial; /* the number that the program has */
	enum request_state state;
	int session;
	int error;
	bool waited, withdrawn;
	bool put_back; /* withdrawn, with its place in the stream */
	uint64_t id;   /* the daemon's */
	uint64_t begin_ns, total_ns;
	struct flamed_layer *layers; /* REQUEST_ENDING: those to be sent on */
	size_t layer_count;
	struct flamed_decision decision;
};

enum profile_state { PROFILE_NONE, PROFILE_ASKED, PROFILE_POINT, PROFILE_PAUSED, PROFILE_DONE, PROFILE_FAILED };

struct client_profile {
	enum profile_state state;
	int session; /* that is profiled instead of governed ($FLAMED_PROFILE); -1: by the program's own calls */
	int error;
	bool owed; /* a reply to op=profile or op=sample is to come, maybe of a profile that was closed meanwhile */
	uint64_t id;
	struct flamed_point point;
	/* a session's inferences at this point so far; the first only warms up */
	uint32_t n;
	bool warm;
	double sum_ns, square_ns2;
	uint64_t max_ns, again_ns;
};

struct flamed {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* replies were taken, or the connection lost */
	pid_t pid;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct wire wire;
	bool polling; /* a thread blocks in poll(2) without the lock; only it may receive or close */
	bool lost;    /* the connection is to be closed by that thread */
	uint64_t retry_at_ns, retry_ns;
	struct client_session session[HANDLE_SESSIONS_MAX];
	struct client_request request[HANDLE_REQUESTS_MAX];
	int64_t serial;
	struct expected expected[HANDLE_EXPECTED_MAX];
	size_t expected_first, expected_count;
	struct client_profile profile;
	char layer_source[LAYER_SOURCE_MAX + 1]; /* "": not set */
	struct kv_out message;
};

/* Lock a handle; in a forked child, reset it first. Returns 0, or -ENOTCONN for NULL. */
int handle_enter(struct flamed *flamed);
void handle_leave(struct flamed *flamed);

/* In the child of a fork that will not use the handle: close its copy of the connection, which would outlive the
 * parent's. Takes no lock, and may be called by a handler of pthread_atfork(). */
void handle_forked(struct flamed *flamed);

/* How long to wait for the next try, after one that waited for `last_ns` failed; 0: the first. */
uint64_t handle_retry_ns(uint64_t last_ns);

/* Connect when a retry is due, and process received replies. Does not block. Returns 0 or -ENOTCONN. */
int handle_refresh(struct flamed *flamed);
/* Only process received replies. */
int handle_drain(struct flamed *flamed);

/* Begin a message in flamed->message. */
void handle_message(struct flamed *flamed, const char *op);
/* Send it and remember which message its reply answers. Returns 0, -EAGAIN (too many replies are outstanding) or
 * -ENOTCONN. */
int handle_send(struct flamed *flamed, struct expected expected);

/* Block until replies arrive; releases the lock meanwhile. Returns 0, -ETIMEDOUT or -ENOTCONN. */
int handle_wait(struct flamed *flamed, uint64_t until_ns);

/* Wait, `timeout_ns` at most, until no end of a request waits for the reply to its begin any more. */
void handle_settle(struct flamed *flamed, uint64_t timeout_ns);

/* The layers of one inference as `layer_source=`, `layers=`, `layers.1=`, ... of the message; left out when
 * they would not fit. */
void handle_add_layers(struct flamed *flamed, const struct flamed_layer *layers, size_t count);

/* A copy that the caller frees. NULL: there are none, or out of memory. */
struct flamed_layer *handle_copy_layers(const struct flamed_layer *layers, size_t count);

/* A request to fill in. NULL: none is free. */
struct client_request *handle_new_request(struct flamed *flamed, int session);

/* Free the request and its layers. */
void request_drop(struct client_request *request);
/* Replies to op=open, op=begin and op=end are in flamed->wire. */
void session_opened(struct flamed *flamed, const struct expected *expected, int error);
void request_begun(struct flamed *flamed, int64_t serial, int error);
void request_ended(struct flamed *flamed, const struct expected *expected, int error);
/* A reply to op=profile or op=sample is in flamed->wire. */
void profile_reply(struct flamed *flamed, int error);
/* Close the handle's profile here and in the daemon. */
void profile_drop(struct flamed *flamed);
/* Begin and end of an inference of the session that is profiled. */
int64_t profile_begin(struct flamed *flamed, int session);
void profile_end(struct flamed *flamed, const struct client_request *request, uint64_t total_ns,
		 const struct flamed_layer *layers, size_t count);

#endif
