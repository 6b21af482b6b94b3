/* SPDX-License-Identifier: MIT */
/* Text of shadow mode's account, for savings and for the summary of run. */
#ifndef CTL_SAVINGS_H
#define CTL_SAVINGS_H

#include "ctl.h"

/* Two lines on stderr of the account behind `shadow.` in a reply to op=tally. */
void savings_line(const struct ctl *ctl);

#endif
