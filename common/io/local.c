/* SPDX-License-Identifier: Apache-2.0 */
#include "common/io/local.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/daemon.h"
#include "common/io/file.h"
#include "common/io/jsontext.h"
#include "common/io/log.h"
#include "common/io/sp.h"

#define LOCAL_URL_MAX     (LOCAL_PATH_MAX + 8)
#define LOCAL_FOLDER_MODE 0750
#define LOCAL_SOCKET_MODE 0660
#define LOCAL_LOOK_MS     500  /* how often a worker looks whether it should end */
#define LOCAL_KNOCK_MS    1000 /* for a server to say hello */
#define LOCAL_NUMBER      4    /* bytes of a request's number */
#define LOCAL_JOIN_MS     2
#define LOCAL_GUARD_S     1    /* how often the listener is looked at */
#define LOCAL_GUARD_END_S 4    /* for it to end */
#define LOCAL_SEND_MS     5000 /* for the asker to take its answer */

struct local_worker {
    struct local_server *server;
    pthread_t thread;
    nng_ctx context;
    nng_aio *aio;
};

struct local_server {
    char path[LOCAL_PATH_MAX + 1];
    local_fn *fn;
    void *arg;
    nng_socket socket;     /* left open: see local_server_free() */
    nng_listener listener; /* of the guard, once it runs */
    atomic_bool stopping;
    pthread_t guard;
    pthread_mutex_t mutex;
    pthread_cond_t stop;
    struct local_worker workers[LOCAL_WORKERS];
};

/* Clients that libnng took in, over all servers of the process (one, but in tests). Outlives the
 * servers, as libnng's sockets do. */
static atomic_uint local_joins;

json_t *local_ok(void)
{
    return json_pack("{s:b}", "ok", 1);
}

json_t *local_error(const struct err *err)
{
    unsigned long before = jsontext_failures();
    json_t *answer =
        json_pack("{s:b, s:s, s:s}", "ok", 0, "error", err_name(err->code), "text", err->text);
    if (answer == NULL && jsontext_failures() == before) /* the text is not UTF-8 */
        answer = json_pack("{s:b, s:s, s:s}", "ok", 0, "error", err_name(err->code), "text",
                           "(an error text that cannot be shown)");
    return answer;
}

static int local_path_check(const char *path, struct err *err)
{
    size_t size = strlen(path);
    if (size == 0 || size > LOCAL_PATH_MAX)
        return err_set(err, TIDE_ERR_LIMIT,
                       "socket path \"%.120s\" has %zu bytes; 1 to %u can be used", path, size,
                       LOCAL_PATH_MAX);
    return 0;
}

/* Is a server of ours there? Connects and exchanges the hello of SP (REQ with REP); hanging up
 * before that would end a listener of libnng 1.5 for good. 0: it answers; else an errno value:
 * ENOENT, ECONNREFUSED (nobody), ETIMEDOUT (someone, who does not answer), EPROTO (someone else).
 */
static int local_knock(const char *path, uint32_t timeout_ms, int *ret_fd)
{
    static const uint8_t ask[] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x30, 0x00, 0x00};
    static const uint8_t want[] = {0x00, 0x53, 0x50, 0x00, 0x00, 0x31, 0x00, 0x00};
    const struct timeval limit = {.tv_sec = timeout_ms / 1000,
                                  .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    uint8_t got[sizeof(want)];
    int error = 0;
    memcpy(to.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* for connect() too */
    errno = 0;
    if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0 ||
        send(fd, ask, sizeof(ask), MSG_NOSIGNAL) != sizeof(ask))
        error = errno == EAGAIN || errno == EINPROGRESS ? ETIMEDOUT : errno;
    else if (recv(fd, got, sizeof(got), MSG_WAITALL) != sizeof(got))
        error = errno == EAGAIN || errno == 0 ? ETIMEDOUT : errno;
    else if (memcmp(got, want, sizeof(want)) != 0)
        error = EPROTO;
    if (error == 0 && ret_fd != NULL)
        *ret_fd = fd; /* the caller hangs up */
    else
        (void)close(fd);
    return error;
}

