/* SPDX-License-Identifier: Apache-2.0 */
/* bare: the least that a round can be, over the same sockets and TLS as the link: one leader sends
 * HOLD to all, each answers HELD, the leader hashes the answers and sends RELEASE to all, each
 * answers how long it held. No gate, no records, no files, no checks, one epoll. What it takes is
 * what sockets, TLS and the scheduler cost on this machine.
 *
 * bare MEMBERS [THREADS]   a process for each member; with THREADS: one program, as crowd.h's
 * bare MEMBERS hop         a process for each member and one behind it, over a unix seqpacket
 * socket, that holds: what a tap of its own costs on this machine
 *
 * For each line on standard input: a round, and on standard output the longest hold and the time
 * from the first HOLD to the last answer, in microseconds. */
#include "common/core/check.h"
#include "common/core/sha.h"
#include "common/io/address.h"
#include "common/io/clock.h"
#include "tests/light/light.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_SIZE  176 /* about what messages of the link have */
#define THREADS_MAX 8U
#define PRIORITY    10 /* of SCHED_RR, as the hold thread */

enum frame_type { HOLD = 1, HELD, RELEASE, DONE };

struct frame {
    uint32_t type;
    uint32_t hold_us; /* DONE */
    uint8_t rest[FRAME_SIZE - 8];
};

struct end { /* of a connection */
    SSL *ssl;
    bool leader;
    uint64_t held_us; /* member: since */
    int hop;          /* to the process that holds; -1: none */
};

struct worker {
    int epoll;
    pthread_t thread;
};

static struct end only; /* with hop: a member's */

static struct { /* the leader's */
    unsigned members;
    unsigned count;
    struct end *ends[TIDE_MEMBERS_MAX];
    struct frame answers[TIDE_MEMBERS_MAX];
    unsigned held;
    unsigned done;
    uint64_t own_us; /* holds itself since */
    uint32_t hold_us_max;
} leader;

static void say(struct end *end, enum frame_type type, uint32_t hold_us, const struct hash *cut)
{
    struct frame frame = {.type = type, .hold_us = hold_us};
    if (cut != NULL) {
        memcpy(frame.rest, cut->b, sizeof cut->b);
    }
    TIDE_CHECK(SSL_write(end->ssl, &frame, sizeof frame) == sizeof frame);
}

static void count_hold(uint64_t hold_us)
{
    if (hold_us > leader.hold_us_max) {
        leader.hold_us_max = (uint32_t)hold_us;
    }
}

static void hear_member(const struct frame *frame)
{
    if (frame->type == DONE) {
        leader.done++;
        count_hold(frame->hold_us);
        return;
    }
    leader.answers[leader.held++] = *frame;
    if (leader.held == leader.count) {
        struct hash cut = sha_of(leader.answers, leader.held * sizeof leader.answers[0]);
        for (unsigned i = 0; i < leader.count; i++) {
            say(leader.ends[i], RELEASE, 0, &cut);
        }
        count_hold(clock_mono_us() - leader.own_us);
    }
}

static void hear_leader(struct end *end, const struct frame *frame)
{
    if (end->hop >= 0) {
        TIDE_CHECK(send(end->hop, frame, sizeof *frame, 0) == sizeof *frame);
    } else if (frame->type == HOLD) {
        end->held_us = clock_mono_us();
        say(end, HELD, 0, NULL);
    } else {
        say(end, DONE, (uint32_t)(clock_mono_us() - end->held_us), NULL);
    }
}

static void be_real_time(void)
{
    const struct sched_param param = {.sched_priority = PRIORITY};
    (void)pthread_setschedparam(pthread_self(), SCHED_RR, &param);
}

/* From the process that holds, on to the leader. */
static void hear_hop(void)
{
    struct frame frame;
    if (recv(only.hop, &frame, sizeof frame, 0) != sizeof frame) {
        _exit(0);
    }
    TIDE_CHECK(SSL_write(only.ssl, &frame, sizeof frame) == sizeof frame);
}

/* The process that holds. */
static void hold_behind(int fd)
{
    struct frame frame;
    uint64_t held_us = 0;
    be_real_time();
    while (recv(fd, &frame, sizeof frame, 0) == sizeof frame) {
        uint64_t now = clock_mono_us();
        if (frame.type == HOLD) {
            held_us = now;
            frame.type = HELD;
        } else {
            frame.type = DONE;
            frame.hold_us = (uint32_t)(now - held_us);
        }
        TIDE_CHECK(send(fd, &frame, sizeof frame, MSG_NOSIGNAL) == sizeof frame);
    }
    _exit(0);
}

/* Serves what is ready now; waits for it where nothing is. A peer that is gone ends the process. */
static void serve(const struct worker *worker)
{
    struct epoll_event ready[64];
    int count = epoll_wait(worker->epoll, ready, 64, -1);
    for (int i = 0; i < count; i++) {
        struct end *end = ready[i].data.ptr;
        if (end == NULL) {
            hear_hop();
            continue;
        }
        do {
            struct frame frame;
            if (SSL_read(end->ssl, &frame, sizeof frame) != sizeof frame) {
                _exit(0);
            }
            if (end->leader) {
                hear_member(&frame);
            } else {
                hear_leader(end, &frame);
            }
        } while (SSL_pending(end->ssl) > 0);
    }
}

/* ---- connections ---- */

static void watch(const struct worker *worker, SSL *ssl, bool is_leader)
{
    struct end *end = calloc(1, sizeof *end);
    TIDE_CHECK(end != NULL);
    *end = (struct end){.ssl = ssl, .leader = is_leader, .hop = -1};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = end};
    TIDE_CHECK(epoll_ctl(worker->epoll, EPOLL_CTL_ADD, SSL_get_fd(ssl), &event) == 0);
    if (is_leader) {
        leader.ends[leader.count++] = end;
    }
}

