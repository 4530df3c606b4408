/* SPDX-License-Identifier: Apache-2.0 */
/* The tap with a mistake (common/core/planted.h), for leaks.py to find out. */
#include "common/core/planted.h"

enum planted tide_planted = PLANTED_BUDGET_TENFOLD;
