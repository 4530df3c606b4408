/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/light/light.h"

#include "common/core/check.h"
#include "common/core/prng.h"
#include "common/io/clock.h"
#include "common/io/file.h"
#include "common/io/pki.h"
#include "participant/router.h"
#include "participant/seat.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SITE        "light"
#define PATH_ROOM   128
#define ANSWERS_MAX 16U /* 2 of each disk twice over */

struct light_group {
    struct light_plan plan;
    char folder[64];
    struct definition definition;
};

struct answer {
    unsigned disk;
    struct tapctl message;
};

struct light_member {
    const struct light_group *group;
    unsigned index;
    struct light_calls calls;
    struct loop *loop;
    struct loop_timer wake;
    struct settings settings;
    struct tls_identity *identity;
    struct seat *seat;
    struct seat *seats[1]; /* for the router */
    struct router *router; /* NULL with carry */
    struct lighttap *taps[LIGHT_DISKS_MAX];
    unsigned answer_count;
    struct answer answers[ANSWERS_MAX]; /* of the taps, not yet fed */
    bool let_go;
};

/* ---- the group ---- */

static struct id draw_id(struct prng *prng)
{
    struct id id;
    for (unsigned i = 0; i < TIDE_ID_SIZE; i += 8) {
        uint64_t bits = prng_next(prng);
        memcpy(id.b + i, &bits, 8);
    }
    id.b[0] |= 1; /* never zero */
    return id;
}

static void define(struct light_group *group)
{
    const struct light_plan *plan = &group->plan;
    struct definition *d = &group->definition;
    struct prng prng;
    struct name name;
    struct err err;
    unsigned pid = (unsigned)getpid();
    prng_init(&prng, plan->seed);
    struct id id = draw_id(&prng);
    TIDE_CHECK(name_parse("crowd", &name));
    definition_init(d, &id, &name, 1);
    for (unsigned m = 0; m < plan->members; m++) {
        struct definition_member member = {0};
        char text[TIDE_NAME_MAX + 1];
        snprintf(text, sizeof text, "m%03u", m);
        TIDE_CHECK(name_parse(text, &member.name));
        snprintf(member.identity, sizeof member.identity, "spiffe://" SITE "/participant/%s", text);
        snprintf(member.address, sizeof member.address, "127.%u.%u.%u:20004", 5 + pid / 125 % 90,
                 pid % 125 * 2 + m / 200, m % 200 + 11);
        TIDE_CHECK(definition_add_member(d, &member, &err) == 0);
        for (unsigned i = 0; i < plan->disks; i++) {
            struct definition_disk disk = {.stream = draw_id(&prng),
                                           .timeline = draw_id(&prng),
                                           .disk = draw_id(&prng),
                                           .size = 1U << 20,
                                           .block_size = 4096};
            snprintf(disk.name.s, sizeof disk.name.s, "d%u", i);
            TIDE_CHECK(definition_add_disk(d, &disk, &err) == 0);
        }
    }
    TIDE_CHECK(definition_check(d, &err) == 0);
    for (unsigned i = 0; i < TIDE_HASH_SIZE; i += 8) {
        uint64_t bits = prng_next(&prng);
        memcpy(d->epoch.hash.b + i, &bits, 8);
    }
}

struct light_group *light_group_new(const struct light_plan *plan)
{
    struct light_group *group = calloc(1, sizeof *group);
    struct err err;
    TIDE_CHECK(group != NULL);
    TIDE_CHECK(plan->members >= 1 && plan->members <= TIDE_MEMBERS_MAX);
    TIDE_CHECK(plan->disks >= 1 && plan->disks <= LIGHT_DISKS_MAX);
    group->plan = *plan;
    define(group);
    snprintf(group->folder, sizeof group->folder, "/tmp/tide-light-XXXXXX");
    TIDE_CHECK(mkdtemp(group->folder) != NULL);
    char ca[PATH_ROOM];
    snprintf(ca, sizeof ca, "%s/site", group->folder);
    if (pki_init(ca, SITE, &err) != 0) {
        check_failed(err.text, __FILE__, __LINE__);
    }
    for (unsigned m = 0; m < plan->members; m++) {
        if (pki_issue(ca, "participant", group->definition.members[m].name.s, NULL, 0, NULL, 0, 5,
                      light_group_cert(group, m), NULL, &err) != 0) {
            check_failed(err.text, __FILE__, __LINE__);
        }
    }
    return group;
}

static int unlink_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
    (void)status;
    (void)type;
    (void)at;
    return remove(path);
}

void light_group_free(struct light_group *group)
{
    if (group != NULL) {
        (void)nftw(group->folder, unlink_one, 8, FTW_DEPTH | FTW_PHYS);
        free(group);
    }
}

const struct definition *light_group_definition(const struct light_group *group)
{
    return &group->definition;
}

const struct light_plan *light_group_plan(const struct light_group *group)
{
    return &group->plan;
}

static char *rotating(void)
{
    static _Thread_local char path[8][PATH_ROOM];
    static _Thread_local unsigned next;
    return path[next++ % 8];
}

