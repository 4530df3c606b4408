/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/canary.h"

#include <inttypes.h>
#include <string.h>

#include "common/core/bytes.h"
#include "common/core/check.h"
#include "common/core/prng.h"
#include "common/core/sha.h"

#define CANARY_BODY (CANARY_BLOCK - TIDE_HASH_SIZE)

static const char canary_header_magic[8] = {'T', 'I', 'D', 'E', 'C', 'N', 'H', '1'};
static const char canary_step_magic[8] = {'T', 'I', 'D', 'E', 'C', 'N', 'S', '1'};

int canary_config_check(const struct canary_config *config, struct err *err)
{
    if (config->writers < 1 || config->writers > CANARY_WRITERS_MAX)
        return err_set(err, TIDE_ERR_LIMIT, "%" PRIu32 " writers: must be 1 to %u", config->writers,
                       CANARY_WRITERS_MAX);
    if (config->tokens < 1 || config->tokens > CANARY_TOKENS_MAX)
        return err_set(err, TIDE_ERR_LIMIT, "%" PRIu32 " tokens: must be 1 to %u", config->tokens,
                       CANARY_TOKENS_MAX);
    if (config->slots < 1 || config->slots > CANARY_SLOTS_MAX)
        return err_set(err, TIDE_ERR_LIMIT, "%" PRIu32 " slots: must be 1 to %u", config->slots,
                       CANARY_SLOTS_MAX);
    if ((uint64_t)config->writers * config->tokens * config->slots > CANARY_MARKS_MAX)
        return err_set(err, TIDE_ERR_LIMIT,
                       "%" PRIu32 " writers, %" PRIu32 " tokens, %" PRIu32
                       " slots: their product must be at most %u",
                       config->writers, config->tokens, config->slots, CANARY_MARKS_MAX);
    return 0;
}

size_t canary_file_size(const struct canary_config *config)
{
    return (1 + (size_t)config->tokens * config->slots) * CANARY_BLOCK;
}

uint32_t canary_writer(const struct canary_config *config, uint32_t token, uint64_t step)
{
    return (uint32_t)((step % config->writers + token) % config->writers);
}

uint32_t canary_slot(const struct canary_config *config, uint64_t step)
{
    return (uint32_t)(step / config->writers % config->slots);
}

uint64_t canary_offset(uint32_t slots, uint32_t token, uint32_t slot)
{
    return (1 + (uint64_t)token * slots + slot) * CANARY_BLOCK;
}

size_t canary_mark_index(const struct canary_config *config, uint32_t token, uint32_t writer,
                         uint32_t slot)
{
    TIDE_CHECK(token < config->tokens && writer < config->writers && slot < config->slots);
    return ((size_t)token * config->writers + writer) * config->slots + slot;
}

void canary_header_encode(const struct canary_config *config, uint32_t writer,
                          uint8_t ret_block[CANARY_BLOCK])
{
    struct bytes_writer w = bytes_writer(ret_block, CANARY_BLOCK);
    bytes_put(&w, canary_header_magic, sizeof(canary_header_magic));
    bytes_put_u32(&w, CANARY_VERSION);
    bytes_put_u32(&w, writer);
    bytes_put(&w, config->run.b, sizeof(config->run.b));
    bytes_put_u32(&w, config->writers);
    bytes_put_u32(&w, config->tokens);
    bytes_put_u32(&w, config->slots);
    bytes_put_u32(&w, config->fsync ? 1 : 0);
    bytes_put_zero(&w, CANARY_BODY - w.used);
    struct hash self = sha_of(ret_block, CANARY_BODY);
    bytes_put(&w, self.b, sizeof(self.b));
    TIDE_CHECK(!w.failed);
}

static bool canary_whole(const uint8_t block[CANARY_BLOCK], struct hash *ret_self)
{
    struct hash self = sha_of(block, CANARY_BODY);
    *ret_self = self;
    return memcmp(self.b, block + CANARY_BODY, sizeof(self.b)) == 0;
}

