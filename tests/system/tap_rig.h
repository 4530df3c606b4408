/* SPDX-License-Identifier: Apache-2.0 */
/* tap_rig: a real nbdkit with the tap's plugin in a folder of its own, an NBD client, a controller,
 * and the image that the whole log stands for. Everything asserts; the child ends with the test. */
#ifndef TIDE_TESTS_SYSTEM_TAP_RIG_H
#define TIDE_TESTS_SYSTEM_TAP_RIG_H

#include "common/core/tapctl.h"
#include "common/hrl/log.h"

#include <libnbd.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TAP_RIG_DEADLINE_MS 15000

struct tap_rig {
    char folder[64];
    char image[128];
    char log[128];
    char control[128];
    char socket[128];
    char ready[128];
    pid_t pid; /* of nbdkit; 0: none */
};

void tap_rig_open(struct tap_rig *rig, uint64_t image_size);
void tap_rig_close(struct tap_rig *rig); /* ends nbdkit, removes the folder */
/* Starts nbdkit; options are one string of key=value, "" for none. Without copy-rate= there is no
 * copy: what a gap leaves stays to be seen. False: it ended by itself. */
bool tap_rig_try(struct tap_rig *rig, const char *options);
void tap_rig_start(struct tap_rig *rig, const char *options);
void tap_rig_stop(struct tap_rig *rig); /* SIGTERM, and exit status 0 */
void tap_rig_kill(struct tap_rig *rig); /* SIGKILL */
void tap_rig_wait(struct tap_rig *rig); /* until it ends by itself, with exit status 0 */
struct nbd_handle *tap_rig_nbd(const struct tap_rig *rig);

struct tap_ctl {
    int fd;
    struct tapctl welcome;
    int ring[TIDE_TAPCTL_FDS_MAX];
};
int tap_ctl_socket(const struct tap_rig *rig);                     /* connected, nothing said */
void tap_ctl_open(struct tap_ctl *ctl, const struct tap_rig *rig); /* HELLO, WELCOME */
void tap_ctl_close(struct tap_ctl *ctl);
void tap_ctl_send(struct tap_ctl *ctl, const struct tapctl *message);
/* The next message of that type; STATE and SEALED, which come unasked, are passed over. */
struct tapctl tap_ctl_get(struct tap_ctl *ctl, enum tapctl_type type);
struct tapctl tap_ctl_hold(struct tap_ctl *ctl, uint8_t round, uint32_t budget_us);
/* Asked again while the duty limit forbids it: after a hold, and in a restarted tap's first second.
 */
struct tapctl tap_ctl_hold_due(struct tap_ctl *ctl, uint8_t round, uint32_t budget_us);
void tap_ctl_hold_send(struct tap_ctl *ctl, uint8_t round, uint32_t budget_us, bool unheld);
void tap_ctl_end(struct tap_ctl *ctl, enum tapctl_type type, uint8_t round);
struct tapctl_state tap_ctl_state(struct tap_ctl *ctl);

/* Every record of a log that never wrapped, from LSN 1, onto zeroes. each: may be NULL. */
uint8_t *tap_rig_replay(const struct tap_rig *rig, uint64_t image_size,
                        void (*each)(const struct record *record, void *context), void *context);
uint64_t tap_rig_now_ms(void);

#endif
