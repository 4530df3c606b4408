/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark point list|show|take|export|verify: recovery points. list and show ask the coordinator
 * of this machine; export reads its store's folder; take speaks to a participant (take.c); verify
 * reads files alone (point_verify.c). */
#include "coordinator/cli/cli.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/io/local.h"
#include "coordinator/cli/point_verify.h"
#include "coordinator/cli/take.h"
#include "coordinator/cli/store_find.h"
#include "coordinator/recover/materialize.h"

#define CALL_MS 25000U

enum {
    KEY_LOCAL = 0x100,
    KEY_FAILED,
    KEY_LIMIT,
    KEY_VM,
    KEY_DISK,
    KEY_TO,
    KEY_FROM,
    KEY_UNALIGNED,
    KEY_STORE,
    KEY_SINGLE_VM,
    KEY_MASTER_KEY,
};

struct point_options {
    enum cli_output output;
    const char *local;
    const char *argument; /* the group, or the point */
    bool failed;
    bool single_vm;
    unsigned limit;
    const char *vm;
    const char *disk;
    const char *to;
    const char *from;
    bool unaligned;
    const char *store;
    const char *master_key;
    struct cli_progress progress;
};

static const struct argp_child point_children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};

static error_t point_option(int key, char *arg, struct argp_state *state)
{
    struct point_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->output;
        return 0;
    case KEY_LOCAL:
        o->local = arg;
        return 0;
    case KEY_FAILED:
        o->failed = true;
        return 0;
    case KEY_SINGLE_VM:
        o->single_vm = true;
        return 0;
    case KEY_LIMIT:
        o->limit = (unsigned)cli_number(state, "--limit", arg, 1, 10000);
        return 0;
    case KEY_VM:
        o->vm = arg;
        return 0;
    case KEY_DISK:
        o->disk = arg;
        return 0;
    case KEY_TO:
        o->to = arg;
        return 0;
    case KEY_FROM:
        o->from = arg;
        return 0;
    case KEY_UNALIGNED:
        o->unaligned = true;
        return 0;
    case KEY_MASTER_KEY:
        o->master_key = arg;
        return 0;
    case KEY_STORE:
        o->store = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (o->argument != NULL) {
            argp_error(state, "\"%s\" is not expected here", arg);
        }
        o->argument = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static json_int_t number_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static int point_failed(const struct err *err)
{
    return cli_fail(err, err->code == TIDE_ERR_UNREACHABLE
                             ? "start tidemark-coordinator on this machine, or name its socket "
                               "with --local PATH"
                             : NULL);
}

/* ---- list ---- */

/* Longest hold of each member: "web 1.2 ms, app 0.9 ms". */
static void holds(const json_t *point, char *ret, size_t size)
{
    size_t used = 0;
    size_t k;
    size_t j;
    const json_t *member;
    const json_t *disk;
    ret[0] = '\0';
    json_array_foreach(json_object_get(point, "members"), k, member)
    {
        json_int_t longest = 0;
        json_array_foreach(json_object_get(member, "disks"), j, disk)
        {
            json_int_t hold = number_of(disk, "hold_us");
            longest = hold > longest ? hold : longest;
        }
        int n = snprintf(ret + used, size - used, "%s%s %.1f ms", used > 0 ? ", " : "",
                         cli_text(member, "member"), (double)longest / 1000.0);
        used += n > 0 ? (size_t)n : 0;
        if (used + 1 >= size || k >= 7) {
            break; /* the rest is in `point show` */
        }
    }
}

static void missing(const json_t *point, char *ret, size_t size)
{
    const json_t *names = json_object_get(point, "missing");
    size_t count = json_array_size(names);
    size_t all = count + json_array_size(json_object_get(point, "members"));
    snprintf(ret, size, "%zu of %zu", all - count, all);
}

/* Of single VMs the column MEMBERS is VM: such a point is never one of the group. */
static int print_points(const json_t *points, bool single_vm)
{
    const char *const titles[] = {
        "POINT", "TIME", "GROUP", "KIND", "LABEL", single_vm ? "VM" : "MEMBERS", "HOLD"};
    size_t k;
    const json_t *point;
    struct cli_table *table = cli_table_new(7, titles);
    json_array_foreach(points, k, point)
    {
        char id[13];
        char members[48];
        char hold[512];
        snprintf(id, sizeof(id), "%.12s", cli_text(point, "point"));
        missing(point, members, sizeof(members));
        holds(point, hold, sizeof(hold));
        const char *const cells[] = {id,
                                     cli_text(point, "time"),
                                     cli_text(point, "group"),
                                     cli_text(point, "kind"),
                                     cli_text(point, "label"),
                                     single_vm ? cli_text(point, "vm") : members,
                                     hold};
        cli_table_add(table, cells);
    }
    return cli_table_print(table);
}

static int print_rounds(const json_t *rounds)
{
    static const char *const titles[] = {"ROUND", "TIME", "GROUP", "MEMBER", "DISK", "WHY NOT"};
    size_t k;
    const json_t *round;
    struct cli_table *table = cli_table_new(6, titles);
    json_array_foreach(rounds, k, round)
    {
        char id[13];
        snprintf(id, sizeof(id), "%.12s", cli_text(round, "round"));
        const char *const cells[] = {id,
                                     cli_text(round, "time"),
                                     cli_text(round, "group"),
                                     cli_text(round, "member"),
                                     cli_text(round, "disk"),
                                     cli_text(round, "reason")};
        cli_table_add(table, cells);
    }
    return cli_table_print(table);
}

/* One page; `before` NULL: the newest. */
static int ask_page(const struct point_options *o, size_t limit, json_t *before, json_t **ret,
                    struct err *err)
{
    json_t *request = json_pack(
        "{s:s, s:s, s:I, s:b, s:s, s:O*}", "command", o->failed ? "round-list" : "point-list",
        "group", o->argument == NULL ? "" : o->argument, "limit", (json_int_t)limit, "single_vm",
        o->single_vm, "vm", o->vm == NULL ? "" : o->vm, "before", before);
    int rc = local_call(o->local, request, CALL_MS, ret, err);
    json_decref(request);
    return rc;
}

/* All pages as one answer: an answer has a limit, and a list need not fit. */
static int ask_list(const struct point_options *o, json_t **ret, struct err *err)
{
    const char *key = o->failed ? "rounds" : "points";
    json_t *answer = NULL;
    if (ask_page(o, o->limit, NULL, &answer, err) < 0) {
        return -1;
    }
    json_t *before = json_incref(json_object_get(answer, "next"));
    json_object_del(answer, "next");
    size_t count = json_array_size(json_object_get(answer, key));
    while (before != NULL && count < o->limit) {
        json_t *page = NULL;
        int rc = ask_page(o, o->limit - count, before, &page, err);
        json_decref(before);
        if (rc < 0) {
            json_decref(answer);
            return -1;
        }
        before = json_incref(json_object_get(page, "next"));
        json_t *rows = json_incref(json_object_get(page, key)); /* older: they come first */
        bool whole = json_array_size(rows) > 0 &&
                     json_array_extend(rows, json_object_get(answer, key)) == 0 &&
                     json_object_set(answer, key, rows) == 0;
        count = json_array_size(rows);
        json_decref(rows);
        json_decref(page);
        if (!whole) {
            json_decref(before);
            json_decref(answer);
            return err_set(err, TIDE_ERR_LIMIT,
                           "no memory for the list; ask for less with --limit");
        }
    }
    json_decref(before);
    *ret = answer;
    return 0;
}

static int point_list_run(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {"failed", KEY_FAILED, NULL, 0, "rounds that became no point, and why", 0},
        {"single-vm", KEY_SINGLE_VM, NULL, 0,
         "those of single VMs, taken while a strict group had none", 0},
        {"vm", KEY_VM, "VM", 0, "with --single-vm: of that VM alone", 0},
        {"limit", KEY_LIMIT, "N", 0, "the newest N only (1 to 10000)", 0},
        {"local", KEY_LOCAL, "PATH", 0, "the coordinator's socket", 0},
        {0}};
    static const struct argp argp = {
        list,
        point_option,
        "[GROUP]",
        "List recovery points of groups, newest last; with --single-vm those of single VMs, which "
        "are never points of a group. Label: full, partial, single-vm, or unaligned (taken with "
        "the hold switched off: no recovery point).",
        point_children,
        NULL,
        NULL};
    struct point_options o = {.local = LOCAL_COORDINATOR, .limit = 10000};
    struct err err = {0};
    json_t *answer = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (o.vm != NULL && !o.single_vm) {
        err_set(&err, TIDE_ERR_USAGE, "--vm is for --single-vm: points of a group are of all VMs");
        return cli_fail(&err, NULL);
    }
    int rc = ask_list(&o, &answer, &err);
    if (rc < 0) {
        return point_failed(&err);
    }
    if (o.output == CLI_JSON) {
        json_object_del(answer, "ok");
        return cli_json_print(answer);
    }
    rc = o.failed ? print_rounds(json_object_get(answer, "rounds"))
                  : print_points(json_object_get(answer, "points"), o.single_vm);
    if (rc == 0 && !o.failed && !o.single_vm && number_of(answer, "single_vm_points") > 0) {
        printf("%" JSON_INTEGER_FORMAT " points of single VMs are not listed here: --single-vm\n",
               number_of(answer, "single_vm_points"));
    }
    json_decref(answer);
    return rc;
}

