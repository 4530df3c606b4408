/* SPDX-License-Identifier: Apache-2.0 */
/* Each call that the tap's engine makes fails once: the nth allocation, write, sync, rename, open,
 * reservation, read, for n from 0 until a run meets no fault. The guest sees only errors that the
 * image gave; a start that fails says why and leaves nothing behind, and a later one succeeds; the
 * stream is never falsely whole, now or after kill -9, power cuts and a clean restart; and it
 * becomes whole again.
 *
 * usage: test_tap_failnth [SCENARIO [FAULT [N]]]   all, or one
 */
#include "tests/system/taplab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPS_MAX  24U
#define N_MAX    4000U
#define TELL_MAX 60U
#define END      TAPLAB_OPS       /* of a list */
#define FIRST    (TAPLAB_OPS + 1) /* the first start */
#define KILLED   (TAPLAB_OPS + 2) /* kill -9 and a start */

struct scenario {
    const char *name;
    enum taplab_start start;
    bool flush_log;
    unsigned before[OPS_MAX]; /* without faults; none begins with FIRST */
    unsigned ops[OPS_MAX];
};

#define LOOP                                                                                       \
    TAPLAB_WRITE, TAPLAB_OVERLAP, TAPLAB_FLUSH, TAPLAB_DISCARD, TAPLAB_CHECKPOINT, TAPLAB_WRITE,   \
        TAPLAB_FLUSH, TAPLAB_RECLAIM, TAPLAB_CHECKPOINT, TAPLAB_OVERLAP, TAPLAB_FLUSH
#define EARLY                                                                                      \
    TAPLAB_WRITE, TAPLAB_CHECKPOINT, TAPLAB_FLUSH, TAPLAB_RECLAIM, TAPLAB_OVERLAP,                 \
        TAPLAB_CHECKPOINT, TAPLAB_FLUSH, TAPLAB_CHECKPOINT

static const struct scenario scenarios[] = {
    {"attach-fresh", TAPLAB_FRESH, false, {END}, {FIRST, TAPLAB_WRITE, END}},
    {"attach-fresh-data", TAPLAB_COPYING, false, {END}, {FIRST, TAPLAB_COPY, END}},
    {"attach-clean", TAPLAB_FRESH, false, {TAPLAB_WRITE, END}, {TAPLAB_RESTART, TAPLAB_WRITE, END}},
    {"attach-killed",
     TAPLAB_FRESH,
     false,
     {TAPLAB_WRITE, TAPLAB_DISCARD, TAPLAB_OVERLAP, END},
     {KILLED, TAPLAB_WRITE, END}},
    {"attach-killed-log",
     TAPLAB_FRESH,
     true,
     {TAPLAB_WRITE, TAPLAB_DISCARD, TAPLAB_OVERLAP, TAPLAB_FLUSH, END},
     {KILLED, TAPLAB_WRITE, END}},
    {"attach-killed-copying",
     TAPLAB_COPYING,
     false,
     {TAPLAB_WRITE, TAPLAB_COPY, END},
     {KILLED, TAPLAB_COPY, TAPLAB_COPY, END}},
    {"loop", TAPLAB_FRESH, false, {END}, {LOOP, END}},
    {"loop-log", TAPLAB_FRESH, true, {END}, {LOOP, END}},
    {"loop-brim", TAPLAB_BRIM, false, {END}, {LOOP, END}},
    {"loop-brim-reclaimed", TAPLAB_BRIM, true, {TAPLAB_RECLAIM, END}, {LOOP, END}},
    {"early-checkpoint", TAPLAB_FRESH, false, {END}, {EARLY, END}},
    {"early-checkpoint-log", TAPLAB_FRESH, true, {END}, {EARLY, END}},
    {"bookmark",
     TAPLAB_FRESH,
     false,
     {TAPLAB_WRITE, END},
     {TAPLAB_BOOKMARK, TAPLAB_WRITE, TAPLAB_HELD, TAPLAB_FLUSH, TAPLAB_BOOKMARK, END}},
    {"copy",
     TAPLAB_COPYING,
     false,
     {END},
     {TAPLAB_COPY, TAPLAB_WRITE, TAPLAB_COPY, TAPLAB_FLUSH, TAPLAB_RECLAIM, TAPLAB_CHECKPOINT,
      TAPLAB_COPY, TAPLAB_COPY, TAPLAB_OVERLAP, TAPLAB_COPY, TAPLAB_COPY, TAPLAB_BOOKMARK, END}},
    {"detach", TAPLAB_FRESH, false, {TAPLAB_WRITE, END}, {TAPLAB_RESTART, END}},
    {"detach-log", TAPLAB_FRESH, true, {TAPLAB_WRITE, TAPLAB_FLUSH, END}, {TAPLAB_RESTART, END}},
};
#define SCENARIOS (sizeof scenarios / sizeof scenarios[0])

