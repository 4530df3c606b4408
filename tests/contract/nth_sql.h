/* SPDX-License-Identifier: Apache-2.0 */
/* nth_sql: SQLite takes its memory from the program, so that nth.h reaches it; and the catalog in
 * nth_folder. SQLite can do without some of what it asks for: a call may succeed all the same. */
#ifndef TIDE_TESTS_CONTRACT_NTH_SQL_H
#define TIDE_TESTS_CONTRACT_NTH_SQL_H

#include <stdbool.h>
#include <stddef.h>

#include "coordinator/catalog/catalog.h"

int nth_sql_setup(void);                /* before anything of SQLite; 0: done */
extern struct catalog *nth_sql_catalog; /* NULL: closed */
extern char nth_sql_note[TIDE_ERR_TEXT_MAX];
/* catalog_open() of nth_folder/catalog.db. */
int nth_sql_open(struct err *err);
void nth_sql_close(void);
void nth_sql_remove(void);
bool nth_sql_was_set_aside(void);
/* What is in it: points, then rounds, as JSON. */
void nth_sql_contents(char *to, size_t room);

#endif