const char *light_group_cert(const struct light_group *group, unsigned member)
{
    char *path = rotating();
    snprintf(path, PATH_ROOM, "%s/%s", group->folder, group->definition.members[member].name.s);
    return path;
}

const char *light_group_ca(const struct light_group *group)
{
    char *path = rotating();
    snprintf(path, PATH_ROOM, "%s/site/ca.crt", group->folder);
    return path;
}

struct tls_identity *light_group_identity(const struct light_group *group, unsigned member)
{
    struct tls_identity *identity = NULL;
    struct err err;
    char cert[PATH_ROOM + 8];
    char key[PATH_ROOM + 8];
    snprintf(cert, sizeof cert, "%s.crt", light_group_cert(group, member));
    snprintf(key, sizeof key, "%s.key", light_group_cert(group, member));
    if (tls_identity_load(cert, key, light_group_ca(group), &identity, &err) != 0) {
        check_failed(err.text, __FILE__, __LINE__);
    }
    return identity;
}

/* ---- a member ---- */

static void put_answers(struct light_member *m, unsigned disk, const struct tapctl *messages,
                        unsigned count)
{
    TIDE_CHECK(m->answer_count + count <= ANSWERS_MAX);
    for (unsigned i = 0; i < count; i++) {
        m->answers[m->answer_count].disk = disk;
        m->answers[m->answer_count++].message = messages[i];
        m->let_go = m->let_go || messages[i].type == TAPCTL_SEALED;
    }
}

static void feed_answers(struct light_member *m)
{
    for (unsigned i = 0; i < m->answer_count; i++) { /* feeding may append */
        seat_tap_message(m->seat, m->answers[i].disk, &m->answers[i].message, clock_mono_us());
    }
    m->answer_count = 0;
}

/* As the holder's: after whatever was fed. */
static void settle(void *arg)
{
    struct light_member *m = arg;
    uint64_t wake;
    do {
        feed_answers(m);
        if (m->router != NULL) {
            router_drain(m->router);
        }
    } while (m->answer_count > 0);
    if (m->let_go && m->calls.let_go != NULL) {
        m->let_go = false;
        m->calls.let_go(m->calls.arg, m->index);
    }
    wake = seat_wake_us(m->seat);
    for (unsigned i = 0; i < m->group->plan.disks; i++) {
        uint64_t due = lighttap_wake_us(m->taps[i]);
        wake = due < wake ? due : wake;
    }
    if (wake == UINT64_MAX) {
        loop_timer_clear(&m->wake);
    } else {
        loop_timer_set(&m->wake, wake);
    }
}

static void tick_tap(struct light_member *m, unsigned disk, uint64_t now_us)
{
    struct tapctl answers[LIGHTTAP_ANSWERS_MAX];
    put_answers(m, disk, answers, lighttap_tick(m->taps[disk], now_us, answers));
}

static void on_wake(void *arg)
{
    struct light_member *m = arg;
    for (unsigned i = 0; i < m->group->plan.disks; i++) {
        tick_tap(m, i, clock_mono_us());
    }
    seat_tick(m->seat, clock_mono_us());
    settle(m);
}

static void seat_send(void *arg, struct seat *seat, const struct definition_member *to,
                      const struct msg *msg)
{
    struct light_member *m = arg;
    (void)seat;
    if (m->router == NULL) {
        m->calls.carry(m->calls.arg, to, msg);
    } else {
        router_send(m->router, to, msg);
    }
}

static void seat_order(void *arg, unsigned disk, struct tapctl *message)
{
    struct light_member *m = arg;
    struct tapctl answers[LIGHTTAP_ANSWERS_MAX];
    put_answers(m, disk, answers, lighttap_order(m->taps[disk], message, clock_mono_us(), answers));
}

static void seat_attest(void *arg, unsigned disk, const struct statement *statement)
{
    (void)arg;
    (void)disk;
    (void)statement;
}

static void seat_round(void *arg, struct seat *seat, const struct leader_round *round)
{
    struct light_member *m = arg;
    (void)seat;
    if (m->calls.round != NULL) {
        m->calls.round(m->calls.arg, m->index, round);
    }
}

static void seat_lacks(void *arg, struct seat *seat, const struct leader_lack *lack)
{
    (void)arg;
    (void)seat;
    (void)lack;
}

static void seat_taken(void *arg, struct seat *seat, const struct msg_taken *taken)
{
    struct light_member *m = arg;
    (void)seat;
    if (m->calls.taken != NULL) {
        m->calls.taken(m->calls.arg, m->index, taken);
    }
}

/* What the configuration file of such a daemon would say. */
static void set_up(struct light_member *m)
{
    const struct definition *d = &m->group->definition;
    const struct definition_member *self = &d->members[m->index];
    struct settings *s = &m->settings;
    struct err err;
    TIDE_CHECK(address_parse(self->address, false, &s->listen, &err) == 0);
    s->member_count = 1;
    s->members[0] = (struct settings_member){.group = d->group_name, .name = self->name};
    s->disk_count = self->disk_count;
    for (unsigned i = 0; i < self->disk_count; i++) {
        s->disks[i].name = d->disks[self->disk_first + i].name;
        m->taps[i] = lighttap_new(&d->disks[self->disk_first + i], TIDE_GATE_CAP_MAX_US);
    }
}

