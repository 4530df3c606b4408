/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/crashtree.h"

#include "common/core/check.h"

#include <string.h>

void *__real_realloc(void *before, size_t size);
void __real_free(void *block);

void *crashtree_memory(void *before, size_t size)
{
    void *block = __real_realloc(before, size);
    TIDE_CHECK(block != NULL);
    return block;
}

void crashtree_release(void *memory)
{
    __real_free(memory);
}

static struct crashtree_page *pool; /* pages that nobody holds */

static struct crashtree_page *page_take(void)
{
    struct crashtree_page *page = pool;
    if (page != NULL) {
        pool = page->next;
    } else {
        page = crashtree_memory(NULL, sizeof *page);
    }
    page->holders = 1;
    return page;
}

static void page_drop(struct crashtree_page *page)
{
    if (page != NULL && --page->holders == 0) {
        page->next = pool;
        pool = page;
    }
}

static struct crashtree_file *get(struct crashtree *tree, int file)
{
    TIDE_CHECK(file >= 0 && file < tree->files_count);
    return &tree->files[file];
}

static const struct crashtree_file *look(const struct crashtree *tree, int file)
{
    TIDE_CHECK(file >= 0 && file < tree->files_count);
    return &tree->files[file];
}

void crashtree_clear(struct crashtree *tree)
{
    for (int i = 0; i < tree->files_count; i++) {
        for (size_t p = 0; p < tree->files[i].pages_count; p++) {
            page_drop(tree->files[i].pages[p]);
        }
        crashtree_release(tree->files[i].pages);
    }
    tree->files_count = 0;
    for (size_t i = 0; i < CRASHTREE_NAMES_MAX; i++) {
        tree->names[i].path[0] = '\0';
    }
}

static void share_pages(struct crashtree_file *to, const struct crashtree_file *from)
{
    to->pages = NULL;
    to->pages_count = from->pages_count;
    if (from->pages_count > 0) {
        to->pages = crashtree_memory(NULL, from->pages_count * sizeof from->pages[0]);
        memcpy(to->pages, from->pages, from->pages_count * sizeof from->pages[0]);
    }
    for (size_t p = 0; p < to->pages_count; p++) {
        if (to->pages[p] != NULL) {
            to->pages[p]->holders++;
        }
    }
}

void crashtree_copy(struct crashtree *to, const struct crashtree *from)
{
    TIDE_CHECK(to->files_count == 0);
    to->files_count = from->files_count;
    memcpy(to->names, from->names, sizeof to->names);
    for (int i = 0; i < from->files_count; i++) {
        to->files[i] = from->files[i];
        share_pages(&to->files[i], &from->files[i]);
    }
}

void crashtree_copy_file(struct crashtree *to, const struct crashtree *from, int number)
{
    struct crashtree_file *file = get(to, number);
    for (size_t p = 0; p < file->pages_count; p++) {
        page_drop(file->pages[p]);
    }
    crashtree_release(file->pages);
    share_pages(file, look(from, number));
    file->size = look(from, number)->size;
}

static struct crashtree_name *find_name(struct crashtree *tree, const char *path)
{
    for (size_t i = 0; i < CRASHTREE_NAMES_MAX; i++) {
        if (strcmp(tree->names[i].path, path) == 0) {
            return &tree->names[i];
        }
    }
    return NULL;
}

int crashtree_find(const struct crashtree *tree, const char *path)
{
    for (size_t i = 0; i < CRASHTREE_NAMES_MAX && path[0] != '\0'; i++) {
        if (strcmp(tree->names[i].path, path) == 0) {
            return tree->names[i].file;
        }
    }
    return -1;
}

int crashtree_parent(const struct crashtree *tree, const char *path)
{
    char parent[CRASHTREE_PATH_MAX];
    const char *slash = strrchr(path, '/');
    TIDE_CHECK(slash != NULL && (size_t)(slash - path) < sizeof parent);
    memcpy(parent, path, (size_t)(slash - path));
    parent[slash - path] = '\0';
    return crashtree_find(tree, parent);
}

int crashtree_add(struct crashtree *tree, bool folder)
{
    TIDE_CHECK(tree->files_count < CRASHTREE_FILES_MAX);
    tree->files[tree->files_count] = (struct crashtree_file){.folder = folder};
    return tree->files_count++;
}

void crashtree_link(struct crashtree *tree, const char *path, int file)
{
    struct crashtree_name *name = find_name(tree, path);
    name = name != NULL ? name : find_name(tree, "");
    TIDE_CHECK(name != NULL && strlen(path) < sizeof name->path);
    memcpy(name->path, path, strlen(path) + 1);
    name->file = file;
}

void crashtree_unlink(struct crashtree *tree, const char *path)
{
    struct crashtree_name *name = find_name(tree, path);
    if (name != NULL) {
        name->path[0] = '\0';
    }
}