static const struct {
    const char *name;
    struct crashcalls_fault fault;
} faults[] = {
    {"malloc", {.calls = CRASHCALLS_MALLOC, .why = ENOMEM}},
    {"write", {.calls = CRASHCALLS_WRITE, .why = EIO}},
    {"write-half-full", {.calls = CRASHCALLS_WRITE, .why = ENOSPC, .half = true}},
    {"write-stays", {.calls = CRASHCALLS_WRITE, .why = EIO, .stays = true}},
    {"write-full-stays", {.calls = CRASHCALLS_WRITE, .why = ENOSPC, .half = true, .stays = true}},
    {"sync", {.calls = CRASHCALLS_SYNC, .why = EIO}},
    {"sync-stays", {.calls = CRASHCALLS_SYNC, .why = EIO, .stays = true}},
    {"write-and-sync-stay",
     {.calls = CRASHCALLS_WRITE | CRASHCALLS_SYNC, .why = EIO, .stays = true}},
    {"rename", {.calls = CRASHCALLS_RENAME, .why = EIO}},
    {"open", {.calls = CRASHCALLS_OPEN, .why = EMFILE}},
    {"allocate", {.calls = CRASHCALLS_ALLOCATE, .why = ENOSPC}},
    {"read", {.calls = CRASHCALLS_READ, .why = EIO}},
    {"xattr", {.calls = CRASHCALLS_XATTR, .why = EIO}},
};
#define FAULTS (sizeof faults / sizeof faults[0])

struct run {
    const struct scenario *scenario;
    size_t fault;
    uint64_t n;
    bool struck;
    bool image;
};

static struct {
    uint64_t runs;
    uint64_t recoveries;
    uint64_t failures;
    uint64_t known;
} total;

/* Found, written down, and to be mended: where the image fails for good, its pages are dropped
 * before it is known that they can be written anew, and reads go back to what was there before. */
static bool is_known(const struct run *r, const char *where, const char *why)
{
    return strcmp(where, "running") == 0 && r->image && faults[r->fault].fault.stays &&
           strncmp(why, "image: sector", 13) == 0;
}

static void tell(const struct run *r, const char *where, const char *why)
{
    if (is_known(r, where, why)) {
        total.known++;
        return;
    }
    total.failures++;
    if (total.failures <= TELL_MAX) {
        printf("%s %s %llu (%s) | %s: %s\n", r->scenario->name, faults[r->fault].name,
               (unsigned long long)r->n, crashcalls_struck_text(), where, why);
        (void)fflush(stdout);
    }
}

static void nothing_left(const struct run *r, const char *where)
{
    if (crashcalls_open_files() != 0) {
        tell(r, where, "a file is open still");
    }
    if (crashcalls_allocations() != 0) {
        tell(r, where, "memory was not freed");
    }
}

static bool step(struct taplab *lab, unsigned op)
{
    if (op == KILLED) {
        taplab_drop(lab);
    }
    return op == FIRST || op == KILLED ? taplab_open(lab) : taplab_do(lab, (enum taplab_op)op);
}

static void no_fault(void)
{
    crashcalls_fault(&(struct crashcalls_fault){0});
}

/* The operations under the fault; sets what struck. */
static void under_fault(struct taplab *lab, struct run *r)
{
    struct crashcalls_fault fault = faults[r->fault].fault;
    fault.nth = r->n;
    taplab_faulty(lab);
    crashcalls_fault(&fault);
    for (const unsigned *op = r->scenario->ops; *op != END && step(lab, *op); op++) {
    }
    r->struck = crashcalls_struck(&r->image);
    no_fault();
}

