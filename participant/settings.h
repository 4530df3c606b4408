/* SPDX-License-Identifier: Apache-2.0 */
/* settings: the participant daemon's configuration file (INI, common/io/config.h):
 *
 *   [participant]
 *   identity-cert = FILE            PEM chain, leaf first
 *   identity-key = FILE
 *   ca = FILE
 *   listen = 127.0.0.11:20004       of the link
 *   coordinator = 127.0.0.10:9443
 *   coordinator-identity = spiffe://SITE/coordinator/ID
 *   compare-rate = SIZE             bytes a second that are read of images, over all disks, to
 *                                   compare them with the far side; 64K to 1T, default 64M
 *   state = DIR                     cut journals, last definitions
 *   in-flight = 4                   segments of a disk that are sent at once, 1 to 16
 *   bandwidth = 20M                 bytes a second over all disks; 0, as without it: no limit
 *   bandwidth-hours = 08:00-18:00 2M, 02:00-03:00 off
 *                                   local time; in those hours that limit instead (hours.h)
 *   local = PATH                    of the command's socket; default /run/tidemark/participant.ipc
 *   [member GROUP/NAME]             one or several
 *   [disk GROUP/NAME/DISK]          one or several for each member
 *   tap = PATH                      control socket of the disk's tap
 *
 * All paths are absolute. */
#ifndef TIDE_PARTICIPANT_SETTINGS_H
#define TIDE_PARTICIPANT_SETTINGS_H

#include <limits.h>

#include "common/core/err.h"
#include "common/core/id.h"
#include "common/io/address.h"
#include "common/io/local.h"
#include "common/io/tls.h"
#include "participant/core/bandwidth.h"

#define SETTINGS_MEMBERS_MAX 64U
#define SETTINGS_DISKS_MAX   256U /* over all members; each has a shipping thread */
#define SETTINGS_IN_FLIGHT   4U
#define SETTINGS_SOCKET_MAX  107U /* bytes of a unix socket's path, without the NUL */
#define SETTINGS_COMPARE_MIN (64ULL * 1024)
#define SETTINGS_COMPARE_MAX (1ULL << 40)
#define SETTINGS_COMPARE     (64ULL * 1024 * 1024)

struct settings_member {
    struct name group;
    struct name name;
    int line; /* of its section */
};

struct settings_disk {
    struct name name;
    unsigned member; /* index */
    char tap[SETTINGS_SOCKET_MAX + 1];
    int line;
};

struct settings {
    char identity_cert[PATH_MAX];
    char identity_key[PATH_MAX];
    char ca[PATH_MAX];
    struct address listen;
    struct address coordinator;
    char coordinator_uri[TLS_URI_MAX + 1];
    uint64_t compare_rate; /* bytes a second */
    char state[PATH_MAX];
    char local[LOCAL_PATH_MAX + 1];
    unsigned in_flight;
    struct bandwidth_rules bandwidth;
    unsigned member_count; /* at least 1 */
    struct settings_member members[SETTINGS_MEMBERS_MAX];
    unsigned disk_count; /* each member has one at least */
    struct settings_disk disks[SETTINGS_DISKS_MAX];
};

/* Reads and checks the file; looks at no other. CONFIG: the text begins with FILE:LINE and says
 * what was expected; NOT_FOUND, DENIED, IO: the file cannot be read. *ret is large: not on a stack.
 */
int settings_load(const char *path, struct settings *ret, struct err *err);

#endif
