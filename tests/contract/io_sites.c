/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/contract/io_sites.h"

#include "common/io/clock.h"
#include "common/io/pki.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SITES_LOOK_US  2000U
#define SITES_LIMIT_US 8000000U

static char folder[64];

const char *sites_path(const char *name)
{
    static char path[16][160];
    static unsigned next;
    char *to = path[next++ % 16];
    snprintf(to, sizeof(path[0]), "%s/%s", folder, name);
    return to;
}

static int sites_leaf(const struct pki_pair *ca, const char *name, const char *uri,
                      const char *second, long from_s, long to_s)
{
    struct pki_pair leaf;
    struct pki_request request = {.common_name = name,
                                  .uris = {uri, second},
                                  .uri_count = second == NULL ? 1 : 2,
                                  .valid_from_s = from_s,
                                  .valid_to_s = to_s};
    if (pki_make_leaf(ca, &request, &leaf, NULL) != 0)
        return -1;
    int status = pki_pair_write(&leaf, sites_path(name), NULL);
    pki_pair_close(&leaf);
    return status;
}

int sites_make(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d", "raw"};
    struct pki_pair ca;
    char site[160];
    char other[160];
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    snprintf(folder, sizeof(folder), "/tmp/tide-io-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(site, sizeof(site), "%s/lab", folder);
    snprintf(other, sizeof(other), "%s/other", folder);
    if (pki_init(site, "lab", NULL) != 0 || pki_init(other, "lab", NULL) != 0)
        return -1;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (pki_issue(site, "participant", names[i], NULL, 0, NULL, 0, 5, sites_path(names[i]),
                      NULL, NULL) != 0)
            return -1;
    }
    if (pki_issue(site, "coordinator", "main", NULL, 0, NULL, 0, 5, sites_path("main"), NULL,
                  NULL) != 0 ||
        pki_issue(site, "operator", "op", NULL, 0, NULL, 0, 5, sites_path("op"), NULL, NULL) != 0 ||
        pki_issue(other, "participant", "raw", NULL, 0, NULL, 0, 5, sites_path("stranger"), NULL,
                  NULL) != 0 ||
        pki_pair_read(sites_path("lab/ca"), &ca, NULL) != 0)
        return -1;
    int status =
        sites_leaf(&ca, "two", "spiffe://lab/participant/raw", "spiffe://lab/participant/b", -3600,
                   86400) != 0 ||
        sites_leaf(&ca, "old", "spiffe://lab/participant/raw", NULL, -7200, -60) != 0 ||
        sites_leaf(&ca, "foreign", "spiffe://elsewhere/participant/raw", NULL, -3600, 86400) != 0;
    pki_pair_close(&ca);
    return status;
}

int sites_remove(void **state)
{
    int status = -1;
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        execlp("rm", "rm", "-rf", folder, (char *)NULL);
        _exit(127);
    }
    return waitpid(pid, &status, 0) == pid ? status : -1;
}

struct tls_identity *sites_identity(const char *name)
{
    struct tls_identity *identity = NULL;
    struct err err;
    char cert[160];
    char key[160];
    snprintf(cert, sizeof(cert), "%s/%s.crt", folder, name);
    snprintf(key, sizeof(key), "%s/%s.key", folder, name);
    if (tls_identity_load(cert, key, sites_path("lab/ca.crt"), &identity, &err) != 0)
        fail_msg("%s", err.text);
    return identity;
}

void sites_renew(const char *ca, const char *name)
{
    static const char *const ends[] = {"crt", "key"};
    const char *role = strcmp(name, "main") == 0 ? "coordinator" : "participant";
    char from[192];
    char to[192];
    assert_int_equal(pki_issue(sites_path(ca), role, name, NULL, 0, NULL, 0, 5,
                               sites_path("renewed"), NULL, NULL),
                     0);
    for (size_t i = 0; i < 2; i++) {
        snprintf(from, sizeof(from), "%s.%s", sites_path("renewed"), ends[i]);
        snprintf(to, sizeof(to), "%s.%s", sites_path(name), ends[i]);
        assert_int_equal(rename(from, to), 0);
    }
}

struct link *sites_link(const struct link_options *options, const char *name, const char *address,
                        struct tls_identity **ret_identity)
{
    struct err err;
    struct link *link = NULL;
    struct link_options own = *options;
    own.identity = *ret_identity = sites_identity(name);
    assert_int_equal(address_parse(address, true, &own.listen, &err), 0);
    if (link_new(&own, &link, &err) != 0)
        fail_msg("%s", err.text);
    return link;
}

void sites_peer(struct link_peer *peer, const char *name, const struct address *dial)
{
    memset(peer, 0, sizeof(*peer));
    snprintf(peer->uri, sizeof(peer->uri), "spiffe://lab/participant/%s", name);
    if (dial != NULL) {
        peer->address = *dial;
        peer->dial = true;
    }
}

SSL_CTX *sites_raw_context(const char *name)
{
    char path[160];
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    assert_non_null(context);
    if (name != NULL) {
        snprintf(path, sizeof(path), "%s/%s.crt", folder, name);
        assert_int_equal(SSL_CTX_use_certificate_chain_file(context, path), 1);
        snprintf(path, sizeof(path), "%s/%s.key", folder, name);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM), 1);
    }
    return context;
}

struct sites_look {
    struct loop *loop;
    struct loop_timer timer;
    sites_condition *condition;
    void *arg;
    uint64_t until;
    bool met;
};

static void sites_looked(void *arg)
{
    struct sites_look *look = arg;
    uint64_t now = clock_mono_us();
    look->met = look->condition(look->arg);
    if (look->met || now >= look->until)
        loop_stop(look->loop);
    else
        loop_timer_set(&look->timer, now + SITES_LOOK_US);
}

void sites_wait(struct loop *loop, sites_condition *condition, void *arg, const char *what)
{
    struct sites_look look = {.loop = loop,
                              .condition = condition,
                              .arg = arg,
                              .until = clock_mono_us() + SITES_LIMIT_US};
    loop_timer_init(&look.timer, loop, sites_looked, &look);
    loop_timer_set(&look.timer, 0);
    loop_run(loop);
    loop_timer_close(&look.timer);
    if (!look.met)
        fail_msg("not within 8 s: %s", what);
}
