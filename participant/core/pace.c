/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/core/pace.h"

#include "common/core/check.h"

static uint32_t second_longest(const struct pace_window *window)
{
    uint32_t first = 0;
    uint32_t second = 0;
    for (unsigned i = 0; i < window->count; i++) {
        if (window->us[i] > first) {
            second = first;
            first = window->us[i];
        } else if (window->us[i] > second) {
            second = window->us[i];
        }
    }
    return second;
}

static void add(struct pace_window *window, uint64_t us)
{
    window->us[window->next] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    window->next = (window->next + 1) % TIDE_PACE_WINDOW;
    window->count += window->count < TIDE_PACE_WINDOW;
    window->high_us = window->count < 2 ? 0 : second_longest(window);
}

uint64_t pace_answer_us(const struct pace *pace, unsigned member)
{
    TIDE_CHECK(member < TIDE_MEMBERS_MAX);
    return pace->answers[member].high_us;
}

uint64_t pace_rest_us(const struct pace *pace)
{
    return pace->rest.high_us;
}

unsigned pace_answers(const struct pace *pace, unsigned member)
{
    TIDE_CHECK(member < TIDE_MEMBERS_MAX);
    return pace->answers[member].count;
}

uint64_t pace_expected_us(const struct pace *pace, unsigned member)
{
    uint64_t answer_us = pace_answer_us(pace, member);
    return answer_us == 0 ? 0 : answer_us + pace_rest_us(pace);
}

bool pace_slow(const struct pace *pace, unsigned member, uint32_t budget_us)
{
    return pace_expected_us(pace, member) > budget_us;
}

void pace_forget(struct pace *pace, unsigned member)
{
    TIDE_CHECK(member < TIDE_MEMBERS_MAX);
    pace->answers[member] = (struct pace_window){.count = 0};
}

void pace_answered(struct pace *pace, unsigned member, uint64_t us, uint32_t budget_us)
{
    TIDE_CHECK(member < TIDE_MEMBERS_MAX);
    struct pace_window *window = &pace->answers[member];
    if (pace_slow(pace, member, budget_us) && us + pace_rest_us(pace) <= budget_us) {
        pace_forget(pace, member);
    }
    add(window, us);
}

void pace_rest(struct pace *pace, uint64_t us)
{
    add(&pace->rest, us);
}
