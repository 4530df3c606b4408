/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/align.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/core/check.h"
#include "common/core/planted.h"
#include "common/hrl/whole.h"

/* The reader looks at no H. */
#define PLANTED_BLIND                                                                              \
    (PLANTED(RELEASE_EARLY) || PLANTED(EXPIRED_COUNTS) || PLANTED(ABORTED_COUNTS) ||               \
     PLANTED(H_IGNORED) || PLANTED(LEADER_COUNTS_BLIND) || PLANTED(HELD_EARLY_BLIND))

#define BUCKETS    4096U /* of each of the two tables; a power of two */
#define DROPPED_OF 4U    /* ids of dropped rounds kept, in rounds_max */

struct round {
    struct align_round view; /* view.entries == entries */
    struct align_entry *entries;
    size_t capacity;
    size_t yes_first; /* with yes > 0: the first such entry */
    bool mixed;       /* entries that answer yes differ in cut hash or hold */
    size_t yes;       /* entries that answer yes */
    bool queued;      /* decided, not drained yet */
    TAILQ_ENTRY(round) decided;
    LIST_ENTRY(round) bucket;
};

struct stream {
    struct id id;
    struct whole whole;
    uint64_t lsn; /* last one fed; 0: none */
    uint64_t incarnation;
    struct round *open; /* round whose answer from this stream is still to come; NULL: none */
    size_t open_entry;
    enum round_answer open_whole; /* at that bookmark: YES or UNKNOWN */
    LIST_ENTRY(stream) bucket;
};

struct definition_streams {
    struct id group;
    struct epoch epoch;
    unsigned count;
    struct id *streams;
};

struct align {
    bool any_group;
    bool need_definitions;
    struct id group;
    size_t rounds_max;
    struct round **rounds; /* oldest first */
    size_t round_count;
    size_t round_capacity;
    size_t stream_count;
    struct definition_streams definitions[TIDE_ALIGN_EPOCHS_MAX]; /* oldest first */
    size_t definition_count;
    struct id *gone; /* ring of the ids of dropped rounds */
    size_t gone_count;
    size_t gone_capacity;
    size_t gone_next;
    uint64_t dropped;
    TAILQ_HEAD(, round) decided;
    LIST_HEAD(round_bucket, round) round_buckets[BUCKETS];
    LIST_HEAD(stream_bucket, stream) stream_buckets[BUCKETS];
};

static const char *const why_texts[] = {
#define X(name, text) text,
    TIDE_ALIGN_WHYS(X)
#undef X
};

const char *align_why_text(enum align_why why)
{
    TIDE_CHECK((size_t)why < sizeof why_texts / sizeof why_texts[0]);
    return why_texts[why];
}

static const char *const label_names[] = {
#define X(name, text) text,
    TIDE_ALIGN_LABELS(X)
#undef X
};

const char *align_label_name(enum align_label label)
{
    TIDE_CHECK((size_t)label < sizeof label_names / sizeof label_names[0]);
    return label_names[label];
}

int align_single(const struct round_order *order, const struct definition *definition)
{
    int found = -1;
    if (order->scope != ROUND_SCOPE_MEMBER || order->set.count != definition->disk_count) {
        return -1;
    }
    for (unsigned m = 0; m < definition->member_count; m++) {
        if (definition_set_has_member(definition, m, &order->set)) {
            if (found >= 0 || set_size(&order->set) != definition->members[m].disk_count) {
                return -1;
            }
            found = (int)m;
        }
    }
    return found;
}

enum align_label align_label(const struct align_round *round, const struct definition *definition)
{
    if (round->unaligned) {
        return ALIGN_LABEL_UNALIGNED;
    }
    if (round->answer != ROUND_ANSWER_YES) {
        return ALIGN_LABEL_NONE;
    }
    if (round->order.scope == ROUND_SCOPE_MEMBER && !PLANTED(SINGLE_AS_GROUP)) {
        bool single = definition == NULL || align_single(&round->order, definition) >= 0;
        return single ? ALIGN_LABEL_SINGLE_VM : ALIGN_LABEL_NONE;
    }
    return round->partial ? ALIGN_LABEL_PARTIAL : ALIGN_LABEL_FULL;
}

static size_t bucket_of(const struct id *id)
{
    uint32_t h = 2166136261U; /* FNV-1a */
    for (size_t i = 0; i < sizeof id->b; i++) {
        h = (h ^ id->b[i]) * 16777619U;
    }
    return (h ^ h >> 16) % BUCKETS;
}

