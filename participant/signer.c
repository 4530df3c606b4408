/* SPDX-License-Identifier: Apache-2.0 */
#include "participant/signer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/core/check.h"
#include "common/io/clock.h"
#include "common/io/daemon.h"
#include "common/io/log.h"
#include "common/io/loop.h"
#include "common/wire/certificate.h"

struct job {
    unsigned disk;
    struct statement statement;
};

struct signer {
    const struct tls_identity *identity;
    signer_fn *fn;
    void *arg;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t news;
    bool stop;
    uint64_t lost;
    unsigned first;
    unsigned count;
    struct job queue[SIGNER_QUEUE_MAX];
};

static int sign(const struct tls_identity *identity, const struct job *job,
                struct tapctl_attest *ret, struct err *err)
{
    uint8_t statement[TIDE_STATEMENT_MAX];
    uint8_t signature[TLS_SIGNATURE_MAX];
    const uint8_t *der[TLS_CHAIN_MAX];
    size_t der_size[TLS_CHAIN_MAX];
    size_t signature_size = 0;
    size_t size = certificate_statement_encode(&job->statement, statement);
    if (tls_sign(identity, TIDE_STATEMENT_CONTEXT, statement, size, signature, &signature_size,
                 err) != 0) {
        return -1;
    }
    struct certificate_attestation attestation = {
        .statement = {statement, size},
        .signature = {signature, signature_size},
    };
    size_t chain = tls_identity_chain(identity, der, der_size);
    for (size_t i = 0; i < chain && i < TIDE_ATTESTATION_CHAIN_MAX; i++) {
        attestation.chain[i] = (struct certificate_bytes){der[i], der_size[i]};
        attestation.chain_count++;
    }
    size_t used = 0;
    if (certificate_attestation_encode(&attestation, ret->bytes, &used, err) != 0) {
        return -1;
    }
    ret->round = job->statement.round;
    ret->size = (uint32_t)used;
    return 0;
}

/* By one copy: the identity may be reloaded between the signature and its chain. */
static int sign_now(const struct signer *signer, const struct job *job, struct tapctl_attest *ret,
                    struct err *err)
{
    struct tls_identity *identity = tls_identity_copy(signer->identity);
    if (identity == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for a signature");
    }
    int result = sign(identity, job, ret, err);
    tls_identity_free(identity);
    return result;
}

static void *run(void *arg)
{
    struct signer *signer = arg;
    daemon_thread_init("tide-sign");
    pthread_mutex_lock(&signer->lock);
    for (;;) {
        while (signer->count == 0 && !signer->stop) {
            pthread_cond_wait(&signer->news, &signer->lock);
        }
        if (signer->stop) {
            break;
        }
        struct job job = signer->queue[signer->first];
        signer->first = (signer->first + 1) % SIGNER_QUEUE_MAX;
        signer->count--;
        pthread_mutex_unlock(&signer->lock);
        struct tapctl_attest attest = {0};
        struct err err = {0};
        int result = sign_now(signer, &job, &attest, &err);
        if (result == 0) {
            signer->fn(signer->arg, job.disk, &attest);
        } else {
            log_warn("an attestation is left out: %s", err.text);
        }
        pthread_mutex_lock(&signer->lock);
        signer->lost += result != 0;
    }
    pthread_mutex_unlock(&signer->lock);
    return NULL;
}

struct signer *signer_new(const struct tls_identity *identity, signer_fn *fn, void *arg)
{
    struct signer *signer = calloc(1, sizeof *signer);
    TIDE_CHECK(signer != NULL);
    signer->identity = identity;
    signer->fn = fn;
    signer->arg = arg;
    /* Whoever copies while the hold thread waits gets its priority. */
    loop_mutex_init(&signer->lock);
    TIDE_CHECK(pthread_cond_init(&signer->news, NULL) == 0);
    TIDE_CHECK(pthread_create(&signer->thread, NULL, run, signer) == 0);
    return signer;
}

void signer_put(struct signer *signer, unsigned disk, const struct statement *statement)
{
    pthread_mutex_lock(&signer->lock);
    if (signer->count == SIGNER_QUEUE_MAX) {
        signer->lost++;
    } else {
        struct job *job = &signer->queue[(signer->first + signer->count) % SIGNER_QUEUE_MAX];
        job->disk = disk;
        job->statement = *statement;
        job->statement.wall_ns = clock_wall_ns();
        signer->count++;
        pthread_cond_signal(&signer->news);
    }
    pthread_mutex_unlock(&signer->lock);
}

uint64_t signer_lost(struct signer *signer)
{
    pthread_mutex_lock(&signer->lock);
    uint64_t lost = signer->lost;
    pthread_mutex_unlock(&signer->lock);
    return lost;
}

void signer_free(struct signer *signer)
{
    if (signer == NULL) {
        return;
    }
    pthread_mutex_lock(&signer->lock);
    signer->stop = true;
    pthread_cond_signal(&signer->news);
    pthread_mutex_unlock(&signer->lock);
    pthread_join(signer->thread, NULL);
    pthread_cond_destroy(&signer->news);
    pthread_mutex_destroy(&signer->lock);
    free(signer);
}