/* ---- show ---- */

static int print_point(const json_t *point)
{
    static const char *const titles[] = {"MEMBER", "DISK",   ">LSN",    ">HOLD",
                                         ">HELD",  ">BYTES", ">BUDGET", "STREAM"};
    size_t k;
    size_t j;
    const json_t *member;
    const json_t *disk;
    const json_t *name;
    printf("point    %s\ngroup    %s, epoch %" JSON_INTEGER_FORMAT "\ntime     %s\n"
           "kind     %s, scope %s\nlabel    %s\ncut      %s\n",
           cli_text(point, "point"), cli_text(point, "group"), number_of(point, "epoch"),
           cli_text(point, "time"), cli_text(point, "kind"), cli_text(point, "scope"),
           cli_text(point, "label"), cli_text(point, "cut"));
    if (cli_text(point, "vm")[0] != '\0') {
        printf("vm       %s alone: this is no point of the group\n", cli_text(point, "vm"));
    }
    json_array_foreach(json_object_get(point, "missing"), k, name)
    {
        printf("missing  %s\n", json_string_value(name));
    }
    printf("\n");
    struct cli_table *table = cli_table_new(8, titles);
    json_array_foreach(json_object_get(point, "members"), k, member)
    {
        json_array_foreach(json_object_get(member, "disks"), j, disk)
        {
            char lsn[32];
            char hold[32];
            char held[32];
            char bytes[32];
            char budget[32];
            snprintf(lsn, sizeof(lsn), "%" JSON_INTEGER_FORMAT, number_of(disk, "lsn"));
            snprintf(hold, sizeof(hold), "%.3f ms", (double)number_of(disk, "hold_us") / 1000.0);
            snprintf(held, sizeof(held), "%" JSON_INTEGER_FORMAT, number_of(disk, "writes_held"));
            snprintf(bytes, sizeof(bytes), "%" JSON_INTEGER_FORMAT, number_of(disk, "bytes_held"));
            snprintf(budget, sizeof(budget), "%.0f ms",
                     (double)number_of(disk, "budget_us") / 1000.0);
            const char *const cells[] = {
                cli_text(member, "member"), cli_text(disk, "disk"), lsn, hold, held, bytes, budget,
                cli_text(disk, "stream")};
            cli_table_add(table, cells);
        }
    }
    return cli_table_print(table);
}