/* Starts where the last start failed, or says that it did not say why. */
static void start_again(struct taplab *lab, const struct run *r)
{
    if (strlen(taplab_why(lab)) < sizeof "tap_open: " + 8) {
        tell(r, "start", "it fails without a text");
    }
    nothing_left(r, "start");
    if (!taplab_open(lab)) {
        tell(r, "start again", taplab_why(lab));
    }
}

static void recover(struct taplab *lab, const struct run *r, const char *where)
{
    total.recoveries++;
    if (!taplab_open(lab) || !taplab_judge(lab) || !taplab_prove(lab)) {
        tell(r, where, taplab_why(lab));
    }
}

/* What comes after: the power goes, the tap is killed, or it detaches. */
static void afterwards(struct taplab *lab, const struct run *r)
{
    size_t at = crashdisk_count(taplab_disk(lab));
    for (unsigned cut = 0; cut < CRASHDISK_CUTS; cut++) {
        struct taplab_branch *branch =
            taplab_cut(lab, at, cut, r->n + cut, cut == CRASHDISK_LOSE_ALL);
        if (branch != NULL) {
            recover(lab, r, crashdisk_cut_name(cut));
            taplab_back(lab, branch);
        }
    }
}

static void run(struct run *r)
{
    struct taplab *lab = taplab_new(r->scenario->start, r->scenario->flush_log);
    total.runs++;
    if (r->scenario->ops[0] != FIRST && !taplab_begin(lab)) {
        tell(r, "begin", taplab_why(lab));
    }
    for (const unsigned *op = r->scenario->before; *op != END; op++) {
        (void)step(lab, *op);
    }
    under_fault(lab, r);
    if (!taplab_running(lab)) {
        start_again(lab, r);
    }
    if (taplab_running(lab)) {
        if (taplab_guest_errors(lab) > 0 && !r->image) {
            tell(r, "guest", "it saw an error that the image did not give");
        }
        if (!taplab_judge_running(lab)) {
            tell(r, "running", taplab_why(lab));
        }
        taplab_close(lab);
        nothing_left(r, "close");
        struct taplab_branch *branch =
            taplab_cut(lab, crashdisk_count(taplab_disk(lab)), CRASHDISK_KILL, 0, true);
        recover(lab, r, "restart");
        taplab_back(lab, branch);
        afterwards(lab, r);
    }
    taplab_free(lab);
}

static void run_killed(const struct run *from)
{
    struct run r = *from;
    struct taplab *lab = taplab_new(r.scenario->start, r.scenario->flush_log);
    if (r.scenario->ops[0] != FIRST) {
        (void)taplab_begin(lab);
    }
    for (const unsigned *op = r.scenario->before; *op != END; op++) {
        (void)step(lab, *op);
    }
    under_fault(lab, &r);
    afterwards(lab, &r);
    taplab_free(lab);
}

static void run_fault(const struct scenario *scenario, size_t fault, uint64_t from, uint64_t to)
{
    struct run r = {.scenario = scenario, .fault = fault, .struck = true};
    for (r.n = from; r.n < to && r.struck; r.n++) {
        run(&r);
        run_killed(&r);
    }
    if (r.struck && to == N_MAX) {
        tell(&r, "all", "no end of faults");
    }
}

int main(int argc, char **argv)
{
    bool one = argc > 3;
    uint64_t n = one ? strtoull(argv[3], NULL, 10) : 0;
    for (size_t i = 0; i < SCENARIOS; i++) {
        for (size_t k = 0; k < FAULTS; k++) {
            if ((argc < 2 || strcmp(argv[1], scenarios[i].name) == 0) &&
                (argc < 3 || strcmp(argv[2], faults[k].name) == 0)) {
                run_fault(&scenarios[i], k, n, one ? n + 1 : N_MAX);
            }
        }
    }
    printf("runs %llu, recoveries %llu, known bugs met %llu, failures %llu\n",
           (unsigned long long)total.runs, (unsigned long long)total.recoveries,
           (unsigned long long)total.known, (unsigned long long)total.failures);
    return total.failures == 0 ? 0 : 1;
}
