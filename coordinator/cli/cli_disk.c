/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark disk: how the disks of the participant on this machine stand, and orders to their taps.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/io/local.h"
#include "coordinator/cli/cli.h"
#include "coordinator/cli/disk_check.h"
#include "coordinator/cli/disk_find.h"
#include "coordinator/cli/disk_replay.h"

#define TIMEOUT_MS 5000U
#define ORDER_MS   13000U /* beyond the participant's own deadline for a tap, 10 s */
#define CELL       64

enum {
    KEY_LOCAL = 0x100,
    KEY_COMPARE,
    KEY_FULL,
    KEY_FORCE,
};

struct disk_options {
    enum cli_output output;
    const char *local;
    const char *vm;
    const char *disk;
    const char *order; /* NULL: both may be left out */
    const char *how;   /* of a resync */
    bool force;
};

static const struct argp_option local_option[] = {
    {"local", KEY_LOCAL, "PATH", 0,
     "the participant's local socket (default " LOCAL_PARTICIPANT ")", 0},
    {0}};

static error_t disk_option(int key, char *arg, struct argp_state *state)
{
    struct disk_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->output;
        return 0;
    case KEY_LOCAL:
        o->local = arg;
        return 0;
    case KEY_COMPARE:
    case KEY_FULL:
        if (strcmp(o->how, "now") != 0) {
            argp_error(state, "--compare and --full: one of them is expected");
        }
        o->how = key == KEY_FULL ? "full" : "compare";
        return 0;
    case KEY_FORCE:
        o->force = true;
        return 0;
    case ARGP_KEY_END:
        if (o->order != NULL && o->disk == NULL) {
            argp_error(state, "VM and DISK are expected");
        }
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 1) {
            argp_error(state, "\"%s\": VM and DISK are all that is expected", arg);
        }
        *(state->arg_num == 0 ? &o->vm : &o->disk) = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int ask(const struct disk_options *o, json_t *request, uint32_t timeout_ms, json_t **ret,
               struct err *err)
{
    int result = local_call(o->local, request, timeout_ms, ret, err);
    json_decref(request);
    return result;
}

/* Asks for the status, and takes the disks that are meant: a new reference. */
static int find(const struct disk_options *o, json_t **ret, struct err *err)
{
    json_t *answer = NULL;
    if (ask(o, json_pack("{s:s}", "command", "status"), TIMEOUT_MS, &answer, err) != 0) {
        return -1;
    }
    int result = disk_find(answer, o->vm, o->disk, ret, err);
    json_decref(answer);
    return result;
}

static int fail(const struct err *err)
{
    return cli_fail(err, err->code == TIDE_ERR_UNREACHABLE
                             ? "is tidemark-participant running, and is --local its socket?"
                             : NULL);
}

/* ---- status ---- */

/* False: not there, or null: not known. */
static bool known(const json_t *disk, const char *key, uint64_t *ret)
{
    const json_t *value = json_object_get(disk, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return false;
    }
    *ret = (uint64_t)json_integer_value(value);
    return true;
}

static const char *bytes_cell(const json_t *disk, const char *key, char ret[CELL])
{
    uint64_t bytes = 0;
    return known(disk, key, &bytes) ? cli_bytes(bytes, ret) : "-";
}

/* Whether what is said of a copy is of one: else it is zero for want of one. */
static bool is_copied(const json_t *disk)
{
    const char *state = cli_text(disk, "state");
    return strcmp(state, "copying") == 0 || strcmp(state, "comparing") == 0 ||
           strcmp(state, "waiting") == 0;
}

static const char *time_cell(bool there, uint64_t seconds, char ret[CELL])
{
    if (!there) {
        return "-";
    }
    if (seconds >= 3600) {
        snprintf(ret, CELL, "%" PRIu64 " h %02" PRIu64 " min", seconds / 3600, seconds / 60 % 60);
    } else if (seconds >= 60) {
        snprintf(ret, CELL, "%" PRIu64 " min %02" PRIu64 " s", seconds / 60, seconds % 60);
    } else {
        snprintf(ret, CELL, "%" PRIu64 " s", seconds);
    }
    return ret;
}

