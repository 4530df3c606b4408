/* SPDX-License-Identifier: Apache-2.0 */
/* mesh MEMBERS: as bare.c with a process for each member, but each tells all others that it holds,
 * and lets go when it has heard all (proto/protocol.md, "How long a hold lasts"): half the way, for
 * n squared messages. Nothing is hashed. Lines in and out as bare.c's. */
#include "common/core/check.h"
#include "common/io/clock.h"
#include "tests/bench/bare_net.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static unsigned member_count;
static unsigned self;
static int ready_fd;
static SSL *peers[TIDE_MEMBERS_MAX]; /* by index; NULL: itself */
static unsigned heard;               /* HELD of this round */
static bool holding;
static uint64_t held_us;
static unsigned done; /* the first member's: DONE of this round */
static uint32_t hold_us_max;

static void say(unsigned peer, enum bare_type type, uint32_t hold_us)
{
    struct bare_frame frame = {.type = type, .hold_us = hold_us};
    TIDE_CHECK(SSL_write(peers[peer], &frame, sizeof frame) == sizeof frame);
}

static void say_all(enum bare_type type)
{
    for (unsigned m = 0; m < member_count; m++) {
        if (peers[m] != NULL) {
            say(m, type, 0);
        }
    }
}

static void count_done(uint32_t hold_us)
{
    done++;
    hold_us_max = hold_us > hold_us_max ? hold_us : hold_us_max;
}

static void let_go_if_all_hold(void)
{
    if (!holding || heard < member_count - 1) {
        return;
    }
    uint32_t hold_us = (uint32_t)(clock_mono_us() - held_us);
    holding = false;
    heard = 0;
    if (self == 0) {
        count_done(hold_us);
    } else {
        say(0, DONE, hold_us);
    }
}

static void hold(void)
{
    held_us = clock_mono_us();
    holding = true;
    say_all(HELD);
    let_go_if_all_hold();
}

static void serve(void)
{
    struct epoll_event ready[64];
    int count = epoll_wait(ready_fd, ready, 64, -1);
    for (int i = 0; i < count; i++) {
        struct bare_frame frame;
        if (SSL_read(ready[i].data.ptr, &frame, sizeof frame) != sizeof frame) {
            _exit(0);
        }
        if (frame.type == HOLD) {
            hold();
        } else if (frame.type == HELD) {
            heard++;
            let_go_if_all_hold();
        } else {
            count_done(frame.hold_us);
        }
    }
}

static void add(unsigned peer, SSL *ssl)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = ssl};
    TIDE_CHECK(SSL_do_handshake(ssl) == 1);
    TIDE_CHECK(epoll_ctl(ready_fd, EPOLL_CTL_ADD, SSL_get_fd(ssl), &event) == 0);
    peers[peer] = ssl;
}

/* Each dials those before it, in order, and then takes in those behind it: nobody waits in a ring.
 */
static void join(const struct light_group *group, int listener)
{
    SSL_CTX *context = tls_context(light_group_identity(group, self), NULL, NULL);
    ready_fd = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned m = 0; m < self; m++) {
        add(m, bare_dial(&context, group, self, m));
    }
    for (unsigned m = self + 1; m < member_count; m++) {
        add(m,
            bare_accept(&context, listener)); /* in any order: nobody but the first needs to know */
    }
    bare_real_time();
    (void)mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
}

int main(int argc, char **argv)
{
    struct light_plan plan = {.disks = 1, .seed = (uint64_t)getpid()};
    int listeners[TIDE_MEMBERS_MAX];
    char line[64];
    policy_init(&plan.policy);
    plan.members = argc == 2 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    if (plan.members < 2 || plan.members > TIDE_MEMBERS_MAX) {
        fprintf(stderr, "usage: mesh MEMBERS: 2 to %u\n", TIDE_MEMBERS_MAX);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    member_count = plan.members;
    struct light_group *group = light_group_new(&plan);
    for (unsigned m = 0; m < member_count; m++) {
        listeners[m] = bare_listen(group, m);
    }
    for (unsigned m = 1; m < member_count; m++) {
        pid_t pid = fork();
        TIDE_CHECK(pid >= 0);
        if (pid == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            self = m;
            join(group, listeners[m]);
            for (;;) {
                serve();
            }
        }
    }
    join(group, listeners[0]);
    light_group_free(group);
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        uint64_t began = clock_mono_us();
        done = hold_us_max = 0;
        say_all(HOLD);
        hold();
        while (done < member_count) {
            serve();
        }
        printf("%u %llu\n", hold_us_max, (unsigned long long)(clock_mono_us() - began));
        fflush(stdout);
    }
    _exit(0);
}
