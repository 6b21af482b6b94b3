/* SPDX-License-Identifier: MIT */
/* The two verbs of flamectl that need no daemon: plan and predict (DESIGN 4.2). */
#ifndef CLIENT_OFFLINE_H
#define CLIENT_OFFLINE_H

/* argv[0] is the verb. Return the exit status: 0 ok, 1 failed, 2 usage. */
int cmd_plan(int argc, char **argv);
int cmd_predict(int argc, char **argv);

#endif
