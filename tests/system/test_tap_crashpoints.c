/* SPDX-License-Identifier: Apache-2.0 */
/* Every sequence of up to three operations, from several starts, cut at every write and sync of its
 * last operation (those before it are the last of a shorter sequence) by kill -9 and by power cuts
 * that keep, lose, tear and reorder what was not synced; then recovery, and the judgement of
 * tapjudge.h: what was promised is there, no more than was asked for is, every point is the disk.
 * Of some, the recovery itself is cut everywhere, and some go on until the stream is whole again.
 *
 * usage: test_tap_crashpoints SHARD SHARDS   a part of it
 *        test_tap_crashpoints --planted      each defect planted in the layer below is found
 *        test_tap_crashpoints --walk SEEDS   random lives, each cut at random
 *        test_tap_crashpoints --one START both|log OP ...   (TIDE_TAPLAB_TRACE=1 for the tap's own)
 */
#include "common/core/prng.h"
#include "tests/system/taplab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH        3U
#define PLANTED_PART 4U /* of the sequences of two, for each defect */
#define BRIM_DEPTH   2U /* its log is large */
#define TELL_MAX     20U
#define AGAIN_EVERY  12U /* recoveries of which one is cut itself */
#define MEND_EVERY   16U
#define WALK_LIVES   5U
#define WALK_OPS     9U
#define WALK_CHANGES 6U /* at most, in a life */

struct sequence {
    enum taplab_start start;
    bool flush_log;
    enum taplab_op ops[DEPTH];
    unsigned count;
};

static struct {
    uint64_t sequences;
    uint64_t places;
    uint64_t recoveries;
    uint64_t again;
    uint64_t mended;
    uint64_t points;
    uint64_t failures;
    bool quiet;
} total;

static void print_sequence(const struct sequence *s)
{
    printf("%s %s", taplab_start_name(s->start), s->flush_log ? "log" : "both");
    for (unsigned i = 0; i < s->count; i++) {
        printf(" %s", taplab_op_name(s->ops[i]));
    }
}

static void tell(const struct sequence *s, const char *where, size_t at, enum crashdisk_cut cut,
                 const char *why)
{
    total.failures++;
    if (!total.quiet && total.failures <= TELL_MAX) {
        print_sequence(s);
        printf(" | %s %zu %s: %s\n", where, at, crashdisk_cut_name(cut), why);
        (void)fflush(stdout);
    }
}

/* Recovery; false where it is not what it must be. */
static bool recover(struct taplab *lab)
{
    total.recoveries++;
    bool good = taplab_open(lab) && taplab_judge(lab);
    total.points += good ? taplab_points(lab) : 0;
    return good;
}

static bool is_place(const struct crashdisk *disk, size_t i)
{
    unsigned what = 0;
    uint64_t value = 0;
    return i == crashdisk_count(disk) || crashdisk_entry(disk, i, &what, &value) != CRASHDISK_MARK;
}

/* The recovery that has just been done is itself cut, everywhere. */
static void cut_recovery(struct taplab *lab, const struct sequence *s)
{
    static const enum crashdisk_cut cuts[] = {CRASHDISK_KILL, CRASHDISK_LOSE_ALL,
                                              CRASHDISK_KEEP_IMAGE, CRASHDISK_RANDOM};
    struct crashdisk *disk = taplab_disk(lab);
    for (size_t at = crashdisk_first(disk); at <= crashdisk_count(disk); at++) {
        for (size_t i = 0; is_place(disk, at) && i < sizeof cuts / sizeof cuts[0]; i++) {
            struct taplab_branch *branch = taplab_cut(lab, at, cuts[i], total.recoveries, i < 2);
            if (branch == NULL) {
                continue;
            }
            total.again++;
            if (!recover(lab)) {
                tell(s, "recovery", at - crashdisk_first(disk), cuts[i], taplab_why(lab));
            }
            taplab_back(lab, branch);
        }
    }
}

static void mend(struct taplab *lab, const struct sequence *s, size_t at, enum crashdisk_cut cut)
{
    total.mended++;
    if (!taplab_prove(lab)) {
        tell(s, "mend", at, cut, taplab_why(lab));
    }
}

