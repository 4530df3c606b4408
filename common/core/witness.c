/* SPDX-License-Identifier: Apache-2.0 */
#include "common/core/witness.h"

#include <stdio.h>
#include <string.h>

#include "common/core/check.h"

#define SHOWN_MAX 48 /* bytes of a bad value in an error */

struct reader {
    const char *at;
    size_t left;
};

static const struct {
    enum witness_state state;
    const char *name;
} states[] = {{WITNESS_OPEN, "open"}, {WITNESS_CLEAN, "clean"}, {WITNESS_GAP, "gap"}};

#define STATES (sizeof states / sizeof states[0])

const char *witness_state_name(enum witness_state state)
{
    for (size_t i = 0; i < STATES; i++) {
        if (states[i].state == state) {
            return states[i].name;
        }
    }
    return NULL;
}

static bool plain(char c)
{
    return c > ' ' && c <= '~' && c != '%';
}

static size_t escape(const char *from, char *to)
{
    size_t used = 0;
    for (; *from != '\0'; from++) {
        if (plain(*from)) {
            to[used++] = *from;
        } else {
            used += (size_t)snprintf(to + used, 4, "%%%02X", (unsigned)(unsigned char)*from);
        }
    }
    to[used] = '\0';
    return used;
}

int witness_format(const struct witness *w, char ret_text[TIDE_WITNESS_TEXT_MAX + 1],
                   struct err *err)
{
    char hex[TIDE_ID_HEX];
    char log[3 * TIDE_WITNESS_LOG_MAX + 1];
    const char *state = witness_state_name(w->state);
    size_t size = strnlen(w->log, sizeof w->log);
    TIDE_CHECK(state != NULL && !id_is_zero(&w->stream));
    if (size > TIDE_WITNESS_LOG_MAX || w->log[0] != '/') {
        return err_set(err, TIDE_ERR_LIMIT,
                       "log folder \"%.*s\" cannot be noted at the image: give an absolute path of "
                       "at most %u bytes",
                       SHOWN_MAX, w->log, TIDE_WITNESS_LOG_MAX);
    }
    escape(w->log, log);
    return snprintf(ret_text, TIDE_WITNESS_TEXT_MAX + 1, "v1 state=%s stream=%s log=%s flush=%s",
                    state, id_hex(&w->stream, hex), log, w->flush_log ? "log" : "both");
}

/* The next word; empty at the end, and where two spaces follow each other. */
static struct reader next_word(struct reader *text)
{
    const char *space = memchr(text->at, ' ', text->left);
    struct reader word = {text->at, space == NULL ? text->left : (size_t)(space - text->at)};
    size_t gone = word.left + (space == NULL ? 0 : 1);
    text->at += gone;
    text->left -= gone;
    return word;
}

static int bad(const char *what, struct reader word, struct err *err)
{
    int shown = word.left > SHOWN_MAX ? SHOWN_MAX : (int)word.left;
    char safe[SHOWN_MAX + 1];
    for (int i = 0; i < shown; i++) {
        safe[i] = word.at[i] >= ' ' && word.at[i] <= '~' ? word.at[i] : '?';
    }
    safe[shown] = '\0';
    return err_set(err, TIDE_ERR_CORRUPT, "image attribute: \"%s\" where %s was expected", safe,
                   what);
}

/* The next word's value where it is "KEY=value"; *ret_word is the word. */
static bool value_of(struct reader *text, const char *key, struct reader *ret_word,
                     struct reader *ret)
{
    size_t size = strlen(key);
    *ret_word = next_word(text);
    if (ret_word->left < size || memcmp(ret_word->at, key, size) != 0) {
        return false;
    }
    *ret = (struct reader){ret_word->at + size, ret_word->left - size};
    return true;
}

static bool is(struct reader word, const char *text)
{
    return word.left == strlen(text) && memcmp(word.at, text, word.left) == 0;
}

static int digit(char c)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *at = c == '\0' ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

static bool unescape(struct reader from, char ret[TIDE_WITNESS_LOG_MAX + 1])
{
    size_t used = 0;
    for (size_t i = 0; i < from.left; i++) {
        char c = from.at[i];
        if (used == TIDE_WITNESS_LOG_MAX) {
            return false;
        }
        if (c == '%') {
            int high = from.left - i > 2 ? digit(from.at[i + 1]) : -1;
            int low = from.left - i > 2 ? digit(from.at[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0) {
                return false;
            }
            c = (char)(unsigned char)(high * 16 + low);
            i += 2;
        } else if (!plain(c)) {
            return false;
        }
        ret[used++] = c;
    }
    ret[used] = '\0';
    return ret[0] == '/';
}

static bool parse_state(struct reader value, enum witness_state *ret)
{
    for (size_t i = 0; i < STATES; i++) {
        if (is(value, states[i].name)) {
            *ret = states[i].state;
            return true;
        }
    }
    return false;
}

static bool parse_stream(struct reader value, struct id *ret)
{
    char hex[TIDE_ID_HEX] = "";
    if (value.left != TIDE_ID_HEX - 1) {
        return false;
    }
    memcpy(hex, value.at, value.left);
    return id_parse(hex, ret) && !id_is_zero(ret);
}

static int check_version(struct reader *text, struct err *err)
{
    struct reader word = next_word(text);
    bool version = word.left >= 2 && word.left <= 6 && word.at[0] == 'v';
    for (size_t i = 1; i < word.left && version; i++) {
        version = word.at[i] >= '0' && word.at[i] <= '9';
    }
    if (is(word, "v1")) {
        return 0;
    }
    if (version) {
        return err_set(err, TIDE_ERR_VERSION,
                       "image attribute of version %.*s; this build knows v1: use the build that "
                       "wrote it",
                       (int)word.left, word.at);
    }
    return bad("\"v1\"", word, err);
}

int witness_parse(const char *text, size_t size, struct witness *ret, struct err *err)
{
    struct witness w = {0};
    struct reader left = {text, size};
    struct reader word;
    struct reader value;
    if (size > TIDE_WITNESS_TEXT_MAX) {
        return err_set(err, TIDE_ERR_CORRUPT, "image attribute: %zu bytes; at most %u are written",
                       size, TIDE_WITNESS_TEXT_MAX);
    }
    if (check_version(&left, err) != 0) {
        return -1;
    }
    if (!value_of(&left, "state=", &word, &value) || !parse_state(value, &w.state)) {
        return bad("state=open, clean or gap", word, err);
    }
    if (!value_of(&left, "stream=", &word, &value) || !parse_stream(value, &w.stream)) {
        return bad("stream= and 32 hex digits", word, err);
    }
    if (!value_of(&left, "log=", &word, &value) || !unescape(value, w.log)) {
        return bad("log= and an absolute path", word, err);
    }
    if (!value_of(&left, "flush=", &word, &value) || !(is(value, "both") || is(value, "log"))) {
        return bad("flush=both or log", word, err);
    }
    w.flush_log = is(value, "log");
    if (word.at + word.left != text + size) {
        return bad("the end", left, err);
    }
    *ret = w;
    return 0;
}
