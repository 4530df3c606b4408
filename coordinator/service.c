/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/service.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/io/daemon.h"
#include "common/io/jsontext.h"
#include "common/io/local.h"
#include "common/io/log.h"
#include "common/io/loop.h"
#include "common/io/tls.h"
#include "coordinator/catalog/catalog.h"
#include "coordinator/intake/hashes.h"
#include "coordinator/intake/points.h"
#include "coordinator/intake/pool.h"
#include "coordinator/intake/registry.h"
#include "coordinator/intake/server.h"
#include "coordinator/store/store.h"

#define COMMAND_S 20 /* a local command waits so long for the loop */

struct service {
    struct loop *loop;
    struct tls_identity *identity;
    const struct settings *settings;
    struct keyring *keyring; /* NULL: the store is not encrypted */
    struct store *store;
    struct catalog *catalog;
    struct pool *pool;
    struct points *points;
    struct registry *registry;
    struct hashes *hashes;
    struct server *server;
    struct local_server *local;
    struct daemon_signals signals;
    struct daemon_renewal renewal;
    bool catalog_fresh;
};

static void note(void *context, const char *text)
{
    (void)context;
    if (strncmp(text, "ALARM", 5) == 0) {
        log_error("%s", text);
    } else {
        log_info("store: %s", text);
    }
}

/* ---- local commands ---- */

