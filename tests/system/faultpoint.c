/* SPDX-License-Identifier: Apache-2.0 */
/* The fault points of a test build (common/io/faultpoint.h). The file named by TIDE_FAULT_POINT,
 * while it exists, is an order: "NAME N PID": the Nth time that NAME is come by since the order is
 * there, the file is taken away, and then process PID (0: this one) is killed. */
#include "common/io/faultpoint.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char under_way[128]; /* the order that `seen` counts for */
static unsigned seen;

static void obey(const char *path, const char *order, const char *name)
{
    char wanted[64];
    unsigned count = 0;
    int pid = 0;
    if (sscanf(order, "%63s %u %d", wanted, &count, &pid) != 3 || strcmp(wanted, name) != 0) {
        return;
    }
    if (strcmp(under_way, order) != 0) {
        (void)snprintf(under_way, sizeof under_way, "%s", order);
        seen = 0;
    }
    seen++;
    if (seen == count) {
        under_way[0] = '\0';
        (void)unlink(path);
        (void)kill(pid == 0 ? getpid() : pid, SIGKILL);
    }
}

void fault_point(const char *name)
{
    char order[128] = {0};
    const char *path = getenv("TIDE_FAULT_POINT");
    int from = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0) {
        return;
    }
    ssize_t got = read(from, order, sizeof order - 1);
    (void)close(from);
    if (got > 0) {
        pthread_mutex_lock(&lock);
        obey(path, order, name);
        pthread_mutex_unlock(&lock);
    }
}
