/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/core/check.h"

#define HTTP_CONNECT_MS 5000U
#define HTTP_STALL_MS   10000U
#define HTTP_URL_MAX    2048U
#define HTTP_PACE_MS    20
#define HTTP_FIRST      4096U /* bytes of an answer that are made room for at first */

struct http_client {
    struct http_options options;
    char server_uri[TLS_URI_MAX + 1];
    char server[ADDRESS_TEXT_MAX];
    CURL *curl;
    struct curl_slist *headers;
    char error[CURL_ERROR_SIZE];
    char tls_error[TIDE_ERR_TEXT_MAX]; /* of the context callback */
    char shown[TLS_URI_MAX + 1];       /* the name a refused server showed */
    uint8_t *body;
    size_t body_size;
    size_t body_room;
    bool over;  /* the answer is larger than allowed */
    bool lacks; /* there is no memory for it */
    http_pace_fn *pace;
    void *pace_arg;
    const uint8_t *give; /* with pace: the body under way */
    size_t give_size;
    size_t given;
    atomic_bool aborted;
};

static pthread_once_t http_once = PTHREAD_ONCE_INIT;

static void http_start(void)
{
    TIDE_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

static bool http_allow(void *arg, const char *uri)
{
    struct http_client *client = arg;
    if (strcmp(uri, client->server_uri) == 0)
        return true;
    (void)snprintf(client->shown, sizeof(client->shown), "%s", uri);
    return false;
}

static CURLcode http_context(CURL *curl, void *context, void *arg)
{
    struct http_client *client = arg;
    struct err err;
    (void)curl;
    if (tls_context_apply(context, client->options.identity, http_allow, client, &err) == 0)
        return CURLE_OK;
    (void)snprintf(client->tls_error, sizeof(client->tls_error), "%s", err.text);
    return CURLE_SSL_CERTPROBLEM;
}

static size_t http_take(char *bytes, size_t one, size_t size, void *arg)
{
    struct http_client *client = arg;
    TIDE_CHECK(one == 1);
    if (size > client->options.answer_max - client->body_size) {
        client->over = true;
        return 0;
    }
    size_t need = client->body_size + size + 1;
    if (need > client->body_room) {
        size_t room = client->body_room * 2 > need ? client->body_room * 2 : need;
        uint8_t *more = realloc(client->body, room);
        if (more == NULL) {
            client->lacks = true;
            return 0;
        }
        client->body = more;
        client->body_room = room;
    }
    memcpy(client->body + client->body_size, bytes, size);
    client->body_size += size;
    return size;
}

static int http_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct http_client *client = arg;
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    return atomic_load(&client->aborted) ? 1 : 0;
}

/* The next part of a paced body. It may block: the thread is this request's. */
static size_t http_give(char *to, size_t one, size_t size, void *arg)
{
    struct http_client *client = arg;
    struct timespec pause = {.tv_nsec = HTTP_PACE_MS * 1000000L};
    size_t want = client->give_size - client->given;
    size_t now = 0;
    TIDE_CHECK(one == 1);
    want = want < size ? want : size;
    while (want > 0 && now == 0) {
        if (atomic_load(&client->aborted))
            return CURL_READFUNC_ABORT;
        now = client->pace(client->pace_arg, want);
        if (now == 0)
            (void)nanosleep(&pause, NULL);
    }
    TIDE_CHECK(now <= want);
    memcpy(to, client->give + client->given, now);
    client->given += now;
    return now;
}