/* One command on its way to the loop's thread and back. Freed by whoever lets go of it last. */
struct call {
    struct service *service;
    const char *command;
    json_t *request;
    json_t *answer;
    bool answered;
    unsigned holders;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static json_t *failed(const struct err *err)
{
    return local_error(err);
}

static const char *text_in(const json_t *request, const char *key)
{
    const char *text = json_string_value(json_object_get(request, key));
    return text == NULL ? "" : text;
}

static unsigned limit_in(const json_t *request)
{
    json_int_t limit = json_integer_value(json_object_get(request, "limit"));
    return limit < 0 || limit > (json_int_t)TIDE_CATALOG_LIST_MAX ? 0 : (unsigned)limit;
}

/* NULL: no memory. */
static json_t *with(const char *key, json_t *value)
{
    json_t *answer = local_ok();
    if (json_object_set_new(answer, key, value) < 0) {
        json_decref(answer);
        answer = NULL;
    }
    return answer;
}

static struct catalog_place place_in(const json_t *place)
{
    struct catalog_place ret = {
        .wall_ns = (uint64_t)json_integer_value(json_object_get(place, "time_ns"))};
    snprintf(ret.id, sizeof(ret.id), "%s", text_in(place, "id"));
    return ret;
}

static struct catalog_query query_in(const json_t *request)
{
    return (struct catalog_query){.group = text_in(request, "group"),
                                  .single_vm = json_is_true(json_object_get(request, "single_vm")),
                                  .vm = text_in(request, "vm"),
                                  .limit = limit_in(request),
                                  .before = place_in(json_object_get(request, "before"))};
}

/* {"time_ns", "id"}: where the next page begins; none where there is no other. False: no memory. */
static bool add_next(json_t *answer, const struct catalog_place *next)
{
    return next->id[0] == '\0' ||
           json_object_set_new(
               answer, "next",
               json_pack("{s:I, s:s}", "time_ns", (json_int_t)next->wall_ns, "id", next->id)) == 0;
}

static json_t *round_list(struct service *s, const json_t *request)
{
    struct err e = {0};
    json_t *found = NULL;
    struct catalog_place next;
    const struct catalog_query query = query_in(request);
    if (catalog_rounds(s->catalog, &query, &found, &next, &e) < 0) {
        return failed(&e);
    }
    json_t *answer = with("rounds", found);
    if (answer != NULL && !add_next(answer, &next)) {
        json_decref(answer);
        answer = NULL;
    }
    return answer;
}

/* The group's points, or those of single VMs; and how many of the latter there are. */
static json_t *point_list(struct service *s, const json_t *request)
{
    struct err e = {0};
    json_t *found = NULL;
    uint64_t single = 0;
    struct catalog_place next;
    const struct catalog_query query = query_in(request);
    if (catalog_points(s->catalog, &query, &found, &next, &e) < 0) {
        return failed(&e);
    }
    if (catalog_single_vm_count(s->catalog, query.group, &single, &e) < 0) {
        json_decref(found);
        return failed(&e);
    }
    json_t *answer = with("points", found);
    if (answer != NULL &&
        (json_object_set_new(answer, "single_vm_points", json_integer((json_int_t)single)) < 0 ||
         !add_next(answer, &next))) {
        json_decref(answer);
        answer = NULL;
    }
    return answer;
}

static json_t *run_command(struct service *s, const char *command, const json_t *request)
{
    struct err e = {0};
    json_t *found = NULL;
    if (strcmp(command, "group-apply") == 0) {
        if (registry_apply(s->registry, json_object_get(request, "group"), &e) < 0) {
            return failed(&e);
        }
        log_info("group '%s' was applied", text_in(json_object_get(request, "group"), "group"));
        return local_ok();
    }
    if (strcmp(command, "group-list") == 0) {
        return with("groups", registry_list(s->registry));
    }
    if (strcmp(command, "point-list") == 0) {
        return point_list(s, request);
    }
    if (strcmp(command, "round-list") == 0) {
        return round_list(s, request);
    }
    if (strcmp(command, "point-show") == 0) {
        return catalog_point(s->catalog, text_in(request, "point"), &found, &e) < 0
                   ? failed(&e)
                   : with("point", found);
    }
    if (strcmp(command, "store") == 0) {
        json_t *answer = with("path", json_string(store_path(s->store)));
        if (json_object_set_new(answer, "master_key", json_string(s->settings->master_key)) < 0) {
            json_decref(answer);
            answer = NULL;
        }
        return answer;
    }
    err_set(&e, TIDE_ERR_USAGE, "the coordinator has no command '%.64s'", command);
    return failed(&e);
}

static void call_drop(struct call *call)
{
    pthread_mutex_lock(&call->lock);
    unsigned left = --call->holders;
    pthread_mutex_unlock(&call->lock);
    if (left == 0) {
        json_decref(call->request);
        json_decref(call->answer);
        pthread_cond_destroy(&call->wake);
        pthread_mutex_destroy(&call->lock);
        free(call);
    }
}

static void call_on_loop(void *arg)
{
    struct call *call = arg;
    json_t *answer = run_command(call->service, text_in(call->request, "command"), call->request);
    pthread_mutex_lock(&call->lock);
    call->answer = answer;
    call->answered = true;
    pthread_cond_signal(&call->wake);
    pthread_mutex_unlock(&call->lock);
    call_drop(call);
}

static json_t *call_wait(struct call *call)
{
    struct timespec until;
    json_t *answer = NULL;
    struct err e = {0};
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += COMMAND_S;
    pthread_mutex_lock(&call->lock);
    int rc = 0;
    while (!call->answered && rc != ETIMEDOUT) {
        rc = pthread_cond_clockwait(&call->wake, &call->lock, CLOCK_MONOTONIC, &until);
    }
    bool answered = call->answered;
    if (answered) {
        answer = call->answer; /* NULL: no memory */
        call->answer = NULL;
    }
    pthread_mutex_unlock(&call->lock);
    if (answered) {
        return answer;
    }
    err_set(&e, TIDE_ERR_BUSY, "the coordinator did not come to the command within %d s",
            COMMAND_S);
    return local_error(&e);
}

static json_t *command_fn(void *arg, const char *command, const json_t *request)
{
    struct service *s = arg;
    struct err e = {0};
    (void)command;
    unsigned long before = jsontext_failures();
    json_t *copy = json_deep_copy(request);
    struct call *call = jsontext_failures() != before ? NULL : calloc(1, sizeof(*call));
    if (call == NULL) {
        json_decref(copy);
        return NULL;
    }
    call->service = s;
    call->holders = 2;
    call->request = copy;
    pthread_mutex_init(&call->lock, NULL);
    pthread_cond_init(&call->wake, NULL);
    json_t *answer;
    if (loop_post(s->loop, call_on_loop, call, &e) < 0) {
        answer = local_error(&e);
        call->holders = 1;
    } else {
        answer = call_wait(call);
    }
    call_drop(call);
    return answer;
}

/* ---- start and end ---- */

static void stop(void *arg)
{
    struct service *s = arg;
    log_info("stopping");
    daemon_notify("STOPPING=1");
    loop_stop(s->loop);
}

static int start_store(struct service *s, const struct settings *settings, struct err *err)
{
    char why[TIDE_ERR_TEXT_MAX];
    struct segment_form form = {.level = (int)settings->compression};
    if (settings->master_key[0] != '\0' &&
        keyring_open(settings->store, settings->master_key, &s->keyring, err) < 0) {
        return -1;
    }
    form.keyring = s->keyring;
    if (s->keyring == NULL) {
        log_info("no master-key: segments are stored as they come, without encryption");
    }
    if (store_open(settings->store, &form, note, NULL, &s->store, err) < 0 ||
        catalog_open(settings->catalog, &s->catalog, why, err) < 0) {
        return -1;
    }
    s->catalog_fresh = why[0] != '\0';
    if (s->catalog_fresh) {
        log_info("catalog '%s' is made from the store: %s", settings->catalog, why);
    }
    if (pool_new(s->loop, &s->pool, err) < 0 ||
        hashes_new(settings->cache, s->pool, s->store, &s->hashes, err) < 0 ||
        points_new(s->store, s->catalog, s->loop, s->pool, &s->points, err) < 0 ||
        registry_open(s->store, s->catalog, points_define, s->points, &s->registry, err) < 0) {
        return -1;
    }
    return points_recover(s->points, s->registry, s->catalog_fresh, err);
}

static int start(struct service *s, const struct settings *settings, struct err *err)
{
    struct server_options o = {.loop = s->loop, .listen = settings->listen};
    char text[ADDRESS_TEXT_MAX];
    if (tls_identity_load(settings->cert, settings->key, settings->ca, &s->identity, err) < 0) {
        return -1;
    }
    if (tls_identity_name(s->identity)->role != TLS_COORDINATOR) {
        return err_set(err, TIDE_ERR_CONFIG,
                       "'%s' is the certificate of '%s'; a coordinator's is needed "
                       "(tidemark pki issue)",
                       settings->cert, tls_identity_uri(s->identity));
    }
    if (start_store(s, settings, err) < 0) {
        return -1;
    }
    o.pool = s->pool;
    o.store = s->store;
    o.registry = s->registry;
    o.points = s->points;
    o.hashes = s->hashes;
    o.identity = s->identity;
    if (server_new(&o, &s->server, err) < 0 ||
        local_server_new(settings->local, command_fn, s, &s->local, err) < 0) {
        return -1;
    }
    struct address at;
    server_address(s->server, &at);
    log_info("'%s' serves %s, store '%s'", tls_identity_uri(s->identity), address_text(&at, text),
             settings->store);
    return 0;
}

/* The local server is let go of before the loop's memory: its threads post to the loop. */
static void end(struct service *s)
{
    hashes_stop(s->hashes);
    pool_free(s->pool);
    server_free(s->server);
    hashes_free(s->hashes);
    registry_free(s->registry);
    points_free(s->points);
    catalog_close(s->catalog);
    store_close(s->store);
    keyring_close(s->keyring);
    tls_identity_free(s->identity);
}

int service_run(const struct settings *settings, struct err *err)
{
    struct service s = {.settings = settings};
    s.loop = loop_new();
    daemon_signals_init(&s.signals, s.loop, stop, &s);
    daemon_renewal_init(&s.renewal, s.loop);
    int rc = start(&s, settings, err);
    if (rc == 0) {
        daemon_renewal_begin(&s.renewal, s.identity);
        daemon_notify("READY=1");
        loop_run(s.loop);
    }
    /* Commands under way are answered by the loop no more: the process ends without waiting for
     * them (they have a deadline). */
    end(&s);
    return rc;
}
