/* SPDX-License-Identifier: Apache-2.0 */
/* crashcalls: puts the tested code upon a crashdisk. The program is linked with --wrap for each
 * call in crashcalls.cmake: what lies under CRASHDISK_ROOT, the boot id, the clocks, randomness and
 * waits on conditions are the test's; all else passes through. Any call can be made to fail.
 *
 * One disk is mounted at a time; one thread. A mistake of the test ends the process. */
#ifndef TIDE_TESTS_LIB_CRASHCALLS_H
#define TIDE_TESTS_LIB_CRASHCALLS_H

#include "tests/lib/crashdisk.h"

#include <pthread.h>

/* The one that file calls see from here on; NULL: none. */
void crashcalls_mount(struct crashdisk *disk);
/* Ends the "process": closes its files, frees what it allocated. */
void crashcalls_end_process(void);
/* What is open, and allocated between the marks of crashcalls_inside(). */
unsigned crashcalls_open_files(void);
unsigned crashcalls_allocations(void);
/* Calls are the tested code's from here on (true) or the test's (false). Only the former count for
 * faults, and only their allocations are kept track of. */
void crashcalls_inside(bool inside);

/* Faults: the nth matching call from here on fails, counted from 0. */
enum crashcalls_call {
    CRASHCALLS_MALLOC = 1U,
    CRASHCALLS_WRITE = 2U,
    CRASHCALLS_SYNC = 4U,
    CRASHCALLS_RENAME = 8U,
    CRASHCALLS_OPEN = 16U,
    CRASHCALLS_ALLOCATE = 32U, /* fallocate and ftruncate */
    CRASHCALLS_READ = 64U,
    CRASHCALLS_XATTR = 128U,
};
struct crashcalls_fault {
    unsigned calls; /* 0: no fault */
    uint64_t nth;
    int why;    /* errno */
    bool stays; /* all later ones of the same file fail too */
    bool half;  /* a write does its first half before it fails */
};
void crashcalls_fault(const struct crashcalls_fault *fault); /* also counts anew */
/* Whether it struck, and whether it struck the image. */
bool crashcalls_struck(bool *ret_image);
/* Which call that was, of which file; for people. */
const char *crashcalls_struck_text(void);

/* Planted defects of the layer: the tests above it must notice each. */
enum crashcalls_lie {
    CRASHCALLS_LIE_NONE,
    CRASHCALLS_LIE_LOG_SYNC,    /* a sync of a ring's file does nothing */
    CRASHCALLS_LIE_IMAGE_SYNC,  /* one of the image */
    CRASHCALLS_LIE_STATE_SYNC,  /* one of the state, or of another small file */
    CRASHCALLS_LIE_LOG_WRITE,   /* the last sector of each longer write to the ring is lost */
    CRASHCALLS_LIE_IMAGE_WRITE, /* the first sector of each longer write to the image is lost */
};
#define CRASHCALLS_LIES (CRASHCALLS_LIE_IMAGE_WRITE + 1)
void crashcalls_lie(enum crashcalls_lie lie);

/* The world. Time: nanoseconds of both clocks; each look at one takes a microsecond. */
uint64_t crashcalls_now_ns(void);
void crashcalls_pass(uint64_t ns);
void crashcalls_boot(unsigned number); /* sets the boot id */
unsigned crashcalls_booted(void);
void crashcalls_seed(uint64_t seed); /* of getrandom() */
/* Called instead of a wait for a condition, with its mutex held. False: nothing was done; then a
 * wait with a deadline passes the time to it, and one without ends the process. */
typedef bool (*crashcalls_waiter)(pthread_cond_t *cond, pthread_mutex_t *mutex);
void crashcalls_on_wait(crashcalls_waiter waiter);

#endif
