/* Threads: how many a call may use, and the crew that helps it.
 *
 * A caller does its own work and lets others help: it posts the loop to idle threads of the crew,
 * begins, and takes the offer back from those that have not come by the time the tasks are gone. So
 * it never waits for a thread that has not begun, only for one in the midst of a task. Where other
 * programs take the CPU from such a thread, a task can last a time slice; when that costs more than
 * sharing wins, calls are made on one thread for a while.
 *
 * (OpenMP's loops end with a barrier for all threads, those included that have not begun: on two CPUs
 * with eight busy processes a loop of 50 us lasted up to 60 ms.) */
#define _GNU_SOURCE
#include "barrier.h"
#include "engine.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_THREADS 1024

#ifdef __linux__ /* needs no help of the dynamic linker, at any access */
#define PER_THREAD _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define PER_THREAD _Thread_local
#endif

/* --- how many ---------------------------------------------------------------------------------- */

static atomic_int thread_count = 1;
static atomic_int within_cpus; /* and no more than the CPUs of the thread that calls */
static atomic_int threads_taken;
static PER_THREAD int helping; /* is this thread one of the crew, or its caller, within a loop? */
static PER_THREAD int of_crew;

static int count_cpus(void) {
#ifdef __linux__
    for (size_t size = sizeof(cpu_set_t); size <= 1 << 16; size *= 4) { /* for up to 524,288 CPUs */
        cpu_set_t *set = malloc(size);
        if (!set) break;
        const int known = sched_getaffinity(0, size, set) == 0;
        const int count = known ? CPU_COUNT_S(size, set) : 0;
        free(set);
        if (known) return count;
    }
#endif
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

#ifndef CLOCK_MONOTONIC_COARSE
#define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
#endif
/* CPUs that the calling thread may use. Asking takes 0.6 us, so that an answer holds for the rest of
 * a tick of the clock: 1 to 10 ms. */
static int cpus(int anew) {
    static PER_THREAD struct timespec asked;
    static PER_THREAD int answer;
    struct timespec tick;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &tick);
    if (anew || tick.tv_nsec != asked.tv_nsec || tick.tv_sec != asked.tv_sec) {
        answer = count_cpus();
        asked = tick;
    }
    return answer > 1 ? answer : 1;
}

static int usable_threads(int anew) {
    const int most = thread_count, here = within_cpus && most > 1 ? cpus(anew) : most;
    return here < most ? here : most;
}
int fr_threads(void) { return usable_threads(1); }

void fr_set_threads(int threads) {
    thread_count = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    within_cpus = 0;
}
void fr_set_threads_within_cpus(int threads) {
    fr_set_threads(threads);
    within_cpus = 1;
}

/* Where several threads call in turns, as those of a service do, calls of a millisecond or less are
 * not shared: a thread that helps holds a CPU that another caller soon needs, and is itself soon put
 * off it, with the caller waiting. Twenty callers on two CPUs, calls of 0.1 ms: 99th percentile 5 ms
 * shared, 2 alone. */
#define SHORT 5e7
#define CROWDED_FOR 0.05
static _Atomic(const void *) last_caller;
static _Atomic double crowded_until;

static int crowded(void) {
    const void *before = last_caller;
    if (before == &helping) return crowded_until > 0.0 && seconds_now() < crowded_until;
    last_caller = &helping; /* which each thread has at another address */
    if (before) crowded_until = seconds_now() + CROWDED_FOR;
    return before != NULL;
}

/* Waking a thread costs some 5 us; below 400,000 operations a thread it does not pay. */
int fr_threads_for(double flops) {
    const double threads = flops / 4e5;
    if (threads < 2 || helping || (crowded() && flops < SHORT)) return 1;
    const int most = usable_threads(0);
    return threads >= most ? most : (int)threads;
}

/* How many threads, at most `wanted`, a caller may run on, so that all callers together have no more
 * than fr_threads(), but one each; to be given back. */
static int take_threads(int wanted) {
    wanted = wanted < 1 ? 1 : wanted;
    const int others = atomic_fetch_add(&threads_taken, wanted);
    const int left = (wanted > 1 ? usable_threads(0) : 1) - others;
    const int taken = wanted <= left ? wanted : left > 1 ? left : 1;
    if (taken < wanted) atomic_fetch_sub(&threads_taken, wanted - taken);
    return taken;
}
static void give_threads(int taken) { atomic_fetch_sub(&threads_taken, taken); }

/* --- a busy machine ---------------------------------------------------------------------------- */

/* What sharing has won lately, less what it has lost, in seconds: at first it has credit, and never
 * more than that. Where it has lost more than it had, calls are made alone for four times as long as
 * it lost, then for twice as often, up to a second; where it has won the credit again, all that is
 * forgotten. (A delay alone says little: on a machine where every tenth call of 0.3 ms was late, two
 * threads still took half of one's time.) */
