/* SPDX-License-Identifier: MIT */
/* Every bound of the program, in one place. Each is enforced where the
 * comment says, with an error that names the key at fault. */
#ifndef COMMON_LIMITS_H
#define COMMON_LIMITS_H

/* protocol: common/kv.c, daemon/session.c */
#define LINE_BYTES_MAX     4096
#define MESSAGE_BYTES_MAX  65536
#define MODEL_NAME_MAX     64
#define CONNECTIONS_MAX    2048 /* of the daemon */
#define CONNECTIONS_PER_UID_MAX 1024
#define SESSIONS_MAX       512
#define SESSIONS_PER_UID_MAX 256
#define SESSIONS_PER_CONNECTION_MAX 256
#define REQUESTS_MAX       512 /* in flight */
#define REQUESTS_PER_SESSION_MAX 8
#define OUTPUT_BYTES_MAX   (256 * 1024) /* unread replies before a client is dropped */
#define TALLIES_PER_CONNECTION_MAX 4
#define PROFILES_PER_CONNECTION_MAX 4
#define DEADLINE_NS_MIN    1000ULL
#define DEADLINE_NS_MAX    3600000000000ULL
#define CONTEXT_TOKENS_MAX 16777216U

/* estimator */
#define GRID_AXIS_MAX      64   /* table entries kept of one clock */
#define GRID_POINTS_MAX    4096
#define MODELS_MAX         64
#define SAMPLES_MAX        8192 /* rows kept of one model */
#define CONTEXTS_MAX       16   /* distinct contexts learned of one phase */
#define LAYERS_MAX         4096 /* of one inference */
#define LAYER_REPS_MAX     5    /* inferences kept layer by layer at one point and context */
#define LAYER_PLACES_MAX   32   /* points and contexts of one phase that requests may add layers of, unasked */
#define LAYERS_KEPT_MAX    (1 << 18) /* layers kept of one model, all points together */
#define LAYER_ROWS_MAX     (1 << 20) /* of one layers CSV */
#define SURFACES_MAX       8    /* resident of one model: phase x context band */

/* board */
#define CPU_POLICIES_MAX   64 /* one a hardware thread on x86 */
#define KNOBS_MAX          160
#define KNOB_VALUE_MAX     128
#define SENSORS_MAX        32
#define RAILS_MAX          16
#define ZONES_MAX          32
#define SYSFS_PATH_MAX     512
#define SYSFS_TEXT_MAX     4096

#endif
