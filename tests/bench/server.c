/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SERVERS_MAX 8U
#define START_MS    20000U
#define CONTROL_MS  20000
#define SETTLE_MS   30000U
#define CHUNK       (1U << 20)

static char folders[2][160]; /* images, logs */
static struct server *servers[SERVERS_MAX];
static uint32_t serial;

void server_die(const char *what, const char *why)
{
    (void)fprintf(stderr, "bench_tap: %s: %s\n", what, why);
    exit(1);
}

uint64_t server_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

void server_pause_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void clean_up(void)
{
    for (unsigned i = 0; i < SERVERS_MAX; i++) {
        if (servers[i] != NULL && servers[i]->pid > 0) {
            (void)kill(servers[i]->pid, SIGKILL);
            (void)waitpid(servers[i]->pid, NULL, 0);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        pid_t pid = folders[i][0] == '\0' ? -1 : fork();
        if (pid == 0) {
            execlp("rm", "rm", "-rf", folders[i], (char *)NULL);
            _exit(127);
        }
        if (pid > 0) {
            (void)waitpid(pid, NULL, 0);
        }
    }
}

static void make_folder(char *to, size_t size, const char *in)
{
    (void)snprintf(to, size, "%.100s/tide-bench-XXXXXX", in);
    if (mkdtemp(to) == NULL) {
        int why = errno;
        to[0] = '\0';
        server_die(in, strerror(why));
    }
}

void server_folders(const char *images, const char *logs)
{
    (void)atexit(clean_up);
    make_folder(folders[0], sizeof folders[0], images);
    if (logs != NULL) {
        make_folder(folders[1], sizeof folders[1], logs);
    }
}

const char *server_folder(void)
{
    return folders[0];
}

/* Written, not only allocated: first use of a block is not what is measured. */
static void make_image(const char *path, uint64_t size, bool data)
{
    static uint8_t bytes[CHUNK];
    memset(bytes, data ? 0xa5 : 0, sizeof bytes);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (uint64_t at = 0; fd >= 0 && at < size; at += sizeof bytes) {
        if (write(fd, bytes, sizeof bytes) != sizeof bytes) {
            server_die(path, strerror(errno));
        }
    }
    if (fd < 0 || fsync(fd) != 0 || close(fd) != 0) {
        server_die(path, strerror(errno));
    }
}

static void path_of(char *to, size_t size, const struct server *s, bool log, const char *what)
{
    const char *folder = log && folders[1][0] != '\0' ? folders[1] : folders[0];
    (void)snprintf(to, size, "%s/%s.%s", folder, s->name, what);
}

static _Noreturn void run(const struct server *s, const struct server_setup *setup,
                          const char *ready, const char *control)
{
    char disk[256];
    char log_folder[192];
    char log[256];
    char socket[256];
    const char *arguments[20 + SERVER_OPTIONS_MAX] = {"nbdkit", "-f",      "-t", "16",
                                                      "-U",     s->socket, "-P", ready};
    unsigned n = 8;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!setup->tap) {
        arguments[n++] = "file";
        arguments[n++] = s->image;
    } else {
        path_of(log_folder, sizeof log_folder, s, true, "log");
        (void)snprintf(disk, sizeof disk, "disk=%s", s->image);
        (void)snprintf(log, sizeof log, "log=%s", log_folder);
        (void)snprintf(socket, sizeof socket, "control=%s", control);
        arguments[n++] = BENCH_PLUGIN;
        arguments[n++] = disk;
        arguments[n++] = log;
        arguments[n++] = socket;
        for (unsigned i = 0; i < SERVER_OPTIONS_MAX && setup->options[i] != NULL; i++) {
            arguments[n++] = setup->options[i];
        }
    }
    arguments[n] = NULL;
    (void)execvp("nbdkit", (char **)(uintptr_t)arguments);
    _exit(127);
}

void server_send(const struct server *s, const struct tapctl *message)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    size_t size = tapctl_encode(message, bytes);
    if (send(s->control, bytes, size, MSG_NOSIGNAL) != (ssize_t)size) {
        server_die(s->name, "the control socket does not take a message");
    }
}

struct tapctl server_ask(const struct server *s, struct tapctl *question)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    struct tapctl answer;
    struct err err;
    question->serial = ++serial;
    server_send(s, question);
    do {
        struct pollfd ready = {.fd = s->control, .events = POLLIN};
        ssize_t got =
            poll(&ready, 1, CONTROL_MS) == 1 ? recv(s->control, bytes, sizeof bytes, 0) : -1;
        if (got <= 0 || tapctl_decode(bytes, (size_t)got, &answer, &err) != 0) {
            server_die(s->name, "the control socket does not answer");
        }
    } while (answer.serial != question->serial);
    return answer;
}

