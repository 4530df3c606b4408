/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/state.h"

#include "common/core/bytes.h"
#include "common/core/check.h"
#include "participant/tap/file.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAGIC   0x3054535445444954ULL /* "TIDETST0" */
#define VERSION 3U

static uint32_t checksum(uint8_t *from, size_t size)
{
    return ~crc32_iscsi(from, (int)size, 0xffffffffU);
}

static void encode(const struct state *s, uint8_t slot[TIDE_STATE_SLOT])
{
    memset(slot, 0, TIDE_STATE_SLOT);
    struct bytes_writer w = bytes_writer(slot, TIDE_STATE_SLOT);
    bytes_put_u64(&w, MAGIC);
    bytes_put_u32(&w, VERSION);
    bytes_put_u32(&w, 0); /* checksum, below */
    bytes_put_u64(&w, s->sequence);
    bytes_put(&w, s->stream.b, TIDE_ID_SIZE);
    bytes_put(&w, s->timeline.b, TIDE_ID_SIZE);
    bytes_put(&w, s->disk.b, TIDE_ID_SIZE);
    bytes_put(&w, s->boot.b, TIDE_ID_SIZE);
    bytes_put_u64(&w, s->image_size);
    bytes_put_u64(&w, s->image_mtime_ns);
    bytes_put_u32(&w, s->ring_files);
    bytes_put_u8(&w, s->clean ? 1 : 0);
    bytes_put_u8(&w, s->whole ? 1 : 0);
    bytes_put_u8(&w, s->gap_reason);
    bytes_put_u8(&w, s->copy_zero ? 1 : 0);
    bytes_put_u64(&w, s->ring_file_size);
    bytes_put_u64(&w, s->gap_lsn);
    bytes_put_u64(&w, s->due_lsn);
    bytes_put_u64(&w, s->due_position);
    bytes_put_u64(&w, s->due_incarnation);
    bytes_put_u64(&w, s->open_lsn);
    bytes_put(&w, s->open_round.b, TIDE_ID_SIZE);
    bytes_put_u64(&w, s->stored_lsn);
    bytes_put_u64(&w, s->end_lsn);
    bytes_put_u64(&w, s->end_position);
    bytes_put_u64(&w, s->copy_lsn);
    bytes_put_u64(&w, s->incarnation);
    bytes_put_u64(&w, s->incarnation_before);
    bytes_put_u64(&w, s->alive_ns);
    bytes_put_u8(&w, s->compare ? 1 : 0);
    bytes_put_u8(&w, s->map_lost ? 1 : 0);
    bytes_put_u8(&w, s->replaying ? 1 : 0);
    bytes_put_u8(&w, s->image_lost ? 1 : 0);
    bytes_put_zero(&w, 4);
    bytes_put(&w, s->image_id, sizeof s->image_id);
    bytes_put(&w, s->machine, sizeof s->machine);
    TIDE_CHECK(!w.failed);
    uint32_t sum = checksum(slot, TIDE_STATE_SLOT);
    struct bytes_writer at = bytes_writer(slot + 12, 4);
    bytes_put_u32(&at, sum);
}