/* NULL: no memory. */
static json_t *local_handle(local_fn *fn, void *arg, const char *bytes, size_t size)
{
    struct err err;
    json_t *request = NULL;
    if (jsontext_read(bytes, size, JSON_REJECT_DUPLICATES, &request, &err) != 0) {
        if (err.code == TIDE_ERR_CORRUPT) {
            err.code = TIDE_ERR_USAGE;
            err_wrap(&err, "the request");
        }
        return local_error(&err);
    }
    const char *command = json_string_value(json_object_get(request, "command"));
    if (command == NULL)
        err_set(&err, TIDE_ERR_USAGE, "the request is not an object with a string \"command\"");
    json_t *answer = command == NULL ? local_error(&err) : fn(arg, command, request);
    json_decref(request);
    return answer;
}

char *local_answer(local_fn *fn, void *arg, const char *bytes, size_t size)
{
    struct err err;
    json_t *answer = local_handle(fn, arg, bytes, size);
    char *text = jsontext_write(answer, JSON_COMPACT);
    if (text != NULL && strlen(text) > LOCAL_MESSAGE_MAX - LOCAL_NUMBER) {
        err_set(&err, TIDE_ERR_LIMIT,
                "the answer has %zu bytes; at most %u can be sent; ask for "
                "less",
                strlen(text), LOCAL_MESSAGE_MAX);
        free(text);
        json_decref(answer);
        answer = local_error(&err);
        text = jsontext_write(answer, JSON_COMPACT);
    }
    json_decref(answer);
    return text;
}

/* Answers what is in the message, and into it. */
static void local_serve(struct local_server *server, nng_msg *message)
{
    static const char no_memory[] =
        "{\"ok\": false, \"error\": \"LIMIT\", \"text\": \"no memory for the answer\"}";
    char *text = local_answer(server->fn, server->arg, nng_msg_body(message), nng_msg_len(message));
    const char *send = text == NULL ? no_memory : text;
    nng_msg_clear(message);
    if (nng_msg_append(message, send, strlen(send)) != 0)
        nng_msg_clear(message); /* an empty answer is CORRUPT for who asked */
    free(text);
}

static void *local_work(void *arg)
{
    struct local_worker *worker = arg;
    struct local_server *server = worker->server;
    daemon_thread_init("local");
    while (!atomic_load(&server->stopping)) {
        nng_aio_set_timeout(worker->aio, LOCAL_LOOK_MS);
        nng_ctx_recv(worker->context, worker->aio);
        nng_aio_wait(worker->aio);
        int result = nng_aio_result(worker->aio);
        if (result == NNG_ECLOSED)
            break;
        if (result != 0)
            continue;
        nng_msg *message = nng_aio_get_msg(worker->aio);
        local_serve(server, message);
        nng_aio_set_msg(worker->aio, message);
        nng_aio_set_timeout(worker->aio, LOCAL_SEND_MS);
        nng_ctx_send(worker->context, worker->aio);
        nng_aio_wait(worker->aio);
        if (nng_aio_result(worker->aio) != 0)
            nng_msg_free(nng_aio_get_msg(worker->aio)); /* the asker went away */
    }
    return NULL;
}

/* The folder and the place of the socket. */
static int local_prepare(const char *path, struct err *err)
{
    char folder[LOCAL_PATH_MAX + 1];
    memcpy(folder, path, strlen(path) + 1);
    char *slash = strrchr(folder, '/');
    if (slash != NULL && slash != folder) {
        *slash = 0;
        if (file_mkdirs(folder, LOCAL_FOLDER_MODE, err) != 0)
            return -1;
    }
    int error = local_knock(path, LOCAL_KNOCK_MS, NULL);
    if (error == ENOENT)
        return 0;
    if (error != ECONNREFUSED && error != ENOTSOCK)
        return err_set(err, TIDE_ERR_CONFLICT,
                       "another process has \"%s\"; end it or take another path", path);
    struct stat stat_;
    if (lstat(path, &stat_) != 0 || !S_ISSOCK(stat_.st_mode))
        return err_set(err, TIDE_ERR_CONFLICT, "\"%s\" is in the way and not a socket", path);
    if (unlink(path) != 0)
        return file_err(err, errno, "cannot take the old socket \"%s\" away", path);
    return 0;
}