#define CREDIT 0.02
#define LONGEST 1.0
static _Atomic double alone_until, balance = CREDIT, times = 4.0;

static int alone(void) { return alone_until > 0.0 && seconds_now() < alone_until; }

void fr_shared(double won) {
    const double now = balance + won;
    if (now >= CREDIT) times = 4.0;
    balance = now > CREDIT ? CREDIT : now < 0.0 ? 0.0 : now;
    if (now >= 0.0) return;
    const double time = times * -now;
    alone_until = seconds_now() + (time < LONGEST ? time : LONGEST);
    times = times < 1e6 ? 2.0 * times : times;
}

/* --- the crew ---------------------------------------------------------------------------------- */

typedef struct {
    fr_task task;
    const void *work;
    int64_t tasks;
    int cpu; /* on which the caller ran */
    _Alignas(128) _Atomic int64_t next;
    /* of fr_together: */
    int threads;
    atomic_int come, decided;
} loop;

enum { IDLE, OFFERED, HELPING };
typedef struct member {
    _Alignas(128) atomic_int state;
    atomic_int asleep;
    loop *offer;
    struct member *next; /* in the list of those without an offer */
    pthread_t thread;
    int kept_off; /* is its mask the caller's but for the caller's CPU? */
    unsigned long cpus[128]; /* the caller's mask; room for 8,192 */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    atomic_int awaited;
} member;

static pthread_mutex_t idle_lock = PTHREAD_MUTEX_INITIALIZER;
static member *idle;

/* Threads do not survive fork(): the child gets a crew of its own. */
static void after_fork(void) {
    pthread_mutex_init(&idle_lock, NULL);
    idle = NULL;
    threads_taken = 0;
    helping = of_crew = 0;
    last_caller = NULL;
    crowded_until = 0.0;
}
__attribute__((constructor)) static void prepare(void) { pthread_atfork(NULL, NULL, after_fork); }

static int this_cpu(void) {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

/* Returns how many it has done. */
static int64_t do_tasks(loop *l) {
    const float_mode mode = flush_subnormals();
    int64_t done = 0;
    for (;; done++) {
        const int64_t task = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);
        if (task >= l->tasks) break;
        l->task(l->work, task);
    }
    restore(mode);
    return done;
}

static void come_together(loop *l) {
    const int place = atomic_fetch_add(&l->come, 1);
    for (int spins = 0; !atomic_load_explicit(&l->decided, memory_order_acquire); spins++) {
        spin();
        if (spins > LONG_WAIT) sched_yield();
    }
    if (l->decided < 0) return;
    const float_mode mode = flush_subnormals();
    l->task(l->work, place);
    restore(mode);
}

/* For how long a thread looks out for more work before it sleeps: as long as it last worked, but 0.1
 * to 1 ms. Being woken costs a twentieth to a tenth of that, and the time of looking is never much
 * more than that of work. */
static double last_look(double worked) { return worked < 1e-4 ? 1e-4 : worked < 1e-3 ? worked : 1e-3; }

/* A thread that its caller wakes is often put on the caller's CPU, where it could only take the
 * caller's time: it is kept off that CPU until it runs. Its mask is the caller's then. */
static void keep_off(member *m, int cpu) {
#ifdef __linux__
    cpu_set_t *set = (cpu_set_t *)m->cpus;
    if (cpu < 0 || sched_getaffinity(0, sizeof m->cpus, set)) return;
    CPU_CLR_S((size_t)cpu, sizeof m->cpus, set);
    if (CPU_COUNT_S(sizeof m->cpus, set) > 0 && pthread_setaffinity_np(m->thread, sizeof m->cpus, set) == 0)
        m->kept_off = 1;
    CPU_SET_S((size_t)cpu, sizeof m->cpus, set);
#endif
}
static void let_roam(member *m) {
#ifdef __linux__
    if (m->kept_off) sched_setaffinity(0, sizeof m->cpus, (cpu_set_t *)m->cpus);
#endif
    m->kept_off = 0;
}

static void *serve(void *argument) {
    member *m = argument;
    helping = of_crew = 1;
    for (double done = seconds_now(), worked = 0.0;;) {
        const double until = done + last_look(worked);
        while (m->state != OFFERED && seconds_now() < until)
            for (int spins = 0; m->state != OFFERED && spins < 16; spins++) spin();
        if (m->state != OFFERED) {
            pthread_mutex_lock(&m->lock);
            m->asleep = 1;
            while (m->state != OFFERED) pthread_cond_wait(&m->changed, &m->lock);
            m->asleep = 0;
            pthread_mutex_unlock(&m->lock);
        }
        int expected = OFFERED;
        if (!atomic_compare_exchange_strong(&m->state, &expected, HELPING)) { /* taken back */
            done = seconds_now();
            continue;
        }
        loop *l = m->offer;
        let_roam(m);
        const double begun = seconds_now();
        /* On the caller's CPU there is nothing to win. */
        if (l->cpu < 0 || this_cpu() != l->cpu) l->threads ? come_together(l) : (void)do_tasks(l);
        done = seconds_now(), worked = done - begun;
        atomic_store(&m->state, IDLE);
        if (m->awaited) {
            pthread_mutex_lock(&m->lock);
            pthread_cond_broadcast(&m->changed);
            pthread_mutex_unlock(&m->lock);
        }
    }
    return NULL;
}

