/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark participant status: what the participant daemon on this machine knows and does. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/io/local.h"
#include "coordinator/cli/cli.h"

#define TIMEOUT_MS 5000U
#define CELL       64
#define HOLDS_MAX  16 /* members of a group whose holds are shown */

enum {
    KEY_LOCAL = 0x100,
};

struct status_options {
    enum cli_output output;
    const char *local;
};

static error_t status_option(int key, char *arg, struct argp_state *state)
{
    struct status_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->output;
        return 0;
    case KEY_LOCAL:
        o->local = arg;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\": no argument is expected", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static uint64_t number_of(const json_t *object, const char *key)
{
    json_int_t number = json_integer_value(json_object_get(object, key));
    return number < 0 ? 0 : (uint64_t)number;
}

static bool is_set(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

static char *milliseconds(uint64_t us, char ret[CELL])
{
    snprintf(ret, CELL, "%" PRIu64 ".%01" PRIu64 " ms", us / 1000, us % 1000 / 100);
    return ret;
}

static void print_head(const json_t *status)
{
    const json_t *switches = json_object_get(status, "switches");
    const json_t *registration = json_object_get(status, "registration");
    printf("%s, link %s, coordinator %s (%s)\n", cli_text(status, "identity"),
           cli_text(status, "listen"), cli_text(status, "coordinator"),
           is_set(registration, "reached") ? "reached" : "not reached");
    if (cli_text(registration, "error")[0] != '\0') {
        printf("registration: %s\n", cli_text(registration, "error"));
    }
    if (is_set(switches, "unsafe_no_hold")) {
        printf("TEST SWITCH: nothing is held; no bookmark becomes a recovery point\n");
    }
    if (number_of(switches, "hold_skew_ms") > 0) {
        printf("TEST SWITCH: each HOLD waits 0 to %" PRIu64 " ms, seed %" PRIu64 "\n",
               number_of(switches, "hold_skew_ms"), number_of(switches, "seed"));
    }
    printf("\n");
}

/* What keeps a peer from taking part, or what it is. */
static const char *peer_state(const json_t *peer)
{
    if (is_set(peer, "own")) {
        return "here";
    }
    if (!is_set(peer, "linked")) {
        return "not linked: neither is a candidate to lead";
    }
    if (!is_set(peer, "up")) {
        return "no link";
    }
    return is_set(peer, "heard") ? "up" : "linked, silent";
}

/* "group"; or what there is instead, and why: "single-vm: missing at db". */
static void points_text(const json_t *member, char *to, size_t size)
{
    const json_t *lack = json_object_get(member, "lack");
    const char *at = lack == NULL ? "" : cli_text(lack, "member");
    const char *reason = lack == NULL ? "" : cli_text(lack, "reason");
    snprintf(to, size, "%s%s%s%s%s", cli_text(member, "points"), reason[0] != '\0' ? ": " : "",
             reason, at[0] != '\0' ? " at " : "", at);
}

/* Of each group here: how long each of its members held, and what is expected of it. */
static int print_holds(const json_t *status)
{
    static const char *const titles[] = {"HOLDS OF", ">COUNT",    ">P50", ">P99",
                                         ">MAX",     ">EXPECTED", ""};
    struct cli_table *table = cli_table_new(7, titles);
    size_t i;
    size_t k;
    json_t *member;
    json_t *peer;
    json_array_foreach(json_object_get(status, "members"), i, member)
    {
        json_array_foreach(json_object_get(member, "peers"), k, peer)
        {
            const json_t *holds = json_object_get(peer, "holds");
            bool known = json_is_integer(json_object_get(peer, "expected_us"));
            char name[160];
            char count[CELL];
            char p50[CELL];
            char p99[CELL];
            char max[CELL];
            char expected[CELL] = "-";
            if (!json_is_object(holds) || (k >= HOLDS_MAX && !is_set(peer, "slow"))) {
                continue; /* the rest is in -o json */
            }
            snprintf(name, sizeof name, "%s/%s", cli_text(member, "group"),
                     cli_text(peer, "member"));
            snprintf(count, sizeof count, "%" PRIu64, number_of(holds, "count"));
            const char *const cells[] = {
                name,
                count,
                milliseconds(number_of(holds, "p50_us"), p50),
                milliseconds(number_of(holds, "p99_us"), p99),
                milliseconds(number_of(holds, "max_us"), max),
                known ? milliseconds(number_of(peer, "expected_us"), expected) : expected,
                is_set(peer, "slow") ? "slow: left out of rounds" : ""};
            cli_table_add(table, cells);
        }
    }
    return cli_table_print(table);
}

static int print_members(const json_t *status)
{
    static const char *const titles[] = {"MEMBER",    "EPOCH",  "LEADER", ">REACH",
                                         ">INTERVAL", "POINTS", "PEERS"};
    struct cli_table *table = cli_table_new(7, titles);
    size_t i;
    json_t *member;
    json_array_foreach(json_object_get(status, "members"), i, member)
    {
        char name[160];
        char epoch[CELL];
        char reach[CELL];
        char interval[CELL];
        char points[160];
        char peers[512] = "";
        size_t used = 0;
        size_t k;
        json_t *peer;
        json_array_foreach(json_object_get(member, "peers"), k, peer)
        {
            int n = snprintf(peers + used, sizeof peers - used, "%s%s: %s", used > 0 ? "; " : "",
                             cli_text(peer, "member"), peer_state(peer));
            if (n < 0 || (size_t)n >= sizeof peers - used) {
                break; /* the rest is in -o json */
            }
            used += (size_t)n;
        }
        snprintf(name, sizeof name, "%s/%s", cli_text(member, "group"), cli_text(member, "member"));
        snprintf(epoch, sizeof epoch, "%" PRIu64, number_of(member, "epoch"));
        snprintf(reach, sizeof reach, "%" PRIu64 "/%" PRIu64, number_of(member, "reach"),
                 number_of(member, "of"));
        uint64_t now_ms = number_of(member, "interval_now_ms");
        bool longer = now_ms > number_of(member, "interval_ms");
        snprintf(interval, sizeof interval, "%" PRIu64 " ms%s",
                 longer ? now_ms : number_of(member, "interval_ms"), longer ? " (longer)" : "");
        points_text(member, points, sizeof points);
        const char *leader = cli_text(member, "leader");
        const char *const cells[] = {name,
                                     is_set(member, "defined") ? epoch : "none yet",
                                     leader[0] != '\0' ? leader : "nobody",
                                     reach,
                                     interval,
                                     points,
                                     peers};
        cli_table_add(table, cells);
    }
    return cli_table_print(table);
}

/* Yes; or no, why, and how far its copy is. */
static void whole_text(const json_t *disk, const char *gap, char *to, size_t size)
{
    const char *copy = cli_text(disk, "copy");
    if (is_set(disk, "whole")) {
        snprintf(to, size, "yes");
        return;
    }
    int used = snprintf(to, size, "no%s%s", gap[0] != '\0' ? ": " : "", gap);
    if (used < 0 || (size_t)used >= size || copy[0] == '\0' || strcmp(copy, "none") == 0) {
        return;
    }
    to += used;
    size -= (size_t)used;
    if (strcmp(copy, "off") == 0) {
        snprintf(to, size, ", copy off");
        return;
    }
    char bytes[CLI_BYTES_TEXT];
    char second[CLI_BYTES_TEXT];
    const json_t *compared = json_object_get(disk, "compare_percent");
    const char *error = cli_text(disk, "compare_error");
    if (json_is_integer(compared)) {
        used = snprintf(to, size, ", compared %" PRIu64 " %%%s%s",
                        number_of(disk, "compare_percent"), error[0] != '\0' ? ": " : "", error);
        if (used < 0 || (size_t)used >= size) {
            return;
        }
        to += used;
        size -= (size_t)used;
    }
    uint64_t rate = number_of(disk, "copy_rate");
    bool left = json_is_integer(json_object_get(disk, "dirty_bytes"));
    bool comparing = strcmp(cli_text(disk, "state"), "comparing") == 0;
    used = snprintf(to, size, ", %s%s %" PRIu64 " %%%s%s", comparing ? "" : "copy ",
                    comparing ? "comparing" : copy, number_of(disk, "copy_percent"),
                    left ? ", left " : "",
                    left ? cli_bytes(number_of(disk, "dirty_bytes"), bytes) : "");
    if (rate > 0 && used > 0 && (size_t)used < size) {
        snprintf(to + used, size - (size_t)used, ", %s/s, %" PRIu64 " s left",
                 cli_bytes(rate, second), number_of(disk, "copy_left_s"));
    }
}

/* How much a loss of the site now would lose of this disk. */
static void rpo_text(const json_t *disk, char ret[CELL])
{
    const json_t *rpo = json_object_get(disk, "rpo_ms");
    if (!json_is_integer(rpo)) {
        snprintf(ret, CELL, "unknown");
        return;
    }
    snprintf(ret, CELL, "%.1f s", (double)json_integer_value(rpo) / 1000.0);
}

static void shipping_text(const json_t *disk, char *to, size_t size)
{
    const char *error = cli_text(disk, "error");
    const char *refused = cli_text(disk, "restream_refused");
    uint64_t restreams = number_of(disk, "restreams");
    int used = snprintf(to, size, "%s%s%s", cli_text(disk, "shipping"),
                        error[0] != '\0' ? ": " : "", error);
    if (restreams > 0 && used > 0 && (size_t)used < size) {
        snprintf(to + used, size - (size_t)used,
                 "; a new stream was ordered %" PRIu64 " times%s%s%s", restreams,
                 refused[0] != '\0' ? " (refused: " : "", refused, refused[0] != '\0' ? ")" : "");
    }
}

static int print_disks(const json_t *status)
{
    static const char *const titles[] = {"DISK",    "TAP",  "WHOLE", ">NEXT LSN",     ">SYNCED",
                                         ">STORED", ">RPO", ">RING", ">LONGEST HOLD", "SHIPPING"};
    struct cli_table *table = cli_table_new(10, titles);
    size_t i;
    json_t *disk;
    json_array_foreach(json_object_get(status, "disks"), i, disk)
    {
        char name[160];
        char tap[200];
        char whole[480];
        char next[CELL];
        char synced[CELL];
        char stored[CELL];
        char rpo[CELL];
        char ring[CELL];
        char hold[CELL];
        char shipping[800];
        uint64_t size = number_of(disk, "ring_bytes");
        bool attached = is_set(disk, "attached");
        const char *gap = cli_text(disk, "gap_reason");
        snprintf(name, sizeof name, "%s/%s", cli_text(disk, "member"), cli_text(disk, "disk"));
        snprintf(
            tap, sizeof tap, "%s%s%s",
            attached ? (is_set(disk, "logging") ? "attached" : "attached, not logging") : "none: ",
            attached ? "" : cli_text(disk, "reason"), is_set(disk, "holding") ? ", holding" : "");
        whole_text(disk, gap, whole, sizeof whole);
        snprintf(next, sizeof next, "%" PRIu64, number_of(disk, "next_lsn"));
        snprintf(synced, sizeof synced, "%" PRIu64, number_of(disk, "synced_lsn"));
        snprintf(stored, sizeof stored, "%" PRIu64, number_of(disk, "stored_lsn"));
        snprintf(ring, sizeof ring, "%" PRIu64 " %%",
                 size == 0 ? 0 : number_of(disk, "ring_used") * 100 / size);
        rpo_text(disk, rpo);
        shipping_text(disk, shipping, sizeof shipping);
        const char *const cells[] = {
            name,    tap,    whole,
            next,    synced, stored,
            rpo,     ring,   milliseconds(number_of(disk, "hold_us_max"), hold),
            shipping};
        cli_table_add(table, cells);
    }
    return cli_table_print(table);
}

static int print_rounds(const json_t *status)
{
    static const char *const titles[] = {"ROUND",  "TIME",          "LEADER",
                                         "RESULT", ">LONGEST HOLD", "HOLDS"};
    struct cli_table *table = cli_table_new(6, titles);
    const json_t *rounds = json_object_get(status, "rounds");
    for (size_t i = json_array_size(rounds); i-- > 0;) {
        const json_t *round = json_array_get(rounds, i);
        char result[320];
        char hold[CELL];
        char holds[512] = "";
        size_t used = 0;
        size_t k;
        json_t *member;
        json_array_foreach(json_object_get(round, "members"), k, member)
        {
            char one[CELL];
            int n = snprintf(holds + used, sizeof holds - used, "%s%s %s", used > 0 ? ", " : "",
                             cli_text(member, "member"),
                             milliseconds(number_of(member, "hold_us_max"), one));
            if (n < 0 || (size_t)n >= sizeof holds - used) {
                break;
            }
            used += (size_t)n;
        }
        if (is_set(round, "sealed")) {
            char last[CELL];
            const char *slowest = cli_text(round, "slowest");
            const char *label = cli_text(round, "label");
            snprintf(result, sizeof result, "sealed by all%s%s%s%s%s%s%s",
                     label[0] != '\0' ? " (" : "", label, label[0] != '\0' ? ")" : "",
                     slowest[0] != '\0' ? ", last " : "", slowest,
                     slowest[0] != '\0' ? " after " : "",
                     slowest[0] != '\0' ? milliseconds(number_of(round, "slowest_us"), last) : "");
        } else {
            const char *member_name = cli_text(round, "member");
            const char *text = cli_text(round, "text");
            snprintf(result, sizeof result, "%s%s%s%s%s", cli_text(round, "reason"),
                     member_name[0] != '\0' ? " at " : "", member_name, text[0] != '\0' ? ": " : "",
                     text);
        }
        const char *id = cli_text(round, "round");
        const char *const cells[] = {id[0] != '\0' ? id : "(not begun)",
                                     cli_text(round, "time"),
                                     cli_text(round, "leader"),
                                     result,
                                     milliseconds(number_of(round, "hold_us_max"), hold),
                                     holds};
        cli_table_add(table, cells);
    }
    return cli_table_print(table);
}

static int status_run(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"local", KEY_LOCAL, "PATH", 0,
         "the participant's local socket (default " LOCAL_PARTICIPANT ")", 0},
        {0}};
    static const struct argp_child children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        options,  status_option, NULL, "Shows members, disks, links, shipping and the last rounds.",
        children, NULL,          NULL};
    struct status_options o = {.local = LOCAL_PARTICIPANT};
    struct err err = {0};
    json_t *answer = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    json_t *request = json_pack("{s:s}", "command", "status");
    int result = local_call(o.local, request, TIMEOUT_MS, &answer, &err);
    json_decref(request);
    if (result != 0) {
        return cli_fail(&err, "is tidemark-participant running, and is --local its socket?");
    }
    if (o.output == CLI_JSON) {
        return cli_json_print(answer);
    }
    print_head(answer);
    int status = print_members(answer);
    printf("\n");
    status = status != 0 ? status : print_disks(answer);
    printf("\n");
    status = status != 0 ? status : print_holds(answer);
    printf("\n");
    status = status != 0 ? status : print_rounds(answer);
    json_decref(answer);
    return status;
}

int cli_participant(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        {"status", status_run, "members, disks, links, shipping, last rounds"}, {0}};
    return cli_dispatch("participant", verbs, argc, argv);
}