static int local_listener(struct local_server *server)
{
    char url[LOCAL_URL_MAX];
    int result;
    (void)snprintf(url, sizeof(url), "ipc://%s", server->path);
    if ((result = nng_listener_create(&server->listener, server->socket, url)) != 0)
        return result;
    if ((result = nng_listener_set_int(server->listener, NNG_OPT_IPC_PERMISSIONS,
                                       LOCAL_SOCKET_MODE)) != 0 ||
        (result = nng_listener_start(server->listener, 0)) != 0)
        (void)nng_listener_close(server->listener);
    return result;
}

static void local_joined(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    (void)pipe;
    (void)event;
    atomic_fetch_add((atomic_uint *)arg, 1);
}

/* Does the listener still take clients in? After its end libnng says hello, and no more. */
static bool local_takes_in(const struct local_server *server)
{
    int fd = -1;
    unsigned before = atomic_load(&local_joins);
    uint64_t until = clock_mono_us() + LOCAL_KNOCK_MS * CLOCK_US_PER_MS;
    if (local_knock(server->path, LOCAL_KNOCK_MS, &fd) != 0)
        return false;
    while (atomic_load(&local_joins) == before && clock_mono_us() < until)
        (void)poll(NULL, 0, LOCAL_JOIN_MS);
    (void)close(fd);
    return atomic_load(&local_joins) != before;
}

/* Listens anew; true where that went well. */
static bool local_again(struct local_server *server, bool listening)
{
    log_warn("local: \"%s\" does not answer any more; listening anew", server->path);
    if (listening)
        (void)nng_listener_close(server->listener);
    (void)unlink(server->path);
    int result = local_listener(server);
    if (result != 0)
        log_error("local: cannot listen on \"%s\": %s", server->path, nng_strerror(result));
    return result == 0;
}

/* A client that is killed between connect() and its hello ends a listener of libnng 1.5 for good;
 * the guard sees that nobody gets in any more, and listens anew. */
static void *local_guard(void *arg)
{
    struct local_server *server = arg;
    bool listening = true;
    daemon_thread_init("local-guard");
    TIDE_CHECK(pthread_mutex_lock(&server->mutex) == 0);
    while (!atomic_load(&server->stopping)) {
        struct timespec until;
        (void)clock_gettime(CLOCK_MONOTONIC, &until); /* one that nobody sets back by hours */
        until.tv_sec += LOCAL_GUARD_S;
        (void)pthread_cond_clockwait(&server->stop, &server->mutex, CLOCK_MONOTONIC, &until);
        if (atomic_load(&server->stopping))
            break;
        (void)pthread_mutex_unlock(&server->mutex); /* not held while libnng may block */
        listening = listening && local_takes_in(server) ? true : local_again(server, listening);
        TIDE_CHECK(pthread_mutex_lock(&server->mutex) == 0);
    }
    (void)pthread_mutex_unlock(&server->mutex);
    return NULL;
}

static int local_listen(struct local_server *server, struct err *err)
{
    int result = nng_rep0_open(&server->socket);
    if (result != 0)
        return err_set(err, TIDE_ERR_IO, "libnng: no socket: %s", nng_strerror(result));
    if ((result = nng_socket_set_size(server->socket, NNG_OPT_RECVMAXSZ, LOCAL_MESSAGE_MAX)) != 0 ||
        (result = nng_pipe_notify(server->socket, NNG_PIPE_EV_ADD_POST, local_joined,
                                  &local_joins)) != 0 ||
        (result = local_listener(server)) != 0) {
        err_set(err, TIDE_ERR_IO, "cannot listen on \"%s\": %s", server->path,
                nng_strerror(result));
        (void)nng_close(server->socket); /* nobody has connected: not busy */
        return -1;
    }
    return 0;
}