static const char *rate_cell(const json_t *disk, char ret[CELL])
{
    uint64_t rate = 0;
    if (!is_copied(disk) || !known(disk, "copy_rate", &rate)) {
        return "-";
    }
    size_t used = strlen(cli_bytes(rate, ret));
    snprintf(ret + used, CELL - used, "/s");
    return ret;
}

static const char *log_cell(const json_t *disk, char ret[CELL])
{
    uint64_t size = 0;
    uint64_t used = 0;
    char left[CELL];
    char right[CELL];
    if (!known(disk, "ring_bytes", &size) || !known(disk, "ring_used", &used) || size == 0) {
        return "-";
    }
    snprintf(ret, CELL, "%.28s of %.28s", cli_bytes(used, left), cli_bytes(size, right));
    return ret;
}

static const char *number_cell(bool there, uint64_t number, const char *unit, char ret[CELL])
{
    if (!there) {
        return "-";
    }
    snprintf(ret, CELL, "%" PRIu64 "%s", number, unit);
    return ret;
}

static void add_row(struct cli_table *table, const json_t *disk)
{
    char member[160];
    char left[CELL];
    char done[CELL];
    char rate[CELL];
    char time[CELL];
    char rpo[CELL];
    char log[CELL];
    char lag[CELL];
    uint64_t percent = 0;
    uint64_t seconds = 0;
    uint64_t rpo_ms = 0;
    uint64_t records = 0;
    bool copied = is_copied(disk);
    bool has_percent = copied && known(disk, "copy_percent", &percent);
    bool has_time = copied && known(disk, "copy_left_s", &seconds);
    bool has_rpo = known(disk, "rpo_ms", &rpo_ms);
    bool has_lag = known(disk, "lag_records", &records);
    const char *why = cli_text(disk, "why");
    snprintf(member, sizeof member, "%s/%s", cli_text(disk, "group"), cli_text(disk, "member"));
    const char *const cells[] = {member,
                                 cli_text(disk, "disk"),
                                 cli_text(disk, "state"),
                                 why[0] != '\0' ? why : "-",
                                 bytes_cell(disk, "dirty_bytes", left),
                                 number_cell(has_percent, percent, " %", done),
                                 rate_cell(disk, rate),
                                 time_cell(has_time, seconds, time),
                                 number_cell(has_rpo, rpo_ms, " ms", rpo),
                                 log_cell(disk, log),
                                 number_cell(has_lag, records, " records", lag)};
    cli_table_add(table, cells);
}

static int print_disks(const json_t *disks)
{
    static const char *const titles[] = {"MEMBER", "DISK",        "STATE",          "WHY",
                                         ">LEFT",  ">DONE",       ">RATE",          ">TIME LEFT",
                                         ">RPO",   ">LOG IN USE", ">FAR SIDE LACKS"};
    struct cli_table *table = cli_table_new(sizeof titles / sizeof titles[0], titles);
    size_t i;
    json_t *disk;
    json_array_foreach(disks, i, disk)
    {
        add_row(table, disk);
    }
    return cli_table_print(table);
}

static int status_run(int argc, char **argv)
{
    static const struct argp_child children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        local_option,
        disk_option,
        "[VM [DISK]]",
        "Shows how each disk stands: whole, copying, comparing, waiting (its copy, for the far "
        "side), not-logging, not-whole (and nothing mends it now) or no-tap. VM is a member's "
        "name, or GROUP/MEMBER. What is not known is shown as \"-\".",
        children,
        NULL,
        NULL};
    struct disk_options o = {.local = LOCAL_PARTICIPANT};
    struct err err = {0};
    json_t *disks = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (find(&o, &disks, &err) != 0) {
        return fail(&err);
    }
    if (o.output == CLI_JSON) {
        return cli_json_print(json_pack("{s:o}", "disks", disks));
    }
    int status = print_disks(disks);
    json_decref(disks);
    return status;
}

