/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/system/tap_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

uint64_t tap_rig_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000};
    nanosleep(&t, NULL);
}

static void join(char *to, size_t size, const char *folder, const char *name)
{
    assert_true(snprintf(to, size, "%s/%s", folder, name) < (int)size);
}

void tap_rig_open(struct tap_rig *rig, uint64_t image_size)
{
    memset(rig, 0, sizeof *rig);
    (void)snprintf(rig->folder, sizeof rig->folder, "/tmp/tide-tap-XXXXXX");
    assert_non_null(mkdtemp(rig->folder));
    join(rig->image, sizeof rig->image, rig->folder, "image");
    join(rig->log, sizeof rig->log, rig->folder, "log");
    join(rig->control, sizeof rig->control, rig->folder, "control");
    join(rig->socket, sizeof rig->socket, rig->folder, "nbd");
    join(rig->ready, sizeof rig->ready, rig->folder, "pid");
    int fd = open(rig->image, O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)image_size), 0);
    close(fd);
}

static void run(const char *const argv[])
{
    pid_t pid = fork();
    if (pid == 0) {
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

void tap_rig_close(struct tap_rig *rig)
{
    if (rig->pid > 0) {
        tap_rig_kill(rig);
    }
    run((const char *const[]){"rm", "-rf", rig->folder, NULL});
}

/* options: "a=b c=d", split at spaces. */
static void start_child(struct tap_rig *rig, const char *options)
{
    char plugin[512];
    char disk[160];
    char log[160];
    char control[160];
    char copy[256];
    const char *argv[24] = {"nbdkit", "-f",       "-t",   "16", "-U", rig->socket,
                            "-P",     rig->ready, plugin, disk, log,  control};
    size_t count = 12;
    const char *build = getenv("TIDE_BUILD");
    assert_non_null(build);
    (void)snprintf(plugin, sizeof plugin, "%s/bin/nbdkit-tidemark-plugin.so", build);
    (void)snprintf(disk, sizeof disk, "disk=%s", rig->image);
    (void)snprintf(log, sizeof log, "log=%s", rig->log);
    (void)snprintf(control, sizeof control, "control=%s", rig->control);
    (void)snprintf(copy, sizeof copy, "%s", options);
    if (strstr(options, "copy-rate=") == NULL) {
        argv[count++] = "copy-rate=0";
    }
    char *rest = copy;
    char *word = NULL;
    while ((word = strsep(&rest, " ")) != NULL && count < 23) {
        if (*word != '\0') {
            argv[count++] = word;
        }
    }
    (void)unlink(rig->socket);
    (void)unlink(rig->ready);
    pid_t parent = getpid();
    rig->pid = fork();
    assert_true(rig->pid >= 0);
    if (rig->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(127);
        }
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
}

bool tap_rig_try(struct tap_rig *rig, const char *options)
{
    start_child(rig, options);
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (tap_rig_now_ms() < until) {
        int status = 0;
        if (waitpid(rig->pid, &status, WNOHANG) == rig->pid) {
            rig->pid = 0;
            return false;
        }
        if (access(rig->ready, F_OK) == 0) { /* written once nbdkit serves */
            return true;
        }
        pause_ms(5);
    }
    fail_msg("nbdkit does not serve after %d ms", TAP_RIG_DEADLINE_MS);
    return false;
}

void tap_rig_start(struct tap_rig *rig, const char *options)
{
    assert_true(tap_rig_try(rig, options));
}

static int end(struct tap_rig *rig, int signal)
{
    int status = 0;
    assert_true(rig->pid > 0);
    if (signal != 0) {
        assert_int_equal(kill(rig->pid, signal), 0);
    }
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    while (waitpid(rig->pid, &status, WNOHANG) == 0) {
        if (tap_rig_now_ms() > until) {
            kill(rig->pid, SIGKILL);
            fail_msg("nbdkit does not end");
        }
        pause_ms(2);
    }
    rig->pid = 0;
    return status;
}

void tap_rig_stop(struct tap_rig *rig)
{
    int status = end(rig, SIGTERM);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

void tap_rig_kill(struct tap_rig *rig)
{
    (void)end(rig, SIGKILL);
}

void tap_rig_wait(struct tap_rig *rig)
{
    int status = end(rig, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

struct nbd_handle *tap_rig_nbd(const struct tap_rig *rig)
{
    struct nbd_handle *nbd = nbd_create();
    assert_non_null(nbd);
    if (nbd_connect_unix(nbd, rig->socket) != 0) {
        fail_msg("%s", nbd_get_error());
    }
    return nbd;
}

int tap_ctl_socket(const struct tap_rig *rig)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(a.sun_path, sizeof a.sun_path, "%s", rig->control);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

void tap_ctl_send(struct tap_ctl *ctl, const struct tapctl *message)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    size_t size = tapctl_encode(message, bytes);
    assert_int_equal(send(ctl->fd, bytes, size, MSG_NOSIGNAL), size);
}

static struct tapctl receive(struct tap_ctl *ctl)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * TIDE_TAPCTL_FDS_MAX)];
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.space,
                            .msg_controllen = sizeof control.space};
    struct pollfd ready = {.fd = ctl->fd, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, TAP_RIG_DEADLINE_MS), 1);
    ssize_t got = recvmsg(ctl->fd, &header, MSG_CMSG_CLOEXEC);
    assert_true(got > 0);
    struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
    if (rights != NULL && rights->cmsg_type == SCM_RIGHTS) {
        memcpy(ctl->ring, CMSG_DATA(rights), rights->cmsg_len - CMSG_LEN(0));
    }
    struct tapctl message;
    struct err err;
    if (tapctl_decode(bytes, (size_t)got, &message, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return message;
}

struct tapctl tap_ctl_get(struct tap_ctl *ctl, enum tapctl_type type)
{
    for (;;) {
        struct tapctl message = receive(ctl);
        if (message.type == type) {
            return message;
        }
        if (message.type != TAPCTL_STATE && message.type != TAPCTL_SEALED) {
            fail_msg("message type %u, not %u; reason %u", (unsigned)message.type, (unsigned)type,
                     message.type == TAPCTL_REFUSED ? (unsigned)message.refused.reason : 0U);
        }
    }
}

void tap_ctl_open(struct tap_ctl *ctl, const struct tap_rig *rig)
{
    for (size_t i = 0; i < TIDE_TAPCTL_FDS_MAX; i++) {
        ctl->ring[i] = -1;
    }
    ctl->fd = tap_ctl_socket(rig);
    tap_ctl_send(ctl, &(struct tapctl){.type = TAPCTL_HELLO, .version = TIDE_TAPCTL_VERSION});
    ctl->welcome = tap_ctl_get(ctl, TAPCTL_WELCOME);
}

void tap_ctl_close(struct tap_ctl *ctl)
{
    close(ctl->fd);
    for (size_t i = 0; i < TIDE_TAPCTL_FDS_MAX; i++) {
        if (ctl->ring[i] >= 0) {
            close(ctl->ring[i]);
        }
    }
}

void tap_ctl_hold_send(struct tap_ctl *ctl, uint8_t round, uint32_t budget_us, bool unheld)
{
    struct tapctl message = {.type = TAPCTL_HOLD, .serial = round};
    struct tapctl_hold *hold = &message.hold;
    memset(hold->order.round.b, round, TIDE_ID_SIZE);
    memset(hold->order.group.b, 0xee, TIDE_ID_SIZE);
    hold->order.epoch.number = 1;
    hold->order.scope = ROUND_SCOPE_GROUP;
    hold->order.kind = ROUND_KIND_CRASH;
    set_init(&hold->order.set, 1);
    set_add(&hold->order.set, 0);
    hold->incarnation = ctl->welcome.welcome.incarnation;
    hold->budget_us = budget_us;
    hold->unheld = unheld;
    tap_ctl_send(ctl, &message);
}

struct tapctl tap_ctl_hold(struct tap_ctl *ctl, uint8_t round, uint32_t budget_us)
{
    tap_ctl_hold_send(ctl, round, budget_us, false);
    struct tapctl message = receive(ctl);
    while (message.type != TAPCTL_HELD && message.type != TAPCTL_REFUSED) {
        message = receive(ctl);
    }
    return message;
}

struct tapctl tap_ctl_hold_due(struct tap_ctl *ctl, uint8_t round, uint32_t budget_us)
{
    uint64_t until = tap_rig_now_ms() + TAP_RIG_DEADLINE_MS;
    struct tapctl answer = tap_ctl_hold(ctl, round, budget_us);
    while (answer.type == TAPCTL_REFUSED && answer.refused.reason == ROUND_REASON_DUTY) {
        assert_true(tap_rig_now_ms() < until);
        answer = tap_ctl_hold(ctl, round, budget_us);
    }
    return answer;
}

void tap_ctl_end(struct tap_ctl *ctl, enum tapctl_type type, uint8_t round)
{
    struct tapctl message = {.type = type};
    memset(message.round.round.b, round, TIDE_ID_SIZE);
    if (type == TAPCTL_RELEASE) {
        memset(message.round.cut.b, 0xcc, TIDE_HASH_SIZE);
    }
    tap_ctl_send(ctl, &message);
}

struct tapctl_state tap_ctl_state(struct tap_ctl *ctl)
{
    static uint32_t serial = 7000;
    tap_ctl_send(ctl, &(struct tapctl){.type = TAPCTL_STATUS, .serial = ++serial});
    for (;;) {
        struct tapctl message = tap_ctl_get(ctl, TAPCTL_STATE);
        if (message.serial == serial) {
            return message.state;
        }
    }
}

struct ring_files {
    int fds[TIDE_LOG_FILES_MAX];
    uint32_t count;
    uint64_t size;
};

static int read_ring(void *context, uint64_t file, uint64_t offset, void *to, size_t size,
                     size_t *ret_got, struct err *err)
{
    const struct ring_files *files = context;
    if (file >= files->count) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "no such file");
    }
    ssize_t got = pread(files->fds[file], to, size, (off_t)offset);
    if (got < 0) {
        return err_set(err, TIDE_ERR_IO, "%s", strerror(errno));
    }
    *ret_got = (size_t)got;
    return 0;
}