static void reach(struct crashtree_file *file, uint64_t size)
{
    size_t pages = (size_t)((size + CRASHTREE_PAGE - 1) / CRASHTREE_PAGE);
    if (pages > file->pages_count) {
        file->pages = crashtree_memory(file->pages, pages * sizeof file->pages[0]);
        for (size_t p = file->pages_count; p < pages; p++) {
            file->pages[p] = NULL;
        }
        file->pages_count = pages;
    }
    file->size = size > file->size ? size : file->size;
}

/* A page that can be changed. */
static uint8_t *own(struct crashtree_page **page)
{
    if (*page == NULL) {
        *page = page_take();
        memset((*page)->bytes, 0, CRASHTREE_PAGE);
    } else if ((*page)->holders > 1) {
        struct crashtree_page *mine = page_take();
        memcpy(mine->bytes, (*page)->bytes, CRASHTREE_PAGE);
        page_drop(*page);
        *page = mine;
    }
    return (*page)->bytes;
}

void crashtree_write(struct crashtree *tree, int number, uint64_t offset, const void *from,
                     size_t size)
{
    struct crashtree_file *file = get(tree, number);
    const uint8_t *at = from;
    reach(file, offset + size);
    while (size > 0) {
        size_t in = (size_t)(offset % CRASHTREE_PAGE);
        size_t part = size < CRASHTREE_PAGE - in ? size : CRASHTREE_PAGE - in;
        memcpy(own(&file->pages[offset / CRASHTREE_PAGE]) + in, at, part);
        at += part;
        offset += part;
        size -= part;
    }
}

void crashtree_zero(struct crashtree *tree, int number, uint64_t offset, uint64_t size)
{
    struct crashtree_file *file = get(tree, number);
    reach(file, offset + size);
    while (size > 0) {
        size_t in = (size_t)(offset % CRASHTREE_PAGE);
        size_t part = size < CRASHTREE_PAGE - in ? (size_t)size : CRASHTREE_PAGE - in;
        struct crashtree_page **page = &file->pages[offset / CRASHTREE_PAGE];
        if (part == CRASHTREE_PAGE) {
            page_drop(*page);
            *page = NULL;
        } else if (*page != NULL) {
            memset(own(page) + in, 0, part);
        }
        offset += part;
        size -= part;
    }
}

void crashtree_resize(struct crashtree *tree, int number, uint64_t size)
{
    struct crashtree_file *file = get(tree, number);
    uint64_t before = file->size;
    if (size < before) {
        crashtree_zero(tree, number, size, before - size);
    }
    reach(file, size);
    file->size = size;
}

void crashtree_read(const struct crashtree *tree, int number, uint64_t offset, void *to,
                    size_t size)
{
    const struct crashtree_file *file = look(tree, number);
    uint8_t *at = to;
    while (size > 0) {
        size_t in = (size_t)(offset % CRASHTREE_PAGE);
        size_t part = size < CRASHTREE_PAGE - in ? size : CRASHTREE_PAGE - in;
        uint64_t p = offset / CRASHTREE_PAGE;
        if (p < file->pages_count && file->pages[p] != NULL) {
            memcpy(at, file->pages[p]->bytes + in, part);
        } else {
            memset(at, 0, part);
        }
        at += part;
        offset += part;
        size -= part;
    }
}

uint64_t crashtree_seek(const struct crashtree *tree, int number, uint64_t offset, bool data)
{
    const struct crashtree_file *file = look(tree, number);
    while (offset < file->size) {
        uint64_t p = offset / CRASHTREE_PAGE;
        if ((p < file->pages_count && file->pages[p] != NULL) == data) {
            return offset;
        }
        offset = (p + 1) * CRASHTREE_PAGE;
    }
    return file->size;
}

void crashtree_set_xattr(struct crashtree *tree, int number, const char *name, const void *value,
                         size_t size)
{
    struct crashtree_file *file = get(tree, number);
    struct crashtree_xattr *place = NULL;
    for (size_t i = 0; i < CRASHTREE_XATTRS; i++) {
        struct crashtree_xattr *x = &file->xattrs[i];
        if (strcmp(x->name, name) == 0) {
            place = x;
        } else if (place == NULL && x->name[0] == '\0') {
            place = x;
        }
    }
    TIDE_CHECK(place != NULL && size <= sizeof place->value && strlen(name) < sizeof place->name);
    *place = (struct crashtree_xattr){.size = size};
    if (value != NULL) {
        memcpy(place->name, name, strlen(name) + 1);
        memcpy(place->value, value, size);
    }
}

const struct crashtree_xattr *crashtree_xattr(const struct crashtree *tree, int number,
                                              const char *name)
{
    const struct crashtree_file *file = look(tree, number);
    for (size_t i = 0; i < CRASHTREE_XATTRS; i++) {
        if (strcmp(file->xattrs[i].name, name) == 0) {
            return &file->xattrs[i];
        }
    }
    return NULL;
}