/* ---- orders ---- */

static json_t *order_request(const struct disk_options *o, const json_t *disk)
{
    json_t *request =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "command", "disk", "order", o->order, "group",
                  cli_text(disk, "group"), "member", cli_text(disk, "member"), "disk",
                  cli_text(disk, "disk"), "force", o->force);
    if (request != NULL && strcmp(o->order, "resync") == 0) {
        json_object_set_new(request, "how", json_string(o->how));
    }
    return request;
}

static int give_order(const struct argp *argp, const char *order, int argc, char **argv)
{
    struct disk_options o = {.local = LOCAL_PARTICIPANT, .order = order, .how = "now"};
    struct err err = {0};
    json_t *disks = NULL;
    json_t *answer = NULL;
    argp_parse(argp, argc, argv, 0, NULL, &o);
    if (find(&o, &disks, &err) != 0) {
        return fail(&err);
    }
    int result = ask(&o, order_request(&o, json_array_get(disks, 0)), ORDER_MS, &answer, &err);
    json_decref(disks);
    if (result != 0) {
        return cli_fail(&err, NULL);
    }
    if (o.output == CLI_JSON) {
        return cli_json_print(answer);
    }
    const char *text = cli_text(answer, "text");
    printf("%s\n", text[0] != '\0' ? text : "done");
    json_decref(answer);
    return 0;
}

static const struct argp_child order_children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};

static int resync_run(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"local", KEY_LOCAL, "PATH", 0,
         "the participant's local socket (default " LOCAL_PARTICIPANT ")", 0},
        {"compare", KEY_COMPARE, NULL, 0,
         "trust nothing: compare every block with the far side, and send what differs; a whole "
         "disk is not whole until that is done",
         0},
        {"full", KEY_FULL, NULL, 0, "trust nothing: send every block; as above", 0},
        {0}};
    static const struct argp argp = {options,
                                     disk_option,
                                     "VM DISK",
                                     "Mends a disk that is not whole now: sends what is known to "
                                     "differ, without waiting.",
                                     order_children,
                                     NULL,
                                     NULL};
    return give_order(&argp, "resync", argc, argv);
}

static int detach_run(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"local", KEY_LOCAL, "PATH", 0,
         "the participant's local socket (default " LOCAL_PARTICIPANT ")", 0},
        {"force", KEY_FORCE, NULL, 0, "also while a guest is connected to the disk", 0},
        {0}};
    static const struct argp argp = {options,
                                     disk_option,
                                     "VM DISK",
                                     "Ends the disk's tap cleanly: its image alone is then the "
                                     "disk, and may be used without its log.",
                                     order_children,
                                     NULL,
                                     NULL};
    return give_order(&argp, "detach", argc, argv);
}

static int resize_run(int argc, char **argv)
{
    static const struct argp argp = {local_option,
                                     disk_option,
                                     "VM DISK",
                                     "Has the disk's tap look at the size of its image, which was "
                                     "grown or cut: the stream, and the guest, follow it.",
                                     order_children,
                                     NULL,
                                     NULL};
    return give_order(&argp, "resize", argc, argv);
}

int cli_disk(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        {"status", status_run, "how each disk stands"},
        {"resync", resync_run, "mend a disk that is not whole, or compare it with the far side"},
        {"detach", detach_run, "end a disk's tap: its image alone is then the disk"},
        {"resize", resize_run, "take over the size that the image has now"},
        {"replay", disk_replay_run, "make an image whole out of its log, while no tap runs"},
        {"check", disk_check_run, "may an image be used without its log?"},
        {0}};
    return cli_dispatch("disk", verbs, argc, argv);
}