/* Grows an array to hold at least need elements. */
static int reserve(void **array, size_t *capacity, size_t need, size_t element, struct err *err)
{
    if (need <= *capacity) {
        return 0;
    }
    size_t grown = *capacity < 4 ? 4 : *capacity * 2;
    grown = grown < need ? need : grown;
    void *moved = realloc(*array, grown * element);
    if (moved == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "alignment: out of memory");
    }
    *array = moved;
    *capacity = grown;
    return 0;
}

struct align *align_new(const struct id *group, bool need_definitions, unsigned rounds_max)
{
    TIDE_CHECK(rounds_max >= 1 && rounds_max <= TIDE_ALIGN_ROUNDS_MAX);
    struct align *align = calloc(1, sizeof *align);
    if (align == NULL) {
        return NULL;
    }
    align->any_group = group == NULL;
    if (group != NULL) {
        align->group = *group;
    }
    align->need_definitions = need_definitions;
    align->rounds_max = rounds_max;
    TAILQ_INIT(&align->decided);
    for (size_t i = 0; i < BUCKETS; i++) {
        LIST_INIT(&align->round_buckets[i]);
        LIST_INIT(&align->stream_buckets[i]);
    }
    return align;
}

static void round_free(struct round *round)
{
    free(round->entries);
    free(round);
}

void align_free(struct align *align)
{
    if (align == NULL) {
        return;
    }
    for (size_t i = 0; i < align->round_count; i++) {
        round_free(align->rounds[i]);
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        while (!LIST_EMPTY(&align->stream_buckets[i])) {
            struct stream *stream = LIST_FIRST(&align->stream_buckets[i]);
            LIST_REMOVE(stream, bucket);
            free(stream);
        }
    }
    for (size_t i = 0; i < align->definition_count; i++) {
        free(align->definitions[i].streams);
    }
    free(align->gone);
    free(align->rounds);
    free(align);
}

static struct stream *stream_find(const struct align *align, const struct id *id)
{
    struct stream *stream;
    LIST_FOREACH(stream, &align->stream_buckets[bucket_of(id)], bucket)
    {
        if (id_equal(&stream->id, id)) {
            return stream;
        }
    }
    return NULL;
}

static struct stream *stream_get(struct align *align, const struct id *id, struct err *err)
{
    struct stream *stream = stream_find(align, id);
    if (stream != NULL) {
        return stream;
    }
    if (align->stream_count >= TIDE_ALIGN_STREAMS_MAX) {
        err_set(err, TIDE_ERR_LIMIT, "alignment: more than %u streams", TIDE_ALIGN_STREAMS_MAX);
        return NULL;
    }
    stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        err_set(err, TIDE_ERR_LIMIT, "alignment: out of memory");
        return NULL;
    }
    stream->id = *id;
    whole_init(&stream->whole);
    LIST_INSERT_HEAD(&align->stream_buckets[bucket_of(id)], stream, bucket);
    align->stream_count++;
    return stream;
}

const struct align_entry *align_entry(const struct align_round *round, const struct id *stream)
{
    const struct align_entry *found = NULL;
    for (size_t i = 0; i < round->entry_count && (found == NULL || PLANTED(LAST_BOOKMARK)); i++) {
        if (id_equal(&round->entries[i].mark.stream, stream)) {
            found = &round->entries[i];
        }
    }
    return found;
}

static bool order_equal(const struct round_order *a, const struct round_order *b)
{
    return id_equal(&a->round, &b->round) && id_equal(&a->group, &b->group) &&
           epoch_equal(&a->epoch, &b->epoch) && a->scope == b->scope && a->kind == b->kind &&
           (set_equal(&a->set, &b->set) || PLANTED(SET_IGNORED));
}

/* ---- the rule for one round ---- */

struct verdict {
    enum round_answer answer;
    bool unaligned;
    enum align_why why;
    struct id where;
    struct hash cut; /* of a yes, and of unaligned */
};

static struct verdict verdict(enum round_answer answer, enum align_why why, const struct id *where)
{
    struct verdict v = {.answer = answer, .why = why};
    if (where != NULL) {
        v.where = *where;
    }
    return v;
}

