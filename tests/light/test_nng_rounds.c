/* SPDX-License-Identifier: Apache-2.0 */
/* A member whose link is libnng's takes part in rounds: three members with links of ours, all of
 * them candidates, and a fourth that has a libnng BUS socket instead, with one relay (nng_relay.h)
 * to each of the three. Behind the socket are the member machine and the gate that every member
 * has. A BUS says everything to everybody: the three pass over what is not for them. */
#include "tests/contract/nng_relay.h"
#include "tests/light/light.h"

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/log.h"
#include "common/wire/envelope.h"

#include <nng/nng.h>
#include <nng/protocol/bus0/bus.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MEMBERS  4U
#define OURS     3U /* the fourth is nng's */
#define ROUNDS   5U
#define LIMIT_US 20000000U
#define LOOK_US  2000U

struct rig {
    struct light_group *group;
    struct loop *loop;
    struct light_member *members[MEMBERS];
    nng_socket bus;
    struct loop_watch readable;
    unsigned pipes;
    unsigned heard[MSG_TAKEN + 1]; /* by nng, for its member, by type */
    unsigned said[MSG_TAKEN + 1];
    unsigned sealed; /* rounds that the first member led, whole */
    unsigned failed;
};

/* ---- the member behind nng ---- */

static void bus_say(void *arg, const struct definition_member *to, const struct msg *msg)
{
    struct rig *rig = arg;
    uint8_t bytes[TIDE_ENVELOPE_SIZE_MAX];
    (void)to; /* the envelope says it */
    size_t size = envelope_encode(msg, bytes);
    assert_int_equal(nng_send(rig->bus, bytes, size, NNG_FLAG_NONBLOCK), 0);
    rig->said[msg->type]++;
}

static void bus_hear(void *arg, unsigned ready)
{
    struct rig *rig = arg;
    static struct msg msg;
    uint8_t *bytes = NULL;
    size_t size = 0;
    struct err err;
    (void)ready;
    while (nng_recv(rig->bus, &bytes, &size, NNG_FLAG_ALLOC | NNG_FLAG_NONBLOCK) == 0) {
        if (envelope_decode(bytes, size, &msg, &err) != 0) {
            fail_msg("%s", err.text);
        }
        nng_free(bytes, size);
        rig->heard[msg.type]++;
        light_member_feed(rig->members[OURS], &msg);
    }
}

static void pipe_added(void *arg)
{
    struct rig *rig = arg;
    rig->pipes++;
    for (unsigned m = 0; rig->pipes == OURS && m < OURS; m++) {
        light_member_link(rig->members[OURS], m, true);
    }
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct rig *rig = arg;
    struct err err;
    (void)pipe;
    (void)event;
    TIDE_CHECK(loop_post(rig->loop, pipe_added, rig, &err) == 0);
}

static SSL_CTX *context_of(const struct light_group *group, unsigned member)
{
    char path[160];
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    assert_non_null(context);
    snprintf(path, sizeof path, "%s.crt", light_group_cert(group, member));
    assert_int_equal(SSL_CTX_use_certificate_chain_file(context, path), 1);
    snprintf(path, sizeof path, "%s.key", light_group_cert(group, member));
    assert_int_equal(SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM), 1);
    return context;
}

static void bus_open(struct rig *rig, struct address *ret_at)
{
    nng_listener listener;
    nng_sockaddr at;
    struct loop *loop = rig->loop;
    int fd = -1;
    assert_int_equal(nng_bus0_open(&rig->bus), 0);
    assert_int_equal(nng_socket_set_int(rig->bus, NNG_OPT_RECVBUF, 256), 0);
    assert_int_equal(nng_socket_set_int(rig->bus, NNG_OPT_SENDBUF, 256), 0);
    assert_int_equal(nng_pipe_notify(rig->bus, NNG_PIPE_EV_ADD_POST, on_pipe, rig), 0);
    assert_int_equal(nng_listen(rig->bus, "tcp://127.0.0.1:0", &listener, 0), 0);
    assert_int_equal(nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &at), 0);
    *ret_at = (struct address){.size = sizeof ret_at->v4};
    ret_at->v4.sin_family = AF_INET;
    ret_at->v4.sin_addr.s_addr = at.s_in.sa_addr;
    ret_at->v4.sin_port = at.s_in.sa_port;
    assert_int_equal(nng_socket_get_int(rig->bus, NNG_OPT_RECVFD, &fd), 0);
    loop_watch_init(&rig->readable, loop, fd, bus_hear, rig);
    loop_watch_set(&rig->readable, LOOP_READ);
}

/* ---- what is waited for ---- */

static void on_round(void *arg, unsigned member, const struct leader_round *round)
{
    struct rig *rig = arg;
    if (member != 0 || !round->own) {
        return;
    }
    rig->sealed += round->sum.sealed_by_all && round->full && round->set_members == MEMBERS;
    rig->failed += !round->sum.sealed_by_all;
    if (!round->sum.sealed_by_all) {
        print_message("round: %s at %s: %s\n", round_reason_name(round->sum.reason),
                      round->sum.member.s, round->sum.text);
    }
}

