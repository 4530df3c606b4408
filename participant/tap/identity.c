/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/identity.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The file's first line into to, without space at its ends and with '?' for what does not print;
 * empty where it cannot be read. */
static void read_line(const char *path, char *to, size_t size)
{
    char text[256] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) {
        close(fd);
    }
    text[got > 0 ? got : 0] = '\0';
    char *from = text + strspn(text, " \t");
    size_t used = strcspn(from, "\n");
    while (used > 0 && from[used - 1] == ' ') {
        used--;
    }
    used = used < size - 1 ? used : size - 1;
    for (size_t i = 0; i < used; i++) {
        to[i] = from[i] > ' ' && from[i] < 0x7f ? from[i] : '?';
    }
    to[used] = '\0';
}

int identity_boot(struct id *ret, struct err *err)
{
    char text[64] = {0};
    char hex[TIDE_ID_HEX] = {0};
    read_line("/proc/sys/kernel/random/boot_id", text, sizeof text);
    size_t used = 0;
    for (size_t i = 0; text[i] != '\0' && used < TIDE_ID_HEX - 1; i++) {
        if (text[i] != '-') {
            hex[used++] = text[i];
        }
    }
    if (!id_parse(hex, ret)) {
        return err_set(err, TIDE_ERR_IO, "cannot read /proc/sys/kernel/random/boot_id");
    }
    return 0;
}

void identity_machine(char ret[TIDE_STATE_TEXT])
{
    static const char *const paths[] = {"/sys/class/dmi/id/product_uuid", "/etc/machine-id"};
    ret[0] = '\0';
    for (size_t i = 0; i < sizeof paths / sizeof paths[0] && ret[0] == '\0'; i++) {
        read_line(paths[i], ret, TIDE_STATE_TEXT);
    }
}

static void identity_device(dev_t device, char ret[TIDE_STATE_TEXT])
{
    static const char *const names[] = {"wwid",          "device/wwid", "serial",
                                        "device/serial", "dm/uuid",     "loop/backing_file"};
    for (size_t i = 0; i < sizeof names / sizeof names[0] && ret[0] == '\0'; i++) {
        char path[128];
        char text[TIDE_STATE_TEXT - 32];
        (void)snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%s", major(device), minor(device),
                       names[i]);
        read_line(path, text, sizeof text);
        if (text[0] != '\0') {
            (void)snprintf(ret, TIDE_STATE_TEXT, "device %s %s", names[i], text);
        }
    }
}

void identity_image(int fd, char ret[TIDE_STATE_TEXT])
{
    struct statx st;
    struct stat plain;
    ret[0] = '\0';
    if (fstat(fd, &plain) != 0) {
        return;
    }
    if (S_ISBLK(plain.st_mode)) {
        identity_device(plain.st_rdev, ret);
        return;
    }
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) == 0 &&
        (st.stx_mask & STATX_BTIME) != 0) {
        (void)snprintf(ret, TIDE_STATE_TEXT, "file inode %llu born %lld.%09u",
                       (unsigned long long)st.stx_ino, (long long)st.stx_btime.tv_sec,
                       st.stx_btime.tv_nsec);
    }
}