int canary_header_decode(const uint8_t block[CANARY_BLOCK], struct canary_config *ret_config,
                         uint32_t *ret_writer, struct err *err)
{
    if (memcmp(block, canary_header_magic, sizeof(canary_header_magic)) != 0)
        return err_set(err, TIDE_ERR_CORRUPT, "block 0 is not a canary header");
    struct hash self;
    if (!canary_whole(block, &self))
        return err_set(err, TIDE_ERR_CORRUPT, "block 0: the header's checksum is wrong");
    struct bytes_reader r = bytes_reader(block, CANARY_BODY);
    bytes_skip(&r, sizeof(canary_header_magic));
    uint32_t version = bytes_get_u32(&r);
    if (version != CANARY_VERSION)
        return err_set(err, TIDE_ERR_VERSION,
                       "canary version %" PRIu32 ": this build knows %u; use the one that wrote it",
                       version, CANARY_VERSION);
    struct canary_config config = {0};
    uint32_t writer = bytes_get_u32(&r);
    bytes_get(&r, config.run.b, sizeof(config.run.b));
    config.writers = bytes_get_u32(&r);
    config.tokens = bytes_get_u32(&r);
    config.slots = bytes_get_u32(&r);
    config.fsync = bytes_get_u32(&r) == 1;
    if (canary_config_check(&config, err) != 0) {
        if (err != NULL)
            err->code = TIDE_ERR_CORRUPT;
        return err_wrap(err, "block 0");
    }
    if (writer >= config.writers)
        return err_set(err, TIDE_ERR_CORRUPT, "block 0: writer %" PRIu32 " of %" PRIu32, writer,
                       config.writers);
    *ret_config = config;
    *ret_writer = writer;
    return 0;
}

struct hash canary_step_encode(const struct canary_config *config, const struct canary_step *step,
                               uint8_t ret_block[CANARY_BLOCK])
{
    struct bytes_writer w = bytes_writer(ret_block, CANARY_BLOCK);
    bytes_put(&w, canary_step_magic, sizeof(canary_step_magic));
    bytes_put_u32(&w, CANARY_VERSION);
    bytes_put_u32(&w, step->writer);
    bytes_put(&w, config->run.b, sizeof(config->run.b));
    bytes_put_u32(&w, step->token);
    bytes_put_u32(&w, 0);
    bytes_put_u64(&w, step->step);
    bytes_put_u64(&w, step->mono_ns);
    bytes_put(&w, step->cause.b, sizeof(step->cause.b));
    /* No two steps have a sector in common, so half a block is never a whole one. */
    struct prng prng;
    prng_init(&prng, step->step * CANARY_TOKENS_MAX + step->token);
    while (w.used + sizeof(uint64_t) <= CANARY_BODY)
        bytes_put_u64(&w, prng_next(&prng));
    bytes_put_zero(&w, CANARY_BODY - w.used);
    struct hash self = sha_of(ret_block, CANARY_BODY);
    bytes_put(&w, self.b, sizeof(self.b));
    TIDE_CHECK(!w.failed);
    return self;
}