static int point_show_run(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {"local", KEY_LOCAL, "PATH", 0, "the coordinator's socket", 0}, {0}};
    static const struct argp argp = {list,
                                     point_option,
                                     "POINT",
                                     "Show one point; the first digits of its id are enough.",
                                     point_children,
                                     NULL,
                                     NULL};
    struct point_options o = {.local = LOCAL_COORDINATOR};
    struct err err = {0};
    json_t *answer = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (o.argument == NULL) {
        err_set(&err, TIDE_ERR_USAGE, "a POINT is needed");
        return cli_fail(&err, "`tidemark point list` shows them");
    }
    json_t *request = json_pack("{s:s, s:s}", "command", "point-show", "point", o.argument);
    int rc = local_call(o.local, request, CALL_MS, &answer, &err);
    json_decref(request);
    if (rc < 0) {
        return point_failed(&err);
    }
    json_t *point = json_incref(json_object_get(answer, "point"));
    json_decref(answer);
    if (o.output == CLI_JSON) {
        return cli_json_print(point);
    }
    rc = print_point(point);
    json_decref(point);
    return rc;
}

/* ---- export ---- */

static void export_progress(void *context, uint64_t done, uint64_t total)
{
    struct point_options *o = context;
    cli_progress(&o->progress, "%s/%s: %llu of %llu MiB of the stream", o->vm, o->disk,
                 (unsigned long long)(done >> 20), (unsigned long long)(total >> 20));
}

