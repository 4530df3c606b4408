/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark-participant: the daemon that stands for one or several members of replication groups. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/daemon.h"
#include "common/io/file.h"
#include "common/io/log.h"
#include "participant/commands.h"
#include "participant/comparer.h"
#include "participant/control.h"
#include "participant/events.h"
#include "participant/holder.h"
#include "participant/settings.h"
#include "participant/shipper.h"
#include "participant/signer.h"

#define PROGRAM     "tidemark-participant"
#define STOP_US     5000000U
#define SKEW_MS_MAX 1000U
#define DISK_NAME   (3 * (TIDE_NAME_MAX + 1)) /* GROUP/MEMBER/DISK */

enum {
    KEY_CHECK = 0x100,
    KEY_NO_HOLD,
    KEY_SKEW,
    KEY_SEED,
};

struct arguments {
    const char *config;
    bool check;
    bool unsafe_no_hold;
    uint32_t skew_ms;
    uint64_t seed;
};

struct daemon {
    struct arguments arguments;
    struct settings settings;
    struct tls_identity *identity;
    struct loop *loop;
    struct daemon_signals signals;
    struct daemon_renewal renewal;
    int lock_fd;
    struct events *events;
    struct holder *holder;
    struct signer *signer;
    struct control *control;
    struct shipper *shippers;
    struct comparer *comparer;
    struct throttle *throttle;
    struct commands commands;
    struct local_server *local;
};

const char *argp_program_version = PROGRAM " " TIDE_VERSION;

static const struct argp_option options[] = {
    {"config", 'c', "FILE", 0, "configuration file (INI)", 0},
    {"check-config", KEY_CHECK, NULL, 0, "check the configuration and the files it names, and end",
     0},
    {"unsafe-no-hold", KEY_NO_HOLD, NULL, 0,
     "TEST SWITCH: bookmarks without a hold; points are labelled unaligned", 1},
    {"test-hold-skew-ms", KEY_SKEW, "N", 0,
     "TEST SWITCH: wait 0 to N ms, drawn anew for each round, before acting on a HOLD", 1},
    {"test-seed", KEY_SEED, "S", 0, "TEST SWITCH: seed of what test switches draw", 1},
    {0},
};

static uint64_t number(struct argp_state *state, const char *what, const char *text, uint64_t max)
{
    char *end = NULL;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || value > max) {
        argp_error(state, "%s: \"%s\" is not a number of 0 to %llu", what, text,
                   (unsigned long long)max);
    }
    return value;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    switch (key) {
    case 'c':
        a->config = arg;
        return 0;
    case KEY_CHECK:
        a->check = true;
        return 0;
    case KEY_NO_HOLD:
        a->unsafe_no_hold = true;
        return 0;
    case KEY_SKEW:
        a->skew_ms = (uint32_t)number(state, "--test-hold-skew-ms", arg, SKEW_MS_MAX);
        return 0;
    case KEY_SEED:
        a->seed = number(state, "--test-seed", arg, UINT64_MAX - 1);
        return 0;
    case ARGP_KEY_END:
        if (a->config == NULL) {
            argp_error(state, "a configuration file is needed: -c FILE");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    options,
    parse,
    NULL,
    "Stands for this machine in its replication groups: takes bookmarks together with the other "
    "members, and ships the changes of its disks to the coordinator.",
    NULL,
    NULL,
    NULL};

static void say_switches(const struct arguments *a)
{
    if (a->unsafe_no_hold) {
        fprintf(stderr,
                "%s: TEST SWITCH --unsafe-no-hold is on: writes are not held, and no "
                "bookmark of this daemon becomes a recovery point\n",
                PROGRAM);
    }
    if (a->skew_ms > 0) {
        fprintf(stderr,
                "%s: TEST SWITCH --test-hold-skew-ms is on: each HOLD waits 0 to %u ms, seed "
                "%llu\n",
                PROGRAM, a->skew_ms, (unsigned long long)a->seed);
    }
}

static int load(struct daemon *d, struct err *err)
{
    const struct settings *s = &d->settings;
    if (settings_load(d->arguments.config, &d->settings, err) != 0 ||
        tls_identity_load(s->identity_cert, s->identity_key, s->ca, &d->identity, err) != 0) {
        return -1;
    }
    if (tls_identity_name(d->identity)->role != TLS_PARTICIPANT) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "certificate \"%s\" names %s, which is not a participant; issue one with "
                       "tidemark pki issue --participant",
                       s->identity_cert, tls_identity_uri(d->identity));
    }
    return 0;
}

/* The state folder, for this process alone. */
static int claim_state(struct daemon *d, struct err *err)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/streams", d->settings.state);
    if (file_mkdirs(path, 0700, err) != 0) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/lock", d->settings.state);
    d->lock_fd = file_lock(path, err);
    return d->lock_fd < 0 ? err_wrap(err, "is another daemon running with this state folder?") : 0;
}

static void disk_name(const struct settings *s, unsigned disk, char ret[DISK_NAME])
{
    const struct settings_member *member = &s->members[s->disks[disk].member];
    snprintf(ret, DISK_NAME, "%s/%s/%s", member->group.s, member->name.s, s->disks[disk].name.s);
}

