/* SPDX-License-Identifier: Apache-2.0 */
/* plugin: nbdkit's front of the tap. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "participant/tap/disk.h"
#include "participant/tap/leave.h"
#include "participant/tap/quota.h"
#include "participant/tap/tap.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define DEFAULT_HOLD_MAX_MS 50
#define DEFAULT_HELD_MAX    (16U * 1024 * 1024)
#define DEFAULT_COPY_RATE   (UINT64_C(64) * 1024 * 1024)

static struct tap tap;
static struct tap_config config = {.hold_max_us = DEFAULT_HOLD_MAX_MS * 1000,
                                   .held_max = DEFAULT_HELD_MAX,
                                   .copy_rate = DEFAULT_COPY_RATE};
static _Atomic bool opened;

static int set_path(char *to, size_t size, const char *key, const char *value)
{
    char *path = nbdkit_absolute_path(value);
    if (path == NULL) {
        return -1;
    }
    int used = snprintf(to, size, "%s", path);
    free(path);
    if (used < 0 || (size_t)used >= size) {
        nbdkit_error("%s=%s: the path is longer than %zu bytes", key, value, size - 1);
        return -1;
    }
    return 0;
}

static int parse_size(uint64_t *to, const char *key, const char *value, uint64_t min, uint64_t max)
{
    int64_t parsed = nbdkit_parse_size(value);
    if (parsed < 0) {
        return -1;
    }
    if ((uint64_t)parsed < min || (uint64_t)parsed > max) {
        nbdkit_error("%s=%s: give %llu to %llu bytes", key, value, (unsigned long long)min,
                     (unsigned long long)max);
        return -1;
    }
    *to = (uint64_t)parsed;
    return 0;
}

static int set_hold_max(const char *value)
{
    unsigned ms = 0;
    if (nbdkit_parse_unsigned("hold-max-ms", value, &ms) != 0) {
        return -1;
    }
    if (ms < TIDE_GATE_BUDGET_FLOOR_US / 1000 || ms > TIDE_GATE_CAP_MAX_US / 1000) {
        nbdkit_error("hold-max-ms=%s: give %u to %u", value, TIDE_GATE_BUDGET_FLOOR_US / 1000,
                     TIDE_GATE_CAP_MAX_US / 1000);
        return -1;
    }
    config.hold_max_us = ms * 1000;
    return 0;
}

static int tap_config_one(const char *key, const char *value)
{
    if (strcmp(key, "disk") == 0) {
        return set_path(config.image, sizeof config.image, key, value);
    }
    if (strcmp(key, "log") == 0) {
        return set_path(config.folder, sizeof config.folder - 32, key, value);
    }
    if (strcmp(key, "control") == 0) {
        return set_path(config.control, sizeof config.control, key, value);
    }
    if (strcmp(key, "log-size") == 0) {
        return parse_size(&config.log_size, key, value, TIDE_RING_SIZE_MIN, TIDE_RING_SIZE_MAX);
    }
    if (strcmp(key, "held-max") == 0) {
        return parse_size(&config.held_max, key, value, 4096, UINT64_C(1) << 30);
    }
    if (strcmp(key, "copy-rate") == 0) {
        return parse_size(&config.copy_rate, key, value, 0, UINT64_C(1) << 40);
    }
    if (strcmp(key, "hold-max-ms") == 0) {
        return set_hold_max(value);
    }
    if (strcmp(key, "flush") == 0) {
        config.flush_log = strcmp(value, "log") == 0;
        if (!config.flush_log && strcmp(value, "both") != 0) {
            nbdkit_error("flush=%s: give flush=both or flush=log", value);
            return -1;
        }
        return 0;
    }
    nbdkit_error("unknown parameter \"%s\": known are disk, log, control, log-size, hold-max-ms, "
                 "held-max, flush, copy-rate",
                 key);
    return -1;
}

static int choose_log_size(void)
{
    const char *why = NULL;
    config.log_size = quota_of(config.folder, &why);
    if (config.log_size == 0) {
        nbdkit_error(
            "log=%s: its file system cannot be asked for its size: %s; make the folder that "
            "it is to lie in, or give log-size=",
            config.folder, strerror(errno));
        return -1;
    }
    /* No error: nbdkit has no other way to say it without -v. */
    (void)fprintf(stderr, "nbdkit: tidemark: log \"%s\": %llu MiB, %s (log-size= is not given)\n",
                  config.folder, (unsigned long long)(config.log_size >> 20), why);
    return 0;
}

static int tap_config_complete(void)
{
    if (config.image[0] == '\0' || config.folder[0] == '\0' || config.control[0] == '\0') {
        nbdkit_error("disk=IMAGE, log=FOLDER and control=SOCKET must be given");
        return -1;
    }
    return config.log_size != 0 ? 0 : choose_log_size();
}