/* Takes the streams of the set one by one. */
struct judge {
    struct verdict no; /* the first no, if any */
    struct verdict unknown;
    const struct align_entry *first; /* first that answers yes */
    struct round_mark marks[TIDE_DISKS_MAX];
    size_t count;
};

static void judge_no(struct judge *judge, enum align_why why, const struct id *where)
{
    if (judge->no.answer != ROUND_ANSWER_NO) {
        judge->no = verdict(ROUND_ANSWER_NO, why, where);
    }
}

static void judge_unknown(struct judge *judge, enum align_why why, const struct id *where)
{
    if (judge->unknown.why == ALIGN_WHY_NONE) {
        judge->unknown = verdict(ROUND_ANSWER_UNKNOWN, why, where);
    }
}

static void judge_entry(struct judge *judge, const struct align_entry *entry)
{
    const struct id *where = &entry->mark.stream;
    switch (entry->answer) {
    case ROUND_ANSWER_NO:
        judge_no(judge, entry->why, where);
        return;
    case ROUND_ANSWER_UNKNOWN:
        judge_unknown(judge, entry->why, where);
        return;
    case ROUND_ANSWER_YES:
        break;
    }
    if (judge->first == NULL) {
        judge->first = entry;
    }
    if (!hash_equal(&entry->cut, &judge->first->cut) && !PLANTED_BLIND &&
        !PLANTED(SEALS_NOT_COMPARED)) {
        judge_no(judge, ALIGN_WHY_SEALS_DIFFER, where);
    }
    if (entry->unheld != judge->first->unheld) {
        judge_no(judge, ALIGN_WHY_HOLD_MIXED, where);
    }
    TIDE_CHECK(judge->count < TIDE_DISKS_MAX);
    judge->marks[judge->count++] = entry->mark;
}

/* After all streams of the set were taken. */
static struct verdict judge_end(const struct judge *judge, const struct round_order *order)
{
    if (judge->no.answer == ROUND_ANSWER_NO) {
        return judge->no;
    }
    if (judge->unknown.why != ALIGN_WHY_NONE) {
        return judge->unknown;
    }
    TIDE_CHECK(judge->first != NULL &&
               (judge->count == set_size(&order->set) || PLANTED(SET_TOO_WIDE)));
    struct hash hash = round_cut_hash(order, judge->marks, judge->count);
    if (!hash_equal(&hash, &judge->first->cut) && !PLANTED_BLIND && !PLANTED(H_NOT_COMPARED)) {
        return verdict(ROUND_ANSWER_NO, ALIGN_WHY_HASH_DIFFERS, NULL);
    }
    struct verdict v = verdict(ROUND_ANSWER_YES, ALIGN_WHY_HELD, NULL);
    if (judge->first->unheld) {
        v = verdict(ROUND_ANSWER_NO, ALIGN_WHY_UNHELD, NULL);
        v.unaligned = true;
    }
    v.cut = hash;
    return v;
}

/* Whether the stream's first bookmark of this id is in a round with another order. */
static bool named_otherwise(const struct align *align, const struct round *round,
                            const struct id *stream)
{
    const struct round *other;
    LIST_FOREACH(other, &align->round_buckets[bucket_of(&round->view.order.round)], bucket)
    {
        if (other != round && id_equal(&other->view.order.round, &round->view.order.round) &&
            align_entry(&other->view, stream) != NULL) {
            return true;
        }
    }
    return false;
}

static struct verdict judge_defined(const struct align *align, const struct round *round,
                                    const struct definition_streams *definition)
{
    const struct round_order *order = &round->view.order;
    if (!id_equal(&order->group, &definition->group)) {
        return verdict(ROUND_ANSWER_NO, ALIGN_WHY_GROUP, NULL);
    }
    if (order->set.count != definition->count) {
        return verdict(ROUND_ANSWER_NO, ALIGN_WHY_SET_SIZE, NULL);
    }
    struct judge judge;
    memset(&judge, 0, sizeof judge);
    for (unsigned disk = 0; disk < definition->count; disk++) {
        if (!set_has(&order->set, disk)) {
            continue;
        }
        const struct id *stream = &definition->streams[disk];
        const struct align_entry *entry = align_entry(&round->view, stream);
        if (entry != NULL) {
            judge_entry(&judge, entry);
        } else if (named_otherwise(align, round, stream)) {
            judge_no(&judge, ALIGN_WHY_OTHER_ORDER, stream);
        } else if (PLANTED(MISSING_IS_NO)) {
            judge_no(&judge, ALIGN_WHY_NO_BOOKMARK, stream);
        } else if (!PLANTED(SET_TOO_WIDE)) {
            judge_unknown(&judge, ALIGN_WHY_NO_BOOKMARK, stream);
        }
    }
    return judge_end(&judge, order);
}

