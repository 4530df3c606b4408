/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/note.h"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

void note_write(struct tap *tap, enum witness_state state)
{
    struct witness witness = {
        .state = state, .flush_log = tap->config.flush_log, .stream = tap->state.stream};
    char text[TIDE_WITNESS_TEXT_MAX + 1];
    struct err err;
    uint64_t incarnation = tap->state.incarnation;
    (void)snprintf(witness.log, sizeof witness.log, "%.*s", (int)TIDE_WITNESS_LOG_MAX,
                   tap->config.folder);
    int size = witness_format(&witness, text, &err);
    if (size < 0 ||
        fsetxattr(tap->image_fd, TIDE_NOTE_INCARNATION, &incarnation, sizeof incarnation, 0) != 0 ||
        fsetxattr(tap->image_fd, TIDE_WITNESS_ATTRIBUTE, text, (size_t)size, 0) != 0) {
        int why = errno;
        (void)fremovexattr(tap->image_fd, TIDE_NOTE_INCARNATION); /* one of an earlier life lies */
        (void)fremovexattr(tap->image_fd, TIDE_WITNESS_ATTRIBUTE);
        nbdkit_debug("image \"%s\" cannot carry a note of its log: %s", tap->config.image,
                     size < 0 ? err.text : strerror(why));
    }
}

void note_read(const struct tap *tap, struct note *ret)
{
    char text[TIDE_WITNESS_TEXT_MAX + 1];
    struct err err;
    *ret = (struct note){0};
    ssize_t size = fgetxattr(tap->image_fd, TIDE_WITNESS_ATTRIBUTE, text, sizeof text);
    if (size > 0) {
        ret->there = witness_parse(text, (size_t)size, &ret->witness, &err) == 0;
        if (!ret->there) {
            nbdkit_error("image \"%s\": %s; it is passed over", tap->config.image, err.text);
        }
    }
    uint64_t incarnation = 0;
    if (fgetxattr(tap->image_fd, TIDE_NOTE_INCARNATION, &incarnation, sizeof incarnation) ==
        (ssize_t)sizeof incarnation) {
        ret->incarnation = incarnation;
    }
}
