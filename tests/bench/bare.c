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
#include "common/io/clock.h"
#include "tests/bench/bare_net.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS_MAX 8U

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
    struct bare_frame answers[TIDE_MEMBERS_MAX];
    unsigned held;
    unsigned done;
    uint64_t own_us; /* holds itself since */
    uint32_t hold_us_max;
} leader;

static void say(struct end *end, enum bare_type type, uint32_t hold_us, const struct hash *cut)
{
    struct bare_frame frame = {.type = type, .hold_us = hold_us};
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

static void hear_member(const struct bare_frame *frame)
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

static void hear_leader(struct end *end, const struct bare_frame *frame)
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

/* From the process that holds, on to the leader. */
static void hear_hop(void)
{
    struct bare_frame frame;
    if (recv(only.hop, &frame, sizeof frame, 0) != sizeof frame) {
        _exit(0);
    }
    TIDE_CHECK(SSL_write(only.ssl, &frame, sizeof frame) == sizeof frame);
}

/* The process that holds. */
static void hold_behind(int fd)
{
    struct bare_frame frame;
    uint64_t held_us = 0;
    bare_real_time();
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
            struct bare_frame frame;
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

/* In another thread: both ends of a handshake are this program's. */
static void *shake(void *arg)
{
    TIDE_CHECK(SSL_do_handshake(arg) == 1);
    return NULL;
}

static void *work(void *arg)
{
    bare_real_time();
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
    SSL_CTX *context = tls_context(light_group_identity(group, member), NULL, NULL);
    SSL *ssl = bare_dial(&context, group, member, 0);
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
    int listener = bare_listen(group, 0);
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
        SSL *other = NULL;
        if (threads > 0) {
            SSL_CTX *its = tls_context(light_group_identity(group, m), NULL, NULL);
            other = bare_dial(&its, group, m, 0);
            TIDE_CHECK(pthread_create(&helper, NULL, shake, other) == 0);
        }
        SSL *own = bare_accept(&context, listener);
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
    bare_real_time();
    (void)mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        round_once(&workers[0]);
    }
    _exit(0); /* the members' connections end with it, and so do they */
}
