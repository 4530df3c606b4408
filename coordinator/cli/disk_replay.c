/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/disk_replay.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/io/file.h"
#include "coordinator/cli/cli.h"
#include "coordinator/cli/image_note.h"
#include "coordinator/cli/log_tail.h"

#define PLUGIN        "nbdkit-tidemark-plugin.so"
#define TIMEOUT_S     600U
#define TIMEOUT_S_MAX 86400U
#define END_MS        10000 /* from SIGTERM to SIGKILL */

enum {
    KEY_PLUGIN = 0x100,
    KEY_TIMEOUT,
};

struct replay_options {
    const char *log;
    const char *image;
    const char *plugin;
    uint64_t timeout_s;
};

extern char **environ;

static volatile sig_atomic_t child_group; /* 0: none */
static volatile sig_atomic_t interrupted;

/* The tap may be ended at any moment: the next replay does all of it again. */
static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
    if (child_group != 0) {
        kill(-(pid_t)child_group, SIGTERM);
    }
}

static error_t replay_option(int key, char *arg, struct argp_state *state)
{
    struct replay_options *o = state->input;
    switch (key) {
    case KEY_PLUGIN:
        o->plugin = arg;
        return 0;
    case KEY_TIMEOUT:
        o->timeout_s = cli_number(state, "--timeout", arg, 1, TIMEOUT_S_MAX);
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 1) {
            argp_error(state, "\"%s\": LOG-FOLDER and IMAGE are all that is expected", arg);
        }
        *(state->arg_num == 0 ? &o->log : &o->image) = arg;
        return 0;
    case ARGP_KEY_END:
        if (o->image == NULL) {
            argp_error(state, "LOG-FOLDER and IMAGE are expected");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* Beside this program, or where packages put plugins. */
static int find_plugin(const char *given, char ret[PATH_MAX], struct err *err)
{
    static const char *const places[] = {"", "/../lib/nbdkit/plugins"};
    char self[PATH_MAX] = "";
    if (given != NULL) {
        snprintf(ret, PATH_MAX, "%s%s", strchr(given, '/') == NULL ? "./" : "", given);
        return access(ret, R_OK) == 0 ? 0 : file_err(err, errno, "plugin \"%s\"", given);
    }
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = size > 0 ? strrchr(self, '/') : NULL;
    if (slash != NULL) {
        *slash = '\0';
    }
    for (size_t i = 0; slash != NULL && i < sizeof places / sizeof places[0]; i++) {
        snprintf(ret, PATH_MAX, "%.3000s%s/" PLUGIN, self, places[i]);
        if (access(ret, R_OK) == 0) {
            return 0;
        }
    }
    return err_set(err, TIDE_ERR_NOT_FOUND,
                   "no " PLUGIN " beside this program or in ../lib/nbdkit/plugins: give --plugin");
}

/* *ret_flush_log: as the image notes it. */
static int check_image(const struct replay_options *o, const struct log_tail *log,
                       bool *ret_flush_log, struct err *err)
{
    struct witness note;
    struct err why = {0};
    bool any = false;
    char ours[TIDE_ID_HEX];
    char theirs[TIDE_ID_HEX];
    *ret_flush_log = false;
    if (image_note_read(o->image, &any, &note, &why) != 0) {
        if (why.code == TIDE_ERR_UNKNOWN) {
            return 0; /* nothing can be noted there: the tap compares what it knows itself */
        }
        *err = why;
        return -1;
    }
    if (!any) {
        return 0;
    }
    *ret_flush_log = note.flush_log;
    if (id_equal(&note.stream, &log->stream)) {
        return 0;
    }
    return err_set(err, TIDE_ERR_CONFLICT,
                   "image \"%.100s\" belongs to log \"%.100s\" (stream %s), not to \"%.100s\" "
                   "(stream %s)",
                   o->image, note.log, id_hex(&note.stream, theirs), o->log,
                   id_hex(&log->stream, ours));
}

/* True: it ended, with *ret_status. */
static bool wait_child(int pidfd, pid_t pid, int timeout_ms, int *ret_status)
{
    struct pollfd poll_one = {.fd = pidfd, .events = POLLIN};
    int ready;
    do {
        ready = poll(&poll_one, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    return ready == 1 && waitpid(pid, ret_status, 0) == pid;
}

static int end_child(int pidfd, pid_t pid, const struct replay_options *o, struct err *err)
{
    int status = 0;
    bool ended = wait_child(pidfd, pid, (int)(o->timeout_s * 1000), &status);
    if (!ended) {
        kill(-pid, SIGTERM);
        if (!wait_child(pidfd, pid, END_MS, &status)) {
            kill(-pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
        }
        return err_set(err, TIDE_ERR_UNREACHABLE,
                       "the tap did not end within %" PRIu64 " s and was stopped: nothing is lost; "
                       "try again with a longer --timeout",
                       o->timeout_s);
    }
    if (interrupted != 0) {
        return err_set(err, TIDE_ERR_FAILED, "interrupted: nothing is lost; replay again");
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return err_set(err, TIDE_ERR_FAILED,
                       "the tap did not replay log \"%s\" into image \"%s\" (%s %d); what nbdkit "
                       "said stands above",
                       o->log, o->image, WIFEXITED(status) ? "status" : "signal",
                       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    }
    return 0;
}

static int spawn(char *const *arguments, pid_t *ret, struct err *err)
{
    const struct sigaction action = {.sa_handler = on_interrupt};
    posix_spawnattr_t attr;
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setpgroup(&attr, 0); /* nbdkit forks: all of it is ended at once */
    posix_spawnattr_setsigdefault(&attr, &defaults);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    int error = posix_spawnp(ret, arguments[0], NULL, &attr, arguments, environ);
    posix_spawnattr_destroy(&attr);
    if (error != 0) {
        return err_set(err, TIDE_ERR_NOT_FOUND, "cannot run nbdkit: %s; is it installed?",
                       strerror(error));
    }
    child_group = *ret;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return 0;
}

static int run_tap(const struct replay_options *o, const char *plugin, const struct log_tail *log,
                   bool flush_log, const char *folder, struct err *err)
{
    char disk[PATH_MAX + 16];
    char ring[PATH_MAX + 16];
    char size[40];
    char control[PATH_MAX];
    char flush[] = "flush=both";
    pid_t pid = 0;
    snprintf(disk, sizeof disk, "disk=%s", o->image);
    snprintf(ring, sizeof ring, "log=%s", o->log);
    snprintf(size, sizeof size, "log-size=%" PRIu64, log->size);
    snprintf(control, sizeof control, "control=%s/control", folder);
    snprintf(flush, sizeof flush, "flush=%s", flush_log ? "log" : "both");
    char *const arguments[] = {(char *)"nbdkit",
                               (char *)"-U",
                               (char *)"-",
                               (char *)plugin,
                               disk,
                               ring,
                               control,
                               size,
                               flush,
                               (char *)"copy-rate=0",
                               (char *)"--run",
                               (char *)"true",
                               NULL};
    if (spawn(arguments, &pid, err) != 0) {
        return -1;
    }
    int pidfd = pidfd_open(pid, 0);
    int result =
        pidfd < 0 ? file_err(err, errno, "cannot wait for nbdkit") : end_child(pidfd, pid, o, err);
    if (pidfd < 0) {
        kill(-pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    } else {
        close(pidfd);
    }
    child_group = 0;
    return result;
}

/* A control socket that nobody knows of, in a folder of its own. */
static int with_folder(const struct replay_options *o, const char *plugin,
                       const struct log_tail *log, bool flush_log, struct err *err)
{
    char folder[] = "/tmp/tidemark-replay-XXXXXX";
    char control[sizeof folder + 16];
    if (mkdtemp(folder) == NULL) {
        return file_err(err, errno, "cannot make a folder in /tmp for the control socket");
    }
    int result = run_tap(o, plugin, log, flush_log, folder, err);
    snprintf(control, sizeof control, "%s/control", folder);
    (void)unlink(control);
    (void)rmdir(folder);
    return result;
}

static bool image_changed(unsigned gap)
{
    return gap == RECORD_GAP_SIZE || gap == RECORD_GAP_MTIME || gap == RECORD_GAP_IDENTITY;
}

/* Out of the ATTACH that the tap has just written. */
static int tell(const struct replay_options *o, const struct log_tail *before,
                const struct log_tail *after, struct err *err)
{
    const struct record_attach *a = &after->attach;
    const char *gap = record_gap_name(after->gap_reason);
    if (after->attach_lsn == before->attach_lsn) {
        return err_set(err, TIDE_ERR_UNKNOWN,
                       "the tap ran and ended cleanly, and its log is too full to say what was "
                       "replayed");
    }
    if (a->replayed_from == 0 && !a->clean && before->changes > 0 &&
        image_changed(after->gap_reason)) {
        return err_set(err, TIDE_ERR_CONFLICT,
                       "nothing was replayed: image \"%s\" was changed while no tap ran (gap: "
                       "%s), so its log no longer fits it",
                       o->image, gap);
    }
    if (a->replayed_from != 0) {
        printf("image \"%s\": replayed lsn %" PRIu64 " to %" PRIu64 " of log \"%s\"\n", o->image,
               a->replayed_from, a->replayed_to, o->log);
    } else {
        printf("image \"%s\": nothing to replay: %s\n", o->image,
               a->clean ? "its tap had ended cleanly"
                        : "all that its log has was in the image already");
    }
    if (gap != NULL) {
        printf("its stream has a gap (%s): the disk is not whole until a tap has run beside its "
               "participant for a while\n",
               gap);
    }
    return 0;
}

static int replay(const struct replay_options *o, struct err *err)
{
    struct log_tail before;
    struct log_tail after;
    char plugin[PATH_MAX];
    bool flush_log = false;
    if (log_tail_is_free(o->log, err) != 0 || log_tail_read(o->log, &before, err) != 0 ||
        check_image(o, &before, &flush_log, err) != 0 || find_plugin(o->plugin, plugin, err) != 0 ||
        with_folder(o, plugin, &before, flush_log, err) != 0 ||
        log_tail_read(o->log, &after, err) != 0) {
        return -1;
    }
    return tell(o, &before, &after, err);
}

int disk_replay_run(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"plugin", KEY_PLUGIN, "FILE", 0,
         "the tap (default: " PLUGIN " beside this program, or in ../lib/nbdkit/plugins)", 0},
        {"timeout", KEY_TIMEOUT, "S", 0, "seconds until it is given up (default 600)", 0},
        {0}};
    static const struct argp argp = {
        options,
        replay_option,
        "LOG-FOLDER IMAGE",
        "Makes an image whole out of the tail of its log, while no tap runs: starts the tap on "
        "both, and ends it cleanly. The image may then be used alone.",
        NULL,
        NULL,
        NULL};
    struct replay_options o = {.timeout_s = TIMEOUT_S};
    struct err err = {0};
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    if (replay(&o, &err) != 0) {
        return cli_fail(&err, err.code == TIDE_ERR_CONFLICT
                                  ? "see `tidemark disk check`; a disk that no log fits is "
                                    "compared with its stream when a tap serves it again"
                                  : NULL);
    }
    return 0;
}
