/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/config.h"

#include <ini.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/file.h"

#define CONFIG_SECTION_MAX 255 /* libinih cuts its own copy at 49 bytes; ours is used */

struct config_load {
    const char *path;
    const char *at; /* what is left of the file */
    int line;       /* that libinih has now */
    bool failed;
    char section[CONFIG_SECTION_MAX + 1];
    config_fn *fn;
    void *arg;
    struct err *err;
};

static bool config_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void config_fail(struct config_load *load)
{
    load->failed = true;
    err_wrap(load->err, "%s:%d", load->path, load->line);
}

/* libinih calls back for keys alone; sections are seen here, so that empty ones count too. */
static void config_begin(struct config_load *load, const char *line)
{
    const char *end = strchr(line, ']');
    if (end == NULL) {
        err_set(load->err, TIDE_ERR_CONFIG, "a section that does not end; expected \"]\"");
        config_fail(load);
        return;
    }
    size_t size = (size_t)(end - line) - 1;
    const char *rest = end + 1;
    while (config_is_space(*rest))
        rest++;
    if (size == 0 || size > CONFIG_SECTION_MAX || (*rest != 0 && *rest != ';' && *rest != '#')) {
        err_set(load->err, TIDE_ERR_CONFIG,
                "a bad section line; expected [NAME] alone, NAME of 1 to %d bytes",
                CONFIG_SECTION_MAX);
        config_fail(load);
        return;
    }
    memcpy(load->section, line + 1, size);
    load->section[size] = 0;
    const struct config_entry entry = {.section = load->section, .line = load->line};
    if (load->fn(load->arg, &entry, load->err) != 0)
        config_fail(load);
}

/* One line for libinih; NULL ends it. */
static char *config_line(char *to, int room, void *arg)
{
    struct config_load *load = arg;
    if (load->failed || *load->at == 0)
        return NULL;
    load->line++;
    size_t size = strcspn(load->at, "\n");
    const char *next = load->at + size + (load->at[size] == '\n');
    if (size > CONFIG_LINE_MAX || size + 2 >= (size_t)room) {
        err_set(load->err, TIDE_ERR_CONFIG, "a line of %zu bytes; at most %u are taken", size,
                CONFIG_LINE_MAX);
        config_fail(load);
        return NULL;
    }
    memcpy(to, load->at, size);
    to[size] = 0;
    load->at = next;
    const char *text = to;
    while (config_is_space(*text))
        text++;
    if (*text == '[')
        config_begin(load, text);
    if (load->failed)
        return NULL;
    /* libinih takes an indented line for the value's next one: hand out the line without indent. */
    memmove(to, text, strlen(text) + 1);
    size = strlen(to);
    memcpy(to + size, "\n", 2);
    return to;
}

static int config_entry_seen(void *arg, const char *section, const char *key, const char *value)
{
    struct config_load *load = arg;
    (void)section;
    if (load->failed)
        return 0;
    const struct config_entry entry = {.section = load->section,
                                       .key = key,
                                       .value = value == NULL ? "" : value,
                                       .line = load->line};
    if (load->fn(load->arg, &entry, load->err) != 0)
        config_fail(load);
    return load->failed ? 0 : 1;
}

static void config_library(void)
{
    ini_use_stack = false;
    ini_max_line = (int)CONFIG_LINE_MAX + 4;
    ini_initial_alloc = (int)CONFIG_LINE_MAX + 4;
    ini_allow_multiline = false;
    ini_allow_bom = false;
    ini_stop_on_first_error = true;
}

int config_load(const char *path, config_fn *fn, void *arg, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct err own;
    uint8_t *bytes;
    size_t size;
    if (file_read(path, CONFIG_FILE_MAX, &bytes, &size, err) != 0)
        return -1;
    (void)pthread_once(&once, config_library);
    struct config_load load = {
        .path = path, .at = (const char *)bytes, .fn = fn, .arg = arg, .err = &own};
    const uint8_t *nul = memchr(bytes, 0, size);
    if (nul != NULL) {
        int at = 1;
        for (const uint8_t *c = bytes; c < nul; c++)
            at += *c == '\n';
        free(bytes);
        return err_set(err, TIDE_ERR_CONFIG,
                       "%s:%d: a NUL byte; expected a text file: [section], key = value", path, at);
    }
    int line = ini_parse_stream(config_line, &load, config_entry_seen, &load);
    if (!load.failed && line != 0) {
        load.line = line > 0 ? line : load.line;
        err_set(&own, TIDE_ERR_CONFIG, "%s",
                line > 0 ? "not understood; expected [section], key = value, or a comment"
                         : "no memory");
        config_fail(&load);
    }
    free(bytes);
    if (!load.failed)
        return 0;
    if (err != NULL)
        *err = own;
    return -1;
}

