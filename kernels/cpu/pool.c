// The pool of threads: made once, as large as the largest job asked for, parked between jobs. A parked thread spins for
// SPIN_NANOSECONDS and then sleeps. One job uses the pool at a time; a second caller's job runs on its own thread alone.
#include "common.h"
#include <stdatomic.h>
#include <stdlib.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
typedef SRWLOCK Lock;
typedef CONDITION_VARIABLE Condition;
#define UNLOCKED SRWLOCK_INIT
static void lock(Lock *l) { AcquireSRWLockExclusive(l); }
static int try_lock(Lock *l) { return TryAcquireSRWLockExclusive(l); }
static void unlock(Lock *l) { ReleaseSRWLockExclusive(l); }
static void wait_for(Condition *c, Lock *l) { SleepConditionVariableSRW(c, l, INFINITE, 0); }
static void notify(Condition *c) { WakeConditionVariable(c); }
static void give_way(void) { SwitchToThread(); }
static int process(void) { return 1; }
static int64_t nanoseconds(void) {
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count), QueryPerformanceFrequency(&frequency);
    return (int64_t)((double)count.QuadPart * 1e9 / (double)frequency.QuadPart);
}
#else
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
typedef pthread_mutex_t Lock;
typedef pthread_cond_t Condition;
#define UNLOCKED PTHREAD_MUTEX_INITIALIZER
static void lock(Lock *l) { pthread_mutex_lock(l); }
static int try_lock(Lock *l) { return pthread_mutex_trylock(l) == 0; }
static void unlock(Lock *l) { pthread_mutex_unlock(l); }
static void wait_for(Condition *c, Lock *l) { pthread_cond_wait(c, l); }
static void notify(Condition *c) { pthread_cond_signal(c); }
static void give_way(void) { sched_yield(); }
static int process(void) { return (int)getpid(); }
static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
#endif

enum { MOST_WORKERS = 255, SPIN_NANOSECONDS = 100000, POLL_NANOSECONDS = 50000000 };
enum { IDLE, OFFERED, RUNNING };  // of a worker: the caller offers, the worker takes, or the caller takes back

typedef struct {
    Work work;
    void *context;
    int64_t items, chunk;
    _Atomic int64_t next;
    atomic_int cancelled;
} Job;

typedef struct {
    atomic_int state, asleep;
    int thread;
    Job *job;
    Lock sleep;
    Condition wake;
} Worker;

static struct {
    atomic_int process;  // the process that these threads live in: a fork copies the pool but not its threads
    atomic_flag making;
    Lock busy;
    int workers;
    Worker *worker[MOST_WORKERS];
} pool = {.making = ATOMIC_FLAG_INIT, .busy = UNLOCKED};

static void (*_Atomic poll)(int *go_on);

// A function that a computing caller asks every 50 ms whether to go on: its job ends unless *go_on is made 1. NULL asks
// nobody.
EXPORT void set_poll(void (*function)(int *go_on)) { atomic_store(&poll, function); }