struct tapctl_state server_state(const struct server *s)
{
    struct tapctl status = {.type = TAPCTL_STATUS};
    return server_ask(s, &status).state;
}

static void connect_control(struct server *s, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t size = strlen(path);
    if (size >= sizeof a.sun_path) {
        server_die(path, "path is too long");
    }
    memcpy(a.sun_path, path, size);
    s->control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (s->control < 0 || connect(s->control, (struct sockaddr *)&a, sizeof a) != 0) {
        server_die(path, strerror(errno));
    }
    struct tapctl hello = {.type = TAPCTL_HELLO, .version = TIDE_TAPCTL_VERSION};
    s->incarnation = server_ask(s, &hello).welcome.incarnation;
}

static void remember(struct server *s, bool on)
{
    for (unsigned i = 0; i < SERVERS_MAX; i++) {
        if (servers[i] == (on ? NULL : s)) {
            servers[i] = on ? s : NULL;
            return;
        }
    }
}

void server_start(struct server *s, const struct server_setup *setup)
{
    char ready[192];
    char control[192];
    *s = (struct server){.name = setup->name, .size = setup->size, .control = -1};
    path_of(s->image, sizeof s->image, s, false, "image");
    path_of(s->socket, sizeof s->socket, s, false, "nbd");
    path_of(ready, sizeof ready, s, false, "pid");
    path_of(control, sizeof control, s, false, "control");
    (void)unlink(ready);
    make_image(s->image, s->size, setup->data);
    s->nbd = nbd_create();
    s->pid = fork();
    if (s->pid == 0) {
        run(s, setup, ready, control);
    }
    if (s->pid < 0 || s->nbd == NULL) {
        server_die(s->name, "cannot be started");
    }
    remember(s, true);
    uint64_t until = server_now_ns() + START_MS * UINT64_C(1000000);
    while (access(ready, F_OK) != 0) {
        if (waitpid(s->pid, NULL, WNOHANG) != 0 || server_now_ns() > until) {
            s->pid = 0;
            server_die(s->name, "nbdkit does not serve");
        }
        server_pause_ms(5);
    }
    if (nbd_connect_unix(s->nbd, s->socket) != 0) {
        server_die(s->name, nbd_get_error());
    }
    if (setup->tap) {
        connect_control(s, control);
    }
}

/* Its files are thrown away, so that nothing is worth a clean end. */
void server_stop(struct server *s)
{
    char log[192];
    nbd_close(s->nbd);
    if (s->control >= 0) {
        close(s->control);
    }
    (void)kill(s->pid, SIGKILL);
    (void)waitpid(s->pid, NULL, 0);
    remember(s, false);
    (void)unlink(s->image);
    (void)unlink(s->socket);
    path_of(log, sizeof log, s, true, "log");
    pid_t pid = s->control < 0 ? -1 : fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", log, (char *)NULL);
        _exit(127);
    }
    if (pid > 0) {
        (void)waitpid(pid, NULL, 0);
    }
}

void server_settle(const struct server *s)
{
    if (nbd_flush(s->nbd, 0) != 0) {
        server_die(s->name, nbd_get_error());
    }
    if (s->control < 0) {
        return;
    }
    struct tapctl sync = {.type = TAPCTL_SYNC};
    struct tapctl stored = {.type = TAPCTL_STORED};
    stored.lsn.lsn = server_ask(s, &sync).synced.lsn;
    uint64_t until = server_now_ns() + SETTLE_MS * UINT64_C(1000000);
    struct tapctl_state state;
    do {
        if (server_now_ns() > until) {
            server_die(s->name, "the log is not recycled");
        }
        server_send(s, &stored);
        state = server_state(s);
        if (!state.whole || !state.logging) {
            server_die(s->name, "the log was full: nothing was measured");
        }
        server_pause_ms(2);
    } while (state.ring_used > state.ring_bytes / 4);
}

void server_cool(const struct server *s)
{
    char log[192];
    char file[256];
    path_of(log, sizeof log, s, true, "log");
    for (unsigned i = 0; i < TIDE_TAPCTL_RING_FILES_MAX; i++) {
        (void)snprintf(file, sizeof file, "%s/ring-%03u", log, i);
        int fd = open(file, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return;
        }
        if (fdatasync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) {
            server_die(file, "does not leave the page cache");
        }
        close(fd);
    }
}

uint64_t server_memory(const struct server *s)
{
    char line[128];
    unsigned long long kib = 0;
    (void)snprintf(line, sizeof line, "/proc/%d/status", (int)s->pid);
    FILE *f = fopen(line, "re");
    while (f != NULL && kib == 0 && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0) {
            kib = strtoull(line + 6, NULL, 10);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return kib * 1024;
}
