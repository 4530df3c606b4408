/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/jsontext.h"

#include <pthread.h>
#include <stdlib.h>

static _Thread_local unsigned long failures;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void *take(size_t size)
{
    void *at = malloc(size);
    failures += at == NULL;
    return at;
}

static void give(void *at)
{
    free(at);
}

static void set(void)
{
    json_set_alloc_funcs(take, give);
}

unsigned long jsontext_failures(void)
{
    (void)pthread_once(&once, set);
    return failures;
}

int jsontext_read(const void *text, size_t size, size_t flags, json_t **ret, struct err *err)
{
    json_error_t error;
    unsigned long before = jsontext_failures();
    json_t *o = json_loadb(text, size, flags, &error);
    if (failures != before) {
        json_decref(o); /* what was lost on the way is not known */
        return err_set(err, TIDE_ERR_LIMIT, "no memory to read JSON of %zu bytes", size);
    }
    if (o == NULL) {
        return err_set(err, TIDE_ERR_CORRUPT, "is not JSON: %s (byte %d)", error.text,
                       error.position);
    }
    *ret = o;
    return 0;
}

char *jsontext_write(const json_t *value, size_t flags)
{
    unsigned long before = jsontext_failures();
    char *text = value == NULL ? NULL : json_dumps(value, flags);
    if (failures != before) {
        free(text); /* bytes of it may be missing */
        return NULL;
    }
    return text;
}
