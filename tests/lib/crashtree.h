/* SPDX-License-Identifier: Apache-2.0 */
/* crashtree: names, files and folders of a small file system in memory. Content is pages that
 * copies share until one changes them, so that a copy of a tree is cheap. No time, no durability:
 * those are crashdisk's. A mistake of the test ends the process. */
#ifndef TIDE_TESTS_LIB_CRASHTREE_H
#define TIDE_TESTS_LIB_CRASHTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRASHTREE_PAGE      4096U
#define CRASHTREE_FILES_MAX 96
#define CRASHTREE_NAMES_MAX 96
#define CRASHTREE_PATH_MAX  64
#define CRASHTREE_XATTRS    4

struct crashtree_page {
    struct crashtree_page *next; /* of those that nobody holds */
    unsigned holders;
    uint8_t bytes[CRASHTREE_PAGE];
};

struct crashtree_xattr {
    char name[64]; /* empty: free */
    uint8_t value[256];
    size_t size;
};

struct crashtree_file {
    bool folder;
    uint64_t size;
    uint64_t mtime_ns;
    struct crashtree_page **pages; /* NULL: a hole */
    size_t pages_count;
    struct crashtree_xattr xattrs[CRASHTREE_XATTRS];
};

struct crashtree_name {
    char path[CRASHTREE_PATH_MAX]; /* empty: free */
    int file;
};

struct crashtree {
    struct crashtree_file files[CRASHTREE_FILES_MAX]; /* numbers are never used again */
    int files_count;
    struct crashtree_name names[CRASHTREE_NAMES_MAX];
};

void crashtree_clear(struct crashtree *tree);
void crashtree_copy(struct crashtree *to, const struct crashtree *from); /* `to` was cleared */

/* One file's content, as it is there. */
void crashtree_copy_file(struct crashtree *to, const struct crashtree *from, int file);

int crashtree_find(const struct crashtree *tree, const char *path); /* file; -1: none */
/* The folder that holds a path; -1: none. */
int crashtree_parent(const struct crashtree *tree, const char *path);
int crashtree_add(struct crashtree *tree, bool folder);                  /* a file without a name */
void crashtree_link(struct crashtree *tree, const char *path, int file); /* replaces the name's */
void crashtree_unlink(struct crashtree *tree, const char *path);

void crashtree_resize(struct crashtree *tree, int file, uint64_t size);
/* Both make the file longer where they reach past its end. */
void crashtree_write(struct crashtree *tree, int file, uint64_t offset, const void *from,
                     size_t size);
void crashtree_zero(struct crashtree *tree, int file, uint64_t offset, uint64_t size);
/* Zeroes past the end. */
void crashtree_read(const struct crashtree *tree, int file, uint64_t offset, void *to, size_t size);
/* First offset from there on that is (data) or is not in a hole; the file's size: none. */
uint64_t crashtree_seek(const struct crashtree *tree, int file, uint64_t offset, bool data);
void crashtree_set_xattr(struct crashtree *tree, int file, const char *name, const void *value,
                         size_t size); /* value NULL: removes it */
const struct crashtree_xattr *crashtree_xattr(const struct crashtree *tree, int file,
                                              const char *name);

/* The layer's own memory: not the tested code's, whose allocations are counted and made to fail. */
void *crashtree_memory(void *before, size_t size); /* as realloc() that does not fail */
void crashtree_release(void *memory);

#endif