static struct verdict judge_undefined(const struct round *round)
{
    const struct align_round *view = &round->view;
    size_t need = set_size(&view->order.set);
    if (view->entry_count > need) {
        return verdict(ROUND_ANSWER_UNKNOWN, ALIGN_WHY_TOO_MANY, NULL);
    }
    struct judge judge;
    memset(&judge, 0, sizeof judge);
    for (size_t i = 0; i < view->entry_count; i++) {
        judge_entry(&judge, &view->entries[i]);
    }
    if (view->entry_count < need) {
        judge_unknown(&judge, ALIGN_WHY_NO_BOOKMARK, NULL);
    }
    return judge_end(&judge, &view->order);
}

static const struct definition_streams *find_definition(const struct align *align,
                                                        const struct epoch *epoch)
{
    for (size_t i = 0; i < align->definition_count; i++) {
        if (PLANTED(LATEST_DEFINITION) ? i + 1 == align->definition_count
                                       : epoch_equal(&align->definitions[i].epoch, epoch)) {
            return &align->definitions[i];
        }
    }
    return NULL;
}

static void judge_round(struct align *align, struct round *round)
{
    struct align_round *view = &round->view;
    if (view->answer != ROUND_ANSWER_UNKNOWN) {
        return;
    }
    const struct definition_streams *definition = find_definition(align, &view->order.epoch);
    struct verdict v;
    if (definition != NULL) {
        v = judge_defined(align, round, definition);
    } else if (align->need_definitions) {
        v = verdict(ROUND_ANSWER_UNKNOWN, ALIGN_WHY_NO_DEFINITION, NULL);
    } else {
        v = judge_undefined(round);
    }
    view->defined = definition != NULL;
    view->why = v.why;
    view->where = v.where;
    view->answer = v.answer;
    view->unaligned = v.unaligned;
    view->cut = v.cut;
    if (v.answer == ROUND_ANSWER_UNKNOWN) {
        return;
    }
    round->queued = true;
    TAILQ_INSERT_TAIL(&align->decided, round, decided);
}

/* Every round that carries this id, for what happened may decide any of them. */
static void judge_named(struct align *align, const struct id *id)
{
    struct round *round;
    LIST_FOREACH(round, &align->round_buckets[bucket_of(id)], bucket)
    {
        if (id_equal(&round->view.order.round, id)) {
            judge_round(align, round);
        }
    }
}

/* ---- definitions ---- */

int align_define(struct align *align, const struct definition *definition, struct err *err)
{
    if (find_definition(align, &definition->epoch) != NULL && !PLANTED(LATEST_DEFINITION)) {
        return 0;
    }
    TIDE_CHECK(definition->disk_count > 0 && definition->disk_count <= TIDE_DISKS_MAX);
    struct id *streams = malloc(definition->disk_count * sizeof *streams);
    if (streams == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "alignment: out of memory");
    }
    for (unsigned i = 0; i < definition->disk_count; i++) {
        streams[i] = definition->disks[i].stream;
    }
    if (align->definition_count == TIDE_ALIGN_EPOCHS_MAX) {
        free(align->definitions[0].streams);
        memmove(&align->definitions[0], &align->definitions[1],
                (TIDE_ALIGN_EPOCHS_MAX - 1) * sizeof align->definitions[0]);
        align->definition_count--;
    }
    align->definitions[align->definition_count++] =
        (struct definition_streams){.group = definition->group,
                                    .epoch = definition->epoch,
                                    .count = definition->disk_count,
                                    .streams = streams};
    for (size_t i = 0; i < align->round_count; i++) {
        if (epoch_equal(&align->rounds[i]->view.order.epoch, &definition->epoch)) {
            judge_round(align, align->rounds[i]);
        }
    }
    return 0;
}

/* ---- rounds in memory ---- */

static struct round *round_find(const struct align *align, const struct round_order *order)
{
    struct round *round;
    LIST_FOREACH(round, &align->round_buckets[bucket_of(&order->round)], bucket)
    {
        if (order_equal(&round->view.order, order)) {
            return round;
        }
    }
    return NULL;
}