/* From the beginning again, when a kept connection turns out to have ended. */
static int http_seek(void *arg, curl_off_t offset, int origin)
{
    struct http_client *client = arg;
    if (origin != SEEK_SET || offset < 0 || (size_t)offset > client->give_size)
        return CURL_SEEKFUNC_CANTSEEK;
    client->given = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* Of options that are right: only memory can be missing. */
static int http_options_set(CURLcode code, struct err *err)
{
    TIDE_CHECK(code == CURLE_OK || code == CURLE_OUT_OF_MEMORY);
    return code == CURLE_OK ? 0 : err_set(err, TIDE_ERR_LIMIT, "no memory for a HTTPS request");
}

static int http_set_up(struct http_client *client, struct err *err)
{
    CURL *curl = client->curl;
    CURLcode bad = CURLE_OK;
#define HTTP_SET(option, value) bad = bad != CURLE_OK ? bad : curl_easy_setopt(curl, option, value)
    HTTP_SET(CURLOPT_NOSIGNAL, 1L);
    HTTP_SET(CURLOPT_PROTOCOLS_STR, "https");
    HTTP_SET(CURLOPT_FOLLOWLOCATION, 0L);
    HTTP_SET(CURLOPT_PROXY, "");
    HTTP_SET(CURLOPT_NOPROXY, "*");
    HTTP_SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    HTTP_SET(CURLOPT_HTTPHEADER, client->headers);
    HTTP_SET(CURLOPT_TCP_NODELAY, 1L);
    HTTP_SET(CURLOPT_MAXCONNECTS, 1L);
    HTTP_SET(CURLOPT_CONNECTTIMEOUT_MS, (long)client->options.connect_ms);
    HTTP_SET(CURLOPT_ERRORBUFFER, client->error);
    HTTP_SET(CURLOPT_WRITEFUNCTION, http_take);
    HTTP_SET(CURLOPT_WRITEDATA, client);
    HTTP_SET(CURLOPT_NOPROGRESS, 0L);
    HTTP_SET(CURLOPT_XFERINFOFUNCTION, http_progress);
    HTTP_SET(CURLOPT_XFERINFODATA, client);
    HTTP_SET(CURLOPT_READFUNCTION, http_give);
    HTTP_SET(CURLOPT_READDATA, client);
    HTTP_SET(CURLOPT_SEEKFUNCTION, http_seek);
    HTTP_SET(CURLOPT_SEEKDATA, client);
    /* Who the server is, is checked in our own verify callback; names of hosts say nothing here. */
    HTTP_SET(CURLOPT_SSL_VERIFYPEER, 1L);
    HTTP_SET(CURLOPT_SSL_VERIFYHOST, 0L);
    HTTP_SET(CURLOPT_SSL_SESSIONID_CACHE, 0L);
    HTTP_SET(CURLOPT_CAINFO, NULL);
    HTTP_SET(CURLOPT_CAPATH, NULL);
    HTTP_SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_3);
    HTTP_SET(CURLOPT_SSL_CTX_FUNCTION, http_context);
    HTTP_SET(CURLOPT_SSL_CTX_DATA, client);
#undef HTTP_SET
    return http_options_set(bad, err);
}

/* NULL: no memory. */
static struct curl_slist *http_headers(void)
{
    struct curl_slist *first = curl_slist_append(NULL, "Expect:");
    struct curl_slist *both =
        first == NULL ? NULL : curl_slist_append(first, "Content-Type: application/x-protobuf");
    if (both == NULL)
        curl_slist_free_all(first);
    return both;
}

int http_client_new(const struct http_options *options, struct http_client **ret, struct err *err)
{
    struct tls_name name;
    TIDE_CHECK(options->identity != NULL);
    TIDE_CHECK(options->answer_max > 0 && options->answer_max <= HTTP_ANSWER_MAX);
    if (tls_name_parse(options->server_uri, &name, err) != 0)
        return -1;
    TIDE_CHECK(pthread_once(&http_once, http_start) == 0);
    struct http_client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a HTTPS client");
    client->options = *options;
    if (client->options.connect_ms == 0)
        client->options.connect_ms = HTTP_CONNECT_MS;
    if (client->options.stall_ms == 0)
        client->options.stall_ms = HTTP_STALL_MS;
    tls_name_uri(&name, client->server_uri);
    client->options.server_uri = client->server_uri;
    address_text(&options->server, client->server);
    atomic_init(&client->aborted, false);
    client->body_room = HTTP_FIRST;
    client->body = malloc(client->body_room);
    client->headers = http_headers();
    client->curl = curl_easy_init();
    if (client->body == NULL || client->headers == NULL || client->curl == NULL) {
        http_client_free(client);
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a HTTPS client");
    }
    if (http_set_up(client, err) != 0) {
        http_client_free(client);
        return -1;
    }
    *ret = client;
    return 0;
}

void http_client_free(struct http_client *client)
{
    if (client == NULL)
        return;
    curl_easy_cleanup(client->curl);
    curl_slist_free_all(client->headers);
    free(client->body);
    free(client);
}

void http_abort(struct http_client *client)
{
    atomic_store(&client->aborted, true);
}

void http_set_pace(struct http_client *client, http_pace_fn *pace, void *arg)
{
    client->pace = pace;
    client->pace_arg = arg;
}