#define tap_config_help                                                                            \
    "disk=IMAGE        (required) file or block device that is served\n"                           \
    "log=FOLDER        (required) its change log; made where it is missing\n"                      \
    "control=SOCKET    (required) unix socket for the participant daemon\n"                        \
    "log-size=SIZE     of a new log, at least 8M; without it 5 % of its file system, from 64M to " \
    "8G,\n"                                                                                        \
    "                  but never more than a quarter of what is free there (at least 8M)\n"        \
    "hold-max-ms=MS    longest hold of a write: 50; 5 to 100\n"                                    \
    "held-max=SIZE     bytes held at most: 16M\n"                                                  \
    "flush=both|log    what a flush syncs: log and image, or the log alone\n"                      \
    "copy-rate=SIZE    bytes a second at most while the disk is copied: 64M; 0: no copy\n"

static int tap_get_ready(void)
{
    struct err err;
    if (tap_open(&tap, &config, &err) != 0) {
        nbdkit_error("%s", err.text);
        return -1;
    }
    opened = true;
    return 0;
}

static void tap_cleanup(void)
{
    if (atomic_exchange(&opened, false)) {
        tap_close(&tap);
    }
}

static int tap_after_fork(void)
{
    struct err err;
    if (tap_start(&tap, &err) != 0 || leave_init(tap_cleanup, &err) != 0) {
        nbdkit_error("%s", err.text);
        return -1;
    }
    return 0;
}

static void *tap_handle(int readonly)
{
    (void)readonly;
    tap.clients++;
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static void tap_handle_close(void *handle)
{
    (void)handle;
    tap.clients--;
}

static int64_t tap_get_size(void *handle)
{
    (void)handle;
    return (int64_t)tap.size;
}

static int tap_yes(void *handle)
{
    (void)handle;
    return 1;
}

static int tap_can_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

static int tap_no(void *handle)
{
    (void)handle;
    return 0;
}

static int tap_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    (void)handle;
    *minimum = 1;
    *preferred = 4096;
    *maximum = TIDE_TAP_REQUEST_MAX;
    return 0;
}

static int answer(int why)
{
    leave_exit();
    if (why == 0) {
        return 0;
    }
    nbdkit_set_error(why);
    return -1;
}

static int tap_pread(void *handle, void *to, uint32_t size, uint64_t offset, uint32_t flags)
{
    (void)handle;
    (void)flags;
    leave_enter();
    return answer(disk_read(&tap, to, size, offset));
}

static int tap_pwrite(void *handle, const void *from, uint32_t size, uint64_t offset,
                      uint32_t flags)
{
    (void)handle;
    leave_enter();
    return answer(disk_write(&tap, from, size, offset, (flags & NBDKIT_FLAG_FUA) != 0));
}

static int tap_flush(void *handle, uint32_t flags)
{
    (void)handle;
    (void)flags;
    leave_enter();
    return answer(disk_flush(&tap));
}

static int tap_trim(void *handle, uint32_t size, uint64_t offset, uint32_t flags)
{
    (void)handle;
    leave_enter();
    return answer(disk_zero(&tap, size, offset, true, true, (flags & NBDKIT_FLAG_FUA) != 0));
}

/* Zeroes that may be unmapped are logged as a discard: a replay that allocated what was a hole
 * could find no space for it on a thin image. */
static int tap_zero(void *handle, uint32_t size, uint64_t offset, uint32_t flags)
{
    (void)handle;
    bool punch = (flags & NBDKIT_FLAG_MAY_TRIM) != 0;
    leave_enter();
    return answer(disk_zero(&tap, size, offset, punch, punch, (flags & NBDKIT_FLAG_FUA) != 0));
}

static struct nbdkit_plugin plugin = {
    .name = "tidemark",
    .longname = "Tidemark tap",
    .version = TIDE_VERSION,
    .description = "serves a disk and logs every change of it, with bookmarks under a write hold",
    .config = tap_config_one,
    .config_complete = tap_config_complete,
    .config_help = tap_config_help,
    .get_ready = tap_get_ready,
    .after_fork = tap_after_fork,
    .cleanup = tap_cleanup,
    .unload = tap_cleanup,
    .open = tap_handle,
    .close = tap_handle_close,
    .get_size = tap_get_size,
    .block_size = tap_block_size,
    .can_write = tap_yes,
    .can_flush = tap_yes,
    .can_trim = tap_yes,
    .can_zero = tap_yes,
    .can_fast_zero = tap_no,
    .can_multi_conn = tap_yes, /* a flush syncs log and image, whoever wrote */
    .can_fua = tap_can_fua,
    .is_rotational = tap_no,
    .pread = tap_pread,
    .pwrite = tap_pwrite,
    .flush = tap_flush,
    .trim = tap_trim,
    .zero = tap_zero,
    .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN(plugin)