static void attach(struct light_member *m)
{
    for (unsigned i = 0; i < m->settings.disk_count; i++) {
        const struct definition *d = &m->group->definition;
        struct member_tap tap = {.attached = true,
                                 .stream = d->disks[d->members[m->index].disk_first + i].stream,
                                 .incarnation = lighttap_incarnation(m->taps[i]),
                                 .whole = true,
                                 .logging = true};
        seat_tap(m->seat, i, &tap, clock_mono_us());
    }
}

static void link_up(struct light_member *m)
{
    struct router_options options = {.loop = m->loop,
                                     .identity = m->identity,
                                     .listen = m->settings.listen,
                                     .seats = m->seats,
                                     .seat_count = 1,
                                     .settings = &m->settings,
                                     .settled = settle,
                                     .arg = m};
    struct err err;
    if (router_new(&options, &m->router, &err) != 0) {
        check_failed(err.text, __FILE__, __LINE__);
    }
}

struct light_member *light_member_new(const struct light_group *group, unsigned index,
                                      struct loop *loop, const struct light_calls *calls)
{
    struct light_member *m = calloc(1, sizeof *m);
    const struct light_plan *plan = &group->plan;
    TIDE_CHECK(m != NULL && index < plan->members);
    m->group = group;
    m->index = index;
    m->loop = loop;
    m->calls = *calls;
    m->identity = light_group_identity(group, index);
    set_up(m);
    struct seat_options seat = {
        .settings = &m->settings,
        .identity = tls_identity_uri(m->identity),
        .unsafe_no_hold = plan->unsafe_no_hold,
        .hold_skew_us = plan->hold_skew_us,
        .hold_skew_seed = plan->seed,
        .calls = {seat_send, seat_order, seat_attest, seat_round, seat_lacks, seat_taken},
        .arg = m};
    while (seat.incarnation == 0) {
        file_random(&seat.incarnation, sizeof seat.incarnation);
    }
    m->seat = m->seats[0] = seat_new(&seat);
    loop_timer_init(&m->wake, loop, on_wake, m);
    if (calls->carry == NULL) {
        link_up(m);
    }
    seat_policy(m->seat, &plan->policy, clock_mono_us());
    seat_define(m->seat, &group->definition, clock_mono_us());
    if (m->router != NULL) {
        router_set_peers(m->router);
    }
    attach(m);
    settle(m);
    return m;
}

void light_member_free(struct light_member *m)
{
    if (m == NULL) {
        return;
    }
    router_free(m->router);
    loop_timer_close(&m->wake);
    seat_free(m->seat);
    tls_identity_free(m->identity);
    for (unsigned i = 0; i < m->settings.disk_count; i++) {
        lighttap_free(m->taps[i]);
    }
    free(m);
}

void light_member_take(struct light_member *m)
{
    struct msg_take take = {.kind = ROUND_KIND_CRASH};
    file_random(take.request.b, sizeof take.request.b);
    seat_take(m->seat, &take, clock_mono_us());
    settle(m);
}

uint64_t light_member_write(struct light_member *m, unsigned disk, uint64_t *ret_ticket)
{
    uint64_t now = clock_mono_us();
    tick_tap(m, disk, now);
    uint64_t lsn = lighttap_write(m->taps[disk], now, ret_ticket);
    settle(m);
    return lsn;
}

void light_member_feed(struct light_member *m, const struct msg *msg)
{
    seat_message(m->seat, msg, clock_mono_us());
    settle(m);
}

void light_member_link(struct light_member *m, unsigned peer, bool up)
{
    seat_link(m->seat, peer, up, clock_mono_us());
    settle(m);
}

int light_member_leads(const struct light_member *m)
{
    return seat_leads(m->seat);
}

unsigned light_member_reach(const struct light_member *m)
{
    return seat_reach(m->seat);
}

struct lighttap *light_member_tap(const struct light_member *m, unsigned disk)
{
    TIDE_CHECK(disk < m->settings.disk_count);
    return m->taps[disk];
}

struct align *light_align(const struct light_group *group, struct light_member *const *members)
{
    const struct definition *d = &group->definition;
    struct err err;
    struct align *align = align_new(&d->group, true, TIDE_ALIGN_ROUNDS);
    TIDE_CHECK(align != NULL && align_define(align, d, &err) == 0);
    for (unsigned i = 0; i < d->disk_count; i++) {
        unsigned member = d->disks[i].member;
        size_t count = 0;
        const struct record *records =
            lighttap_records(members[member]->taps[i - d->members[member].disk_first], &count);
        for (size_t k = 0; k < count; k++) {
            TIDE_CHECK(align_feed(align, &records[k], &err) == 0);
        }
    }
    return align;
}
