/* SPDX-License-Identifier: Apache-2.0 */
/* groups: the definitions and policies that the coordinator issued to this participant, decoded,
 * and as they are kept in the state folder (STATE/definitions.pb: the stored bytes of the last
 * answer, replaced whole). */
#ifndef TIDE_PARTICIPANT_GROUPS_H
#define TIDE_PARTICIPANT_GROUPS_H

#include "common/core/definition.h"
#include "common/wire/intake.h"

struct groups {
    struct hash digest; /* of the answer */
    unsigned count;
    struct policy policies[TIDE_INTAKE_GROUPS_MAX];
    struct definition *definitions[TIDE_INTAKE_GROUPS_MAX]; /* owned */
};

/* From the bytes of a Definitions answer. Errors as intake_definitions_decode(). */
int groups_decode(const void *bytes, size_t size, struct groups **ret, struct err *err);
void groups_free(struct groups *groups); /* takes NULL */

/* NOT_FOUND: nothing is kept yet; CORRUPT: the file is damaged (it is left as it is). */
int groups_load(const char *state, struct groups **ret, struct err *err);
int groups_save(const char *state, const void *bytes, size_t size, struct err *err);

/* Index by name, or -1. */
int groups_find(const struct groups *groups, const struct name *group);

#endif
