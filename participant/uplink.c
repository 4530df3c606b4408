/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/uplink.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/io/http.h"

#define PATH_SIZE 160

struct uplink {
    struct http_client *http;
    struct throttle *throttle; /* NULL: none */
    atomic_bool *limited;
};

int uplink_new(const struct tls_identity *identity, const struct settings *settings,
               struct uplink **ret, struct err *err)
{
    struct uplink *uplink = calloc(1, sizeof *uplink);
    if (uplink == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for an uplink");
    }
    struct http_options options = {.identity = identity,
                                   .server = settings->coordinator,
                                   .server_uri = settings->coordinator_uri,
                                   .answer_max = HTTP_ANSWER_MAX};
    if (http_client_new(&options, &uplink->http, err) != 0) {
        free(uplink);
        return -1;
    }
    *ret = uplink;
    return 0;
}

void uplink_free(struct uplink *uplink)
{
    if (uplink != NULL) {
        http_client_free(uplink->http);
        free(uplink);
    }
}

void uplink_abort(struct uplink *uplink)
{
    http_abort(uplink->http);
}

static size_t pace(void *arg, size_t want)
{
    struct uplink *uplink = arg;
    size_t now = throttle_take(uplink->throttle, want);
    atomic_store(uplink->limited, now < want);
    return now;
}

void uplink_set_throttle(struct uplink *uplink, struct throttle *throttle, atomic_bool *limited)
{
    uplink->throttle = throttle;
    uplink->limited = limited;
}

static enum err_code status_code(int status)
{
    switch (status) {
    case 400:
        return TIDE_ERR_CORRUPT;
    case 401:
    case 403:
        return TIDE_ERR_DENIED;
    case 404:
        return TIDE_ERR_NOT_FOUND;
    case 409:
        return TIDE_ERR_CONFLICT;
    case 413:
        return TIDE_ERR_LIMIT;
    case 503:
        return TIDE_ERR_BUSY;
    case 507:
        return TIDE_ERR_FULL;
    default:
        return TIDE_ERR_FAILED;
    }
}

/* One request; a status other than 200 is an error with the coordinator's own text. */
static int ask(struct uplink *uplink, const char *method, const char *path, const void *body,
               size_t size, uint32_t timeout_ms, const uint8_t **ret_body, size_t *ret_size,
               struct err *err)
{
    int status = 0;
    struct intake_stream_state state;
    if (http_request(uplink->http, method, path, body, size, timeout_ms, &status, ret_body,
                     ret_size, err) != 0) {
        return err_wrap(err, "coordinator");
    }
    if (status == 200) {
        return 0;
    }
    if (intake_stream_state_decode(*ret_body, *ret_size, &state, NULL) == 0 &&
        state.text[0] != '\0') {
        enum err_code code = state.code != TIDE_ERR_OK ? state.code : status_code(status);
        return err_set(err, code, "coordinator: %s", state.text);
    }
    return err_set(err, status_code(status), "coordinator: %s %s answered with status %d", method,
                   path, status);
}

static int ask_state(struct uplink *uplink, const char *method, const char *path, const void *body,
                     size_t size, uint32_t timeout_ms, struct intake_stream_state *ret,
                     struct err *err)
{
    const uint8_t *answer = NULL;
    size_t answer_size = 0;
    if (ask(uplink, method, path, body, size, timeout_ms, &answer, &answer_size, err) != 0) {
        return -1;
    }
    if (intake_stream_state_decode(answer, answer_size, ret, err) != 0) {
        return err_wrap(err, "coordinator's answer to %s", path);
    }
    return 0;
}

int uplink_stream(struct uplink *uplink, const struct id *stream, struct intake_stream_state *ret,
                  struct err *err)
{
    char path[PATH_SIZE];
    char hex[TIDE_ID_HEX];
    snprintf(path, sizeof path, "/v0/streams/%s", id_hex(stream, hex));
    return ask_state(uplink, "GET", path, NULL, 0, UPLINK_TIMEOUT_MS, ret, err);
}

