/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/intake/pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/core/check.h"
#include "common/io/daemon.h"

struct job {
    struct pool *pool;
    loop_fn *work;
    loop_fn *done;
    void *arg;
};

struct pool {
    struct loop *loop;
    pthread_t threads[TIDE_POOL_THREADS];
    unsigned thread_count;
    unsigned jobs;        /* queued, at work, or done and not yet told; the loop's thread only */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct job *queue[TIDE_POOL_JOBS_MAX]; /* a ring */
    unsigned head;
    unsigned queued;
    bool stop;
};

static void tell(void *arg)
{
    struct job *job = arg;
    job->pool->jobs--;
    job->done(job->arg);
    free(job);
}

static void *run(void *arg)
{
    struct pool *pool = arg;
    daemon_thread_init("pool");
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->queued == 0 && !pool->stop) {
            pthread_cond_wait(&pool->wake, &pool->lock);
        }
        if (pool->stop) {
            break;
        }
        struct job *job = pool->queue[pool->head];
        pool->head = (pool->head + 1) % TIDE_POOL_JOBS_MAX;
        pool->queued--;
        pthread_mutex_unlock(&pool->lock);
        job->work(job->arg);
        int rc = loop_post(pool->loop, tell, job, NULL);
        TIDE_CHECK(rc == 0);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int pool_new(struct loop *loop, struct pool **ret, struct err *err)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return err_set(err, TIDE_ERR_LIMIT, "no memory for the threads that store");
    }
    pool->loop = loop;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (unsigned k = 0; k < TIDE_POOL_THREADS; k++) {
        if (pthread_create(&pool->threads[k], NULL, run, pool) != 0) {
            pool_free(pool);
            return err_set(err, TIDE_ERR_LIMIT, "cannot start a thread that stores");
        }
        pool->thread_count++;
    }
    *ret = pool;
    return 0;
}

int pool_submit(struct pool *pool, loop_fn *work, loop_fn *done, void *arg, struct err *err)
{
    if (pool->jobs == TIDE_POOL_JOBS_MAX) {
        return err_set(err, TIDE_ERR_BUSY, "%u jobs wait for the store already",
                       TIDE_POOL_JOBS_MAX);
    }
    struct job *job = malloc(sizeof(*job));
    if (job == NULL) {
        return err_set(err, TIDE_ERR_BUSY, "no memory for a job");
    }
    *job = (struct job){.pool = pool, .work = work, .done = done, .arg = arg};
    pool->jobs++;
    pthread_mutex_lock(&pool->lock);
    pool->queue[(pool->head + pool->queued) % TIDE_POOL_JOBS_MAX] = job;
    pool->queued++;
    pthread_cond_signal(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    return 0;
}

void pool_free(struct pool *pool)
{
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned k = 0; k < pool->thread_count; k++) {
        pthread_join(pool->threads[k], NULL);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