/* 0: good; -1: not a good slot, *ret_version set where only the version is wrong. */
static int decode(uint8_t slot[TIDE_STATE_SLOT], struct state *ret, uint32_t *ret_version)
{
    struct bytes_reader r = bytes_reader(slot, TIDE_STATE_SLOT);
    struct state s = {0};
    uint64_t magic = bytes_get_u64(&r);
    uint32_t version = bytes_get_u32(&r);
    uint32_t sum = bytes_get_u32(&r);
    memset(slot + 12, 0, 4);
    if (magic != MAGIC || checksum(slot, TIDE_STATE_SLOT) != sum) {
        return -1;
    }
    if (version != VERSION) {
        *ret_version = version;
        return -1;
    }
    s.sequence = bytes_get_u64(&r);
    bytes_get(&r, s.stream.b, TIDE_ID_SIZE);
    bytes_get(&r, s.timeline.b, TIDE_ID_SIZE);
    bytes_get(&r, s.disk.b, TIDE_ID_SIZE);
    bytes_get(&r, s.boot.b, TIDE_ID_SIZE);
    s.image_size = bytes_get_u64(&r);
    s.image_mtime_ns = bytes_get_u64(&r);
    s.ring_files = bytes_get_u32(&r);
    s.clean = bytes_get_u8(&r) == 1;
    s.whole = bytes_get_u8(&r) == 1;
    s.gap_reason = bytes_get_u8(&r);
    s.copy_zero = bytes_get_u8(&r) == 1;
    s.ring_file_size = bytes_get_u64(&r);
    s.gap_lsn = bytes_get_u64(&r);
    s.due_lsn = bytes_get_u64(&r);
    s.due_position = bytes_get_u64(&r);
    s.due_incarnation = bytes_get_u64(&r);
    s.open_lsn = bytes_get_u64(&r);
    bytes_get(&r, s.open_round.b, TIDE_ID_SIZE);
    s.stored_lsn = bytes_get_u64(&r);
    s.end_lsn = bytes_get_u64(&r);
    s.end_position = bytes_get_u64(&r);
    s.copy_lsn = bytes_get_u64(&r);
    s.incarnation = bytes_get_u64(&r);
    s.incarnation_before = bytes_get_u64(&r);
    s.alive_ns = bytes_get_u64(&r);
    s.compare = bytes_get_u8(&r) == 1;
    s.map_lost = bytes_get_u8(&r) == 1;
    s.replaying = bytes_get_u8(&r) == 1;
    s.image_lost = bytes_get_u8(&r) == 1;
    (void)bytes_skip(&r, 4);
    bytes_get(&r, s.image_id, sizeof s.image_id);
    bytes_get(&r, s.machine, sizeof s.machine);
    s.image_id[sizeof s.image_id - 1] = '\0';
    s.machine[sizeof s.machine - 1] = '\0';
    TIDE_CHECK(!r.failed);
    *ret = s;
    return 0;
}

int state_read(int fd, struct state *ret, struct err *err)
{
    bool found = false;
    uint32_t other = 0;
    struct state newest = {0};
    for (unsigned i = 0; i < 2; i++) {
        uint8_t slot[TIDE_STATE_SLOT];
        struct state s;
        if (file_read(fd, slot, sizeof slot, (uint64_t)i * sizeof slot) != 0) {
            return err_set(err, TIDE_ERR_IO, "cannot read slot %u of the log's state: %s", i,
                           strerror(errno));
        }
        if (decode(slot, &s, &other) == 0 && (!found || s.sequence > newest.sequence)) {
            newest = s;
            found = true;
        }
    }
    if (!found && other != 0) {
        return err_set(err, TIDE_ERR_VERSION,
                       "state of the log is version %u, this tap knows %u: use the tap that wrote "
                       "it",
                       (unsigned)other, VERSION);
    }
    if (!found) {
        return err_set(err, TIDE_ERR_CORRUPT,
                       "state of the log has no good slot: move the log folder away to start a new "
                       "stream (which is not whole until it is copied)");
    }
    *ret = newest;
    return 0;
}

int state_write(int fd, struct state *state, struct err *err)
{
    uint8_t slot[TIDE_STATE_SLOT];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    state->alive_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    state->sequence++;
    encode(state, slot);
    if (file_write(fd, slot, sizeof slot, (state->sequence % 2) * sizeof slot) != 0 ||
        fdatasync(fd) != 0) {
        state->sequence--; /* the next try is at the same slot: the other is the good one */
        return err_set(err, TIDE_ERR_IO, "cannot write the log's state: %s", strerror(errno));
    }
    return 0;
}

int state_create(const char *folder, struct state *state, int *ret_fd, struct err *err)
{
    char fresh[PATH_MAX];
    char final[PATH_MAX];
    (void)snprintf(fresh, sizeof fresh, "%s/state.new", folder);
    (void)snprintf(final, sizeof final, "%s/state", folder);
    int fd = open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, 2 * TIDE_STATE_SLOT) != 0) {
        int saved = errno;
        if (fd >= 0) {
            close(fd);
        }
        return err_set(err, TIDE_ERR_IO, "cannot make \"%s\": %s", fresh, strerror(saved));
    }
    if (state_write(fd, state, err) != 0) {
        close(fd);
        return -1;
    }
    if (fsync(fd) != 0 || rename(fresh, final) != 0 || file_sync_folder(folder) != 0) {
        int saved = errno;
        close(fd);
        return err_set(err, TIDE_ERR_IO, "cannot make \"%s\": %s", final, strerror(saved));
    }
    *ret_fd = fd;
    return 0;
}
