/* A barrier for the few threads that share the units of a layer: they meet at every time step, so
 * it has to cost less than a microsecond. */
#ifndef FASTRNN_BARRIER_H
#define FASTRNN_BARRIER_H

#include "parallel.h"

#include <sched.h>

typedef struct {
    _Alignas(128) atomic_int arrived;
    _Alignas(128) atomic_int phase;
} step_barrier;

enum { LONG_WAIT = 4096 }; /* in turns of the loop, some 50 us; then the CPU is offered to others */

/* A wait for a thread that has lost its CPU, or of one that had: it counts even where the other is
 * there after a single yield, which may have taken a time slice. */
static inline void add_wait(pass_watch *watch, double seconds) {
    const long long more = (long long)(1e9 * seconds);
    const long long waited = more + atomic_fetch_add(&watch->waited, more);
    if (watch->restarts && waited > watch->patience) atomic_store(&watch->stopped, TOO_LATE);
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
        spin();
        if (spins < LONG_WAIT) continue;
        const double now = seconds_now();
        if (spins > LONG_WAIT) add_wait(watch, now - since);
        if (is_stopped(watch)) return;
        since = now;
        sched_yield(); /* to the thread waited for */
    }
    if (since > 0.0) add_wait(watch, seconds_now() - since);
}

#endif