int config_unknown(const struct config_entry *entry, const char *expected, struct err *err)
{
    if (entry->key == NULL)
        return err_set(err, TIDE_ERR_CONFIG, "unknown section [%s]; expected one of: %s",
                       entry->section, expected);
    return err_set(err, TIDE_ERR_CONFIG, "unknown key \"%s\" in section [%s]; expected one of: %s",
                   entry->key, entry->section, expected);
}

int config_text(const struct config_entry *entry, char *ret, size_t size, struct err *err)
{
    TIDE_CHECK(entry->key != NULL && size > 0);
    size_t length = strlen(entry->value);
    if (ret[0] != 0)
        return err_set(err, TIDE_ERR_CONFIG, "key \"%s\" is given twice in section [%s]",
                       entry->key, entry->section);
    if (length == 0)
        return err_set(err, TIDE_ERR_CONFIG, "key \"%s\" has no value", entry->key);
    if (length >= size)
        return err_set(err, TIDE_ERR_CONFIG,
                       "key \"%s\" has a value of %zu bytes; at most %zu are taken", entry->key,
                       length, size - 1);
    memcpy(ret, entry->value, length + 1);
    return 0;
}

int config_path(const struct config_entry *entry, char *ret, size_t size, struct err *err)
{
    if (entry->value[0] != '/' && entry->value[0] != 0)
        return err_set(err, TIDE_ERR_CONFIG,
                       "key \"%s\": \"%s\" is not an absolute path; it must begin with \"/\"",
                       entry->key, entry->value);
    return config_text(entry, ret, size, err);
}

const char *config_section_rest(const char *section, const char *word)
{
    size_t size = strlen(word);
    if (strncmp(section, word, size) != 0)
        return NULL;
    if (section[size] == 0)
        return section + size;
    if (section[size] != ' ')
        return NULL;
    const char *rest = section + size;
    while (*rest == ' ')
        rest++;
    return rest;
}

/* Decimal digits and what follows them. */
static bool config_digits(const char *text, uint64_t *ret, const char **ret_rest)
{
    uint64_t value = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9'; c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (c == text)
        return false;
    *ret = value;
    *ret_rest = c;
    return true;
}

struct config_unit {
    const char *text;
    uint64_t factor;
};

static bool config_scaled(const char *text, const struct config_unit *units, uint64_t *ret)
{
    uint64_t value;
    const char *rest;
    if (!config_digits(text, &value, &rest))
        return false;
    for (; units->text != NULL; units++) {
        if (strcmp(rest, units->text) != 0)
            continue;
        if (value > UINT64_MAX / units->factor)
            return false;
        *ret = value * units->factor;
        return true;
    }
    return false;
}

int config_parse_duration(const char *text, uint64_t min_us, uint64_t max_us, uint64_t *ret_us,
                          struct err *err)
{
    static const struct config_unit units[] = {
        {"us", 1},         {"ms", 1000},       {"s", 1000000}, {"m", 60000000},
        {"h", 3600000000}, {"d", 86400000000}, {NULL, 0}};
    uint64_t us;
    if (!config_scaled(text, units, &us))
        return err_set(err, TIDE_ERR_CONFIG,
                       "\"%.100s\" is not a duration; expected a number and one of us, ms, s, m, "
                       "h, d, such as 50ms or 5s",
                       text);
    if (us < min_us || us > max_us)
        return err_set(err, TIDE_ERR_CONFIG, "\"%.100s\" is out of range; expected %llu to %llu us",
                       text, (unsigned long long)min_us, (unsigned long long)max_us);
    *ret_us = us;
    return 0;
}

int config_parse_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *err)
{
    static const struct config_unit units[] = {{"", 1},           {"K", 1ULL << 10},
                                               {"M", 1ULL << 20}, {"G", 1ULL << 30},
                                               {"T", 1ULL << 40}, {NULL, 0}};
    uint64_t size;
    if (!config_scaled(text, units, &size))
        return err_set(err, TIDE_ERR_CONFIG,
                       "\"%.100s\" is not a size; expected bytes, or a number with K, M, G or T, "
                       "such as 256M",
                       text);
    if (size < min || size > max)
        return err_set(err, TIDE_ERR_CONFIG,
                       "\"%.100s\" is out of range; expected %llu to %llu bytes", text,
                       (unsigned long long)min, (unsigned long long)max);
    *ret = size;
    return 0;
}

int config_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                        struct err *err)
{
    uint64_t value;
    const char *rest;
    if (!config_digits(text, &value, &rest) || *rest != 0 || value < min || value > max)
        return err_set(err, TIDE_ERR_CONFIG, "\"%.100s\" is wrong; expected a number, %llu to %llu",
                       text, (unsigned long long)min, (unsigned long long)max);
    *ret = value;
    return 0;
}

int config_parse_bool(const char *text, bool *ret, struct err *err)
{
    static const char *const yes[] = {"yes", "true", "on"};
    static const char *const no[] = {"no", "false", "off"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *ret = strcmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return err_set(err, TIDE_ERR_CONFIG, "\"%.100s\" is not a switch; expected yes or no", text);
}
