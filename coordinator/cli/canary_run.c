/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/canary_run.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/core/check.h"
#include "common/core/prng.h"

#define RUN_CHUNK      (64U * 1024U) /* bytes written at once when making files */
#define RUN_LOAD_WRITE CANARY_BLOCK  /* bytes of one background write */
#define RUN_POLL_NS    50000000L
#define RUN_LATE_NS    100000000U
#define RUN_NS         UINT64_C(1000000000)

struct run;

struct run_thread {
    struct run *run;
    uint32_t index; /* token, or writer for a background thread */
    pthread_t thread;
    bool started;
};

struct run {
    const struct canary_run_options *options;
    struct canary_config config;
    const char *dir[CANARY_WRITERS_MAX]; /* by writer */
    int steps_fd[CANARY_WRITERS_MAX];    /* -1: none */
    int load_fd[CANARY_WRITERS_MAX];
    struct run_thread token[CANARY_TOKENS_MAX];
    struct run_thread load[CANARY_WRITERS_MAX];
    atomic_bool stop;
    atomic_uint_fast64_t steps;
    atomic_uint_fast64_t load_bytes;
    pthread_mutex_t lock; /* of err and failed */
    struct err err;
    bool failed;
};

static uint64_t run_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * RUN_NS + (uint64_t)now.tv_nsec;
}

static void *run_aligned(size_t size)
{
    void *memory = NULL;
    TIDE_CHECK(posix_memalign(&memory, CANARY_BLOCK, size) == 0);
    memset(memory, 0, size);
    return memory;
}

static void run_fail(struct run *run, const struct err *err)
{
    pthread_mutex_lock(&run->lock);
    if (!run->failed) {
        run->failed = true;
        run->err = *err;
    }
    pthread_mutex_unlock(&run->lock);
    atomic_store(&run->stop, true);
}

/* Waits until due_ns or the end of the run. */
static void run_pause(struct run *run, uint64_t due_ns)
{
    while (!atomic_load(&run->stop)) {
        uint64_t now_ns = run_now_ns();
        if (now_ns >= due_ns)
            return;
        uint64_t wait_ns = due_ns - now_ns;
        struct timespec wait = {.tv_nsec = wait_ns > RUN_POLL_NS ? RUN_POLL_NS : (long)wait_ns};
        nanosleep(&wait, NULL);
    }
}

/* When the next of a series is due. What is too late is left out, so that a pause is not followed
 * by a storm. */
static uint64_t run_next(uint64_t due_ns, uint64_t gap_ns)
{
    uint64_t now_ns = run_now_ns();
    return now_ns > due_ns + RUN_LATE_NS ? now_ns + gap_ns : due_ns + gap_ns;
}

static int run_token_step(struct run *run, uint32_t token, uint64_t step, struct hash *cause,
                          uint8_t *block, struct err *err)
{
    uint32_t writer = canary_writer(&run->config, token, step);
    struct canary_step what = {
        .writer = writer, .token = token, .step = step, .mono_ns = run_now_ns(), .cause = *cause};
    *cause = canary_step_encode(&run->config, &what, block);
    uint64_t offset = canary_offset(run->config.slots, token, canary_slot(&run->config, step));
    int fd = run->steps_fd[writer];
    if (canary_file_write(fd, run->dir[writer], block, CANARY_BLOCK, offset, err) != 0)
        return -1;
    if (run->config.fsync)
        return canary_file_sync(fd, run->dir[writer], err);
    return 0;
}

static void *run_token(void *argument)
{
    struct run_thread *self = argument;
    struct run *run = self->run;
    uint8_t *block = run_aligned(CANARY_BLOCK);
    struct hash cause = {0};
    struct err err = {0};
    uint64_t gap_ns = run->options->steps_per_s == 0
                          ? 0
                          : RUN_NS * run->config.tokens / run->options->steps_per_s;
    uint64_t due_ns = run_now_ns();
    for (uint64_t step = 0; !atomic_load(&run->stop); step++) {
        run_pause(run, due_ns);
        if (run_token_step(run, self->index, step, &cause, block, &err) != 0) {
            run_fail(run, &err);
            break;
        }
        atomic_fetch_add(&run->steps, 1);
        due_ns = run_next(due_ns, gap_ns);
    }
    free(block);
    return NULL;
}

