/* SPDX-License-Identifier: Apache-2.0 */
/* daemon: what every daemon of ours does alike. It stays in the foreground, tells its supervisor
 * when it is ready (the notify protocol, written by hand), reads its certificate again on SIGHUP,
 * and ends on SIGTERM or SIGINT. Exit status: err_status() of the error's code (common/core/err.h),
 * 0 after an orderly end. */
#ifndef TIDE_COMMON_IO_DAEMON_H
#define TIDE_COMMON_IO_DAEMON_H

#include <pthread.h>
#include <stdbool.h>

#include "common/core/err.h"
#include "common/io/log.h"
#include "common/io/loop.h"
#include "common/io/tls.h"

/* First thing in main(): descriptors 0 to 2 open, SIGPIPE ignored, umask 0027. Aborts otherwise. */
void daemon_init(void);

/* Sends one datagram ("READY=1", "STOPPING=1", "STATUS=text") to $NOTIFY_SOCKET; nothing where it
 * is not set. Never blocks; a failure is not reported. */
void daemon_notify(const char *state);

/* SIGTERM and SIGINT call fn(arg) on the loop's thread: the first time only; the second signal ends
 * the process at once with status 1. Init before any thread is started. */
struct daemon_signals {
    struct loop_signal term;
    struct loop_signal interrupt;
    loop_fn *fn;
    void *arg;
    unsigned seen;
};
void daemon_signals_init(struct daemon_signals *signals, struct loop *loop, loop_fn *fn, void *arg);
void daemon_signals_close(struct daemon_signals *signals);

/* SIGHUP reads the identity's files again (tls_identity_reload()) and logs that it did, or why what
 * is there cannot be used; then that of before stays. Init before any thread is started, begin once
 * there is an identity (until then SIGHUP does nothing). */
struct daemon_renewal {
    struct loop_signal hangup;
    struct tls_identity *identity; /* NULL: none yet; must outlive it */
};
void daemon_renewal_init(struct daemon_renewal *renewal, struct loop *loop);
void daemon_renewal_begin(struct daemon_renewal *renewal, struct tls_identity *identity);

/* Threads other than the loop's: block all signals so that the loop's thread gets them. Call it in
 * each thread first. */
void daemon_thread_init(const char *name); /* at most 15 bytes, shown by ps -L */

/* Waits for the thread's end until deadline_us (clock_mono_us()); false: it still runs. */
bool daemon_thread_join(pthread_t thread, uint64_t deadline_us);

/* Prints an error as "PROGRAM: TEXT" on standard error; returns the exit status for it. */
int daemon_fail(const char *program, const struct err *err);
/* The answer to --check-config: "PATH: ok" on standard output and 0, or daemon_fail(). `err` is
 * NULL where the configuration is good. */
int daemon_check_config(const char *program, const char *path, const struct err *err);

/* Writes what the log holds, then ends the process without destructors or atexit handlers: sockets
 * of libnng are not closed (they can hang). */
_Noreturn void daemon_exit(int status);

#endif
