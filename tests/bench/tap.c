/* SPDX-License-Identifier: Apache-2.0 */
/* What the tap costs: the same requests to it and to nbdkit's file plugin, in turns, in one run.
 *
 * usage: bench_tap [FOLDER]   a folder is made in FOLDER (/tmp) and removed; 1 GB is needed
 *
 * Between the samples, unmeasured, each server is flushed, and its log synced, stored and recycled
 * as a daemon would. Exit 1 where a log was full in between: nothing was measured then. */
#include "common/core/prng.h"
#include "common/core/tapctl.h"

#include <libnbd.h>

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

#define IMAGE_SIZE   (UINT64_C(128) << 20)
#define LOG_SIZE     "256M"
#define SERVERS      3U
#define WORKLOADS    4U
#define REPEATS      9U
#define OPS_MAX      12000U
#define DEPTH_MAX    16U
#define SAMPLE_NS    UINT64_C(1000000000) /* of one sample, at most */
#define START_MS     20000U
#define CONTROL_MS   20000
#define RECYCLE_MS   20000U
#define REQUEST_SIZE (128U * 1024)

static const struct workload {
    const char *name;
    uint32_t size;
    unsigned depth;
    unsigned ops;
    bool flush; /* after each write; the latency is that of both */
} workloads[WORKLOADS] = {
    {"4 KiB, depth 1", 4096, 1, 6000, false},
    {"4 KiB, depth 16", 4096, 16, OPS_MAX, false},
    {"128 KiB, depth 4", REQUEST_SIZE, 4, 384, false},
    {"4 KiB, flush each", 4096, 1, 1000, true},
};

struct server {
    const char *name;
    const char *flush; /* NULL: the file plugin */
    pid_t pid;
    struct nbd_handle *nbd;
    int control;
    char socket[192];
    char ready[192]; /* nbdkit writes it once it serves */
    char control_path[192];
};

static struct server servers[SERVERS] = {
    {.name = "file", .control = -1},
    {.name = "tap flush=both", .flush = "both", .control = -1},
    {.name = "tap flush=log", .flush = "log", .control = -1},
};

struct sample {
    double rate; /* requests a second */
    double p99;  /* seconds */
};

static struct sample samples[WORKLOADS][SERVERS][REPEATS];
static char folder[128];
static uint8_t data[REQUEST_SIZE];

static void clean_up(void)
{
    for (unsigned i = 0; i < SERVERS; i++) {
        if (servers[i].pid > 0) { /* its files are thrown away: nothing is worth a clean end */
            (void)kill(servers[i].pid, SIGKILL);
            (void)waitpid(servers[i].pid, NULL, 0);
            servers[i].pid = 0;
        }
    }
    if (folder[0] == '\0') {
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", folder, (char *)NULL);
        _exit(127);
    }
    (void)waitpid(pid, NULL, 0);
}

static _Noreturn void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "bench_tap: %s: %s\n", what, why);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static void pause_ms(long ms)
{
    const struct timespec t = {.tv_nsec = ms * 1000000};
    nanosleep(&t, NULL);
}

static void path_of(char *to, size_t size, const char *name, unsigned server)
{
    (void)snprintf(to, size, "%s/%u.%s", folder, server, name);
}

/* Written, not only allocated: first use of a block is not what is measured. Zeroes, so that the
 * stream is whole. */
static void make_image(const char *path)
{
    static const uint8_t zeroes[1 << 20];
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    for (uint64_t at = 0; fd >= 0 && at < IMAGE_SIZE; at += sizeof zeroes) {
        if (write(fd, zeroes, sizeof zeroes) != sizeof zeroes) {
            die(path, strerror(errno));
        }
    }
    if (fd < 0 || fsync(fd) != 0 || close(fd) != 0) {
        die(path, strerror(errno));
    }
}

static void run_server(const struct server *s, unsigned number, const char *image)
{
    char disk[256];
    char log[256];
    char control[256];
    char flush[32];
    char folder_path[192];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (s->flush == NULL) {
        execlp("nbdkit", "nbdkit", "-f", "-t", "16", "-U", s->socket, "-P", s->ready, "file", image,
               (char *)NULL);
    } else {
        path_of(folder_path, sizeof folder_path, "log", number);
        (void)snprintf(disk, sizeof disk, "disk=%s", image);
        (void)snprintf(log, sizeof log, "log=%s", folder_path);
        (void)snprintf(control, sizeof control, "control=%s", s->control_path);
        (void)snprintf(flush, sizeof flush, "flush=%s", s->flush);
        execlp("nbdkit", "nbdkit", "-f", "-t", "16", "-U", s->socket, "-P", s->ready, BENCH_PLUGIN,
               disk, log, control, flush, "log-size=" LOG_SIZE, (char *)NULL);
    }
    _exit(127);
}

