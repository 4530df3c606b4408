/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/settings.h"

#include <stdio.h>
#include <string.h>

#include "common/io/config.h"
#include "common/io/local.h"
#include "coordinator/core/box.h"

struct draft {
    struct settings settings;
    int line; /* of the section; 1 where there is none */
    int local_line;
    int cache_line;
};

static int check_cache(struct settings *s, const char *path, int line, struct err *err)
{
    size_t size = strlen(s->store);
    if (s->cache[0] == '\0' &&
        snprintf(s->cache, sizeof(s->cache), "%s.images", s->catalog) >= (int)sizeof(s->cache)) {
        return err_set(err, TIDE_ERR_CONFIG, "%s:%d: catalog = '%s' is too long", path, line,
                       s->catalog);
    }
    while (size > 1 && s->store[size - 1] == '/') {
        size--;
    }
    if (strncmp(s->cache, s->store, size) == 0 &&
        (s->cache[size] == '/' || s->cache[size] == '\0')) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "%s:%d: the cache '%s' lies in the store '%s'; set 'cache' to a folder "
                       "outside it",
                       path, line, s->cache, s->store);
    }
    return 0;
}

static int entry(void *arg, const struct config_entry *e, struct err *err)
{
    struct draft *draft = arg;
    struct settings *s = &draft->settings;
    const struct {
        const char *key;
        char *to;
    } paths[] = {{"identity-cert", s->cert}, {"identity-key", s->key},     {"ca", s->ca},
                 {"store", s->store},        {"catalog", s->catalog},      {"cache", s->cache},
                 {"local", s->local},        {"master-key", s->master_key}};
    if (strcmp(e->section, "coordinator") != 0) {
        return err_set(err, TIDE_ERR_CONFIG, "unknown section [%s]; expected [coordinator]",
                       e->section);
    }
    if (e->key == NULL) {
        draft->line = e->line;
        return 0;
    }
    if (strcmp(e->key, "local") == 0) {
        draft->local_line = e->line;
    }
    if (strcmp(e->key, "cache") == 0) {
        draft->cache_line = e->line;
    }
    for (size_t k = 0; k < sizeof(paths) / sizeof(paths[0]); k++) {
        if (strcmp(e->key, paths[k].key) == 0) {
            return config_path(e, paths[k].to, PATH_MAX, err);
        }
    }
    if (strcmp(e->key, "listen") == 0) {
        if (config_text(e, s->listen_text, sizeof(s->listen_text), err) < 0) {
            return -1;
        }
        return address_parse(s->listen_text, true, &s->listen, err);
    }
    if (strcmp(e->key, "compression") == 0) {
        uint64_t level;
        if (config_parse_number(e->value, 0, BOX_LEVEL_MAX, &level, err) < 0) {
            return err_wrap(err, "key \"%s\"", e->key);
        }
        s->compression = (unsigned)level;
        return 0;
    }
    return config_unknown(
        e,
        "listen, identity-cert, identity-key, ca, store, catalog, cache, master-key, "
        "compression, local",
        err);
}

int settings_load(const char *path, struct settings *ret, struct err *err)
{
    struct draft draft = {.line = 1, .settings.compression = 1};
    if (config_load(path, entry, &draft, err) < 0) {
        return -1;
    }
    struct settings s = draft.settings;
    const struct {
        const char *key;
        const char *value;
    } needed[] = {{"listen", s.listen_text}, {"identity-cert", s.cert},
                  {"identity-key", s.key},   {"ca", s.ca},
                  {"store", s.store},        {"catalog", s.catalog}};
    for (size_t k = 0; k < sizeof(needed) / sizeof(needed[0]); k++) {
        if (needed[k].value[0] == '\0') {
            return err_set(err, TIDE_ERR_CONFIG, "%s:%d: [coordinator] has no '%s'", path,
                           draft.line, needed[k].key);
        }
    }
    if (s.local[0] == '\0') {
        snprintf(s.local, sizeof(s.local), "%s", LOCAL_COORDINATOR);
    }
    if (strlen(s.local) > LOCAL_PATH_MAX) {
        return err_set(err, TIDE_ERR_CONFIG, "%s:%d: local = '%s' is over %u bytes", path,
                       draft.local_line, s.local, LOCAL_PATH_MAX);
    }
    int line = draft.cache_line != 0 ? draft.cache_line : draft.line;
    if (check_cache(&s, path, line, err) < 0) {
        return -1;
    }
    *ret = s;
    return 0;
}
