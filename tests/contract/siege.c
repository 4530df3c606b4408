/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/contract/siege.h"

#include "tests/contract/io_sites.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Half-open ones at once: TLS both ways, a record each way, and what was read. */
#define MEMORY_ROOM (LINK_HANDSHAKES_MAX * (LINK_MESSAGE_MAX + 4U * 16384U))

struct siege siege;

static void look(void)
{
    if (link_stats(siege.a.link).handshakes > LINK_HANDSHAKES_MAX)
        siege.over_limit = true;
}

static void turn(void)
{
    assert_int_equal(link_send(siege.b.link, 0, &siege.turns, sizeof(siege.turns), NULL), 0);
}

static void up(void *arg, size_t peer)
{
    (void)peer;
    ((struct siege_node *)arg)->ups++;
}

static void down(void *arg, size_t peer, const char *reason)
{
    struct siege_node *node = arg;
    (void)peer;
    node->downs++;
    snprintf(node->reason, sizeof(node->reason), "%s", reason);
}

static void refused(void *arg, const char *text)
{
    struct siege_node *node = arg;
    node->refusals++;
    snprintf(node->refused, sizeof(node->refused), "%s", text);
    if (node == &siege.a)
        look();
}

static void message(void *arg, size_t peer, const uint8_t *bytes, size_t size)
{
    const struct siege_node *node = arg;
    if (node == &siege.a && peer == SIEGE_RAW) {
        siege.raw_count++;
        siege.raw_bytes += size;
        if (siege.raw_echo)
            (void)link_send(siege.a.link, SIEGE_RAW, bytes, size, NULL);
    } else if (node == &siege.a && peer == SIEGE_C) {
        siege.c_count++;
    } else {
        siege.out_of_turn = siege.out_of_turn || size != sizeof(siege.turns) ||
                            memcmp(bytes, &siege.turns, size) != 0;
        if (node == &siege.a) {
            (void)link_send(siege.a.link, SIEGE_B, bytes, size, NULL);
        } else {
            siege.turns++;
            turn();
        }
        look();
    }
}

void siege_open_node(struct siege_node *node, const char *name, const char *address)
{
    memset(node, 0, sizeof(*node));
    const struct link_options options = {
        .loop = siege.loop, .seed = 1, .calls = {up, down, message, refused}, .arg = node};
    node->link = sites_link(&options, name, address, &node->identity);
}

static void node_close(struct siege_node *node)
{
    link_free(node->link);
    tls_identity_free(node->identity);
    node->link = NULL;
    node->identity = NULL;
}

void siege_dials(struct siege_node *node, const struct address *to)
{
    struct link_peer peer;
    sites_peer(&peer, "a", to);
    assert_int_equal(link_set_peers(node->link, &peer, 1, NULL), 0);
}

static bool b_is_linked(void *arg)
{
    (void)arg;
    return link_is_up(siege.a.link, SIEGE_B) && link_is_up(siege.b.link, 0);
}

bool siege_c_is_up(void *arg)
{
    (void)arg;
    return link_is_up(siege.c.link, 0) && link_is_up(siege.a.link, SIEGE_C);
}

static bool c_is_down(void *arg)
{
    (void)arg;
    return !link_is_up(siege.a.link, SIEGE_C);
}

static bool at_least(void *arg)
{
    uint64_t *const *pair = arg;
    return *pair[0] >= *pair[1];
}

void siege_wait_for(uint64_t *counter, uint64_t value, const char *what)
{
    uint64_t *pair[] = {counter, &value};
    sites_wait(siege.loop, at_least, pair, what);
}

/* A member that was not there gets in. */
void siege_c_gets_in(void)
{
    siege_open_node(&siege.c, "c", "127.0.0.23:0");
    siege_dials(&siege.c, &siege.at);
    sites_wait(siege.loop, siege_c_is_up, NULL, "c gets in");
}

void siege_c_leaves(void)
{
    node_close(&siege.c);
    sites_wait(siege.loop, c_is_down, NULL, "c has left");
}

int siege_open(void **state)
{
    struct link_peer list[3];
    (void)state;
    siege.loop = loop_new();
    siege_open_node(&siege.a, "a", "127.0.0.21:0");
    siege_open_node(&siege.b, "b", "127.0.0.22:0");
    siege.at = link_address(siege.a.link);
    sites_peer(&list[SIEGE_B], "b", NULL);
    sites_peer(&list[SIEGE_RAW], "raw", NULL);
    sites_peer(&list[SIEGE_C], "c", NULL);
    assert_int_equal(link_set_peers(siege.a.link, list, 3, NULL), 0);
    siege_dials(&siege.b, &siege.at);
    sites_wait(siege.loop, b_is_linked, NULL, "a and b are linked");
    siege.turns = siege.raw_count = siege.raw_bytes = siege.c_count = 0;
    siege.out_of_turn = siege.over_limit = siege.raw_echo = false;
    turn();
    siege_wait_for(&siege.turns, 100, "the first turns");
    siege_c_gets_in(); /* so that what is made once is made before the measure */
    siege_c_leaves();
    siege.descriptors_before = foe_descriptors();
    siege.memory_before = foe_memory();
    return 0;
}

int siege_close(void **state)
{
    (void)state;
    node_close(&siege.a);
    node_close(&siege.b);
    loop_free(siege.loop);
    return 0;
}

bool siege_calm(void *arg)
{
    struct link_stats stats = link_stats(siege.a.link);
    (void)arg;
    return stats.handshakes == 0 && stats.live == 1;
}

/* The attack is over: nothing of it is left, and everyone else goes on. */
void siege_assert_unhurt(void)
{
    sites_wait(siege.loop, siege_calm, NULL, "nothing is left of the attack");
    siege_wait_for(&siege.turns, siege.turns + 200, "b and a go on");
    size_t memory = foe_memory();
    if (memory > siege.memory_before + MEMORY_ROOM)
        fail_msg("%zu bytes resident after %zu", memory, siege.memory_before);
    assert_int_equal(foe_descriptors(), siege.descriptors_before);
    assert_false(siege.over_limit);
    assert_false(siege.out_of_turn);
    assert_int_equal(siege.b.downs, 0);
    siege_c_gets_in();
    siege_c_leaves();
}

void siege_run(foe_fn *fn, void *arg)
{
    struct foe foe;
    foe_start(&foe, fn, arg, -1);
    sites_wait(siege.loop, foe_ended, &foe, "the attacker ends");
    foe_assert(&foe);
}
