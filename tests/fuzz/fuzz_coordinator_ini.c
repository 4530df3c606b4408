/* SPDX-License-Identifier: Apache-2.0 */
/* coordinator/settings. Input: the file. What loads has all that is needed, and written out again
 * it loads to the same. */
#include "coordinator/settings.h"

#include "tests/fuzz/text.h"

static void write_out(const struct settings *s, struct text *to)
{
    to->used = 0;
    text_add(to, "[coordinator]\nlisten = %s\nidentity-cert = %s\nidentity-key = %s\nca = %s\n",
             s->listen_text, s->cert, s->key, s->ca);
    text_add(to, "store = %s\ncatalog = %s\ncache = %s\nlocal = %s\n", s->store, s->catalog,
             s->cache, s->local);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct settings s;
    static struct text first;
    static struct text second;
    struct err err = {0};
    const char *path = text_file(data, size);
    memset(&s, FUZZ_FILL, sizeof s);
    if (settings_load(path, &s, &err) != 0) {
        fuzz_error(&err, FUZZ_CODE(CONFIG) | FUZZ_CODE(LIMIT));
        text_names(&err, path);
        fuzz_untouched(&s, sizeof s);
        return 0;
    }
    const char *const paths[] = {s.cert, s.key, s.ca, s.store, s.catalog, s.cache, s.local};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        TIDE_CHECK(paths[i][0] == '/');
    }
    write_out(&s, &first);
    path = text_file(first.bytes, first.used);
    if (settings_load(path, &s, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    write_out(&s, &second);
    TIDE_CHECK(first.used == second.used && memcmp(first.bytes, second.bytes, first.used) == 0);
    return 0;
}
