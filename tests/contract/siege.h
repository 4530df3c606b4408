/* SPDX-License-Identifier: Apache-2.0 */
/* siege: a link (a) under attack. b and a exchange numbered messages all the while, c comes and
 * goes, "raw" is the member that attackers may be. One at a time in a process. */
#ifndef TIDE_TESTS_CONTRACT_SIEGE_H
#define TIDE_TESTS_CONTRACT_SIEGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/io/link.h"
#include "tests/contract/foe.h"

#define SIEGE_B   0U /* a's peers */
#define SIEGE_RAW 1U
#define SIEGE_C   2U

struct siege_node {
    struct link *link;
    struct tls_identity *identity;
    unsigned ups;
    unsigned downs;
    unsigned refusals;
    char reason[512];
    char refused[1024];
};

struct siege {
    struct loop *loop;
    struct siege_node a;
    struct siege_node b;
    struct siege_node c;
    struct address at; /* where a listens */
    uint64_t turns;    /* of the numbered messages, there and back */
    bool out_of_turn;
    bool over_limit;    /* half-open ones, at any look */
    uint64_t raw_count; /* messages of "raw" at a */
    uint64_t raw_bytes;
    bool raw_echo;    /* a sends them back */
    uint64_t c_count; /* messages of c at a */
    size_t descriptors_before;
    size_t memory_before;
};
extern struct siege siege;

int siege_open(void **state); /* cmocka's set-up and teardown */
int siege_close(void **state);

void siege_run(foe_fn *fn, void *arg); /* an attacker to its end, which must be a good one */
void siege_wait_for(uint64_t *counter, uint64_t value, const char *what);
bool siege_calm(void *arg); /* sites_conditions: only b is left */
bool siege_c_is_up(void *arg);

void siege_open_node(struct siege_node *node, const char *name, const char *address);
void siege_dials(struct siege_node *node, const struct address *to);
void siege_c_gets_in(void); /* a member that was not there */
void siege_c_leaves(void);

/* The attack is over: nothing of it is left, descriptors are those of before, memory has grown by
 * no more than half-open connections may take, b and a go on, c gets in. */
void siege_assert_unhurt(void);

#endif