static SSL *wrap(SSL_CTX **context, int fd, bool accepted)
{
    const int one = 1;
    SSL *ssl = tls_connection(context);
    TIDE_CHECK(ssl != NULL && SSL_set_fd(ssl, fd) == 1);
    TIDE_CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0);
    if (accepted) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
    }
    return ssl;
}

static struct address address_of(const struct light_group *group, unsigned member)
{
    struct address address;
    struct err err;
    TIDE_CHECK(address_parse(light_group_definition(group)->members[member].address, false,
                             &address, &err) == 0);
    return address;
}

static SSL *dial(const struct light_group *group, unsigned member)
{
    struct address from = address_of(group, member);
    struct address to = address_of(group, 0);
    SSL_CTX *context = tls_context(light_group_identity(group, member), NULL, NULL);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    from.v4.sin_port = 0;
    TIDE_CHECK(fd >= 0 && bind(fd, &from.any, from.size) == 0);
    TIDE_CHECK(connect(fd, &to.any, to.size) == 0);
    return wrap(&context, fd, false);
}

static int listen_at(const struct light_group *group)
{
    struct address at = address_of(group, 0);
    const int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    TIDE_CHECK(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0);
    TIDE_CHECK(bind(fd, &at.any, at.size) == 0 && listen(fd, TIDE_MEMBERS_MAX) == 0);
    return fd;
}

static SSL *take_in(SSL_CTX **context, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    TIDE_CHECK(fd >= 0);
    return wrap(context, fd, true);
}

/* In another thread: both ends of a handshake are this program's. */
static void *shake(void *arg)
{
    TIDE_CHECK(SSL_do_handshake(arg) == 1);
    return NULL;
}

static void *work(void *arg)
{
    be_real_time();
    for (;;) {
        serve(arg);
    }
    return NULL;
}

static void add_hop(const struct worker *worker, SSL *ssl)
{
    int pair[2];
    struct epoll_event event = {.events = EPOLLIN};
    TIDE_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    pid_t pid = fork();
    TIDE_CHECK(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(pair[0]);
        hold_behind(pair[1]);
    }
    (void)close(pair[1]);
    only = (struct end){.ssl = ssl, .hop = pair[0]};
    event.data.ptr = NULL;
    TIDE_CHECK(epoll_ctl(worker->epoll, EPOLL_CTL_ADD, pair[0], &event) == 0);
    event.data.ptr = &only;
    TIDE_CHECK(epoll_ctl(worker->epoll, EPOLL_CTL_ADD, SSL_get_fd(ssl), &event) == 0);
}

static void be_member(const struct light_group *group, unsigned member, bool hop)
{
    struct worker worker = {.epoll = epoll_create1(EPOLL_CLOEXEC)};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    SSL *ssl = dial(group, member);
    TIDE_CHECK(SSL_do_handshake(ssl) == 1);
    (void)mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
    if (hop) {
        add_hop(&worker, ssl);
    } else {
        watch(&worker, ssl, false);
    }
    work(&worker);
}

static void round_once(const struct worker *worker)
{
    uint64_t began = clock_mono_us();
    leader.held = leader.done = leader.hold_us_max = 0;
    for (unsigned i = 0; i < leader.count; i++) {
        say(leader.ends[i], HOLD, 0, NULL);
    }
    leader.own_us = clock_mono_us();
    while (leader.done < leader.count) {
        serve(worker);
    }
    printf("%u %llu\n", leader.hold_us_max, (unsigned long long)(clock_mono_us() - began));
    fflush(stdout);
}

static void gather(const struct light_group *group, struct worker *workers, unsigned threads,
                   bool hop)
{
    int listener = listen_at(group);
    SSL_CTX *context = tls_context(light_group_identity(group, 0), NULL, NULL);
    for (unsigned m = 1; m < leader.members; m++) {
        if (threads == 0) {
            pid_t pid = fork();
            TIDE_CHECK(pid >= 0);
            if (pid == 0) {
                (void)close(listener);
                be_member(group, m, hop);
            }
        }
        pthread_t helper;
        SSL *other = threads > 0 ? dial(group, m) : NULL;
        if (other != NULL) {
            TIDE_CHECK(pthread_create(&helper, NULL, shake, other) == 0);
        }
        SSL *own = take_in(&context, listener);
        TIDE_CHECK(SSL_do_handshake(own) == 1);
        watch(&workers[0], own, true);
        if (other != NULL) {
            pthread_join(helper, NULL);
            watch(&workers[m % threads], other, false);
        }
    }
    (void)close(listener);
}

int main(int argc, char **argv)
{
    struct light_plan plan = {.disks = 1, .seed = (uint64_t)getpid()};
    struct worker workers[THREADS_MAX];
    char line[64];
    policy_init(&plan.policy);
    plan.members = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    bool hop = argc > 2 && strcmp(argv[2], "hop") == 0;
    unsigned threads = argc > 2 && !hop ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    if (plan.members < 2 || plan.members > TIDE_MEMBERS_MAX || threads > THREADS_MAX || argc > 3) {
        fprintf(stderr, "usage: bare MEMBERS [THREADS|hop]: 2 to %u, at most %u\n",
                TIDE_MEMBERS_MAX, THREADS_MAX);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    struct light_group *group = light_group_new(&plan);
    leader.members = plan.members;
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        workers[i].epoll = epoll_create1(EPOLL_CLOEXEC);
    }
    gather(group, workers, threads, hop);
    light_group_free(group);
    for (unsigned i = 1; i < threads; i++) {
        TIDE_CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    be_real_time();
    (void)mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        round_once(&workers[0]);
    }
    _exit(0); /* the members' connections end with it, and so do they */
}
