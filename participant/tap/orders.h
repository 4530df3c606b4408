/* SPDX-License-Identifier: Apache-2.0 */
/* orders: what each message of the controller does to the tap. Runs on the control thread. */
#ifndef TIDE_PARTICIPANT_TAP_ORDERS_H
#define TIDE_PARTICIPANT_TAP_ORDERS_H

#include "participant/tap/tap.h"

enum orders_result {
    ORDERS_DONE,   /* nothing to answer now */
    ORDERS_ANSWER, /* *ret_answer is to be sent */
    ORDERS_WRONG,  /* not a controller's message, or too many SYNCs at once */
};

enum orders_result orders_do(struct tap *tap, const struct tapctl *message, uint64_t session,
                             struct tapctl *ret_answer);
void orders_state(struct tap *tap, struct tapctl_state *ret);
void orders_welcome(struct tap *tap, struct tapctl_welcome *ret);

#endif