static bool is_gone(const struct align *align, const struct id *id)
{
    for (size_t i = 0; i < align->gone_count; i++) {
        if (id_equal(&align->gone[i], id)) {
            return true;
        }
    }
    return false;
}

/* Drops the round at index; room for its id was reserved. */
static void round_drop(struct align *align, size_t index)
{
    struct round *round = align->rounds[index];
    size_t gone_max = align->rounds_max * DROPPED_OF;
    for (size_t i = 0; i < round->view.entry_count; i++) {
        struct stream *stream = stream_find(align, &round->entries[i].mark.stream);
        if (stream != NULL && stream->open == round) {
            stream->open = NULL;
        }
    }
    align->dropped += round->view.answer == ROUND_ANSWER_UNKNOWN ? 1 : 0;
    if (round->queued) {
        TAILQ_REMOVE(&align->decided, round, decided);
    }
    LIST_REMOVE(round, bucket);
    align->gone[align->gone_next] = round->view.order.round;
    align->gone_next = (align->gone_next + 1) % gone_max;
    align->gone_count += align->gone_count < gone_max ? 1 : 0;
    align->round_count--;
    memmove(&align->rounds[index], &align->rounds[index + 1],
            (align->round_count - index) * sizeof(struct round *));
    round_free(round);
}

/* Which to drop: the oldest that is decided and drained, or the oldest. */
static size_t round_oldest(const struct align *align)
{
    for (size_t i = 0; i < align->round_count; i++) {
        if (align->rounds[i]->view.answer != ROUND_ANSWER_UNKNOWN && !align->rounds[i]->queued) {
            return i;
        }
    }
    return 0;
}

/* The round of this order with room for one more entry; made where it is new. NULL: no memory, and
 * nothing has changed. */
static struct round *round_get(struct align *align, const struct round_order *order,
                               struct err *err)
{
    struct round *round = round_find(align, order);
    bool fresh = round == NULL;
    bool full = fresh && align->round_count >= align->rounds_max;
    void *rounds = align->rounds;
    void *gone = align->gone;
    if (reserve(&rounds, &align->round_capacity, align->round_count + 1, sizeof(struct round *),
                err) != 0) {
        return NULL;
    }
    align->rounds = rounds;
    if (full && align->gone_count < align->rounds_max * DROPPED_OF &&
        reserve(&gone, &align->gone_capacity, align->gone_count + 1, sizeof(struct id), err) != 0) {
        return NULL;
    }
    align->gone = gone;
    if (fresh) {
        round = calloc(1, sizeof *round);
        if (round == NULL) {
            err_set(err, TIDE_ERR_LIMIT, "alignment: out of memory");
            return NULL;
        }
    }
    void *entries = round->entries;
    if (reserve(&entries, &round->capacity, round->view.entry_count + 1, sizeof(struct align_entry),
                err) != 0) {
        if (fresh) {
            round_free(round);
        }
        return NULL;
    }
    round->entries = entries;
    round->view.entries = round->entries;
    if (fresh) {
        if (full) {
            round_drop(align, round_oldest(align));
        }
        round->view.order = *order;
        round->view.partial = !set_is_full(&order->set) && !PLANTED(PARTIAL_AS_FULL);
        round->view.why = ALIGN_WHY_NO_BOOKMARK;
        align->rounds[align->round_count++] = round;
        LIST_INSERT_HEAD(&align->round_buckets[bucket_of(&order->round)], round, bucket);
    }
    return round;
}

/* ---- what a record does ---- */

/* Ends the wait for the answer of the stream's open bookmark. */
static void close_open(struct align *align, struct stream *stream, enum round_answer answer,
                       enum align_why why)
{
    struct round *round = stream->open;
    if (round == NULL) {
        return;
    }
    stream->open = NULL;
    struct align_entry *entry = &round->entries[stream->open_entry];
    entry->answer = answer;
    entry->why = why;
    if (answer == ROUND_ANSWER_UNKNOWN) {
        return;
    }
    if (answer == ROUND_ANSWER_YES) {
        if (round->yes++ == 0) {
            round->yes_first = stream->open_entry;
        }
        const struct align_entry *first = &round->entries[round->yes_first];
        round->mixed =
            round->mixed || first->unheld != entry->unheld || !hash_equal(&first->cut, &entry->cut);
    }
    /* Looking at all streams for each seal would be quadratic in large groups. */
    if (answer == ROUND_ANSWER_NO || round->mixed ||
        round->yes >= set_size(&round->view.order.set)) {
        judge_round(align, round);
    }
}