static int size_ring(void *context, uint64_t file, uint64_t *ret_size, struct err *err)
{
    (void)file;
    (void)err;
    *ret_size = ((const struct ring_files *)context)->size;
    return 0;
}

static void open_ring(const struct tap_rig *rig, struct ring_files *files, struct id *ret_stream)
{
    char path[192];
    for (files->count = 0; files->count < TIDE_LOG_FILES_MAX; files->count++) {
        (void)snprintf(path, sizeof path, "%s/ring-%03u", rig->log, (unsigned)files->count);
        files->fds[files->count] = open(path, O_RDONLY | O_CLOEXEC);
        if (files->fds[files->count] < 0) {
            break;
        }
    }
    assert_true(files->count >= 2);
    files->size = (uint64_t)lseek(files->fds[0], 0, SEEK_END);
    uint8_t bytes[TIDE_LOG_HEADER];
    struct log_header header;
    assert_int_equal(pread(files->fds[0], bytes, sizeof bytes, 0), sizeof bytes);
    assert_int_equal(log_header_decode(bytes, &header, NULL), 0);
    assert_int_equal(header.sequence, 0); /* never wrapped */
    *ret_stream = header.stream;
}

uint8_t *tap_rig_replay(const struct tap_rig *rig, uint64_t image_size,
                        void (*each)(const struct record *record, void *context), void *context)
{
    struct ring_files files;
    struct log_ring ring = {0};
    struct log_reader reader;
    open_ring(rig, &files, &ring.stream);
    ring.files = files.count;
    ring.file_size = files.size;
    struct source source = {.read = read_ring, .size = size_ring, .context = &files};
    uint8_t *buffer = malloc(TIDE_LOG_BUFFER);
    uint8_t *image = calloc(1, image_size);
    assert_non_null(buffer);
    assert_non_null(image);
    log_reader_init(&reader, &source, &ring, 0, 1, 0, buffer, TIDE_LOG_BUFFER);
    for (;;) {
        struct record record;
        struct err err;
        const uint8_t *bytes = NULL;
        size_t size = 0;
        if (log_reader_next(&reader, &record, &bytes, &size, &err) != 0) {
            fail_msg("%s", err.text);
        }
        if (reader.end != LOG_END_NONE) {
            break;
        }
        const struct record_write *w = &record.write;
        if (record.type == RECORD_WRITE || record.type == RECORD_COPY_BLOCK) {
            memcpy(image + w->offset, w->data, w->size);
        } else if (record.type == RECORD_ZERO) {
            memset(image + w->offset, 0, w->size);
        }
        if (each != NULL) {
            each(&record, context);
        }
    }
    for (uint32_t i = 0; i < files.count; i++) {
        close(files.fds[i]);
    }
    free(buffer);
    return image;
}
