/* SPDX-License-Identifier: Apache-2.0 */
/* Local commands over libnng's ipc: answers, errors, deadlines, hostile requests. */
#include "tests/contract/io_sites.h"

#include "common/io/clock.h"
#include "common/io/local.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static char path[160];
static struct local_server *server;
static atomic_uint calls;
static atomic_bool let_go;

static json_t *handle(void *arg, const char *command, const json_t *request)
{
    struct err err;
    json_t *answer;
    assert_ptr_equal(arg, &calls);
    atomic_fetch_add(&calls, 1);
    if (strcmp(command, "add") == 0) {
        answer = local_ok();
        json_object_set_new(answer, "sum",
                            json_integer(json_integer_value(json_object_get(request, "a")) +
                                         json_integer_value(json_object_get(request, "b"))));
        return answer;
    }
    if (strcmp(command, "wait") == 0) {
        uint64_t until = clock_mono_us() + 5000000;
        while (!atomic_load(&let_go) && clock_mono_us() < until)
            usleep(1000);
        return local_ok();
    }
    if (strcmp(command, "big") == 0) {
        char *text = malloc(LOCAL_MESSAGE_MAX + 1);
        memset(text, 'x', LOCAL_MESSAGE_MAX);
        text[LOCAL_MESSAGE_MAX] = 0;
        answer = local_ok();
        json_object_set_new(answer, "text", json_string(text));
        free(text);
        return answer;
    }
    if (strcmp(command, "null") == 0)
        return NULL;
    err_set(&err, TIDE_ERR_NOT_FOUND, "no command \"%s\"", command);
    return local_error(&err);
}

static int ask(json_t *request, uint32_t timeout_ms, json_t **answer, struct err *err)
{
    int status = local_call(path, request, timeout_ms, answer, err);
    json_decref(request);
    return status;
}