static void on_seal(struct align *align, struct stream *stream, const struct record *record)
{
    if (stream->open == NULL) {
        return;
    }
    struct align_entry *entry = &stream->open->entries[stream->open_entry];
    const struct record_seal *seal = &record->seal;
    if (record->incarnation != entry->mark.incarnation || seal->bookmark_lsn != entry->mark.lsn) {
        return; /* of another bookmark */
    }
    entry->seal_lsn = record->lsn;
    entry->outcome = seal->outcome;
    entry->cut = seal->cut;
    entry->hold_us = seal->hold_us;
    entry->writes_held = seal->writes_held;
    entry->bytes_held = seal->bytes_held;
    enum round_answer answer = ROUND_ANSWER_NO;
    enum align_why why = ALIGN_WHY_NONE;
    switch (seal->outcome) {
    case ROUND_OUTCOME_EXPIRED:
        answer = PLANTED(EXPIRED_COUNTS) ? ROUND_ANSWER_YES : ROUND_ANSWER_NO;
        why = ALIGN_WHY_EXPIRED;
        break;
    case ROUND_OUTCOME_ABORTED:
        answer = PLANTED(ABORTED_COUNTS) ? ROUND_ANSWER_YES : ROUND_ANSWER_NO;
        why = ALIGN_WHY_ABORTED;
        break;
    case ROUND_OUTCOME_HELD:
    case ROUND_OUTCOME_UNHELD:
        if ((seal->outcome == ROUND_OUTCOME_UNHELD) != entry->unheld) {
            why = ALIGN_WHY_SEAL_CONTRADICTS;
        } else {
            answer = ROUND_ANSWER_YES;
            why = entry->unheld ? ALIGN_WHY_UNHELD : ALIGN_WHY_HELD;
        }
        break;
    }
    if (!id_equal(&seal->round, &stream->open->view.order.round)) {
        answer = ROUND_ANSWER_NO;
        why = ALIGN_WHY_SEAL_ROUND;
    }
    if (answer == ROUND_ANSWER_YES && stream->open_whole != ROUND_ANSWER_YES) {
        answer = ROUND_ANSWER_UNKNOWN;
        why = ALIGN_WHY_NO_BEGINNING;
    }
    close_open(align, stream, answer, why);
}

/* Whether the stream has named this round before, in any order. */
static bool has_named(const struct align *align, const struct id *round, const struct id *stream)
{
    const struct round *other;
    LIST_FOREACH(other, &align->round_buckets[bucket_of(round)], bucket)
    {
        if (id_equal(&other->view.order.round, round) &&
            align_entry(&other->view, stream) != NULL && !PLANTED(LAST_BOOKMARK)) {
            return true;
        }
    }
    return false;
}

static int on_bookmark(struct align *align, struct stream *stream, const struct record *record,
                       struct err *err)
{
    const struct record_bookmark *b = &record->bookmark;
    const struct round_order *order = &b->order;
    bool counts = (align->any_group || id_equal(&order->group, &align->group)) &&
                  !is_gone(align, &order->round) &&
                  !has_named(align, &order->round, &record->stream);
    struct round *round = NULL;
    if (counts) {
        round = round_get(align, order, err);
        if (round == NULL) {
            return -1;
        }
    }
    close_open(align, stream, ROUND_ANSWER_NO, ALIGN_WHY_BOOKMARK);
    if (round == NULL) {
        return 0;
    }
    bool passed = PLANTED_EITHER(READER_WHOLE, WHOLE_IGNORED);
    bool whole = stream->whole.answer != ROUND_ANSWER_NO || passed;
    round->entries[round->view.entry_count] = (struct align_entry){
        .mark = {.stream = record->stream,
                 .incarnation = record->incarnation,
                 .lsn = record->lsn,
                 .nonce = b->nonce},
        .answer = whole ? ROUND_ANSWER_UNKNOWN : ROUND_ANSWER_NO,
        .why = whole ? ALIGN_WHY_NO_SEAL : ALIGN_WHY_NOT_WHOLE,
        .unheld = b->unheld,
        .quiesce = b->quiesce,
        .budget_us = b->budget_us,
        .wall_ns = b->wall_ns,
        .wall_error_us = b->wall_error_us,
        .quiesce_proof = b->quiesce_proof,
    };
    if (whole) {
        stream->open = round;
        stream->open_entry = round->view.entry_count;
        stream->open_whole = passed ? ROUND_ANSWER_YES : stream->whole.answer;
    }
    round->view.entry_count++;
    bool alone = LIST_NEXT(round, bucket) == NULL &&
                 LIST_FIRST(&align->round_buckets[bucket_of(&order->round)]) == round;
    if (!whole || !alone || round->view.entry_count == 1) {
        judge_named(align, &order->round);
    }
    return 0;
}

