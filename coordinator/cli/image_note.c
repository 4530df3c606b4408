/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/image_note.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "common/io/file.h"

int image_note_read(const char *image, bool *ret_any, struct witness *ret, struct err *err)
{
    char text[TIDE_WITNESS_TEXT_MAX + 1];
    struct stat st;
    if (stat(image, &st) != 0) {
        return file_err(err, errno, "cannot look at image \"%s\"", image);
    }
    if (!S_ISREG(st.st_mode)) { /* user attributes are for files and folders alone */
        return err_set(err, TIDE_ERR_UNKNOWN,
                       "image \"%s\" is no regular file: nothing can be noted beside it, so it "
                       "cannot be told whether a log belongs to it",
                       image);
    }
    ssize_t size = getxattr(image, TIDE_WITNESS_ATTRIBUTE, text, sizeof text);
    if (size < 0 && errno == ENODATA) {
        *ret_any = false;
        return 0;
    }
    if (size < 0 && errno == ENOTSUP) {
        return err_set(err, TIDE_ERR_UNKNOWN,
                       "image \"%s\": its file system keeps no user attributes, so it cannot be "
                       "told whether a log belongs to it",
                       image);
    }
    if (size < 0 && errno != ERANGE) {
        return file_err(err, errno, "image \"%s\": cannot read attribute " TIDE_WITNESS_ATTRIBUTE,
                        image);
    }
    if (witness_parse(text, size < 0 ? sizeof text : (size_t)size, ret, err) != 0) {
        return err_wrap(err, "image \"%s\"", image);
    }
    *ret_any = true;
    return 0;
}