INLINE void relax(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static void run_pieces(Job *job, int thread, int64_t *asked) {
    while (!atomic_load_explicit(&job->cancelled, memory_order_relaxed)) {
        const int64_t first = atomic_fetch_add(&job->next, job->chunk);
        if (first >= job->items) return;
        const int64_t last = first + job->chunk < job->items ? first + job->chunk : job->items;
        job->work(job->context, first, last, thread);
        if (!asked) continue;
        void (*ask)(int *) = atomic_load_explicit(&poll, memory_order_relaxed);
        if (ask && nanoseconds() - *asked > POLL_NANOSECONDS) {
            int go_on = 0;
            ask(&go_on);
            if (!go_on) atomic_store(&job->cancelled, 1);
            *asked = nanoseconds();
        }
    }
}

static void serve(Worker *worker) {
    for (;;) {
        const int64_t parked = nanoseconds();
        while (atomic_load_explicit(&worker->state, memory_order_acquire) != OFFERED) {
            for (int i = 0; i < 32; ++i) relax();
            if (nanoseconds() - parked < SPIN_NANOSECONDS) continue;
            lock(&worker->sleep);
            atomic_store(&worker->asleep, 1);
            while (atomic_load(&worker->state) != OFFERED) wait_for(&worker->wake, &worker->sleep);
            atomic_store(&worker->asleep, 0);
            unlock(&worker->sleep);
        }
        int offered = OFFERED;
        if (!atomic_compare_exchange_strong(&worker->state, &offered, RUNNING)) continue;
        run_pieces(worker->job, worker->thread, NULL);
        atomic_store_explicit(&worker->state, IDLE, memory_order_release);
    }
}

#if defined(_WIN32)
static DWORD WINAPI start(void *worker) {
    serve(worker);
    return 0;
}
static int spawn(Worker *worker) {
    HANDLE thread = CreateThread(NULL, 0, start, worker, 0, NULL);
    return thread && CloseHandle(thread);
}
#else
static void *start(void *worker) {
    serve(worker);
    return NULL;
}
static int spawn(Worker *worker) {
    pthread_t thread;
    sigset_t every, before;
    sigfillset(&every);  // signals are for the threads of the interpreter
    pthread_sigmask(SIG_SETMASK, &every, &before);
    const int failed = pthread_create(&thread, NULL, start, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return !failed && !pthread_detach(thread);
}
#endif

// The first call in a process, and in each child of a fork, starts with an empty pool.
static void settle(void) {
    const int here = process();
    if (atomic_load(&pool.process) == here) return;
    while (atomic_flag_test_and_set(&pool.making)) give_way();
    if (atomic_load(&pool.process) != here) {
        const Lock unlocked = UNLOCKED;
        pool.busy = unlocked, pool.workers = 0;  // the parent's workers stay where they are: 100 bytes each
        atomic_store(&pool.process, here);
    }
    atomic_flag_clear(&pool.making);
}

// Makes workers until there are `wanted`, or as many as the system allows. The caller holds pool.busy.
static int workers(int wanted) {
    while (pool.workers < wanted) {
        Worker *worker = allocate(sizeof(Worker));
        if (!worker) break;
        memset(worker, 0, sizeof(Worker));
#if !defined(_WIN32)
        pthread_mutex_init(&worker->sleep, NULL), pthread_cond_init(&worker->wake, NULL);
#endif
        worker->thread = pool.workers + 1;
        if (!spawn(worker)) {
            release(worker);
            break;
        }
        pool.worker[pool.workers++] = worker;
    }
    return wanted < pool.workers ? wanted : pool.workers;
}

int parallel(Work work, void *context, int64_t items, int64_t chunk, int threads) {
    Job job = {.work = work, .context = context, .items = items, .chunk = chunk < 1 ? 1 : chunk};
    const int64_t pieces = (items + job.chunk - 1) / job.chunk;
    int wanted = (threads < pieces ? threads : (int)pieces) - 1;
    if (wanted > MOST_WORKERS) wanted = MOST_WORKERS;
    int64_t asked = nanoseconds();
    settle();
    if (wanted < 1 || !try_lock(&pool.busy)) {
        run_pieces(&job, 0, &asked);
        return atomic_load(&job.cancelled) ? CANCELLED : DONE;
    }
    const int helpers = workers(wanted);
    for (int i = 0; i < helpers; ++i) {
        Worker *worker = pool.worker[i];
        worker->job = &job;
        atomic_store(&worker->state, OFFERED);
        if (atomic_load(&worker->asleep)) {
            lock(&worker->sleep);
            notify(&worker->wake);
            unlock(&worker->sleep);
        }
    }
    run_pieces(&job, 0, &asked);
    for (int i = 0; i < helpers; ++i) {
        atomic_int *state = &pool.worker[i]->state;
        int offered = OFFERED;
        if (atomic_compare_exchange_strong(state, &offered, IDLE)) continue;  // it never woke: nothing is left for it
        for (int spun = 0; atomic_load_explicit(state, memory_order_acquire) != IDLE; ++spun) {
            if (spun < 4096) relax();
            else give_way();
        }
    }
    unlock(&pool.busy);
    return atomic_load(&job.cancelled) ? CANCELLED : DONE;
}

#if defined(_WIN32)
void *allocate(size_t bytes) { return _aligned_malloc(bytes, 64); }
void release(void *memory) { _aligned_free(memory); }
#else
void *allocate(size_t bytes) {
    void *memory;
    return posix_memalign(&memory, 64, bytes) ? NULL : memory;
}
void release(void *memory) { free(memory); }
#endif

enum { HEADER = 64 };  // in front of borrowed memory: its size

static _Atomic(size_t *) kept;

void *borrow(size_t bytes) {
    size_t *piece = atomic_exchange(&kept, NULL);
    if (!piece || *piece < bytes) {
        release(piece);
        piece = allocate(bytes + HEADER);
        if (!piece) return NULL;
        *piece = bytes;
    }
    return (char *)piece + HEADER;
}

void give_back(void *memory) {
    if (memory) release(atomic_exchange(&kept, (size_t *)((char *)memory - HEADER)));
}