static int open_server(void **state)
{
    struct err err;
    if (sites_make(state) != 0)
        return -1;
    snprintf(path, sizeof(path), "%s", sites_path("run/local.ipc"));
    if (local_server_new(path, handle, &calls, &server, &err) != 0) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static int close_server(void **state)
{
    local_server_free(server);
    if (access(path, F_OK) == 0)
        return -1;
    return sites_remove(state);
}

static void commands_are_answered(void **state)
{
    (void)state;
    struct err err = {0};
    json_t *answer = NULL;
    struct stat stat_;
    for (int i = 0; i < 20; i++) {
        if (ask(json_pack("{s:s, s:I, s:I}", "command", "add", "a", (json_int_t)INT64_MAX - 20, "b",
                          (json_int_t)i),
                2000, &answer, &err) != 0)
            fail_msg("%s", err.text);
        assert_true(json_integer_value(json_object_get(answer, "sum")) == INT64_MAX - 20 + i);
        json_decref(answer);
    }
    assert_int_equal(ask(json_pack("{s:s}", "command", "nonsense"), 2000, &answer, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_NOT_FOUND);
    assert_string_equal(err.text, "no command \"nonsense\"");
    assert_int_equal(stat(path, &stat_), 0);
    assert_int_equal(stat_.st_mode & 0777, 0660);
    assert_int_equal(stat(sites_path("run"), &stat_), 0);
    assert_int_equal(stat_.st_mode & 0777, 0750);
}

static void bad_requests_do_not_reach_the_handler(void **state)
{
    (void)state;
    struct err err = {0};
    json_t *answer = NULL;
    unsigned before = atomic_load(&calls);
    assert_int_equal(ask(json_pack("{s:s}", "commandd", "add"), 2000, &answer, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_USAGE);
    assert_int_equal(ask(json_pack("{s:i}", "command", 5), 2000, &answer, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_USAGE);
    assert_int_equal(ask(json_pack("[s]", "command"), 2000, &answer, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_USAGE);
    assert_int_equal(atomic_load(&calls), before);

    /* What is not JSON at all, over libnng alone. */
    static const char *const garbage[] = {"", "{", "\xff\xfe", "{\"command\":\"add\"", "[[[[[["};
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        nng_socket socket;
        char url[200];
        char *got = NULL;
        size_t size = 0;
        snprintf(url, sizeof(url), "ipc://%s", path);
        assert_int_equal(nng_req0_open(&socket), 0);
        assert_int_equal(nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, 3000), 0);
        assert_int_equal(nng_dial(socket, url, NULL, 0), 0);
        assert_int_equal(nng_send(socket, (char *)(uintptr_t)garbage[i], strlen(garbage[i]), 0), 0);
        assert_int_equal(nng_recv(socket, &got, &size, NNG_FLAG_ALLOC), 0);
        json_t *parsed = json_loadb(got, size, 0, NULL);
        assert_true(json_is_false(json_object_get(parsed, "ok")));
        assert_string_equal(json_string_value(json_object_get(parsed, "error")), "USAGE");
        json_decref(parsed);
        nng_free(got, size); /* and the socket is left: nng_close() may hang */
    }
    assert_int_equal(atomic_load(&calls), before);
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    struct err err = {0};
    json_t *answer = NULL;
    assert_int_equal(ask(json_pack("{s:s}", "command", "big"), 3000, &answer, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    assert_int_equal(ask(json_pack("{s:s}", "command", "null"), 3000, &answer, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    char *text = malloc(LOCAL_MESSAGE_MAX + 1);
    assert_non_null(text);
    memset(text, 'x', LOCAL_MESSAGE_MAX);
    text[LOCAL_MESSAGE_MAX] = 0;
    assert_int_equal(ask(json_pack("{s:s, s:s}", "command", "add", "x", text), 3000, &answer, &err),
                     -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    /* One that does not ask first: the server drops it and goes on. */
    nng_socket socket;
    char url[200];
    snprintf(url, sizeof(url), "ipc://%s", path);
    assert_int_equal(nng_req0_open(&socket), 0);
    assert_int_equal(nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, 300), 0);
    assert_int_equal(nng_dial(socket, url, NULL, 0), 0);
    assert_int_equal(nng_send(socket, text, LOCAL_MESSAGE_MAX + 1, 0), 0);
    char *got = NULL;
    size_t size = 0;
    assert_int_not_equal(nng_recv(socket, &got, &size, NNG_FLAG_ALLOC), 0);
    free(text);
    assert_int_equal(
        ask(json_pack("{s:s, s:i, s:i}", "command", "add", "a", 1, "b", 2), 2000, &answer, &err),
        0);
    json_decref(answer);
    char deep[LOCAL_PATH_MAX + 2];
    memset(deep, 'd', sizeof(deep));
    deep[0] = '/';
    deep[sizeof(deep) - 1] = 0;
    json_t *request = json_pack("{s:s}", "command", "add");
    assert_int_equal(local_call(deep, request, 100, &answer, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_LIMIT);
    json_decref(request);
}

static void *wait_in_background(void *arg)
{
    struct err err = {0};
    json_t *answer = NULL;
    int *status = arg;
    *status = ask(json_pack("{s:s}", "command", "wait"), 6000, &answer, &err);
    json_decref(answer);
    return NULL;
}

static void slow_commands_do_not_stop_others_and_deadlines_hold(void **state)
{
    (void)state;
    struct err err = {0};
    json_t *answer = NULL;
    pthread_t thread;
    int status = -1;
    atomic_store(&let_go, false);
    assert_int_equal(pthread_create(&thread, NULL, wait_in_background, &status), 0);
    uint64_t from = clock_mono_us();
    assert_int_equal(ask(json_pack("{s:s}", "command", "wait"), 200, &answer, &err), -1);
    uint64_t took = clock_mono_us() - from;
    assert_int_equal(err.code, TIDE_ERR_UNREACHABLE);
    assert_non_null(strstr(err.text, "within 200 ms"));
    assert_true(took >= 190000 && took < 1500000);
    assert_int_equal(
        ask(json_pack("{s:s, s:i, s:i}", "command", "add", "a", 1, "b", 2), 2000, &answer, &err),
        0);
    json_decref(answer);
    atomic_store(&let_go, true);
    pthread_join(thread, NULL);
    assert_int_equal(status, 0);
}

static int raw_unix(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    memcpy(to.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    for (unsigned i = 0; connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0; i++) {
        if (i > 2000 || (errno != EAGAIN && errno != ECONNREFUSED))
            fail_msg("connect: %s", strerror(errno));
        usleep(1000);
    }
    return fd;
}

/* Some of these end libnng's listener for good; the guard must bring it back. */
static void connections_that_go_do_not_hurt_for_long(void **state)
{
    (void)state;
    struct err err = {0};
    json_t *answer = NULL;
    int silent = raw_unix();
    for (unsigned i = 0; i < 50; i++) {
        int fd = raw_unix();
        if (i % 2 == 0) {
            ssize_t put = send(fd, "garbage that is no SP", 21, MSG_NOSIGNAL);
            (void)put;
        }
        close(fd);
    }
    int status = -1;
    uint64_t until = clock_mono_us() + 8000000;
    while (status != 0 && clock_mono_us() < until)
        status =
            ask(json_pack("{s:s, s:i, s:i}", "command", "add", "a", 1, "b", 2), 500, &answer, &err);
    if (status != 0)
        fail_msg("%s", err.text);
    json_decref(answer);
    close(silent);
}

static void places_that_are_taken_or_empty_are_said(void **state)
{
    (void)state;
    struct err err = {0};
    json_t *answer = NULL;
    struct local_server *second = NULL;
    json_t *request = json_pack("{s:s}", "command", "add");
    assert_int_equal(local_server_new(path, handle, &calls, &second, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFLICT);
    uint64_t from = clock_mono_us();
    assert_int_equal(local_call(sites_path("none.ipc"), request, 3000, &answer, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_UNREACHABLE);
    assert_true(clock_mono_us() - from < 1000000); /* at once, not after the deadline */

    /* A socket that a dead process left: taken away. A file: left alone. */
    struct sockaddr_un stale = {.sun_family = AF_UNIX};
    snprintf(stale.sun_path, sizeof(stale.sun_path), "%s", sites_path("stale.ipc"));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&stale, sizeof(stale)), 0);
    close(fd);
    assert_int_equal(local_call(stale.sun_path, request, 3000, &answer, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_UNREACHABLE);
    if (local_server_new(stale.sun_path, handle, &calls, &second, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(local_call(stale.sun_path, request, 3000, &answer, &err), 0);
    json_decref(answer);
    local_server_free(second);
    assert_int_equal(local_server_new(sites_path("a.crt"), handle, &calls, &second, &err), -1);
    assert_int_equal(err.code, TIDE_ERR_CONFLICT);
    assert_int_equal(access(sites_path("a.crt"), F_OK), 0);
    json_decref(request);
}

/* A server that is stopped: its kernel takes the connection, nobody answers. */
static void stopped_server_meets_the_deadline(void **state)
{
    (void)state;
    struct err err = {0};
    json_t *answer = NULL;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    json_t *request = json_pack("{s:s}", "command", "add");
    snprintf(at.sun_path, sizeof(at.sun_path), "%s", sites_path("deaf.ipc"));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 8), 0);
    uint64_t from = clock_mono_us();
    assert_int_equal(local_call(at.sun_path, request, 300, &answer, &err), -1);
    uint64_t took = clock_mono_us() - from;
    assert_int_equal(err.code, TIDE_ERR_UNREACHABLE);
    assert_true(took >= 250000 && took < 2000000);
    close(fd);
    json_decref(request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_answered),
        cmocka_unit_test(bad_requests_do_not_reach_the_handler),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(slow_commands_do_not_stop_others_and_deadlines_hold),
        cmocka_unit_test(connections_that_go_do_not_hurt_for_long),
        cmocka_unit_test(places_that_are_taken_or_empty_are_said),
        cmocka_unit_test(stopped_server_meets_the_deadline),
    };
    int status = cmocka_run_group_tests(tests, open_server, close_server);
    fflush(NULL);
    _exit(status); /* sockets of libnng are left: closing busy ones can hang */
}