static struct tapctl ask(struct server *s, const struct tapctl *question, enum tapctl_type type)
{
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    struct tapctl answer;
    struct err err;
    size_t size = tapctl_encode(question, bytes);
    if (send(s->control, bytes, size, MSG_NOSIGNAL) != (ssize_t)size) {
        die(s->name, "the control socket does not take a message");
    }
    do {
        struct pollfd ready = {.fd = s->control, .events = POLLIN};
        ssize_t got =
            poll(&ready, 1, CONTROL_MS) == 1 ? recv(s->control, bytes, sizeof bytes, 0) : -1;
        if (got <= 0 || tapctl_decode(bytes, (size_t)got, &answer, &err) != 0) {
            die(s->name, "the control socket does not answer");
        }
    } while (answer.type != type);
    return answer;
}

static void connect_control(struct server *s)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t size = strlen(s->control_path);
    if (size >= sizeof a.sun_path) {
        die(s->control_path, "path is too long");
    }
    memcpy(a.sun_path, s->control_path, size);
    s->control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (s->control < 0 || connect(s->control, (struct sockaddr *)&a, sizeof a) != 0) {
        die(s->control_path, strerror(errno));
    }
    const struct tapctl hello = {.type = TAPCTL_HELLO, .version = TIDE_TAPCTL_VERSION};
    (void)ask(s, &hello, TAPCTL_WELCOME);
}

static void start(struct server *s, unsigned number)
{
    char image[192];
    path_of(image, sizeof image, "image", number);
    path_of(s->socket, sizeof s->socket, "nbd", number);
    path_of(s->ready, sizeof s->ready, "pid", number);
    path_of(s->control_path, sizeof s->control_path, "control", number);
    make_image(image);
    s->pid = fork();
    if (s->pid == 0) {
        run_server(s, number, image);
    }
    s->nbd = nbd_create();
    if (s->pid < 0 || s->nbd == NULL) {
        die(s->name, "cannot be started");
    }
    uint64_t until = now_ns() + START_MS * UINT64_C(1000000);
    while (access(s->ready, F_OK) != 0) {
        if (waitpid(s->pid, NULL, WNOHANG) != 0 || now_ns() > until) {
            s->pid = 0;
            die(s->name, "nbdkit does not serve");
        }
        pause_ms(5);
    }
    if (nbd_connect_unix(s->nbd, s->socket) != 0) {
        die(s->name, nbd_get_error());
    }
    if (s->flush != NULL) {
        connect_control(s);
    }
}