int uplink_put(struct uplink *uplink, const struct id *stream, uint64_t first_lsn,
               const void *bytes, size_t size, struct intake_stream_state *ret, struct err *err)
{
    char path[PATH_SIZE];
    char hex[TIDE_ID_HEX];
    snprintf(path, sizeof path, "/v0/streams/%s/segments/%" PRIu64, id_hex(stream, hex), first_lsn);
    uint64_t extra = uplink->throttle == NULL ? 0 : throttle_extra_ms(uplink->throttle, size);
    http_set_pace(uplink->http, extra > 0 ? pace : NULL, uplink);
    int result = ask_state(uplink, "PUT", path, bytes, size,
                           UPLINK_PUT_TIMEOUT_MS + (uint32_t)extra, ret, err);
    http_set_pace(uplink->http, NULL, NULL);
    if (uplink->limited != NULL) {
        atomic_store(uplink->limited, false);
    }
    return result;
}

int uplink_hashes(struct uplink *uplink, const struct id *stream,
                  const struct intake_hashes_query *query, struct intake_block_hashes *ret,
                  struct err *err)
{
    char path[PATH_SIZE];
    char hex[TIDE_ID_HEX];
    const uint8_t *answer = NULL;
    size_t size = 0;
    snprintf(path, sizeof path,
             "/v0/streams/%s/hashes?lsn=%" PRIu64 "&offset=%" PRIu64 "&count=%" PRIu32,
             id_hex(stream, hex), query->lsn, query->offset, query->count);
    if (ask(uplink, "GET", path, NULL, 0, UPLINK_TIMEOUT_MS, &answer, &size, err) != 0) {
        return -1;
    }
    if (intake_block_hashes_decode(answer, size, ret, err) != 0) {
        return err_wrap(err, "coordinator's answer to %s", path);
    }
    return 0;
}

int uplink_point(struct uplink *uplink, const struct id *round, struct intake_point_state *ret,
                 struct err *err)
{
    char path[PATH_SIZE];
    char hex[TIDE_ID_HEX];
    const uint8_t *answer = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "/v0/points/%s", id_hex(round, hex));
    if (ask(uplink, "GET", path, NULL, 0, UPLINK_TIMEOUT_MS, &answer, &size, err) != 0) {
        return -1;
    }
    if (intake_point_state_decode(answer, size, ret, err) != 0) {
        return err_wrap(err, "coordinator's answer to %s", path);
    }
    return 0;
}

static int copy_answer(const uint8_t *body, size_t size, uint8_t **ret_bytes, size_t *ret_size,
                       struct err *err)
{
    uint8_t *bytes = malloc(size + 1);
    if (bytes == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the coordinator's answer");
    }
    if (size > 0) {
        memcpy(bytes, body, size);
    }
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

int uplink_register(struct uplink *uplink, const struct intake_register *registration,
                    uint8_t **ret_bytes, size_t *ret_size, struct err *err)
{
    uint8_t *body = NULL;
    size_t body_size = 0;
    const uint8_t *answer = NULL;
    size_t size = 0;
    if (intake_register_encode(registration, &body, &body_size, err) != 0) {
        return -1;
    }
    int result = ask(uplink, "POST", "/v0/register", body, body_size, UPLINK_TIMEOUT_MS, &answer,
                     &size, err);
    free(body);
    return result == 0 ? copy_answer(answer, size, ret_bytes, ret_size, err) : -1;
}

int uplink_definitions(struct uplink *uplink, const struct hash *have, unsigned wait_s,
                       uint8_t **ret_bytes, size_t *ret_size, struct err *err)
{
    char path[PATH_SIZE];
    char hex[TIDE_HASH_HEX];
    const uint8_t *answer = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "/v0/definitions?have=%s&wait=%u", hash_hex(have, hex), wait_s);
    if (ask(uplink, "GET", path, NULL, 0, wait_s * 1000 + UPLINK_TIMEOUT_MS, &answer, &size, err) !=
        0) {
        return -1;
    }
    return copy_answer(answer, size, ret_bytes, ret_size, err);
}
