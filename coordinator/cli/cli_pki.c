/* SPDX-License-Identifier: Apache-2.0 */
/* tidemark pki init|issue: a site's CA, and identities under it. */
#include "coordinator/cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "common/io/pki.h"
#include "common/io/tls.h"

enum {
    KEY_SITE = 0x100,
    KEY_DIR,
    KEY_PARTICIPANT,
    KEY_COORDINATOR,
    KEY_OPERATOR,
    KEY_DNS,
    KEY_IP,
    KEY_DAYS,
    KEY_OUT,
};

struct pki_options {
    enum cli_output output;
    const char *site;
    const char *dir;
    const char *role;
    const char *id;
    const char *dns[PKI_NAMES_MAX];
    const char *ips[PKI_NAMES_MAX];
    size_t dns_count;
    size_t ip_count;
    int days;
    const char *out;
};

static const struct argp_child pki_children[] = {{&cli_output_argp, 0, NULL, 0}, {0}};

static void pki_role(struct argp_state *state, struct pki_options *options, const char *role,
                     const char *id)
{
    if (options->role != NULL)
        argp_error(state, "one of --participant, --coordinator, --operator is taken, not two");
    options->role = role;
    options->id = id;
}

static error_t pki_init_option(int key, char *arg, struct argp_state *state)
{
    struct pki_options *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->output;
        return 0;
    case KEY_SITE:
        options->site = arg;
        return 0;
    case KEY_DIR:
        options->dir = arg;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\" is not expected here", arg);
        return 0;
    case ARGP_KEY_END:
        if (options->site == NULL || options->dir == NULL)
            argp_error(state, "--site SITE and --dir DIR are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int pki_print(const struct pki_options *options, const char *uri, const char *cert,
                     const char *key)
{
    if (options->output == CLI_JSON)
        return cli_json_print(
            json_pack("{s:s*, s:s, s:s}", "identity", uri, "certificate", cert, "key", key));
    if (uri != NULL)
        printf("identity     %s\n", uri);
    printf("certificate  %s\nkey          %s (keep it secret)\n", cert, key);
    return fflush(stdout) == 0 ? 0 : err_status(TIDE_ERR_IO);
}

static int pki_init_run(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {"site", KEY_SITE, "SITE", 0, "name of the site, part of every identity", 0},
        {"dir", KEY_DIR, "DIR", 0, "folder for ca.crt and ca.key; made if missing", 0},
        {0}};
    static const struct argp argp = {
        list, pki_init_option, NULL, "Make a site's certificate authority.", pki_children, NULL,
        NULL};
    struct pki_options options = {0};
    struct err err;
    char cert[1024];
    char key[1024];
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    if (pki_init(options.dir, options.site, &err) != 0)
        return cli_fail(&err, err.code == TIDE_ERR_CONFLICT
                                  ? "to issue under the CA that is there: tidemark pki issue"
                                  : NULL);
    snprintf(cert, sizeof(cert), "%s/ca.crt", options.dir);
    snprintf(key, sizeof(key), "%s/ca.key", options.dir);
    return pki_print(&options, NULL, cert, key);
}

static error_t pki_issue_option(int key, char *arg, struct argp_state *state)
{
    struct pki_options *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->output;
        return 0;
    case KEY_DIR:
        options->dir = arg;
        return 0;
    case KEY_PARTICIPANT:
        pki_role(state, options, tls_role_text(TLS_PARTICIPANT), arg);
        return 0;
    case KEY_COORDINATOR:
        pki_role(state, options, tls_role_text(TLS_COORDINATOR), arg);
        return 0;
    case KEY_OPERATOR:
        pki_role(state, options, tls_role_text(TLS_OPERATOR), arg);
        return 0;
    case KEY_DNS:
        if (options->dns_count == PKI_NAMES_MAX)
            argp_error(state, "at most %u --dns are taken", PKI_NAMES_MAX);
        options->dns[options->dns_count++] = arg;
        return 0;
    case KEY_IP:
        if (options->ip_count == PKI_NAMES_MAX)
            argp_error(state, "at most %u --ip are taken", PKI_NAMES_MAX);
        options->ips[options->ip_count++] = arg;
        return 0;
    case KEY_DAYS:
        options->days = (int)cli_number(state, "--days", arg, 1, PKI_DAYS_MAX);
        return 0;
    case KEY_OUT:
        options->out = arg;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "\"%s\" is not expected here", arg);
        return 0;
    case ARGP_KEY_END:
        if (options->dir == NULL || options->role == NULL || options->out == NULL)
            argp_error(state, "--dir DIR, --out PREFIX and one of --participant, --coordinator, "
                              "--operator are needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int pki_issue_run(int argc, char **argv)
{
    static const struct argp_option list[] = {
        {"dir", KEY_DIR, "DIR", 0, "folder of `tidemark pki init`", 0},
        {"participant", KEY_PARTICIPANT, "ID", 0, "identity spiffe://SITE/participant/ID", 1},
        {"coordinator", KEY_COORDINATOR, "ID", 0, "identity spiffe://SITE/coordinator/ID", 1},
        {"operator", KEY_OPERATOR, "ID", 0, "identity spiffe://SITE/operator/ID", 1},
        {"dns", KEY_DNS, "NAME", 0, "also a DNS name; several are taken", 2},
        {"ip", KEY_IP, "ADDRESS", 0, "also an IP address; several are taken", 2},
        {"days", KEY_DAYS, "N", 0, "days that it is good for; default 365", 2},
        {"out", KEY_OUT, "PREFIX", 0, "writes PREFIX.crt and PREFIX.key (mode 0600)", 3},
        {0}};
    static const struct argp argp = {
        list, pki_issue_option, NULL, "Issue an identity under a site's CA.", pki_children, NULL,
        NULL};
    struct pki_options options = {.days = PKI_DAYS_LEAF};
    struct err err;
    char uri[TLS_URI_MAX + 1];
    char cert[1024];
    char key[1024];
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    if (pki_issue(options.dir, options.role, options.id, options.dns, options.dns_count,
                  options.ips, options.ip_count, options.days, options.out, uri, &err) != 0)
        return cli_fail(&err, err.code == TIDE_ERR_NOT_FOUND
                                  ? "make the CA first: tidemark pki init --site SITE --dir DIR"
                                  : NULL);
    snprintf(cert, sizeof(cert), "%s.crt", options.out);
    snprintf(key, sizeof(key), "%s.key", options.out);
    return pki_print(&options, uri, cert, key);
}

int cli_pki(int argc, char **argv)
{
    static const struct cli_verb verbs[] = {
        {"init", pki_init_run, "make a site's certificate authority"},
        {"issue", pki_issue_run, "issue an identity: participant, coordinator or operator"},
        {NULL, NULL, NULL}};
    return cli_dispatch("pki", verbs, argc, argv);
}