static void explore_cut(struct taplab *lab, const struct sequence *s, size_t at,
                        enum crashdisk_cut cut, uint64_t seed)
{
    static unsigned turn;
    struct taplab_branch *branch = taplab_cut(lab, at, cut, seed, cut == CRASHDISK_LOSE_ALL);
    if (branch == NULL) {
        return;
    }
    turn++;
    if (!s->flush_log && !taplab_judge_image(lab)) {
        tell(s, "image", at, cut, taplab_why(lab));
    } else if (!recover(lab)) {
        tell(s, "cut", at, cut, taplab_why(lab));
    } else if (turn % MEND_EVERY == 0) {
        mend(lab, s, at, cut);
    } else if (turn % AGAIN_EVERY == 0) {
        cut_recovery(lab, s);
    }
    taplab_back(lab, branch);
}

static void explore(struct taplab *lab, const struct sequence *s, size_t from)
{
    struct crashdisk *disk = taplab_disk(lab);
    total.sequences++;
    for (size_t at = from + 1; at <= crashdisk_count(disk); at++) {
        if (!is_place(disk, at)) {
            continue;
        }
        total.places++;
        for (unsigned cut = 0; cut <= CRASHDISK_CUTS; cut++) { /* two random ones */
            explore_cut(lab, s, at, cut < CRASHDISK_CUTS ? cut : CRASHDISK_RANDOM,
                        total.places * 2 + cut);
        }
    }
}

static void run(const struct sequence *s)
{
    struct taplab *lab = taplab_new(s->start, s->flush_log);
    if (!taplab_begin(lab)) {
        tell(s, "start", 0, CRASHDISK_KILL, taplab_why(lab));
    } else {
        size_t from = 0;
        for (unsigned i = 0; i < s->count; i++) {
            from = crashdisk_count(taplab_disk(lab));
            (void)taplab_do(lab, s->ops[i]);
        }
        if (!taplab_judge_running(lab)) {
            tell(s, "running", crashdisk_count(taplab_disk(lab)), CRASHDISK_KILL, taplab_why(lab));
        } else {
            explore(lab, s, from);
        }
    }
    taplab_free(lab);
}

/* The very first attach, and what it finds of an earlier one that was cut. */
static void run_first(enum taplab_start start, bool flush_log)
{
    struct sequence s = {.start = start, .flush_log = flush_log};
    struct taplab *lab = taplab_new(start, flush_log);
    if (!taplab_open(lab)) {
        tell(&s, "first", 0, CRASHDISK_KILL, taplab_why(lab));
    } else {
        explore(lab, &s, 0);
    }
    taplab_free(lab);
}

static void run_all(unsigned depth, unsigned shard, unsigned shards)
{
    unsigned turn = 0;
    for (unsigned kind = 0; kind < 2 * TAPLAB_STARTS; kind++) {
        struct sequence s = {.start = kind / 2, .flush_log = kind % 2 == 1};
        unsigned limit = s.start == TAPLAB_BRIM && depth > BRIM_DEPTH ? BRIM_DEPTH : depth;
        unsigned all = 1;
        if (turn++ % shards == shard) {
            run_first(s.start, s.flush_log);
        }
        for (s.count = 1; s.count <= limit; s.count++) {
            all *= TAPLAB_OPS;
            for (unsigned i = 0; i < all; i++) {
                for (unsigned k = 0, rest = i; k < s.count; k++, rest /= TAPLAB_OPS) {
                    s.ops[k] = rest % TAPLAB_OPS;
                }
                if (turn++ % shards == shard) {
                    run(&s);
                }
            }
        }
    }
}

static void trace(size_t at, const char *what)
{
    if (getenv("TIDE_TAPLAB_TRACE") != NULL) {
        printf("%zu: %s\n", at, what);
    }
}

