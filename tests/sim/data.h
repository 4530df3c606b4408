/* SPDX-License-Identifier: Apache-2.0 */
/* data: the data side of a simulated cluster: disks (simtap.h), shipping (ship.h), the far side
 * (far.h), what they must be (model.h), and who tells whom. */
#ifndef TIDE_TESTS_SIM_DATA_H
#define TIDE_TESTS_SIM_DATA_H

#include "common/core/prng.h"
#include "tests/lib/roundlab.h"
#include "tests/sim/check.h"
#include "tests/sim/simtap.h"

struct data;

#define DATA_LOG_FILES_MIN 6U
#define DATA_LOG_FILES_MAX 24U
#define DATA_LOG_FILE      8192U /* bytes */

struct data_config {
    unsigned log_files; /* of each disk */
    unsigned log_file;  /* bytes of each */
    bool based;         /* some images are not empty at their first start */
    bool listed;        /* nothing of it: a disk is a list of records (listed.h) */
};
/* Before the lab is, whose configuration gets the disks. */
struct data *data_new(struct roundlab_config *config, const struct data_config *want);
/* Then, before it runs; check is told of what is found. */
void data_open(struct data *data, struct roundlab *lab, struct check *check);
void data_free(struct data *data);

void data_record(struct data *data, unsigned disk, const struct record *record);
void data_cut(struct data *data, unsigned disk, uint64_t lsn);

/* Faults. */
void data_power(struct data *data, unsigned member); /* its taps have stopped */
void data_fail(struct data *data, unsigned disk, enum simtap_fault fault, bool on);
void data_far(struct data *data, bool up); /* it crashes, or is back */

void data_define(struct data *data); /* the far side hears of definitions */
/* It reads again some of what it has read; where, is drawn. */
void data_reread(struct data *data, struct prng *prng);

bool data_log_failed(const struct data *data, unsigned disk); /* its tap must be started anew */
bool data_copy_due(const struct data *data, unsigned disk);

void data_step(struct data *data); /* time has passed */

const struct align *data_align(const struct data *data); /* the far side's; NULL: away */

/* At the end: all that is stored, read by whoever never read before: what is feeds an alignment
 * that the caller frees, and every point that it accepts is recovered and compared. */
struct align *data_judge(struct data *data);
unsigned data_compared(const struct data *data);

#endif