static member *new_member(void) {
    member *m = aligned_alloc(128, (sizeof(member) + 127) / 128 * 128);
    if (!m) return NULL;
    memset(m, 0, sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    sigset_t all, before; /* signals are for the program's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&m->thread, NULL, serve, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) return free(m), NULL;
    pthread_detach(m->thread);
    return m;
}

/* Offers the loop to so many threads; returns to how many. */
static int offer(loop *l, member **team, int wanted) {
    int count = 0;
    pthread_mutex_lock(&idle_lock);
    while (count < wanted && idle) {
        team[count++] = idle;
        idle = idle->next;
    }
    pthread_mutex_unlock(&idle_lock);
    while (count < wanted && (team[count] = new_member())) count++;
    l->cpu = this_cpu();
    for (int i = 0; i < count; i++) {
        member *m = team[i];
        if (m->asleep) keep_off(m, l->cpu);
        m->offer = l;
        m->awaited = 0;
        atomic_store(&m->state, OFFERED);
        if (!m->asleep) continue;
        pthread_mutex_lock(&m->lock);
        pthread_cond_broadcast(&m->changed);
        pthread_mutex_unlock(&m->lock);
    }
    return count;
}

/* Takes the offer back from those that have not come, and waits for the others. */
static void dismiss(member **team, int count) {
    for (int i = 0; i < count; i++) {
        int expected = OFFERED;
        atomic_compare_exchange_strong(&team[i]->state, &expected, IDLE);
    }
    for (int i = 0; i < count; i++) {
        member *m = team[i];
        for (int spins = 0; m->state == HELPING && spins < LONG_WAIT; spins++) spin();
        if (m->state != HELPING) continue;
        pthread_mutex_lock(&m->lock);
        m->awaited = 1;
        while (m->state == HELPING) pthread_cond_wait(&m->changed, &m->lock);
        pthread_mutex_unlock(&m->lock);
    }
    pthread_mutex_lock(&idle_lock);
    for (int i = count - 1; i >= 0; i--) {
        team[i]->next = idle;
        idle = team[i];
    }
    pthread_mutex_unlock(&idle_lock);
}

void fr_for_tasks(int64_t tasks, int threads, fr_task task, const void *work) {
    loop l = {.task = task, .work = work, .tasks = tasks};
    if (tasks < threads) threads = (int)tasks;
    const int taken = take_threads(threads);
    if (taken < 2 || alone()) {
        do_tasks(&l);
        give_threads(taken);
        return;
    }
    member *team[MAX_THREADS];
    const double begun = seconds_now();
    const int count = offer(&l, team, taken - 1);
    helping = 1;
    const int64_t done = do_tasks(&l);
    helping = 0;
    const double own = seconds_now() - begun;
    dismiss(team, count);
    give_threads(taken);
    if (done > 0 && done < tasks)
        fr_shared(own * (double)tasks / (double)done - (seconds_now() - begun));
}

int fr_together(int threads, double patience, fr_task task, const void *work) {
    const int taken = take_threads(threads);
    if (taken < threads || alone()) return give_threads(taken), 0;
    member *team[MAX_THREADS];
    loop l = {.task = task, .work = work, .threads = threads, .come = 1};
    const int count = offer(&l, team, threads - 1);
    const double begun = seconds_now();
    while (count == threads - 1 && l.come < threads && seconds_now() < begun + patience) spin();
    const int all = l.come == threads;
    atomic_store_explicit(&l.decided, all ? 1 : -1, memory_order_release);
    if (all) {
        const float_mode mode = flush_subnormals();
        helping = 1;
        task(work, 0);
        helping = 0;
        restore(mode);
    }
    dismiss(team, count);
    give_threads(taken);
    if (!all) fr_shared(begun - seconds_now());
    return all;
}

/* --- interrupts -------------------------------------------------------------------------------- */

static int (*interrupt)(void);

void fr_set_interrupt(int (*asked)(void)) { interrupt = asked; }

pass_watch fr_new_watch(void) { return (pass_watch){.asked = interrupt ? seconds_now() : 0.0}; }

/* Only the caller asks. */
int fr_watch(pass_watch *watch) {
    if (!of_crew && interrupt && seconds_now() - watch->asked > 0.05) {
        if (interrupt()) atomic_store(&watch->stopped, INTERRUPTED);
        watch->asked = seconds_now();
    }
    return is_stopped(watch);
}
