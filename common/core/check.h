/* SPDX-License-Identifier: Apache-2.0 */
/* check: assertions that stay on in release builds. A programmer's mistake ends the process;
 * bad input never does (it gets an err.h error). */
#ifndef TIDE_COMMON_CORE_CHECK_H
#define TIDE_COMMON_CORE_CHECK_H

/* Prints file, line and condition to standard error and aborts. */
_Noreturn void check_failed(const char *condition, const char *file, int line);

#define TIDE_CHECK(condition) ((condition) ? (void)0 : check_failed(#condition, __FILE__, __LINE__))

#endif
