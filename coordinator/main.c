/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark-coordinator: the far side. See settings.h for its file. */
#include <argp.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/io/daemon.h"
#include "common/io/tls.h"
#include "coordinator/service.h"

struct options {
    const char *config;
    bool check;
};

static const struct argp_option argp_options[] = {
    {"config", 'c', "FILE", 0, "configuration (INI)", 0},
    {"check-config", 'n', NULL, 0, "check the configuration, say so, and end", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case 'c':
        o->config = arg;
        return 0;
    case 'n':
        o->check = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return 0;
    case ARGP_KEY_END:
        if (o->config == NULL) {
            argp_error(state, "-c FILE is needed");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Also loads the identity: most configurations fail there. */
static int check(const struct options *o)
{
    struct settings *s = calloc(1, sizeof(*s));
    struct tls_identity *identity = NULL;
    struct err e = {0};
    bool good = s != NULL && settings_load(o->config, s, &e) == 0 &&
                tls_identity_load(s->cert, s->key, s->ca, &identity, &e) == 0;
    tls_identity_free(identity);
    free(s);
    return daemon_check_config("tidemark-coordinator", o->config, good ? NULL : &e);
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        .options = argp_options,
        .parser = parse,
        .doc = "Takes in the streams of the participants, aligns them, and lists recovery points."};
    struct options o = {0};
    struct err e = {0};
    daemon_init();
    argp_err_exit_status = err_status(TIDE_ERR_USAGE);
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (o.check) {
        return check(&o);
    }
    struct settings *s = calloc(1, sizeof(*s));
    if (s == NULL || settings_load(o.config, s, &e) < 0) {
        daemon_exit(daemon_fail("tidemark-coordinator", &e));
    }
    log_start("tidemark-coordinator", LOG_LEVEL_INFO);
    if (service_run(s, &e) < 0) {
        daemon_exit(daemon_fail("tidemark-coordinator", &e));
    }
    daemon_exit(0);
}