static int start_comparer(struct daemon *d, struct err *err)
{
    const struct settings *s = &d->settings;
    struct comparer_disk *disks = calloc(s->disk_count, sizeof *disks);
    char(*names)[DISK_NAME] = calloc(s->disk_count, sizeof *names);
    uint64_t seed;
    TIDE_CHECK(disks != NULL && names != NULL);
    file_random(&seed, sizeof seed);
    for (unsigned i = 0; i < s->disk_count; i++) {
        disk_name(s, i, names[i]);
        disks[i] = (struct comparer_disk){holder_port(d->holder, i), names[i]};
    }
    int result = comparer_start(s, d->identity, disks, s->disk_count, seed, &d->comparer, err);
    free(disks);
    free(names);
    return result;
}

static int start(struct daemon *d, struct err *err)
{
    const struct settings *s = &d->settings;
    d->events = events_new(s);
    struct holder_options holder = {.settings = s,
                                    .identity = d->identity,
                                    .events = d->events,
                                    .unsafe_no_hold = d->arguments.unsafe_no_hold,
                                    .hold_skew_us = d->arguments.skew_ms * CLOCK_US_PER_MS,
                                    .seed = d->arguments.seed};
    if (holder_new(&holder, &d->holder, err) != 0) {
        return -1;
    }
    d->signer = signer_new(d->identity, holder_attest, d->holder);
    holder_set_signer(d->holder, d->signer);
    d->shippers = calloc(s->disk_count, sizeof *d->shippers);
    TIDE_CHECK(d->shippers != NULL);
    d->throttle = throttle_new(&s->bandwidth);
    for (unsigned i = 0; i < s->disk_count; i++) {
        uint64_t seed;
        file_random(&seed, sizeof seed);
        if (shipper_start(&d->shippers[i], s, d->identity, d->throttle, holder_port(d->holder, i),
                          d->events, i, seed, err) != 0) {
            return -1;
        }
    }
    if (start_comparer(d, err) != 0) {
        return -1;
    }
    if (control_new(s, d->identity, d->holder, &d->control, err) != 0) {
        return -1;
    }
    d->commands = (struct commands){.settings = s,
                                    .identity = d->identity,
                                    .events = d->events,
                                    .holder = d->holder,
                                    .control = d->control,
                                    .shippers = d->shippers,
                                    .comparer = d->comparer,
                                    .signer = d->signer,
                                    .unsafe_no_hold = d->arguments.unsafe_no_hold,
                                    .hold_skew_us = holder.hold_skew_us,
                                    .seed = d->arguments.seed};
    return local_server_new(s->local, commands_answer, &d->commands, &d->local, err);
}

static void on_end(void *arg)
{
    struct daemon *d = arg;
    loop_stop(d->loop);
}

/* Everything at once, then what is left is given up when the time is over. */
static int stop(struct daemon *d)
{
    uint64_t deadline = clock_mono_us() + STOP_US;
    bool all = true;
    daemon_notify("STOPPING=1");
    control_stop(d->control);
    comparer_stop(d->comparer);
    for (unsigned i = 0; i < d->settings.disk_count; i++) {
        shipper_stop(&d->shippers[i]);
    }
    all = control_join(d->control, deadline) && all;
    for (unsigned i = 0; i < d->settings.disk_count; i++) {
        all = shipper_join(&d->shippers[i], deadline) && all;
    }
    /* What commands look at is not freed: one may be under way until the process ends. */
    all = comparer_join(d->comparer, deadline) && all;
    holder_set_signer(d->holder, NULL);
    all = holder_stop(d->holder, deadline) && all;
    log_info("ended%s", all ? "" : ", with a thread still busy");
    return 0;
}

int main(int argc, char **argv)
{
    static struct daemon d;
    struct err err = {0};
    daemon_init();
    d.arguments.seed = 1;
    argp_parse(&argp, argc, argv, 0, NULL, &d.arguments);
    int result = load(&d, &err);
    if (d.arguments.check) {
        return daemon_check_config(PROGRAM, d.arguments.config, result == 0 ? NULL : &err);
    }
    if (result != 0 || claim_state(&d, &err) != 0) {
        return daemon_fail(PROGRAM, &err);
    }
    say_switches(&d.arguments);
    d.loop = loop_new();
    daemon_signals_init(&d.signals, d.loop, on_end, &d);
    daemon_renewal_init(&d.renewal, d.loop);
    daemon_renewal_begin(&d.renewal, d.identity);
    log_start(PROGRAM, LOG_LEVEL_INFO);
    if (start(&d, &err) != 0) {
        log_stop();
        daemon_exit(daemon_fail(PROGRAM, &err)); /* threads may run already */
    }
    log_info("%s of %u members and %u disks is ready", tls_identity_uri(d.identity),
             d.settings.member_count, d.settings.disk_count);
    daemon_notify("READY=1");
    loop_run(d.loop);
    daemon_exit(stop(&d));
}