/* Writes at random places of its bounded file, no faster than it may. */
static void *run_load(void *argument)
{
    struct run_thread *self = argument;
    struct run *run = self->run;
    uint64_t gap_ns = RUN_LOAD_WRITE * RUN_NS / 1024U / run->options->background_kib_s;
    uint64_t *buffer = run_aligned(RUN_LOAD_WRITE);
    struct prng prng;
    prng_init(&prng, run->options->seed + self->index + 1);
    struct err err = {0};
    uint64_t due_ns = run_now_ns();
    while (!atomic_load(&run->stop)) {
        run_pause(run, due_ns);
        due_ns = run_next(due_ns, gap_ns);
        for (size_t k = 0; k < RUN_LOAD_WRITE / sizeof(*buffer); k++)
            buffer[k] = prng_next(&prng);
        uint64_t offset = prng_below(&prng, CANARY_LOAD_SIZE / RUN_LOAD_WRITE) * RUN_LOAD_WRITE;
        if (canary_file_write(run->load_fd[self->index], run->dir[self->index], buffer,
                              RUN_LOAD_WRITE, offset, &err) != 0) {
            run_fail(run, &err);
            break;
        }
        atomic_fetch_add(&run->load_bytes, RUN_LOAD_WRITE);
    }
    free(buffer);
    return NULL;
}

/* Every block is written, so that no later write allocates or converts extents. */
static int run_make_steps(struct run *run, uint32_t writer, struct err *err)
{
    uint8_t *block = run_aligned(CANARY_BLOCK);
    int fd = run->steps_fd[writer];
    const char *dir = run->dir[writer];
    int failed = 0;
    for (uint32_t token = 0; token < run->config.tokens && failed == 0; token++) {
        for (uint32_t slot = 0; slot < run->config.slots && failed == 0; slot++) {
            struct canary_step none = {.writer = writer, .token = token, .step = CANARY_STEP_NONE};
            canary_step_encode(&run->config, &none, block);
            failed = canary_file_write(fd, dir, block, CANARY_BLOCK,
                                       canary_offset(run->config.slots, token, slot), err);
        }
    }
    if (failed == 0)
        failed = canary_file_sync(fd, dir, err);
    if (failed == 0) {
        canary_header_encode(&run->config, writer, block);
        failed = canary_file_write(fd, dir, block, CANARY_BLOCK, 0, err);
    }
    if (failed == 0)
        failed = canary_file_sync(fd, dir, err);
    free(block);
    return failed;
}

static int run_make_load(struct run *run, uint32_t writer, struct err *err)
{
    void *chunk = run_aligned(RUN_CHUNK);
    memset(chunk, 0x5a, RUN_CHUNK);
    int failed = 0;
    for (uint64_t at = 0; at < CANARY_LOAD_SIZE && failed == 0; at += RUN_CHUNK)
        failed =
            canary_file_write(run->load_fd[writer], run->dir[writer], chunk, RUN_CHUNK, at, err);
    if (failed == 0)
        failed = canary_file_sync(run->load_fd[writer], run->dir[writer], err);
    free(chunk);
    return failed;
}

static int run_make(struct run *run, struct err *err)
{
    const struct canary_run_options *options = run->options;
    struct stat seen[CANARY_WRITERS_MAX];
    for (uint32_t writer = 0; writer < run->config.writers; writer++) {
        const char *dir = run->dir[writer];
        if (stat(dir, &seen[writer]) != 0)
            return err_set(err, TIDE_ERR_NOT_FOUND, "folder '%s': %s", dir, strerror(errno));
        for (uint32_t k = 0; k < writer; k++)
            if (seen[k].st_dev == seen[writer].st_dev && seen[k].st_ino == seen[writer].st_ino)
                return err_set(err, TIDE_ERR_USAGE, "'%s' and '%s' are the same folder",
                               run->dir[k], dir);
        if (canary_file_make(dir, CANARY_STEPS_NAME, options->direct, &run->steps_fd[writer],
                             err) != 0)
            return -1;
        if (options->background_kib_s > 0 &&
            (canary_file_make(dir, CANARY_LOAD_NAME, options->direct, &run->load_fd[writer], err) !=
                 0 ||
             run_make_load(run, writer, err) != 0))
            return -1;
    }
    for (uint32_t writer = 0; writer < run->config.writers; writer++)
        if (run_make_steps(run, writer, err) != 0)
            return -1;
    return 0;
}

static int run_start(struct run_thread *thread, struct run *run, uint32_t index,
                     void *(*function)(void *), struct err *err)
{
    thread->run = run;
    thread->index = index;
    int number = pthread_create(&thread->thread, NULL, function, thread);
    if (number != 0)
        return err_set(err, TIDE_ERR_LIMIT, "cannot start a thread: %s", strerror(number));
    thread->started = true;
    return 0;
}

static int run_start_all(struct run *run, struct err *err)
{
    for (uint32_t token = 0; token < run->config.tokens; token++)
        if (run_start(&run->token[token], run, token, run_token, err) != 0)
            return -1;
    if (run->options->background_kib_s == 0)
        return 0;
    for (uint32_t writer = 0; writer < run->config.writers; writer++)
        if (run_start(&run->load[writer], run, writer, run_load, err) != 0)
            return -1;
    return 0;
}

