/* SPDX-License-Identifier: Apache-2.0 */
/* evidence: one point judged from files alone (proto/certificate.md): its streams are read from
 * their first record, the reader's rule is applied to them anew (coordinator/core/align), and the
 * attestation of each member is checked (coordinator/core/verify, common/io/trust). No point
 * object, manifest or catalog is looked at: who keeps them need not be believed. One thread. */
#ifndef TIDE_COORDINATOR_VERIFY_EVIDENCE_H
#define TIDE_COORDINATOR_VERIFY_EVIDENCE_H

#include <stdint.h>

#include "common/io/trust.h"
#include "coordinator/core/align.h"
#include "coordinator/store/keyring.h"

#define EVIDENCE_ATTESTATIONS_MAX 16U /* of one member and round; the protocol makes one */

enum evidence_verdict {
    EVIDENCE_NO,           /* something is wrong or missing: `wrong` says what */
    EVIDENCE_NOT_ATTESTED, /* nothing is wrong, but a member's attestation is missing */
    EVIDENCE_YES,
};
const char *evidence_verdict_text(enum evidence_verdict verdict); /* "no" ... */

struct evidence_member {
    bool counted; /* in the round's set */
    enum evidence_verdict verdict;
    struct err wrong;             /* unless YES */
    char signer[TLS_URI_MAX + 1]; /* with YES, as the next */
    uint64_t signed_ns;           /* since 1970, by the signer's own clock */
    struct id stream;             /* where the attestation lies, and its LSN */
    uint64_t lsn;
};

struct evidence_attestation; /* as found in a stream */

struct evidence {
    struct round_order order;      /* of the point, as its bookmarks name it */
    struct definition *definition; /* NULL: none of that epoch number and group is here */
    struct align *align;
    const struct align_round *round; /* NULL: the streams could not be read that far */
    enum evidence_verdict verdict;
    struct err wrong;                /* unless YES: FAILED, the first thing wrong or missing */
    struct evidence_member *members; /* one for each of the definition's */
    unsigned streams;                /* read, as the next two */
    uint64_t segments;
    uint64_t bytes;
    struct evidence_attestation *attestations;
    size_t attestation_count;
};

struct evidence_request {
    const char *folder;
    const char *definition; /* a file; NULL: those in the folder */
    const char *prefix;     /* first hex digits of the point's id */
    const struct trust *trust;
    struct keyring *keyring; /* for encrypted segments; may be NULL */
};

/* Judges. 0: *ret has the verdict, and is to be closed with evidence_close(). -1, no verdict:
 *   USAGE      not 1 to 32 hex digits
 *   NOT_FOUND  no bookmark in the folder names such a point; there is no definition; no folder
 *   CONFLICT   several points begin so; a file changed while it was read
 *   CORRUPT, VERSION  a segment or the definition breaks its format (the file is named)
 *   IO, DENIED, LIMIT */
int evidence_judge(const struct evidence_request *request, struct evidence *ret, struct err *err);
void evidence_close(struct evidence *evidence);

#endif
