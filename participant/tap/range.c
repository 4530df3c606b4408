/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/tap/range.h"

#include "common/core/check.h"

#include <stddef.h>

void range_init(struct range *range)
{
    TIDE_CHECK(pthread_mutex_init(&range->mutex, NULL) == 0);
    TIDE_CHECK(pthread_cond_init(&range->changed, NULL) == 0);
    TAILQ_INIT(&range->nodes);
    range->waiting = 0;
}

void range_close(struct range *range)
{
    TIDE_CHECK(TAILQ_EMPTY(&range->nodes));
    pthread_cond_destroy(&range->changed);
    pthread_mutex_destroy(&range->mutex);
}

static bool blocked(const struct range *range, const struct range_node *node)
{
    const struct range_node *other = NULL;
    TAILQ_FOREACH(other, &range->nodes, entry)
    {
        if (other == node) {
            return false;
        }
        if (other->offset < node->end && node->offset < other->end) {
            return true;
        }
    }
    TIDE_CHECK(false);
    return true;
}

void range_lock(struct range *range, struct range_node *node, uint64_t offset, uint64_t size)
{
    TIDE_CHECK(size > 0 && offset + size > offset);
    *node = (struct range_node){.offset = offset, .end = offset + size};
    pthread_mutex_lock(&range->mutex);
    TAILQ_INSERT_TAIL(&range->nodes, node, entry);
    while (blocked(range, node)) {
        range->waiting++;
        pthread_cond_wait(&range->changed, &range->mutex);
        range->waiting--;
    }
    pthread_mutex_unlock(&range->mutex);
}

void range_unlock(struct range *range, struct range_node *node)
{
    pthread_mutex_lock(&range->mutex);
    TAILQ_REMOVE(&range->nodes, node, entry);
    if (range->waiting > 0) {
        pthread_cond_broadcast(&range->changed);
    }
    pthread_mutex_unlock(&range->mutex);
}

void range_logged(struct range *range, struct range_node *node, uint64_t lsn, uint64_t position)
{
    pthread_mutex_lock(&range->mutex);
    node->lsn = lsn;
    node->position = position;
    pthread_mutex_unlock(&range->mutex);
}

static const struct range_node *oldest(const struct range *range)
{
    const struct range_node *node = NULL;
    const struct range_node *found = NULL;
    TAILQ_FOREACH(node, &range->nodes, entry)
    {
        if (node->lsn != 0 && (found == NULL || node->lsn < found->lsn)) {
            found = node;
        }
    }
    return found;
}

bool range_oldest(struct range *range, uint64_t *ret_lsn, uint64_t *ret_position)
{
    pthread_mutex_lock(&range->mutex);
    const struct range_node *node = oldest(range);
    if (node != NULL) {
        *ret_lsn = node->lsn;
        *ret_position = node->position;
    }
    pthread_mutex_unlock(&range->mutex);
    return node != NULL;
}

void range_drain(struct range *range)
{
    pthread_mutex_lock(&range->mutex);
    while (oldest(range) != NULL) {
        range->waiting++;
        pthread_cond_wait(&range->changed, &range->mutex);
        range->waiting--;
    }
    pthread_mutex_unlock(&range->mutex);
}
