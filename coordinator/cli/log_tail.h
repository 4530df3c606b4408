/* SPDX-License-Identifier: Apache-2.0 */
/* log_tail: what a tap's log folder says of the tap's last run, read while no tap serves it. With a
 * tap at work it is a look at some moment, and may end early. */
#ifndef TIDE_COORDINATOR_CLI_LOG_TAIL_H
#define TIDE_COORDINATOR_CLI_LOG_TAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/core/err.h"
#include "common/hrl/record.h"

struct log_tail {
    struct id stream;
    uint64_t size;       /* of the whole log, bytes */
    uint64_t last_lsn;   /* 0: no record yet */
    uint64_t attach_lsn; /* of the last ATTACH that the log still holds; 0: none */
    struct record_attach attach;
    unsigned gap_reason;    /* of the first GAP behind that ATTACH; 0: none */
    uint64_t changes;       /* writes, zeroes and discards behind it */
    uint64_t changed_bytes; /* of them */
};

/* NOT_FOUND: no such folder, or no log in it; CORRUPT: a file is not of this log; VERSION, IO. */
int log_tail_read(const char *folder, struct log_tail *ret, struct err *err);

/* BUSY: a tap serves the log now; NOT_FOUND: no log there; IO. Else 0. */
int log_tail_is_free(const char *folder, struct err *err);

#endif
