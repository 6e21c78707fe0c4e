/* Loops over independent tasks on several threads, with subnormal numbers flushed to zero. */
#ifndef FASTRNN_PARALLEL_H
#define FASTRNN_PARALLEL_H

#include <stdatomic.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

/* How many threads, at most `wanted`, a caller may run on, so that all callers together have no more
 * than fr_threads(), but one each; to be given back. */
int fr_take_threads(int wanted);
void fr_give_threads(int taken);

/* Subnormal numbers cost a hundred cycles each: flush them within the kernels, and give the
 * caller's float environment back. */
typedef struct {
    uint64_t before;
} float_mode;

static inline float_mode flush_subnormals(void) {
    float_mode mode = {0};
#if defined(__x86_64__)
    mode.before = _mm_getcsr();
    _mm_setcsr((unsigned)mode.before | 0x8040); /* FTZ, DAZ */
#elif defined(__aarch64__)
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode.before));
    __asm__ volatile("msr fpcr, %0" : : "r"(mode.before | (1u << 24)));
#endif
    return mode;
}
static inline void restore(float_mode mode) {
#if defined(__x86_64__)
    _mm_setcsr((unsigned)mode.before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode.before));
#else
    (void)mode;
#endif
}

/* One pass that can be stopped: a flag for its threads. fr_watch, to be called between pieces of
 * work of a millisecond or less, sets it; it answers whether to stop. */
enum { INTERRUPTED = 1, TOO_LATE };
typedef struct {
    atomic_int stopped;
    double asked;      /* when, in seconds */
    double patience;   /* how long a thread waits for another before it takes it for not running */
    atomic_int late;   /* how often one had to wait longer */
    int most_late;     /* when this often, the pass stops as TOO_LATE; 0 for never */
} pass_watch;

pass_watch fr_new_watch(void);
int fr_watch(pass_watch *watch);
static inline int is_stopped(pass_watch *watch) {
    return atomic_load_explicit(&watch->stopped, memory_order_relaxed);
}

/* Runs body with `task` from 0 to tasks - 1, on at most `threads` threads. */
#define FOR_TASKS(task, tasks, threads, body)                                                      \
    do {                                                                                           \
        const int64_t tasks_ = (tasks);                                                            \
        const int threads_ = fr_take_threads(tasks_ < (threads) ? (int)tasks_ : (threads));        \
        if (threads_ <= 1) {                                                                       \
            float_mode mode_ = flush_subnormals();                                                 \
            for (int64_t task = 0; task < tasks_; task++) body;                                    \
            restore(mode_);                                                                        \
        } else {                                                                                   \
            _Pragma("omp parallel num_threads(threads_)") {                                        \
                float_mode mode_ = flush_subnormals();                                             \
                _Pragma("omp for schedule(dynamic, 1)")                                            \
                for (int64_t task = 0; task < tasks_; task++) body;                                \
                restore(mode_);                                                                    \
            }                                                                                      \
        }                                                                                          \
        fr_give_threads(threads_);                                                                 \
    } while (0)

#endif