int canary_step_decode(const struct canary_config *config, uint32_t writer, uint32_t token,
                       uint32_t slot, const uint8_t block[CANARY_BLOCK], struct canary_mark *ret,
                       struct err *err)
{
    struct canary_mark mark = {.present = true};
    if (memcmp(block, canary_step_magic, sizeof(canary_step_magic)) != 0)
        return err_set(err, TIDE_ERR_CORRUPT,
                       "token %" PRIu32 ", slot %" PRIu32 ": not a step's block", token, slot);
    if (!canary_whole(block, &mark.self))
        return err_set(err, TIDE_ERR_CORRUPT,
                       "token %" PRIu32 ", slot %" PRIu32
                       ": the block's checksum is wrong (a torn or changed write)",
                       token, slot);
    struct bytes_reader r = bytes_reader(block, CANARY_BODY);
    bytes_skip(&r, sizeof(canary_step_magic));
    uint32_t version = bytes_get_u32(&r);
    if (version != CANARY_VERSION)
        return err_set(err, TIDE_ERR_VERSION,
                       "canary version %" PRIu32 ": this build knows %u; use the one that wrote it",
                       version, CANARY_VERSION);
    uint32_t found_writer = bytes_get_u32(&r);
    struct id run;
    bytes_get(&r, run.b, sizeof(run.b));
    uint32_t found_token = bytes_get_u32(&r);
    bytes_skip(&r, sizeof(uint32_t));
    mark.step = bytes_get_u64(&r);
    bytes_skip(&r, sizeof(uint64_t));
    bytes_get(&r, mark.cause.b, sizeof(mark.cause.b));
    if (!id_equal(&run, &config->run)) {
        char run_hex[TIDE_ID_HEX];
        char due_hex[TIDE_ID_HEX];
        return err_set(err, TIDE_ERR_CONFLICT,
                       "token %" PRIu32 ", slot %" PRIu32 ": a block of run %s in a file of run %s",
                       token, slot, id_hex(&run, run_hex), id_hex(&config->run, due_hex));
    }
    bool placed = found_writer == writer && found_token == token;
    if (placed && mark.step != CANARY_STEP_NONE)
        placed = canary_writer(config, token, mark.step) == writer &&
                 canary_slot(config, mark.step) == slot;
    if (!placed)
        return err_set(err, TIDE_ERR_CORRUPT,
                       "token %" PRIu32 ", slot %" PRIu32 " of writer %" PRIu32
                       ": holds step %" PRIu64 " of token %" PRIu32 " by writer %" PRIu32
                       ", which does not belong there",
                       token, slot, writer, mark.step, found_token, found_writer);
    mark.present = mark.step != CANARY_STEP_NONE;
    *ret = mark;
    return 0;
}

static const struct canary_mark *canary_find(const struct canary_config *config,
                                             const struct canary_mark *marks, uint32_t token,
                                             uint64_t step)
{
    uint32_t writer = canary_writer(config, token, step);
    const struct canary_mark *mark =
        &marks[canary_mark_index(config, token, writer, canary_slot(config, step))];
    return mark->present && mark->step == step ? mark : NULL;
}

/* The steps that must be there: from the lowest that no later step overwrote, to the highest. */
static int canary_judge_token(const struct canary_config *config, const struct canary_mark *marks,
                              uint32_t token, struct canary_verdict *verdict, struct err *err)
{
    uint64_t last = CANARY_STEP_NONE;
    size_t per_token = (size_t)config->writers * config->slots;
    const struct canary_mark *first = &marks[canary_mark_index(config, token, 0, 0)];
    for (size_t k = 0; k < per_token; k++)
        if (first[k].present && (last == CANARY_STEP_NONE || first[k].step > last))
            last = first[k].step;
    verdict->last[token] = last;
    if (last == CANARY_STEP_NONE)
        return 0;
    uint64_t from = last >= per_token ? last - per_token + 1 : 0;
    const struct canary_mark *cause = canary_find(config, marks, token, from);
    for (uint64_t step = from + 1; step <= last; step++) {
        const struct canary_mark *effect = canary_find(config, marks, token, step);
        if (effect != NULL && cause == NULL) {
            verdict->tear[verdict->tears++] =
                (struct canary_tear){.token = token,
                                     .effect = step,
                                     .cause = step - 1,
                                     .effect_writer = canary_writer(config, token, step),
                                     .cause_writer = canary_writer(config, token, step - 1)};
            return 0;
        }
        if (effect != NULL && !hash_equal(&effect->cause, &cause->self))
            return err_set(err, TIDE_ERR_CORRUPT,
                           "token %" PRIu32 ": step %" PRIu64
                           " was written after another step %" PRIu64
                           " than the one that is there: files of two runs are mixed",
                           token, step, step - 1);
        cause = effect;
    }
    verdict->steps += last + 1;
    return 0;
}

int canary_judge(const struct canary_config *config, const struct canary_mark *marks,
                 struct canary_verdict *ret, struct err *err)
{
    struct canary_verdict verdict = {0};
    for (uint32_t token = 0; token < config->tokens; token++)
        if (canary_judge_token(config, marks, token, &verdict, err) != 0)
            return -1;
    *ret = verdict;
    return 0;
}