static int export_print(const struct point_options *o, const json_t *point,
                        const struct materialize_result *r)
{
    if (o->output == CLI_JSON) {
        return cli_json_print(json_pack(
            "{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "point", cli_text(point, "point"),
            "label", cli_text(point, "label"), "vm", o->vm, "disk", o->disk, "to", o->to, "lsn",
            (json_int_t)r->lsn, "size", (json_int_t)r->size, "records", (json_int_t)r->records,
            "bytes", (json_int_t)r->bytes_written));
    }
    printf("%s: disk '%s' of '%s' at point %.12s (%s), %llu bytes; %llu writes applied\n", o->to,
           o->disk, o->vm, cli_text(point, "point"), cli_text(point, "label"),
           (unsigned long long)r->size, (unsigned long long)r->records);
    return 0;
}

static int export_run(struct point_options *o, const char *store, struct keyring *keyring)
{
    struct err err = {0};
    struct materialize_result result;
    json_t *point = NULL;
    json_t *from = NULL;
    struct materialize m = {.store = store,
                            .keyring = keyring,
                            .member = o->vm,
                            .disk = o->disk,
                            .to = o->to,
                            .unaligned = o->unaligned,
                            .progress = export_progress,
                            .context = o};
    int rc = materialize_find(store, NULL, o->argument, &point, &err);
    if (rc == 0 && o->from != NULL) {
        rc = materialize_find(store, NULL, o->from, &from, &err);
    }
    if (rc == 0) {
        m.point = point;
        m.from = from;
        rc = materialize_run(&m, &result, &err);
        cli_progress_end(&o->progress);
    }
    int status = rc < 0 ? cli_fail(&err, NULL) : export_print(o, point, &result);
    json_decref(point);
    json_decref(from);
    return status;
}

static int point_export_run(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {"vm", KEY_VM, "VM", 0, "the member", 0},
        {"disk", KEY_DISK, "DISK", 0, "its disk", 0},
        {"to", KEY_TO, "FILE", 0, "the image to make; FILE.tidemark beside it says what it holds",
         0},
        {"from", KEY_FROM, "POINT", 0,
         "FILE holds that earlier point: apply only what changed since", 0},
        {"unaligned", KEY_UNALIGNED, NULL, 0,
         "also a point that was taken with the hold switched off", 0},
        {"store", KEY_STORE, "DIR", 0, "the store's folder; else the coordinator is asked", 0},
        {"master-key", KEY_MASTER_KEY, "FILE", 0,
         "of the store, where it is encrypted; else the coordinator's", 0},
        {"local", KEY_LOCAL, "PATH", 0, "the coordinator's socket", 0},
        {0}};
    static const struct argp argp = {list,
                                     point_option,
                                     "POINT",
                                     "Write a disk as it was at a point to a sparse image file.",
                                     point_children,
                                     NULL,
                                     NULL};
    struct point_options o = {.local = LOCAL_COORDINATOR};
    struct err err = {0};
    char store[PATH_MAX];
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (o.argument == NULL || o.vm == NULL || o.disk == NULL || o.to == NULL) {
        err_set(&err, TIDE_ERR_USAGE, "POINT, --vm VM, --disk DISK and --to FILE are needed");
        return cli_fail(&err, "`tidemark point show POINT` lists its members and disks");
    }
    struct keyring *keyring = NULL;
    if (store_find(o.store, o.master_key, o.local, store, &keyring, &err) < 0) {
        return cli_fail(&err, err.code == TIDE_ERR_UNREACHABLE
                                  ? "start tidemark-coordinator, or give its folder with "
                                    "--store DIR"
                                  : NULL);
    }
    int status = export_run(&o, store, keyring);
    keyring_close(keyring);
    return status;
}

int cli_point(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        {"list", point_list_run, "recovery points, or rounds that became none"},
        {"show", point_show_run, "one point, its members and disks"},
        {"take", take_run, "a point now (on a participant's machine)"},
        {"export", point_export_run, "a disk at a point, as an image file"},
        {"verify", point_verify_run, "is it one, and do all its members attest it (offline)"},
        {NULL, NULL, NULL}};
    return cli_dispatch("point", verbs, argc, argv);
}