static void run_join_all(struct run *run)
{
    atomic_store(&run->stop, true);
    for (size_t k = 0; k < CANARY_TOKENS_MAX; k++)
        if (run->token[k].started)
            pthread_join(run->token[k].thread, NULL);
    for (size_t k = 0; k < CANARY_WRITERS_MAX; k++)
        if (run->load[k].started)
            pthread_join(run->load[k].thread, NULL);
}

static struct canary_run_state run_state(struct run *run, uint64_t since_ns)
{
    return (struct canary_run_state){.config = run->config,
                                     .steps = atomic_load(&run->steps),
                                     .background_bytes = atomic_load(&run->load_bytes),
                                     .seconds = (double)(run_now_ns() - since_ns) / RUN_NS};
}

static void run_shuffle(struct run *run)
{
    struct prng prng;
    prng_init(&prng, run->options->seed);
    for (uint32_t k = 0; k < run->config.writers; k++)
        run->dir[k] = run->options->dirs[k];
    for (uint32_t k = run->config.writers; k > 1; k--) {
        uint64_t other = prng_below(&prng, k);
        const char *dir = run->dir[k - 1];
        run->dir[k - 1] = run->dir[other];
        run->dir[other] = dir;
    }
}

/* Waits for one of the ends; each wait is at most RUN_POLL_NS. */
static void run_watch(struct run *run, const sigset_t *signals, uint64_t since_ns,
                      void (*report)(const struct canary_run_state *state, void *context),
                      void *context)
{
    const struct canary_run_options *options = run->options;
    uint64_t report_ns = options->report_seconds * RUN_NS;
    uint64_t next_report_ns = since_ns + report_ns;
    while (!atomic_load(&run->stop)) {
        struct timespec wait = {.tv_nsec = RUN_POLL_NS};
        if (sigtimedwait(signals, NULL, &wait) > 0)
            break;
        uint64_t now_ns = run_now_ns();
        if (now_ns - since_ns >= options->seconds * RUN_NS)
            break;
        if (options->until_file != NULL && access(options->until_file, F_OK) == 0)
            break;
        if (report_ns > 0 && now_ns >= next_report_ns) {
            next_report_ns += report_ns;
            struct canary_run_state state = run_state(run, since_ns);
            report(&state, context);
        }
    }
}

static int run_do(struct run *run, const sigset_t *signals,
                  void (*report)(const struct canary_run_state *state, void *context),
                  void *context, struct canary_run_state *ret, struct err *err)
{
    if (run_make(run, err) != 0)
        return -1;
    uint64_t since_ns = run_now_ns();
    struct canary_run_state state = run_state(run, since_ns);
    report(&state, context);
    int failed = run_start_all(run, err);
    if (failed == 0)
        run_watch(run, signals, since_ns, report, context);
    run_join_all(run);
    state = run_state(run, since_ns);
    if (failed == 0 && run->failed) {
        if (err != NULL)
            *err = run->err;
        failed = -1;
    }
    if (failed == 0)
        *ret = state;
    return failed;
}

int canary_run(const struct canary_run_options *options,
               void (*report)(const struct canary_run_state *state, void *context), void *context,
               struct canary_run_state *ret, struct err *err)
{
    if (options->dir_count > CANARY_WRITERS_MAX)
        return err_set(err, TIDE_ERR_LIMIT, "%zu folders: at most %u", options->dir_count,
                       CANARY_WRITERS_MAX);
    struct canary_config config = {.writers = (uint32_t)options->dir_count,
                                   .tokens = options->tokens,
                                   .slots = options->slots,
                                   .fsync = options->fsync};
    if (canary_config_check(&config, err) != 0)
        return -1;
    if (getrandom(config.run.b, sizeof(config.run.b), 0) != (ssize_t)sizeof(config.run.b))
        return err_set(err, TIDE_ERR_IO, "cannot draw a run id: %s", strerror(errno));
    struct run *run = calloc(1, sizeof(*run));
    if (run == NULL)
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the canary");
    run->options = options;
    run->config = config;
    pthread_mutex_init(&run->lock, NULL);
    for (size_t k = 0; k < CANARY_WRITERS_MAX; k++)
        run->steps_fd[k] = run->load_fd[k] = -1;
    run_shuffle(run);
    sigset_t signals;
    sigset_t before;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    int failed = run_do(run, &signals, report, context, ret, err);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (size_t k = 0; k < CANARY_WRITERS_MAX; k++) {
        if (run->steps_fd[k] >= 0)
            close(run->steps_fd[k]);
        if (run->load_fd[k] >= 0)
            close(run->load_fd[k]);
    }
    pthread_mutex_destroy(&run->lock);
    free(run);
    return failed;
}
