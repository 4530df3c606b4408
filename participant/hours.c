/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/hours.h"

#include <stdio.h>
#include <string.h>

#include "common/io/config.h"

#define FORM "expected HH:MM-HH:MM SIZE[, HH:MM-HH:MM SIZE...], where SIZE may be off"

int hours_parse_size(const char *text, uint64_t *ret, struct err *err)
{
    uint64_t size = 0;
    if (config_parse_size(text, 0, TIDE_BANDWIDTH_MAX, &size, err) != 0) {
        return -1;
    }
    if (size > 0 && size < TIDE_BANDWIDTH_MIN) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "\"%s\" bytes a second are too few; expected 0 (no limit) or 16K at least",
                       text);
    }
    *ret = size;
    return 0;
}

/* "HH:MM", 00:00 to 24:00, as minutes; NULL, or behind it. */
static const char *parse_time(const char *at, uint16_t *ret)
{
    unsigned digits[4];
    static const unsigned places[4] = {0, 1, 3, 4};
    if (strlen(at) < 5 || at[2] != ':') {
        return NULL;
    }
    for (unsigned k = 0; k < 4; k++) {
        char c = at[places[k]];
        if (c < '0' || c > '9') {
            return NULL;
        }
        digits[k] = (unsigned)(c - '0');
    }
    unsigned hour = digits[0] * 10 + digits[1];
    unsigned minute = digits[2] * 10 + digits[3];
    if (minute > 59 || hour * 60 + minute > TIDE_BANDWIDTH_DAY) {
        return NULL;
    }
    *ret = (uint16_t)(hour * 60 + minute);
    return at + 5;
}

static int parse_one(const char *text, struct bandwidth_hours *ret, struct err *err)
{
    struct bandwidth_hours hours = {0};
    const char *at = parse_time(text, &hours.from);
    if (at != NULL && *at == '-') {
        at = parse_time(at + 1, &hours.to);
    } else {
        at = NULL;
    }
    hours.from = hours.from == TIDE_BANDWIDTH_DAY ? 0 : hours.from;
    hours.to = hours.to == 0 ? TIDE_BANDWIDTH_DAY : hours.to;
    if (at == NULL || *at != ' ' || hours.from == hours.to) {
        return err_set(err, TIDE_ERR_CONFIG, "\"%s\": " FORM, text);
    }
    at += strspn(at, " ");
    if (strcmp(at, "off") == 0) {
        hours.rule.off = true;
    } else if (hours_parse_size(at, &hours.rule.limit, err) != 0) {
        return err_wrap(err, "\"%s\"", text);
    }
    *ret = hours;
    return 0;
}

static bool overlap(const struct bandwidth_hours *a, const struct bandwidth_hours *b)
{
    return bandwidth_within(a, b->from) || bandwidth_within(b, a->from);
}

static int add(const char *text, struct bandwidth_rules *rules, struct err *err)
{
    struct bandwidth_hours hours;
    if (parse_one(text, &hours, err) != 0) {
        return -1;
    }
    if (rules->count == TIDE_BANDWIDTH_HOURS_MAX) {
        return err_set(err, TIDE_ERR_CONFIG, "more than %u hours; expected at most that",
                       TIDE_BANDWIDTH_HOURS_MAX);
    }
    for (unsigned k = 0; k < rules->count; k++) {
        if (overlap(&rules->hours[k], &hours)) {
            return err_set(err, TIDE_ERR_CONFIG,
                           "\"%s\" overlaps hours before it; expected one limit for each minute",
                           text);
        }
    }
    rules->hours[rules->count++] = hours;
    return 0;
}

int hours_parse(const char *text, struct bandwidth_rules *rules, struct err *err)
{
    for (;;) {
        char one[64];
        const char *end = strchr(text, ',');
        text += strspn(text, " ");
        size_t size = end != NULL ? (size_t)(end - text) : strlen(text);
        if (end != NULL && end < text) {
            size = 0;
        }
        while (size > 0 && text[size - 1] == ' ') {
            size--;
        }
        if (size == 0 || size >= sizeof one) {
            return err_set(err, TIDE_ERR_CONFIG, "\"%.64s\": " FORM, text);
        }
        memcpy(one, text, size);
        one[size] = '\0';
        if (add(one, rules, err) != 0) {
            return -1;
        }
        if (end == NULL) {
            return 0;
        }
        text = end + 1;
    }
}
