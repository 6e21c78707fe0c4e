/* A barrier for the few threads that share the units of a layer: they meet at every time step, so
 * it has to cost less than a microsecond. */
#ifndef FASTRNN_BARRIER_H
#define FASTRNN_BARRIER_H

#include "parallel.h"

#include <sched.h>
#include <time.h>

typedef struct {
    _Alignas(128) atomic_int arrived;
    _Alignas(128) atomic_int phase;
} step_barrier;

enum { LONG_WAIT = 4096 }; /* in turns of the loop, some 50 us; then the CPU is offered to others */

static inline double seconds_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Returns at once where the pass is stopped: the other threads may not come. */
static inline void barrier_wait(step_barrier *barrier, int parts, pass_watch *watch) {
    if (parts == 1) return;
    const int phase = atomic_load_explicit(&barrier->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) == parts - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->phase, phase + 1, memory_order_release);
        return;
    }
    double since = 0.0;
    for (int spins = 0; atomic_load_explicit(&barrier->phase, memory_order_acquire) == phase; spins++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
        if (spins < LONG_WAIT) continue;
        if (is_stopped(watch)) return;
        if (spins == LONG_WAIT) since = seconds_now();
        if (since > 0.0 && seconds_now() - since > watch->patience) { /* it has lost its CPU */
            const int late = 1 + atomic_fetch_add_explicit(&watch->late, 1, memory_order_relaxed);
            if (late == watch->most_late) atomic_store(&watch->stopped, TOO_LATE);
            since = 0.0;
        }
        sched_yield(); /* to the thread waited for */
    }
}

#endif
