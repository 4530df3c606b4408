/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th allocation fails (test_fail_alloc.c says what is asked of each): questions to the hold
 * thread and what the daemon answers to local commands, from the bytes of the request to those of
 * the answer, with a real holder (its thread's allocations fail too) that stands for both members
 * of a group; asking over a socket; and making a HTTPS client. */
#include <curl/curl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/io/clock.h"
#include "common/io/daemon.h"
#include "common/io/jsontext.h"
#include "common/io/loop.h"
#include "participant/call.h"
#include "participant/commands.h"
#include "participant/uplink.h"
#include "tests/contract/io_sites.h"
#include "tests/contract/nth.h"
#include "tests/unit/hrl_make.h"

#define WAIT_MS 20000U

static struct settings settings;
static struct tls_identity *identity;
static struct events *events;
static struct holder *holder;
static struct shipper shippers[2];
static struct commands commands;

/* ---- what the hold thread still has in hands is done with ---- */

static struct loop *hold_loop; /* the only one here that is posted to */

int __real_loop_post(struct loop *loop, loop_fn *fn, void *arg, struct err *err);
int __wrap_loop_post(struct loop *loop, loop_fn *fn, void *arg, struct err *err);

int __wrap_loop_post(struct loop *loop, loop_fn *fn, void *arg, struct err *err)
{
    hold_loop = loop;
    return __real_loop_post(loop, fn, arg, err);
}

static void on_barrier(void *arg)
{
    assert_int_equal(sem_post(arg), 0);
}

static void barrier(void)
{
    sem_t passed;
    assert_int_equal(sem_init(&passed, 0, 0), 0);
    assert_int_equal(__real_loop_post(hold_loop, on_barrier, &passed, NULL), 0);
    while (sem_wait(&passed) != 0) {
    }
    sem_destroy(&passed);
}

/* ---- calls ---- */

static unsigned freed;

static void free_owner(void *arg)
{
    free(arg);
    freed++;
}

static int makes_a_call(struct err *err)
{
    long kept = nth_pause();
    void *owner = malloc(8);
    assert_non_null(owner);
    nth_resume(kept);
    unsigned before = freed;
    struct call *call = call_new(owner, free_owner);
    if (call == NULL) {
        assert_int_equal(freed, before + 1);
        return err_set(err, TIDE_ERR_LIMIT, "no call");
    }
    call_answer(call);
    assert_true(call_wait(call, clock_mono_us() + 1));
    assert_int_equal(freed, before);
    call_drop(call);
    assert_int_equal(freed, before + 1);
    return 0;
}

static void calls(void **state)
{
    (void)state;
    nth_each("call", makes_a_call, NULL, 1);
}

/* ---- the holder ---- */

static struct groups *make_groups(uint64_t epoch)
{
    static const char *const names[] = {"web", "app"};
    struct groups *groups = calloc(1, sizeof *groups);
    struct definition *d = calloc(1, sizeof *d);
    struct id group = make_id(5);
    struct name name;
    assert_true(groups != NULL && d != NULL && name_parse("shop", &name));
    definition_init(d, &group, &name, epoch);
    d->epoch.hash = make_hash((unsigned)epoch);
    for (unsigned k = 0; k < 2; k++) {
        struct definition_member m = {.identity = "spiffe://lab/participant/a",
                                      .address = "127.0.0.1:20004"};
        struct definition_disk disk = {.stream = make_id(k + 1),
                                       .timeline = make_id(k + 11),
                                       .disk = make_id(k + 21),
                                       .size = 1 << 20,
                                       .block_size = 512};
        assert_true(name_parse(names[k], &m.name) && name_parse("data", &disk.name));
        assert_int_equal(definition_add_member(d, &m, NULL), 0);
        assert_int_equal(definition_add_disk(d, &disk, NULL), 0);
    }
    groups->count = 1;
    groups->definitions[0] = d;
    policy_init(&groups->policies[0]);
    return groups;
}

static int views(struct err *err)
{
    struct holder_view *view = NULL;
    if (holder_view(holder, WAIT_MS, &view, err) != 0) {
        assert_null(view);
        barrier();
        return -1;
    }
    assert_int_equal(view->seat_count, 2);
    for (unsigned k = 0; k < 2; k++) {
        assert_true(view->seats[k].defined);
        assert_int_equal(view->seats[k].member_count, 2);
        assert_true(view->seats[k].peers[0].own && view->seats[k].peers[1].own);
    }
    holder_view_free(view);
    barrier();
    return 0;
}

static int takes(struct err *err)
{
    struct name group;
    struct msg_taken taken = {.reason = (enum round_reason)77};
    assert_true(name_parse("shop", &group));
    if (holder_take(holder, &group, ROUND_KIND_CRASH, WAIT_MS, &taken, err) != 0) {
        assert_int_equal(taken.reason, 77);
        barrier();
        return -1;
    }
    assert_false(taken.sealed);
    assert_int_equal(taken.reason, ROUND_REASON_NOT_ATTACHED);
    barrier();
    return 0;
}

/* No tap is there: that is what the operator must be told. */
static int orders(struct err *err)
{
    struct tapctl order = {.type = TAPCTL_RESIZE};
    struct tapctl_done done = {.code = (enum err_code)77};
    assert_int_equal(holder_order(holder, 1, &order, &done, err), -1);
    barrier();
    assert_int_equal(done.code, 77);
    if (err->code != TIDE_ERR_UNREACHABLE) {
        return -1;
    }
    assert_non_null(strstr(err->text, "the tap of disk \"app/data\""));
    return 0;
}

static uint64_t epoch_now(void)
{
    struct holder_view *view = NULL;
    struct err err = {0};
    assert_int_equal(holder_view(holder, WAIT_MS, &view, &err), 0);
    uint64_t epoch = view->seats[0].epoch.number;
    holder_view_free(view);
    barrier();
    return epoch;
}

static void the_holder(void **state)
{
    struct err err = {0};
    (void)state;
    nth_each("holder: view", views, NULL, 5);
    nth_each("holder: take", takes, NULL, 2);
    nth_each("holder: order", orders, NULL, 2);
    /* It takes what it is given, and goes on with what it had. (What the new ones bring aborts.) */
    long before = nth_live();
    struct groups *groups = make_groups(8);
    nth_arm(0);
    assert_int_equal(holder_set_groups(holder, groups, &err), -1);
    assert_true(nth_met());
    nth_says(&err, "holder: groups", 0);
    assert_int_equal(nth_live(), before);
    assert_int_equal(epoch_now(), 7);
    assert_int_equal(holder_set_groups(holder, make_groups(8), &err), 0);
    assert_int_equal(epoch_now(), 8);
    assert_int_equal(nth_live(), before);
}

/* ---- commands ---- */

static const char *request;
static char *expected; /* the answer when nothing fails; times and counters apart */

static json_t *read_back(const char *text)
{
    json_t *o = NULL;
    struct err err = {0};
    if (jsontext_read(text, strlen(text), 0, &o, &err) != 0) {
        fail_msg("%s: %s", text, err.text);
    }
    return o;
}

/* What differs from one answer to the next. */
static void drop_moving(json_t *o)
{
    static const char *const moving[] = {"time",   "count",  "rounds", "rounds_failed",
                                         "reason", "leader", "reach",  "heard"};
    const char *key;
    json_t *value;
    size_t k;
    for (k = 0; k < sizeof moving / sizeof moving[0]; k++) {
        if (json_object_get(o, moving[k]) != NULL) {
            json_object_set_new(o, moving[k], json_null());
        }
    }
    json_object_foreach(o, key, value)
    {
        drop_moving(value);
    }
    json_array_foreach(o, k, value)
    {
        drop_moving(value);
    }
}

/* The whole answer, or one that says LIMIT, or none. */
static int answers(struct err *err)
{
    char *text = local_answer(commands_answer, &commands, request, strlen(request));
    barrier();
    if (text == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no answer");
    }
    long kept = nth_pause();
    json_t *o = read_back(text);
    const char *code = json_string_value(json_object_get(o, "error"));
    int rc = 0;
    if (code != NULL && strcmp(code, "LIMIT") == 0) {
        rc = err_set(err, TIDE_ERR_LIMIT, "%s", json_string_value(json_object_get(o, "text")));
    } else {
        drop_moving(o);
        char *now = jsontext_write(o, JSON_COMPACT | JSON_SORT_KEYS);
        assert_non_null(now);
        if (expected == NULL) {
            expected = strdup(now);
        }
        assert_string_equal(now, expected);
        free(now);
    }
    json_decref(o);
    free(text);
    nth_resume(kept);
    return rc;
}

static void each_command(const char *what, const char *text, const char *part, long least)
{
    struct err err = {0};
    request = text;
    assert_int_equal(answers(&err), 0); /* what is expected is kept */
    assert_non_null(strstr(expected, part));
    nth_each(what, answers, NULL, least);
    free(expected);
    expected = NULL;
}

static void local_commands(void **state)
{
    (void)state;
    events_disk(events, NEWS_LOST, 0, "one");
    events_disk(events, NEWS_LOST, 1, "two");
    each_command("status", "{\"command\": \"status\"}", "\"peers\"", 500);
    each_command("events", "{\"command\": \"events\", \"since\": 0}", "\"text\":\"two\"", 50);
    each_command("take", "{\"command\": \"take\", \"group\": \"shop\"}", "\"sealed\":false", 10);
    each_command("disk",
                 "{\"command\": \"disk\", \"order\": \"detach\", \"group\": \"shop\", \"member\": "
                 "\"web\", \"disk\": \"data\"}",
                 "\"error\":\"UNREACHABLE\"", 10);
    each_command("unknown", "{\"command\": \"nothing\"}", "\"error\":\"USAGE\"", 5);
    each_command("no command", "{\"commands\": 5}", "\"error\":\"USAGE\"", 5);
    each_command("not JSON", "{\"command\": \"status\"", "\"error\":\"USAGE\"", 5);
}

/* ---- who asks ---- */

static char socket_path[96];

static json_t *says(void *arg, const char *command, const json_t *from)
{
    struct err err = {0};
    (void)arg;
    if (strcmp(command, "fail") == 0) {
        err_set(&err, TIDE_ERR_CONFLICT, "so it is");
        return local_error(&err);
    }
    json_t *answer = local_ok();
    json_object_set_new(answer, "request", json_deep_copy(from));
    return answer;
}

static int asks(const char *command, json_t **ret, struct err *err)
{
    long kept = nth_pause();
    json_t *from = json_pack("{s:s}", "command", command);
    assert_non_null(from);
    nth_resume(kept);
    int rc = local_call(socket_path, from, WAIT_MS, ret, err);
    kept = nth_pause();
    json_decref(from);
    nth_resume(kept);
    return rc;
}

static int asks_well(struct err *err)
{
    json_t *answer = NULL;
    if (asks("say", &answer, err) != 0) {
        assert_null(answer);
        return -1;
    }
    const json_t *back = json_object_get(answer, "request");
    assert_string_equal(json_string_value(json_object_get(back, "command")), "say");
    json_decref(answer);
    return 0;
}

static int asks_for_an_error(struct err *err)
{
    json_t *answer = NULL;
    assert_int_equal(asks("fail", &answer, err), -1);
    assert_null(answer);
    if (err->code != TIDE_ERR_CONFLICT) {
        return -1;
    }
    assert_string_equal(err->text, "so it is");
    return 0;
}

/* The server is another process, whose allocations do not fail. */
static void asking(void **state)
{
    int ready[2];
    int end[2];
    char byte;
    (void)state;
    snprintf(socket_path, sizeof socket_path, "%s/local.ipc", nth_folder);
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(end), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct local_server *server = NULL;
        close(end[1]);
        if (local_server_new(socket_path, says, NULL, &server, NULL) != 0 ||
            write(ready[1], "r", 1) != 1) {
            _exit(1);
        }
        (void)!read(end[0], &byte, 1); /* until the test ends, however it does */
        _exit(0);
    }
    close(ready[1]);
    close(end[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    nth_each("ask", asks_well, NULL, 5);
    nth_each("ask for an error", asks_for_an_error, NULL, 5);
    close(end[1]);
    close(ready[0]);
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- the HTTPS client ---- */

static int makes_an_uplink(struct err *err)
{
    struct uplink *uplink = NULL;
    if (uplink_new(identity, &settings, &uplink, err) != 0) {
        assert_null(uplink);
        return -1;
    }
    uplink_free(uplink);
    return 0;
}

static void the_uplink(void **state)
{
    (void)state;
    nth_each("uplink", makes_an_uplink, NULL, 10);
}

/* ---- before and after ---- */

static void set_settings(void)
{
    static const char *const names[] = {"web", "app"};
    assert_int_equal(address_parse("127.0.0.1:0", true, &settings.listen, NULL), 0);
    assert_int_equal(address_parse("127.0.0.1:1", false, &settings.coordinator, NULL), 0);
    snprintf(settings.coordinator_uri, sizeof settings.coordinator_uri,
             "spiffe://lab/coordinator/main");
    snprintf(settings.state, sizeof settings.state, "%s", nth_folder);
    settings.compare_rate = SETTINGS_COMPARE;
    settings.in_flight = SETTINGS_IN_FLIGHT;
    settings.member_count = settings.disk_count = 2;
    for (unsigned k = 0; k < 2; k++) {
        assert_true(name_parse("shop", &settings.members[k].group));
        assert_true(name_parse(names[k], &settings.members[k].name));
        assert_true(name_parse("data", &settings.disks[k].name));
        settings.disks[k].member = k;
        snprintf(settings.disks[k].tap, sizeof settings.disks[k].tap, "%s/none.sock", nth_folder);
    }
}

/* The threads that commands ask for their status have ended; what they said last is still there. */
static void set_commands(void)
{
    struct comparer_disk disks[] = {{holder_port(holder, 0), "shop/web/data"},
                                    {holder_port(holder, 1), "shop/app/data"}};
    struct err err = {0};
    uint64_t deadline = clock_mono_us() + WAIT_MS * CLOCK_US_PER_MS;
    commands = (struct commands){.settings = &settings,
                                 .identity = identity,
                                 .events = events,
                                 .holder = holder,
                                 .shippers = shippers};
    if (control_new(&settings, identity, holder, &commands.control, &err) != 0 ||
        comparer_start(&settings, identity, disks, 2, 1, &commands.comparer, &err) != 0) {
        fail_msg("%s", err.text);
    }
    for (unsigned k = 0; k < 2; k++) { /* their threads never begin */
        assert_int_equal(pthread_mutex_init(&shippers[k].lock, NULL), 0);
        shippers[k].port = holder_port(holder, k);
    }
    commands.signer = signer_new(identity, holder_attest, holder);
    control_stop(commands.control);
    comparer_stop(commands.comparer);
    assert_true(control_join(commands.control, deadline));
    assert_true(comparer_join(commands.comparer, deadline));
}

static int setup(void **state)
{
    struct err err = {0};
    if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, free, realloc, strdup, calloc) !=
            CURLE_OK ||
        sites_make(state) != 0 || nth_setup(state) != 0) {
        return -1;
    }
    set_settings();
    identity = sites_identity("a");
    events = events_new(&settings);
    struct holder_options options = {.settings = &settings, .identity = identity, .events = events};
    if (holder_new(&options, &holder, &err) != 0 ||
        holder_set_groups(holder, make_groups(7), &err) != 0) {
        fail_msg("%s", err.text);
    }
    barrier();
    set_commands();
    return 0;
}

static int teardown(void **state)
{
    signer_free(commands.signer);
    assert_true(holder_stop(holder, clock_mono_us() + WAIT_MS * CLOCK_US_PER_MS));
    return nth_teardown(state) != 0 ? -1 : sites_remove(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls),  cmocka_unit_test(the_holder), cmocka_unit_test(local_commands),
        cmocka_unit_test(asking), cmocka_unit_test(the_uplink),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
