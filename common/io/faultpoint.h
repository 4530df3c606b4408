/* SPDX-License-Identifier: Apache-2.0 */
/* faultpoint: places at which a test wants a process killed, by name, in a test build that defines
 * TIDE_FAULT_POINTS (tests/system/faultpoint.c says how it is ordered); in every other build nothing
 * of them is left, which tests/planted.sh looks at. FAULT_POINT(when, name): here, if `when` holds. */
#ifndef TIDE_COMMON_IO_FAULTPOINT_H
#define TIDE_COMMON_IO_FAULTPOINT_H

#ifdef TIDE_FAULT_POINTS
void fault_point(const char *name);
#define FAULT_POINT(when, name)                                                                    \
    do {                                                                                           \
        if (when) {                                                                                \
            fault_point(name);                                                                     \
        }                                                                                          \
    } while (0)
#else
#define FAULT_POINT(when, name) ((void)0)
#endif

#endif