struct look {
    struct rig *rig;
    struct loop_timer timer;
    bool (*met)(const struct rig *rig);
    uint64_t until;
};

static void on_look(void *arg)
{
    struct look *look = arg;
    uint64_t now = clock_mono_us();
    if (look->met(look->rig) || now >= look->until) {
        loop_stop(look->rig->loop);
    } else {
        loop_timer_set(&look->timer, now + LOOK_US);
    }
}

static void run_until(struct rig *rig, bool (*met)(const struct rig *rig), const char *what)
{
    struct look look = {.rig = rig, .met = met, .until = clock_mono_us() + LIMIT_US};
    loop_timer_init(&look.timer, rig->loop, on_look, &look);
    loop_timer_set(&look.timer, 0);
    loop_run(rig->loop);
    loop_timer_close(&look.timer);
    if (!met(rig)) {
        fail_msg("not within %u s: %s", LIMIT_US / 1000000, what);
    }
}

static bool all_heard(const struct rig *rig)
{
    return light_member_leads(rig->members[0]) == 0 &&
           light_member_reach(rig->members[0]) == MEMBERS &&
           light_member_leads(rig->members[OURS]) == 0;
}

static bool round_over(const struct rig *rig)
{
    return rig->sealed + rig->failed > 0;
}

/* The last sum may be on its way when the leader is done. */
static bool sums_heard(const struct rig *rig)
{
    return rig->heard[MSG_SUM] >= ROUNDS;
}

static void libnng_takes_part_in_rounds(void **state)
{
    struct light_plan plan = {.members = MEMBERS, .disks = 2, .seed = 3};
    struct rig rig = {.loop = loop_new()};
    struct nng_relay *relays[OURS];
    struct address nng;
    unsigned sealed = 0;
    (void)state;
    policy_init(&plan.policy);
    plan.policy.interval_ms = TIDE_INTERVAL_MS_MAX;
    plan.policy.hold_us_max = TIDE_GATE_CAP_MAX_US;
    rig.group = light_group_new(&plan);
    const struct light_calls ours = {.round = on_round, .arg = &rig};
    const struct light_calls carried = {.carry = bus_say, .arg = &rig};
    for (unsigned m = 0; m < MEMBERS; m++) {
        rig.members[m] = light_member_new(rig.group, m, rig.loop, m < OURS ? &ours : &carried);
    }
    bus_open(&rig, &nng);
    for (unsigned m = 0; m < OURS; m++) {
        struct address link;
        struct err err;
        assert_int_equal(address_parse(light_group_definition(rig.group)->members[m].address, false,
                                       &link, &err),
                         0);
        relays[m] = nng_relay_new(context_of(rig.group, OURS), &link, &nng);
    }
    run_until(&rig, all_heard, "all hear each other, nng's member too");
    for (unsigned i = 0; i < ROUNDS * 4 && sealed < ROUNDS; i++) { /* busy machines lose rounds */
        rig.sealed = rig.failed = 0;
        light_member_take(rig.members[i % 2 == 0 ? 0 : OURS]); /* both ask for rounds */
        run_until(&rig, round_over, "a round");
        sealed += rig.sealed;
    }
    assert_int_equal(sealed, ROUNDS);
    run_until(&rig, sums_heard, "a sum of each round");
    print_message("nng heard %u HOLD, %u RELEASE, %u SUM, said %u HELD, %u SEALED, %u TAKE\n",
                  rig.heard[MSG_HOLD], rig.heard[MSG_RELEASE], rig.heard[MSG_SUM],
                  rig.said[MSG_HELD], rig.said[MSG_SEALED], rig.said[MSG_TAKE]);
    assert_true(rig.heard[MSG_HOLD] >= ROUNDS && rig.heard[MSG_RELEASE] >= ROUNDS);
    assert_true(rig.said[MSG_TAKE] > 0);
    assert_true(rig.said[MSG_HELD] >= ROUNDS && rig.said[MSG_SEALED] >= ROUNDS);

    struct align *align = light_align(rig.group, rig.members);
    unsigned points = 0;
    for (size_t i = 0; i < align_count(align); i++) {
        const struct align_round *round = align_at(align, i);
        points += round->answer == ROUND_ANSWER_YES && !round->partial &&
                  round->entry_count == plan.disks * MEMBERS;
    }
    assert_int_equal(points, ROUNDS);
    align_free(align);
    for (unsigned m = 0; m < OURS; m++) {
        nng_relay_free(relays[m]);
    }
    loop_watch_close(&rig.readable);
    for (unsigned m = 0; m < MEMBERS; m++) {
        light_member_free(rig.members[m]);
    }
    loop_free(rig.loop);
    light_group_free(rig.group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(libnng_takes_part_in_rounds)};
    (void)signal(SIGPIPE, SIG_IGN);
    log_start("test_nng_rounds", LOG_LEVEL_ERROR);
    int status = cmocka_run_group_tests(tests, NULL, NULL);
    fflush(NULL);
    _exit(status); /* libnng's socket is left: closing busy ones can hang */
}