int align_feed(struct align *align, const struct record *record, struct err *err)
{
    if (!whole_wants(record->type) && record->type != RECORD_BOOKMARK &&
        record->type != RECORD_SEAL) {
        return 0;
    }
    struct stream *stream = stream_get(align, &record->stream, err);
    if (stream == NULL) {
        return -1;
    }
    if (record->lsn <= stream->lsn && !PLANTED(REREAD_COUNTS)) {
        return 0;
    }
    if (record->type == RECORD_BOOKMARK) {
        if (on_bookmark(align, stream, record, err) != 0) {
            return -1;
        }
    } else if (record->type == RECORD_SEAL) {
        on_seal(align, stream, record);
    } else if (record->type == RECORD_GAP) {
        close_open(align, stream, ROUND_ANSWER_NO, ALIGN_WHY_GAP);
    } else if (record->type == RECORD_ATTACH && !PLANTED(ATTACH_PASSED)) {
        close_open(align, stream, ROUND_ANSWER_NO, ALIGN_WHY_ATTACH);
    }
    whole_feed(&stream->whole, record);
    stream->lsn = record->lsn;
    stream->incarnation = record->incarnation;
    return 0;
}

/* ---- questions ---- */

const struct align_round *align_next_decided(struct align *align)
{
    struct round *round = TAILQ_FIRST(&align->decided);
    if (round == NULL) {
        return NULL;
    }
    TAILQ_REMOVE(&align->decided, round, decided);
    round->queued = false;
    return &round->view;
}

void align_give_back(struct align *align, const struct align_round *view)
{
    struct round *round =
        (struct round *)((uint8_t *)(uintptr_t)view - offsetof(struct round, view));
    TIDE_CHECK(!round->queued);
    round->queued = true;
    TAILQ_INSERT_HEAD(&align->decided, round, decided);
}

size_t align_count(const struct align *align)
{
    return align->round_count;
}

/* For an unknown round, why it is so now: kept up only when someone asks. Decides nothing: what
 * could decide has judged the round when it happened. */
static void refresh(const struct align *align, struct round *round)
{
    if (round->view.answer == ROUND_ANSWER_UNKNOWN) {
        judge_round((struct align *)(uintptr_t)align, round);
    }
}

const struct align_round *align_at(const struct align *align, size_t index)
{
    TIDE_CHECK(index < align->round_count);
    refresh(align, align->rounds[index]);
    return &align->rounds[index]->view;
}

static int rank(const struct align_round *view)
{
    switch (view->answer) {
    case ROUND_ANSWER_YES:
        return 3;
    case ROUND_ANSWER_UNKNOWN:
        return 2;
    case ROUND_ANSWER_NO:
        break;
    }
    return 1;
}

const struct align_round *align_find(const struct align *align, const struct id *round)
{
    struct round *best = NULL;
    struct round *at;
    LIST_FOREACH(at, &align->round_buckets[bucket_of(round)], bucket)
    {
        /* newest first in a bucket: an equal rank further on is older */
        if (id_equal(&at->view.order.round, round) &&
            (best == NULL || rank(&at->view) >= rank(&best->view))) {
            best = at;
        }
    }
    if (best == NULL) {
        return NULL;
    }
    refresh(align, best);
    return &best->view;
}

uint64_t align_dropped(const struct align *align)
{
    return align->dropped;
}

enum round_answer align_stream(const struct align *align, const struct id *stream,
                               uint64_t *ret_lsn, uint64_t *ret_incarnation)
{
    const struct stream *found = stream_find(align, stream);
    *ret_lsn = found == NULL ? 0 : found->lsn;
    *ret_incarnation = found == NULL ? 0 : found->incarnation;
    return found == NULL ? ROUND_ANSWER_UNKNOWN : found->whole.answer;
}
