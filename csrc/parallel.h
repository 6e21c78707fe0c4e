/* Loops over independent tasks on several threads, with subnormal numbers flushed to zero. */
#ifndef FASTRNN_PARALLEL_H
#define FASTRNN_PARALLEL_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

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

static inline double seconds_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static inline void spin(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* One pass that can be stopped: a flag for its threads. fr_watch, to be called between pieces of
 * work of a millisecond or less, sets it; it answers whether to stop. */
enum { INTERRUPTED = 1, TOO_LATE };
typedef struct {
    atomic_int stopped;
    double asked;          /* when, in seconds */
    atomic_llong waited;   /* ns that threads which meet at every step have waited for lost ones */
    long long patience;    /* how many they may */
    int restarts;          /* does the pass stop as TOO_LATE after more? */
} pass_watch;

pass_watch fr_new_watch(void);
int fr_watch(pass_watch *watch);
static inline int is_stopped(pass_watch *watch) {
    return atomic_load_explicit(&watch->stopped, memory_order_relaxed);
}

/* A loop's body is a function of its own, WORK(name, fields) { ... `w->field` ... `task` ... }, and
 *     FOR_TASKS(tasks, threads, name, values of the fields)
 * runs it for each task from 0 to tasks - 1, on at most `threads` threads. Tasks go to whichever
 * thread comes for them: the caller waits for none that has not begun. */
typedef void (*fr_task)(const void *work, int64_t task);
void fr_for_tasks(int64_t tasks, int threads, fr_task task, const void *work);

#define WORK(name, ...)                                                                            \
    typedef struct {                                                                               \
        __VA_ARGS__                                                                                \
    } name##_work;                                                                                 \
    static void name##_body(const name##_work *w, int64_t task);                                   \
    static void name##_task(const void *work, int64_t task) { name##_body(work, task); }           \
    static void name##_body(const name##_work *w, int64_t task)

#define FOR_TASKS(tasks, threads, name, ...)                                                       \
    fr_for_tasks(tasks, threads, name##_task, &(name##_work){__VA_ARGS__})

/* Runs each of `threads` tasks on a thread of its own, at the same time, if so many threads are
 * free and come within `patience` seconds; else runs none and returns 0. */
int fr_together(int threads, double patience, fr_task task, const void *work);
/* Says how many seconds were won by sharing work; fewer than 0 where threads had to wait for one that
 * other programs kept from running. */
void fr_shared(double won);

#endif