int local_server_new(const char *path, local_fn *fn, void *arg, struct local_server **ret,
                     struct err *err)
{
    if (local_path_check(path, err) != 0 || local_prepare(path, err) != 0)
        return -1;
    struct local_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return err_set(err, TIDE_ERR_LIMIT, "no memory to listen on \"%s\"", path);
    memcpy(server->path, path, strlen(path) + 1);
    server->fn = fn;
    server->arg = arg;
    atomic_init(&server->stopping, false);
    if (local_listen(server, err) != 0) {
        free(server);
        return -1;
    }
    for (unsigned i = 0; i < LOCAL_WORKERS; i++) {
        struct local_worker *worker = &server->workers[i];
        worker->server = server;
        TIDE_CHECK(nng_ctx_open(&worker->context, server->socket) == 0);
        TIDE_CHECK(nng_aio_alloc(&worker->aio, NULL, NULL) == 0);
        TIDE_CHECK(pthread_create(&worker->thread, NULL, local_work, worker) == 0);
    }
    TIDE_CHECK(pthread_mutex_init(&server->mutex, NULL) == 0);
    TIDE_CHECK(pthread_cond_init(&server->stop, NULL) == 0);
    TIDE_CHECK(pthread_create(&server->guard, NULL, local_guard, server) == 0);
    *ret = server;
    return 0;
}

void local_server_free(struct local_server *server)
{
    struct timespec until;
    if (server == NULL)
        return;
    TIDE_CHECK(pthread_mutex_lock(&server->mutex) == 0);
    atomic_store(&server->stopping, true);
    (void)pthread_cond_signal(&server->stop);
    (void)pthread_mutex_unlock(&server->mutex);
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LOCAL_GUARD_END_S;
    if (pthread_timedjoin_np(server->guard, NULL, &until) != 0) {
        (void)unlink(server->path);
        return; /* libnng does not give it back; the process is about to end */
    }
    (void)unlink(server->path);
    for (unsigned i = 0; i < LOCAL_WORKERS; i++) {
        (void)pthread_join(server->workers[i].thread, NULL);
        nng_aio_free(server->workers[i].aio);
    }
    (void)pthread_mutex_destroy(&server->mutex);
    (void)pthread_cond_destroy(&server->stop);
    free(server); /* the socket and its contexts stay */
}

