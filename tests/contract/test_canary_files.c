/* SPDX-License-Identifier: Apache-2.0 */
/* The canary on real folders, torn by hand, through the command that people run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/cli/canary_file.h"

#define DIRS 3

extern char **environ;

static char base[256];
static char dir[DIRS][300];
static char output[65536];

static int removed(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Under the build folder, which lies on a disk. */
static int setup(void **state)
{
    (void)state;
    snprintf(base, sizeof(base), "%s/canary-XXXXXX", getenv("TIDE_BUILD"));
    if (mkdtemp(base) == NULL)
        return -1;
    for (int k = 0; k < DIRS; k++) {
        snprintf(dir[k], sizeof(dir[k]), "%s/%d", base, k);
        if (mkdir(dir[k], 0700) != 0)
            return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return nftw(base, removed, 8, FTW_DEPTH | FTW_PHYS);
}

/* Starts `tidemark canary ARGUMENTS`; *ret_fd gives both its outputs. */
static pid_t canary_start(const char *const *arguments, int *ret_fd)
{
    char program[300];
    snprintf(program, sizeof(program), "%s/bin/tidemark", getenv("TIDE_BUILD"));
    const char *argv[24] = {program, "canary"};
    for (size_t k = 0; k + 3 < 24 && arguments[k] != NULL; k++)
        argv[k + 2] = arguments[k];
    int pipe_fd[2];
    assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipe_fd[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, pipe_fd[1], STDERR_FILENO);
    pid_t pid = 0;
    assert_int_equal(posix_spawn(&pid, program, &actions, NULL, (char **)(uintptr_t)argv, environ),
                     0);
    posix_spawn_file_actions_destroy(&actions);
    close(pipe_fd[1]);
    *ret_fd = pipe_fd[0];
    return pid;
}

/* Reads into `output` until it has `until` (NULL: to the end); false where the end came first. */
static bool canary_read(int fd, const char *until, size_t *used)
{
    while (until == NULL || strstr(output, until) == NULL) {
        ssize_t n = read(fd, output + *used, sizeof(output) - 1 - *used);
        if (n <= 0)
            return until == NULL;
        *used += (size_t)n;
        output[*used] = '\0';
    }
    return true;
}

static int canary_end(pid_t pid, int fd)
{
    close(fd);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Runs it to its end; its exit status, with both its outputs in `output`. */
static int canary(const char *const *arguments)
{
    int fd = -1;
    size_t used = 0;
    output[0] = '\0';
    pid_t pid = canary_start(arguments, &fd);
    canary_read(fd, NULL, &used);
    return canary_end(pid, fd);
}

#define CANARY(...) canary((const char *const[]){__VA_ARGS__, NULL})

/* Ends at the first look for the file, after some 50 ms. */
static void run_short(void)
{
    int status = CANARY("run", "--until-file", base, "--slots", "8", "--seed", "7", "--steps-per-s",
                        "0", "--background-kib-s", "640", dir[0], dir[1], dir[2]);
    if (status != 0)
        print_error("%s", output);
    assert_int_equal(status, 0);
}

static void block_io(const char *of, uint64_t offset, uint8_t *block, bool write_it)
{
    char path[400];
    snprintf(path, sizeof(path), "%s/%s", of, CANARY_STEPS_NAME);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t n = write_it ? pwrite(fd, block, CANARY_BLOCK, (off_t)offset)
                         : pread(fd, block, CANARY_BLOCK, (off_t)offset);
    assert_int_equal(n, CANARY_BLOCK);
    close(fd);
}

static void test_a_run_is_consistent(void **state)
{
    (void)state;
    run_short();
    assert_int_equal(CANARY("check", dir[2], dir[0], dir[1]), 0);
    assert_non_null(strstr(output, "consistent: "));
    assert_int_equal(CANARY("check", "-o", "json", dir[2], dir[0], dir[1]), 0);
    assert_non_null(strstr(output, "\"verdict\": \"consistent\""));
    assert_int_equal(CANARY("run", "--seconds", "1", "--fsync", dir[0], dir[1], dir[2]), 0);
    assert_int_equal(CANARY("check", dir[0], dir[1], dir[2]), 0);
}

/* The newest step of a token is put back to "not written", and one before it too. */
static void test_a_deleted_step_is_named(void **state)
{
    (void)state;
    run_short();
    char *dirs[DIRS] = {dir[0], dir[1], dir[2]};
    struct canary_set set;
    struct canary_verdict verdict;
    struct err err = {0};
    assert_int_equal(canary_set_read(DIRS, dirs, &set, &err), 0);
    assert_int_equal(canary_judge(&set.config, set.marks, &verdict, &err), 0);
    assert_int_equal(verdict.tears, 0);
    assert_true(verdict.last[1] != CANARY_STEP_NONE && verdict.last[1] > 3);
    uint64_t lost = verdict.last[1] - 3;
    uint32_t writer = canary_writer(&set.config, 1, lost);
    uint8_t block[CANARY_BLOCK];
    canary_step_encode(
        &set.config, &(struct canary_step){.writer = writer, .token = 1, .step = CANARY_STEP_NONE},
        block);
    block_io(set.writer_dir[writer],
             canary_offset(set.config.slots, 1, canary_slot(&set.config, lost)), block, true);
    char expected[800];
    uint32_t effect_writer = canary_writer(&set.config, 1, lost + 1);
    snprintf(
        expected, sizeof(expected),
        "torn: token 1: step %llu is in '%s' although its cause, step %llu in '%s', is missing",
        (unsigned long long)lost + 1, set.writer_dir[effect_writer], (unsigned long long)lost,
        set.writer_dir[writer]);
    canary_set_close(&set);
    assert_int_equal(CANARY("check", dir[0], dir[1], dir[2]), 1);
    assert_non_null(strstr(output, expected));
    assert_int_equal(CANARY("check", "-o", "json", dir[0], dir[1], dir[2]), 1);
    assert_non_null(strstr(output, "\"verdict\": \"torn\""));
}

static void test_what_cannot_be_judged_says_why(void **state)
{
    (void)state;
    run_short();
    assert_int_equal(CANARY("check", dir[0], dir[1]), 4);
    assert_non_null(strstr(output, "3 writers, 2 folders were given"));
    assert_int_equal(CANARY("check", dir[0], dir[1], dir[0]), 9);
    assert_non_null(strstr(output, "are both of writer"));
    assert_int_equal(CANARY("check", dir[0], dir[1], dir[2], base), 4);
    assert_non_null(strstr(output, "cannot open"));
    assert_int_equal(CANARY("check"), 2);
    assert_int_equal(CANARY("run", "--tokens", "0", dir[0]), 2);
    assert_int_equal(CANARY("run", "--seconds", "1", dir[0], dir[0]), 2);
    assert_non_null(strstr(output, "are the same folder"));
    assert_int_equal(CANARY("run", "--seconds", "1", "/nonexistent/folder"), 4);

    run_short();
    uint8_t block[CANARY_BLOCK];
    block_io(dir[1], canary_offset(8, 2, 3), block, false);
    block[1000] ^= 1;
    block_io(dir[1], canary_offset(8, 2, 3), block, true);
    assert_int_equal(CANARY("check", dir[0], dir[1], dir[2]), 7);
    assert_non_null(strstr(output, "checksum is wrong"));
    assert_non_null(strstr(output, dir[1]));
}

static void test_two_runs_mixed_are_refused(void **state)
{
    (void)state;
    run_short();
    uint8_t header[CANARY_BLOCK];
    block_io(dir[1], 0, header, false);
    uint8_t steps[CANARY_BLOCK];
    block_io(dir[1], canary_offset(8, 0, 0), steps, false);
    run_short();
    block_io(dir[1], canary_offset(8, 0, 0), steps, true);
    assert_int_equal(CANARY("check", dir[0], dir[1], dir[2]), 9);
    assert_non_null(strstr(output, "a block of run"));
    block_io(dir[1], 0, header, true);
    assert_int_equal(CANARY("check", dir[0], dir[1], dir[2]), 9);
    assert_non_null(strstr(output, "files of two runs"));
}

static void test_a_signal_ends_it_well(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        int fd = -1;
        size_t used = 0;
        output[0] = '\0';
        pid_t pid = canary_start((const char *const[]){"run", "--seconds", "60", "--report", "60",
                                                       dir[0], dir[1], dir[2], NULL},
                                 &fd);
        bool ready = canary_read(fd, "ready", &used);
        kill(pid, k == 0 ? SIGTERM : SIGINT);
        canary_read(fd, NULL, &used);
        assert_int_equal(canary_end(pid, fd), 0);
        assert_true(ready);
        assert_non_null(strstr(output, "canary: ended: "));
        assert_int_equal(CANARY("check", dir[0], dir[1], dir[2]), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_run_is_consistent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_signal_ends_it_well, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_deleted_step_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_judged_says_why, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_runs_mixed_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
