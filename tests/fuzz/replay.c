/* SPDX-License-Identifier: Apache-2.0 */
/* replay: runs a target over the files and folders that are named: replay PATH... Fails where it
 * finds none, so that an empty or misspelt corpus is no success. */
#include <dirent.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

#define FILE_MAX (1024L * 1024)

static unsigned runs;

static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = malloc(FILE_MAX);
    if (file == NULL || bytes == NULL) {
        perror(path);
        exit(1);
    }
    size_t size = fread(bytes, 1, FILE_MAX, file);
    if (ferror(file) || !feof(file)) {
        fprintf(stderr, "%s: unreadable, or over %ld bytes\n", path, FILE_MAX);
        exit(1);
    }
    (void)fclose(file);
    uint8_t *input = fuzz_copy(bytes, size);
    free(bytes);
    fprintf(stderr, "%s\n", path); /* the last one named is the one that failed */
    (void)LLVMFuzzerTestOneInput(input, size);
    free(input);
    runs++;
}

static void run_folder(const char *path)
{
    struct dirent **names;
    int count = scandir(path, &names, NULL, alphasort);
    if (count < 0) {
        perror(path);
        exit(1);
    }
    for (int i = 0; i < count; i++) {
        char file[4096];
        int used = snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.' && used > 0 && (size_t)used < sizeof file) {
            run_file(file);
        }
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct stat s;
        if (stat(argv[i], &s) != 0) {
            perror(argv[i]);
            return 1;
        }
        if (S_ISDIR(s.st_mode)) {
            run_folder(argv[i]);
        } else {
            run_file(argv[i]);
        }
    }
    fprintf(stderr, "%u inputs\n", runs);
    return runs > 0 ? 0 : 1;
}
