/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/roundlab_own.h"

#include "common/core/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say_text(struct roundlab *lab, const char *line)
{
    size_t length = strlen(line);
    while (lab->text_used + length + 1 > lab->text_room) {
        lab->text_room = lab->text_room == 0 ? 4096 : lab->text_room * 2;
        lab->text = realloc(lab->text, lab->text_room);
        TIDE_CHECK(lab->text != NULL);
    }
    memcpy(lab->text + lab->text_used, line, length + 1);
    lab->text_used += length;
}

void roundlab_say(struct roundlab *lab, unsigned member, int disk, const char *format, ...)
{
    if (lab->config.silent) {
        return;
    }
    char what[600];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    char node[32];
    snprintf(node, sizeof node, "%s%s%s", roundlab_member_name(member), disk < 0 ? "" : "/",
             disk < 0 ? "" : roundlab_disk_names[disk]);
    char line[800];
    snprintf(line, sizeof line, "[%4" PRIu64 ".%06" PRIu64 "] %-8s > %s\n", lab->now_us / 1000000,
             lab->now_us % 1000000, node, what);
    say_text(lab, line);
}

/* r1, r2 … in the order in which they are first seen; one of long ago gets a new number. */
const char *roundlab_say_round(struct roundlab *lab, const struct id *round, char ret[16])
{
    if (lab->config.silent) {
        ret[0] = '\0';
        return ret;
    }
    size_t i = lab->named_count;
    size_t least = i > ROUNDS_NAMED ? i - ROUNDS_NAMED : 0;
    while (i > least && !id_equal(&lab->named[i - 1], round)) {
        i--;
    }
    if (i == least) {
        lab->named = roundlab_grow(lab->named, &lab->named_room, lab->named_count, sizeof *round);
        lab->named[lab->named_count++] = *round;
        i = lab->named_count;
    }
    snprintf(ret, 16, "r%zu", i);
    return ret;
}

void roundlab_say_message(struct roundlab *lab, const struct msg *msg, char *ret, size_t room)
{
    char r[16];
    char hex[TIDE_HASH_HEX];
    size_t used = 0;
    if (lab->config.silent) {
        ret[0] = '\0';
        return;
    }
    switch (msg->type) {
    case MSG_HOLD:
        snprintf(ret, room, "HOLD %s set %u of %u budget %u us",
                 roundlab_say_round(lab, &msg->hold.round, r), set_size(&msg->hold.set),
                 msg->hold.set.count, msg->hold.budget_us);
        break;
    case MSG_HELD:
        used =
            (size_t)snprintf(ret, room, "HELD %s at", roundlab_say_round(lab, &msg->held.round, r));
        for (unsigned i = 0; i < msg->held.mark_count; i++) {
            used += (size_t)snprintf(ret + used, room - used, " %" PRIu64, msg->held.marks[i].lsn);
        }
        break;
    case MSG_REFUSED:
        snprintf(
            ret, room, "REFUSED %s %s%s%s: %s", roundlab_say_round(lab, &msg->refused.round, r),
            round_reason_name((unsigned)msg->refused.reason), msg->refused.outcome == 0 ? "" : " ",
            msg->refused.outcome == 0 ? "" : round_outcome_name(msg->refused.outcome),
            msg->refused.text);
        break;
    case MSG_RELEASE:
        snprintf(ret, room, "RELEASE %s cut %.8s", roundlab_say_round(lab, &msg->release.round, r),
                 hash_hex(&msg->release.cut, hex));
        break;
    case MSG_ABORT:
        snprintf(ret, room, "ABORT %s %s", roundlab_say_round(lab, &msg->abort.round, r),
                 round_reason_name((unsigned)msg->abort.reason));
        break;
    case MSG_SEALED:
        snprintf(ret, room, "SEALED %s %s", roundlab_say_round(lab, &msg->sealed.round, r),
                 round_outcome_name((unsigned)msg->sealed.outcome));
        break;
    case MSG_SUM:
        snprintf(ret, room, "SUM %s %s%s%s", roundlab_say_round(lab, &msg->sum.round, r),
                 msg->sum.sealed_by_all ? "sealed by all"
                                        : round_reason_name((unsigned)msg->sum.reason),
                 msg->sum.member.s[0] == '\0' ? "" : " at ", msg->sum.member.s);
        break;
    case MSG_TAKE:
        snprintf(ret, room, "TAKE");
        break;
    case MSG_TAKEN:
        snprintf(ret, room, "TAKEN %s", msg->taken.sealed ? "sealed" : msg->taken.text);
        break;
    case MSG_HEARTBEAT:
    default:
        snprintf(ret, room, "heartbeat reach %u", msg->heartbeat.reach);
        break;
    }
}