/* The answer's bytes into *ret, or its error into *err. */
static int local_parse(const char *path, const char *bytes, size_t size, json_t **ret,
                       struct err *err)
{
    struct err inner;
    json_t *answer = NULL;
    if (jsontext_read(bytes, size, JSON_REJECT_DUPLICATES, &answer, &inner) != 0 &&
        inner.code == TIDE_ERR_LIMIT)
        return err_set(err, inner.code, "the answer on \"%s\": %s", path, inner.text);
    const json_t *ok = json_object_get(answer, "ok");
    if (json_is_true(ok)) {
        *ret = answer;
        return 0;
    }
    const char *code = json_string_value(json_object_get(answer, "error"));
    const char *text = json_string_value(json_object_get(answer, "text"));
    enum err_code found = TIDE_ERR_OK;
#define LOCAL_CODE(name, status, meaning)                                                          \
    if (code != NULL && strcmp(code, #name) == 0)                                                  \
        found = TIDE_ERR_##name;
    TIDE_ERR_CODES(LOCAL_CODE)
#undef LOCAL_CODE
    if (json_is_false(ok) && found != TIDE_ERR_OK && text != NULL)
        err_set(err, found, "%s", text);
    else
        err_set(err, TIDE_ERR_CORRUPT, "what \"%s\" answered is not an answer of ours", path);
    json_decref(answer);
    return -1;
}

static int local_failed(const char *path, int error, uint32_t timeout_ms, struct err *err)
{
    char reason[128];
    if (error == ETIMEDOUT)
        return err_set(err, TIDE_ERR_UNREACHABLE, "no answer on \"%s\" within %u ms", path,
                       timeout_ms);
    if (error == ENOMEM)
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the answer on \"%s\"", path);
    if (error == EMSGSIZE || error == EPROTO)
        return err_set(err, TIDE_ERR_CORRUPT, "what \"%s\" answered is not an answer of ours",
                       path);
    return err_set(err, error == EACCES || error == EPERM ? TIDE_ERR_DENIED : TIDE_ERR_UNREACHABLE,
                   "nobody answers on \"%s\": %s", path, strerror_r(error, reason, sizeof(reason)));
}

/* All bytes one way before `until_us`; 0, or an errno value. */
static int local_move(int fd, void *bytes, size_t size, bool out, uint64_t until_us)
{
    size_t done = 0;
    while (done < size) {
        uint8_t *at = (uint8_t *)bytes + done;
        ssize_t moved = out ? send(fd, at, size - done, MSG_NOSIGNAL | MSG_DONTWAIT)
                            : recv(fd, at, size - done, MSG_DONTWAIT);
        if (moved > 0) {
            done += (size_t)moved;
            continue;
        }
        if (moved == 0)
            return ECONNRESET;
        if (errno != EAGAIN && errno != EINTR)
            return errno;
        uint64_t now = clock_mono_us();
        if (now >= until_us)
            return ETIMEDOUT;
        struct pollfd wait = {.fd = fd, .events = out ? POLLOUT : POLLIN};
        (void)poll(&wait, 1, (int)((until_us - now) / CLOCK_US_PER_MS) + 1);
    }
    return 0;
}

/* One request and its answer, as libnng's REQ over ipc puts them: 01, the length in 8 bytes, the
 * request's number in 4, the body. (libnng's own client may hang for ever in nng_close().) */
static int local_ask(int fd, char *text, uint64_t until_us, char **ret_bytes, size_t *ret_size)
{
    static const uint8_t number[LOCAL_NUMBER] = {0x80, 0x00, 0x00, 0x01};
    uint8_t head[1 + SP_HEADER_SIZE + LOCAL_NUMBER] = {1};
    size_t size = strlen(text);
    uint64_t length = 0;
    int error;
    sp_header(size + LOCAL_NUMBER, head + 1);
    memcpy(head + 1 + SP_HEADER_SIZE, number, sizeof(number));
    if ((error = local_move(fd, head, sizeof(head), true, until_us)) != 0 ||
        (error = local_move(fd, text, size, true, until_us)) != 0 ||
        (error = local_move(fd, head, sizeof(head), false, until_us)) != 0)
        return error;
    for (unsigned i = 1; i <= SP_HEADER_SIZE; i++)
        length = length << 8 | head[i];
    if (head[0] != 1 || memcmp(head + 1 + SP_HEADER_SIZE, number, sizeof(number)) != 0)
        return EPROTO;
    if (length < LOCAL_NUMBER || length - LOCAL_NUMBER > LOCAL_MESSAGE_MAX)
        return EMSGSIZE;
    size = (size_t)length - LOCAL_NUMBER;
    char *bytes = malloc(size + 1);
    if (bytes == NULL)
        return ENOMEM;
    if ((error = local_move(fd, bytes, size, false, until_us)) != 0) {
        free(bytes);
        return error;
    }
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

int local_call(const char *path, const json_t *request, uint32_t timeout_ms, json_t **ret_answer,
               struct err *err)
{
    int fd = -1;
    char *bytes = NULL;
    size_t size = 0;
    uint64_t until = clock_mono_us() + (uint64_t)timeout_ms * CLOCK_US_PER_MS;
    TIDE_CHECK(timeout_ms > 0 && timeout_ms < INT32_MAX);
    if (local_path_check(path, err) != 0)
        return -1;
    char *text = jsontext_write(request, JSON_COMPACT);
    if (text == NULL)
        return err_set(err, TIDE_ERR_LIMIT, "no memory to write the request");
    if (strlen(text) > LOCAL_MESSAGE_MAX - LOCAL_NUMBER) {
        free(text);
        return err_set(err, TIDE_ERR_LIMIT, "a request of more than %u bytes",
                       LOCAL_MESSAGE_MAX - LOCAL_NUMBER);
    }
    int error = local_knock(path, timeout_ms, &fd);
    if (error == 0)
        error = local_ask(fd, text, until, &bytes, &size);
    free(text);
    if (fd >= 0)
        (void)close(fd);
    if (error != 0)
        return local_failed(path, error, timeout_ms, err);
    int status = local_parse(path, bytes, size, ret_answer, err);
    free(bytes);
    return status;
}
