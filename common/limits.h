/* SPDX-License-Identifier: MIT */
/* Every bound of the program. Each is enforced at the place in its comment, with an error that names the key at
 * fault. */
#ifndef COMMON_LIMITS_H
#define COMMON_LIMITS_H

/* protocol: common/kv.c, daemon/session.c, daemon/request.c, lib/libflamed.c */
#define LINE_BYTES_MAX    4096
#define MESSAGE_BYTES_MAX 65536
#define MODEL_NAME_MAX    64
#define POWER_MODE_MAX    95 /* characters; it is part of the names of files */
/* number of users that can use their whole share of connections, sessions, requests and models at the same time */
#define USERS_FULL                  8
#define CONNECTIONS_SHARE           256  /* of each of these users, and of root and the user that flamed runs as */
#define CONNECTIONS_BEYOND_MAX      1024 /* of all users, beyond their shares */
#define CONNECTIONS_PER_UID_MAX     1024
#define CONNECTIONS_MAX             ((USERS_FULL + 2) * CONNECTIONS_SHARE + CONNECTIONS_BEYOND_MAX)
#define SESSIONS_PER_UID_MAX        256
#define SESSIONS_MAX                (USERS_FULL * SESSIONS_PER_UID_MAX)
#define SESSIONS_PER_CONNECTION_MAX 256
#define REQUESTS_PER_UID_MAX        256 /* in flight */
#define REQUESTS_MAX                (USERS_FULL * REQUESTS_PER_UID_MAX)
#define COMPANY_MAX                 8  /* requests laid out one beside the other: the newest and the most urgent */
#define COMPANY_PAIRS_MAX           16 /* of a model: others, by order of begin, beside which its speed is remembered */
#define REQUESTS_PER_SESSION_MAX    8  /* in flight */
#define OUTPUT_BYTES_MAX            (256 * 1024) /* of unread replies, after which a client is disconnected */
/* bytes of messages not whole and replies not read, over all connections */
#define BUFFERED_PER_UID_MAX        (1 << 20)
#define TALLIES_PER_CONNECTION_MAX  4
#define TALLIES_PER_UID_MAX         16
#define PROFILES_PER_CONNECTION_MAX 4
#define DEADLINE_NS_MIN             1000ULL
#define DEADLINE_NS_MAX             3600000000000ULL
#define RATE_MHZ_MAX                1000000000ULL /* of a stream: one request in DEADLINE_NS_MIN */
#define LATENCY_NS_MIN              1000          /* a shorter latency is counted but not learned */
#define CONTEXT_TOKENS_MAX          16777216U

/* estimator */
#define GRID_AXIS_MAX           64 /* entries of a clock's frequency table */
#define GRID_POINTS_MAX         4096
#define MODELS_PER_UID_MAX      64  /* in memory */
#define MODEL_FILES_PER_UID_MAX 128 /* on disk, of all power modes; the least recently used are deleted */
#define MODELS_MAX              (USERS_FULL * MODELS_PER_UID_MAX)
#define SAMPLES_MAX             8192      /* rows kept of one model */
#define CONTEXTS_MAX            16        /* distinct contexts learned for each phase */
#define LAYERS_MAX              4096      /* of one inference */
#define LAYER_REPS_MAX          5         /* inferences with layers kept for each point and context */
#define LAYER_SOURCE_MAX        15        /* length of the word for the method by which layers were measured */
#define LAYER_PLACES_MAX        32        /* points and contexts of a phase to which requests may add layers */
#define LAYERS_KEPT_MAX         (1 << 18) /* layers kept of one model, over all points */
#define LAYERS_RESIDENT_MAX     (1 << 14) /* of one model in the daemon */
/* bytes of samples and layers of all models of one user in memory: 16,384 samples, or 87,381 layers */
#define MEASURED_PER_UID_MAX (2 << 20)
/* bytes of fits, timelines and surfaces of all models in memory; above it, some of the largest owner's are freed */
#define DERIVED_BYTES_MAX (10 << 20)
#define LAYERS_FITTED_MAX 1024      /* of one inference: the daemon models longer ones end to end */
#define LAYER_ROWS_MAX    (1 << 20) /* of one layers CSV */
#define SURFACES_MAX      8         /* of each model in memory, at most: phase x context band */

/* board */
#define CPU_POLICIES_MAX 64 /* one for each hardware thread on x86 */
#define KNOBS_MAX        160
#define KNOB_VALUE_MAX   128
#define RAILS_MAX        16
#define ZONES_MAX        32
#define SYSFS_PATH_MAX   512
#define SYSFS_TEXT_MAX   4096

#endif