/* One life of a walk; false where it ends. */
static bool walk_life(struct taplab *lab, const struct sequence *s, struct prng *prng)
{
    unsigned changes = 0;
    for (unsigned i = 0; i < WALK_OPS; i++) {
        enum taplab_op op = (enum taplab_op)prng_below(prng, TAPLAB_OPS);
        bool change = op <= TAPLAB_DISCARD || op == TAPLAB_HELD;
        changes += change ? 1 : 0;
        op = change && changes > WALK_CHANGES ? TAPLAB_COPY : op;
        trace(crashdisk_count(taplab_disk(lab)), taplab_op_name(op));
        if (!taplab_do(lab, op)) {
            tell(s, "walk", i, CRASHDISK_KILL, taplab_why(lab));
            return false;
        }
    }
    struct crashdisk *disk = taplab_disk(lab);
    size_t first = crashdisk_first(disk);
    size_t at = first + (size_t)prng_below(prng, crashdisk_count(disk) - first + 1);
    enum crashdisk_cut cut = (enum crashdisk_cut)prng_below(prng, CRASHDISK_CUTS);
    trace(at, crashdisk_cut_name(cut));
    struct taplab_branch *branch = taplab_cut(lab, at, cut, prng_next(prng), true);
    if (!recover(lab)) {
        tell(s, "walk", at, cut, taplab_why(lab));
        taplab_back(lab, branch);
        return false;
    }
    taplab_forget(lab, branch);
    if (!taplab_tap(lab)->gate.whole && prng_below(prng, 2) == 0) {
        return true; /* with all that the start left pending: no point before it is mended */
    }
    (void)taplab_do(lab, TAPLAB_FLUSH);
    taplab_settle(lab);
    if (prng_below(prng, 2) == 0) {
        mend(lab, s, at, cut);
        taplab_settle(lab);
    }
    return true;
}

static void walk(uint64_t seed)
{
    struct prng prng;
    prng_init(&prng, seed);
    struct sequence s = {.start = (enum taplab_start)prng_below(&prng, TAPLAB_STARTS),
                         .flush_log = prng_below(&prng, 2) == 0};
    struct taplab *lab = taplab_new(s.start, s.flush_log);
    uint64_t before = total.failures;
    bool good = taplab_begin(lab);
    for (unsigned i = 0; good && i < WALK_LIVES; i++) {
        total.sequences++;
        good = walk_life(lab, &s, &prng) && total.failures == before;
    }
    if (total.failures != before && total.failures <= TELL_MAX && !total.quiet) {
        printf("... of seed %llu\n", (unsigned long long)seed);
    }
    taplab_free(lab);
}

static void print_total(void)
{
    printf(
        "sequences %llu, places %llu, recoveries %llu (%llu of recoveries cut), made whole again "
        "%llu, points %llu, failures "
        "%llu\n",
        (unsigned long long)total.sequences, (unsigned long long)total.places,
        (unsigned long long)total.recoveries, (unsigned long long)total.again,
        (unsigned long long)total.mended, (unsigned long long)total.points,
        (unsigned long long)total.failures);
}

static int planted(void)
{
    int missed = 0;
    for (unsigned lie = 1; lie < CRASHCALLS_LIES; lie++) {
        memset(&total, 0, sizeof total);
        total.quiet = true;
        crashcalls_lie(lie);
        run_all(2, lie % PLANTED_PART, PLANTED_PART);
        printf("planted %u: ", lie);
        print_total();
        missed += total.failures == 0 ? 1 : 0;
    }
    return missed == 0 ? 0 : 1;
}

static int one(int count, char **names)
{
    struct sequence s = {.count = 0};
    for (unsigned k = 0; k < TAPLAB_STARTS; k++) {
        s.start = strcmp(names[0], taplab_start_name(k)) == 0 ? k : s.start;
    }
    s.flush_log = strcmp(names[1], "log") == 0;
    for (int i = 2; i < count && s.count < DEPTH; i++) {
        for (unsigned k = 0; k < TAPLAB_OPS; k++) {
            if (strcmp(names[i], taplab_op_name(k)) == 0) {
                s.ops[s.count++] = k;
            }
        }
    }
    if (s.count == 0) {
        run_first(s.start, s.flush_log);
    } else {
        run(&s);
    }
    print_total();
    return total.failures == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--planted") == 0) {
        return planted();
    }
    if (argc >= 4 && strcmp(argv[1], "--one") == 0) {
        return one(argc - 2, argv + 2);
    }
    if (argc == 3 && strcmp(argv[1], "--walk") == 0) {
        const char *one_seed = getenv("TIDE_SEED");
        uint64_t first = one_seed != NULL ? strtoull(one_seed, NULL, 10) : 1;
        uint64_t count = one_seed != NULL ? 1 : strtoull(argv[2], NULL, 10);
        for (uint64_t seed = first; seed < first + count; seed++) {
            walk(seed);
        }
    } else if (argc == 3) {
        run_all(DEPTH, (unsigned)strtoul(argv[1], NULL, 10), (unsigned)strtoul(argv[2], NULL, 10));
    } else {
        (void)fprintf(stderr, "usage: see the head of %s\n", __FILE__);
        return 2;
    }
    print_total();
    return total.failures == 0 ? 0 : 1;
}
