/* SPDX-License-Identifier: Apache-2.0 */
/* quota: how large a log is made where nobody said it (no log-size=).
 *
 * 5 % of the file system that holds it, at least 64 MiB, at most 8 GiB, and never more than a
 * quarter of what is free there, but at least the 8 MiB without which there is no log. So a small
 * or nearly full file system is not filled by the log, and a large one gives hours without the far
 * side. */
#ifndef TIDE_PARTICIPANT_TAP_QUOTA_H
#define TIDE_PARTICIPANT_TAP_QUOTA_H

#include <stdint.h>

#define TIDE_QUOTA_PERCENT 5U
#define TIDE_QUOTA_LEAST   (UINT64_C(64) << 20)
#define TIDE_QUOTA_MOST    (UINT64_C(8) << 30)
#define TIDE_QUOTA_FLOOR   (UINT64_C(8) << 20)

/* Pure. total, available: bytes of the file system, and of them those that we may take. Whole MiB;
 * *ret_why: which of the bounds decided, static. */
uint64_t quota_choose(uint64_t total, uint64_t available, const char **ret_why);

/* For the log in `folder`, which need not exist yet: the size that it has where it was made before,
 * else quota_choose() of its file system. *ret_why as above. 0: the file system cannot be asked
 * (errno). */
uint64_t quota_of(const char *folder, const char **ret_why);

#endif
