/* SPDX-License-Identifier: MIT */
/* The verbs that need no daemon: samples CSV in, points or predictions out. */
#ifndef CLIENT_OFFLINE_H
#define CLIENT_OFFLINE_H

/* `flamectl plan` and `flamectl predict`; argv[0] is the verb. They print
 * their own errors and return the exit status: 0, 1 (failed), 2 (usage). */
int cmd_plan(int argc, char **argv);
int cmd_predict(int argc, char **argv);

#endif