static int http_failed(struct http_client *client, CURLcode code, const char *method,
                       const char *path, struct err *err)
{
    enum err_code kind;
    const char *text = client->error[0] != 0 ? client->error : curl_easy_strerror(code);
    bool alert = strstr(text, "alert") != NULL;
    if (client->over)
        return err_set(err, TIDE_ERR_LIMIT, "%s %s: the answer of %s has more than %zu bytes",
                       method, path, client->server, client->options.answer_max);
    if (client->lacks || code == CURLE_OUT_OF_MEMORY)
        return err_set(err, TIDE_ERR_LIMIT, "%s %s at %s: no memory", method, path, client->server);
    if (client->shown[0] != 0)
        return err_set(err, TIDE_ERR_DENIED, "%s is %s, not %s as configured", client->server,
                       client->shown, client->server_uri);
    if (code == CURLE_ABORTED_BY_CALLBACK || atomic_load(&client->aborted))
        kind = TIDE_ERR_BUSY;
    else if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CERTPROBLEM || alert)
        kind = TIDE_ERR_DENIED;
    else if (code == CURLE_COULDNT_CONNECT || code == CURLE_OPERATION_TIMEDOUT ||
             code == CURLE_SSL_CONNECT_ERROR || code == CURLE_RECV_ERROR ||
             code == CURLE_SEND_ERROR || code == CURLE_GOT_NOTHING || code == CURLE_PARTIAL_FILE)
        kind = TIDE_ERR_UNREACHABLE;
    else
        kind = TIDE_ERR_FAILED;
    if (client->tls_error[0] != 0)
        text = client->tls_error;
    return err_set(err, kind, "%s %s at %s (%s): %s%s", method, path, client->server,
                   client->server_uri, text, alert ? " (it refused our certificate)" : "");
}

static int http_prepare(struct http_client *client, const char *method, const char *url,
                        const void *body, size_t size, uint32_t timeout_ms, struct err *err)
{
    CURL *curl = client->curl;
    bool get = strcmp(method, "GET") == 0;
    CURLcode bad = CURLE_OK;
    /* A GET may wait for as long as it says; what sends must not stand still. */
    long stall_s = get ? 0 : (long)(client->options.stall_ms + 999) / 1000;
#define HTTP_SET(option, value) bad = bad != CURLE_OK ? bad : curl_easy_setopt(curl, option, value)
    HTTP_SET(CURLOPT_URL, url);
    HTTP_SET(CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    HTTP_SET(CURLOPT_LOW_SPEED_LIMIT, get ? 0L : 1L);
    HTTP_SET(CURLOPT_LOW_SPEED_TIME, stall_s);
    if (get) {
        HTTP_SET(CURLOPT_POSTFIELDS, NULL);
        HTTP_SET(CURLOPT_HTTPGET, 1L);
        HTTP_SET(CURLOPT_CUSTOMREQUEST, NULL);
    } else {
        HTTP_SET(CURLOPT_POST, 1L);
        client->give = body;
        client->give_size = size;
        client->given = 0;
        bool paced = client->pace != NULL && size > 0;
        HTTP_SET(CURLOPT_POSTFIELDS, paced ? NULL : body == NULL ? "" : body);
        HTTP_SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
        HTTP_SET(CURLOPT_CUSTOMREQUEST, method);
    }
#undef HTTP_SET
    return http_options_set(bad, err);
}

int http_request(struct http_client *client, const char *method, const char *path, const void *body,
                 size_t size, uint32_t timeout_ms, int *ret_status, const uint8_t **ret_body,
                 size_t *ret_size, struct err *err)
{
    char url[HTTP_URL_MAX];
    long status = 0;
    TIDE_CHECK(path[0] == '/' && timeout_ms > 0);
    TIDE_CHECK(strcmp(method, "GET") == 0 || strcmp(method, "PUT") == 0 ||
               strcmp(method, "POST") == 0);
    int n = snprintf(url, sizeof(url), "https://%s%s", client->server, path);
    TIDE_CHECK(n > 0 && (size_t)n < sizeof(url));
    client->error[0] = client->tls_error[0] = client->shown[0] = 0;
    client->body_size = 0;
    client->over = client->lacks = false;
    if (http_prepare(client, method, url, body, size, timeout_ms, err) != 0)
        return -1;
    CURLcode code = curl_easy_perform(client->curl);
    if (code != CURLE_OK)
        return http_failed(client, code, method, path, err);
    TIDE_CHECK(curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK);
    client->body[client->body_size] = 0;
    *ret_status = (int)status;
    if (ret_body != NULL)
        *ret_body = client->body;
    if (ret_size != NULL)
        *ret_size = client->body_size;
    return 0;
}