/* Not measured: on stable storage, and the log free again. */
static void settle(struct server *s)
{
    if (nbd_flush(s->nbd, 0) != 0) {
        die(s->name, nbd_get_error());
    }
    if (s->control < 0) {
        return;
    }
    const struct tapctl sync = {.type = TAPCTL_SYNC};
    const struct tapctl status = {.type = TAPCTL_STATUS};
    struct tapctl stored = {.type = TAPCTL_STORED};
    stored.lsn.lsn = ask(s, &sync, TAPCTL_SYNCED).synced.lsn;
    uint8_t bytes[TIDE_TAPCTL_SIZE_MAX];
    size_t size = tapctl_encode(&stored, bytes);
    uint64_t until = now_ns() + RECYCLE_MS * UINT64_C(1000000);
    struct tapctl_state got;
    do {
        if (send(s->control, bytes, size, MSG_NOSIGNAL) != (ssize_t)size || now_ns() > until) {
            die(s->name, "the log is not recycled");
        }
        got = ask(s, &status, TAPCTL_STATE).state;
        if (!got.whole || !got.logging) {
            die(s->name, "the log was full: nothing was measured");
        }
        pause_ms(2);
    } while (got.ring_used > got.ring_bytes / 2);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

struct slot {
    int64_t cookie; /* 0: idle */
    uint64_t since_ns;
    bool flushing;
};

/* The next request of a slot. */
static void begin(struct server *s, const struct workload *w, struct prng *prng, struct slot *slot)
{
    uint64_t offset = prng_below(prng, IMAGE_SIZE / w->size) * w->size;
    if (slot->flushing) {
        slot->cookie = nbd_aio_flush(s->nbd, NBD_NULL_COMPLETION, 0);
    } else {
        slot->since_ns = now_ns();
        slot->cookie = nbd_aio_pwrite(s->nbd, data, w->size, offset, NBD_NULL_COMPLETION, 0);
    }
    if (slot->cookie <= 0) {
        die(s->name, nbd_get_error());
    }
}

/* Whether the slot's request has ended, its flush included; begins that flush. */
static bool ended(struct server *s, const struct workload *w, struct prng *prng, struct slot *slot)
{
    int done = nbd_aio_command_completed(s->nbd, (uint64_t)slot->cookie);
    if (done < 0) {
        die(s->name, nbd_get_error());
    }
    if (done == 0) {
        return false;
    }
    if (w->flush && !slot->flushing) {
        slot->flushing = true;
        begin(s, w, prng, slot);
        return false;
    }
    slot->flushing = false;
    slot->cookie = 0;
    return true;
}

static struct sample measure(struct server *s, const struct workload *w, uint64_t seed)
{
    static double latency[OPS_MAX];
    struct slot slots[DEPTH_MAX] = {0};
    struct prng prng;
    unsigned begun = 0;
    unsigned count = 0;
    prng_init(&prng, seed);
    uint64_t from = now_ns();
    uint64_t now = from;
    for (bool busy = true; busy;) {
        busy = false;
        for (unsigned i = 0; i < w->depth; i++) {
            if (slots[i].cookie != 0 && ended(s, w, &prng, &slots[i])) {
                now = now_ns();
                latency[count++] = (double)(now - slots[i].since_ns) / 1e9;
            }
            if (slots[i].cookie == 0 && begun < w->ops && now - from < SAMPLE_NS) {
                begin(s, w, &prng, &slots[i]);
                begun++;
            }
            busy = busy || slots[i].cookie != 0;
        }
        if (busy && nbd_poll(s->nbd, -1) < 0) {
            die(s->name, nbd_get_error());
        }
    }
    qsort(latency, count, sizeof latency[0], by_value);
    return (struct sample){.rate = count / ((double)(now - from) / 1e9),
                           .p99 = latency[(count - 1) * 99 / 100]};
}

static double median(double values[REPEATS])
{
    qsort(values, REPEATS, sizeof values[0], by_value);
    return values[REPEATS / 2];
}

static void print_row(unsigned workload, unsigned server)
{
    double rate[REPEATS];
    double p99[REPEATS];
    double rate_ratio[REPEATS];
    double p99_ratio[REPEATS];
    for (unsigned r = 0; r < REPEATS; r++) {
        const struct sample *mine = &samples[workload][server][r];
        const struct sample *file = &samples[workload][0][r];
        rate[r] = mine->rate;
        p99[r] = mine->p99 * 1e6;
        rate_ratio[r] = mine->rate / file->rate;
        p99_ratio[r] = mine->p99 / file->p99;
    }
    double least = rate_ratio[0];
    double most = rate_ratio[0];
    for (unsigned r = 1; r < REPEATS; r++) {
        least = rate_ratio[r] < least ? rate_ratio[r] : least;
        most = rate_ratio[r] > most ? rate_ratio[r] : most;
    }
    (void)printf("%-18s %-15s %10.0f %9.0f", workloads[workload].name, servers[server].name,
                 median(rate), median(p99));
    if (server != 0) {
        (void)printf("  %5.2f (%.2f-%.2f)  %6.2f", median(rate_ratio), least, most,
                     median(p99_ratio));
    }
    (void)printf("\n");
}

int main(int argc, char **argv)
{
    (void)snprintf(folder, sizeof folder, "%.100s/tide-bench-XXXXXX", argc > 1 ? argv[1] : "/tmp");
    if (mkdtemp(folder) == NULL) {
        (void)fprintf(stderr, "bench_tap: cannot make \"%s\": %s\n", folder, strerror(errno));
        return 1;
    }
    (void)atexit(clean_up);
    memset(data, 0x5a, sizeof data);
    for (unsigned i = 0; i < SERVERS; i++) {
        start(&servers[i], i);
        for (unsigned n = 0; n < 8; n++) { /* once round the log, so that it is a recycled one */
            (void)measure(&servers[i], &workloads[2], n);
            settle(&servers[i]);
        }
    }
    for (unsigned r = 0; r < REPEATS; r++) {
        (void)fprintf(stderr, "%u of %u\n", r + 1, REPEATS);
        for (unsigned w = 0; w < WORKLOADS; w++) {
            for (unsigned i = 0; i < SERVERS; i++) {
                unsigned turn = (i + r) % SERVERS;
                samples[w][turn][r] = measure(&servers[turn], &workloads[w], r);
                settle(&servers[turn]);
            }
        }
    }
    (void)printf("%-18s %-15s %10s %9s  %-17s  %6s\n", "writes", "server", "a second", "p99 us",
                 "rate / file", "p99 / file");
    for (unsigned w = 0; w < WORKLOADS; w++) {
        for (unsigned i = 0; i < SERVERS; i++) {
            print_row(w, i);
        }
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        nbd_close(servers[i].nbd);
        if (servers[i].control >= 0) {
            close(servers[i].control);
        }
    }
    return 0;
}
