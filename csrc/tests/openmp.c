/* The part of GNU's OpenMP library that the engine calls, over POSIX threads, for ThreadSanitizer:
 * it does not see what the real library does to order its threads, and would report every loop. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

typedef struct {
    void (*body)(void *);
    void *data;
    unsigned threads, left;    /* left: threads that have not yet finished the loop at hand */
    bool started;              /* is there a loop at hand? */
    long next, end, step;
    pthread_mutex_t lock;
    pthread_cond_t finished;
} team;

static _Thread_local team *current;
static _Thread_local int id;

typedef struct {
    team *of;
    int id;
} member;

static void *run(void *argument) {
    const member *m = argument;
    current = m->of, id = m->id;
    current->body(current->data);
    current = NULL, id = 0;
    return NULL;
}

void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags) {
    (void)flags;
    team t = {body, data, threads, threads, false, 0, 0, 0,
              PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};
    pthread_t *threads_of = malloc(threads * sizeof *threads_of);
    member *members = malloc(threads * sizeof *members);
    for (unsigned i = 0; i < threads; i++) members[i] = (member){&t, (int)i};
    for (unsigned i = 1; i < threads; i++)
        if (pthread_create(&threads_of[i], NULL, run, &members[i])) abort();
    run(&members[0]);
    for (unsigned i = 1; i < threads; i++) pthread_join(threads_of[i], NULL);
    free(threads_of), free(members);
}

static bool take(team *t, long *from, long *to) {
    const bool some = t->next < t->end;
    *from = t->next;
    *to = t->next += some ? t->step : 0;
    return some;
}

bool GOMP_loop_nonmonotonic_dynamic_start(long start, long end, long step, long chunk, long *from,
                                          long *to) {
    (void)chunk;
    team *t = current;
    pthread_mutex_lock(&t->lock);
    if (!t->started) t->started = true, t->next = start, t->end = end, t->step = step;
    const bool some = take(t, from, to);
    pthread_mutex_unlock(&t->lock);
    return some;
}

bool GOMP_loop_nonmonotonic_dynamic_next(long *from, long *to) {
    pthread_mutex_lock(&current->lock);
    const bool some = take(current, from, to);
    pthread_mutex_unlock(&current->lock);
    return some;
}

void GOMP_loop_end(void) { /* all wait for the last one */
    team *t = current;
    pthread_mutex_lock(&t->lock);
    if (--t->left == 0) pthread_cond_broadcast(&t->finished);
    while (t->left) pthread_cond_wait(&t->finished, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

int omp_get_thread_num(void) { return id; }
int omp_get_num_threads(void) { return current ? (int)current->threads : 1; }
int omp_get_num_procs(void) { return 2; }
int omp_in_parallel(void) { return current != NULL; }
