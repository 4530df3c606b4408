/* SPDX-License-Identifier: Apache-2.0 */
/* nth: the n-th allocation of the program fails (not those of shared libraries, unless they take
 * their memory from it), what is not freed is counted, and a call is done for n = 0, 1, 2, ...
 * until a run meets no failure. The program is linked with --wrap of malloc, calloc,
 * realloc, strdup and free. For the test_fail_alloc*.c, with the folder and the definition that
 * they share. */
#ifndef TIDE_TESTS_CONTRACT_NTH_H
#define TIDE_TESTS_CONTRACT_NTH_H

#include <stdbool.h>

#include "common/core/definition.h"
#include "common/core/err.h"
#include "common/wire/intake.h"

void nth_arm(long n); /* from now on; 0: the next one */
bool nth_met(void);   /* ends it: whether the n-th was there to fail */
long nth_pause(void); /* none fails up to nth_resume() of what it returns */
void nth_resume(long kept);
long nth_live(void);           /* what is not freed */
unsigned long nth_asked(void); /* allocations so far */

/* 29, or what TIDE_NTH_EVERY says: of many allocations only each so-manyth is taken. */
long nth_stride(void);

/* Does it, checks what came of it, and frees that. */
typedef int nth_call_fn(struct err *err);

/* The error of the n-th is one of memory, with a text; fails the test otherwise. */
void nth_says(const struct err *err, const char *what, long n);
/* Does the call until it passes with none failed, which must take at least `least` failures: each
 * returns an error that says so, leaves nothing behind, and the call then succeeds. prepare: NULL,
 * or makes what each call begins with. */
void nth_each(const char *what, nth_call_fn *call, void (*prepare)(void), long least);
/* The same where much is asked for, and some of it can be done without: the call may then succeed,
 * and past NTH_ALL only each nth_stride()th fails. */
#define NTH_ALL 128
void nth_each_lenient(const char *what, nth_call_fn *call, void (*prepare)(void), long least);

extern char nth_folder[64]; /* in memory where that is there; set by nth_setup() */
int nth_setup(void **state);
int nth_teardown(void **state);
void nth_empty_folder(void); /* of all but an empty "streams" */

/* Group "shop", member "web" with disks "d0", "d1", "d2" of 1 MiB: the definition and what the
 * participant registers. */
void nth_define(struct definition *ret, struct intake_disk ret_disks[3]);

#endif
