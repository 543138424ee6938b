//! The threads that compute: they take tasks from a counter, spin for a moment between jobs, then sleep.
//!
//! A job is open while its owner works on it. Threads that come while it is open take part; the owner takes tasks
//! like they do, closes the job when none is left, and waits only for threads that are inside. So a thread that the
//! system has not scheduled delays nothing, and an idle pool uses no processor time.
//!
//! Invariant: a job's closure is called only between the opening of the job and the return of [`Pool::run`].
//!
//! What is absent: queues, nesting, priorities.
#![expect(unsafe_code, reason = "a borrowed closure crosses threads")]

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};

use crate::isa::Cpu;

/// Most threads of a pool.
pub const THREADS_MAX: usize = 256;
/// How often a thread looks for a job before it sleeps: some tens of microseconds, more than lies between the jobs of
/// one pass over a model.
const SPINS_MAX: u32 = 4000;
/// How often the owner looks for the others to leave before it lets the system run something else.
const SPINS_BEFORE_YIELD: u32 = 2000;

/// Set in the gate while a job can be entered. Below it: how many threads are inside; above the low half: which job.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const JOB: u32 = 32;

/// Threads that share the tasks of one job at a time.
#[derive(Debug)]
pub struct Pool {
    cpu: Cpu,
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

type Work = dyn Fn(usize) + Sync;

#[derive(Debug)]
struct Shared {
    gate: AtomicU64,
    work: UnsafeCell<Option<*const Work>>,
    next: AtomicUsize,
    tasks: AtomicUsize,
    panicked: AtomicBool,
    stopping: AtomicBool,
    asleep: Vec<AtomicBool>,
}

// SAFETY: `work` is written only by the owner while the gate is closed and nobody is inside, and read only inside.
unsafe impl Sync for Shared {}
// SAFETY: the pointer is to a `Sync` closure, and is used only while `Pool::run` borrows it.
unsafe impl Send for Shared {}

impl Pool {
    /// Starts `threads - 1` threads; the caller of [`Pool::run`] is the other one.
    ///
    /// # Errors
    /// Where the system gives no thread.
    ///
    /// # Panics
    /// If `threads` is 0 or above [`THREADS_MAX`].
    pub fn new(threads: usize, cpu: Cpu) -> io::Result<Self> {
        assert!(
            (1..=THREADS_MAX).contains(&threads),
            "a pool has 1 to {THREADS_MAX} threads, not {threads}"
        );
        let shared = Arc::new(Shared {
            gate: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            asleep: (1..threads).map(|_| AtomicBool::new(false)).collect(),
        });
        let mut pool = Self {
            cpu,
            shared,
            workers: Vec::with_capacity(threads - 1),
        };
        for worker in 0..threads - 1 {
            let shared = Arc::clone(&pool.shared);
            let handle = thread::Builder::new()
                .name(format!("compute-{}", worker + 1))
                .spawn(move || shared.serve(worker))?;
            pool.workers.push(handle);
        }
        Ok(pool)
    }

    /// The instruction set that the tasks should run on.
    #[must_use]
    pub fn cpu(&self) -> Cpu {
        self.cpu
    }

    /// How many threads take tasks.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` once for each of `0..tasks`, spread over the threads, and returns when all calls have.
    ///
    /// # Panics
    /// If a call panics.
    pub fn run(&mut self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() || tasks <= 1 {
            (0..tasks).for_each(work);
            return;
        }
        let job = Job::open(&self.shared, &self.workers, tasks, work);
        self.shared.take_tasks(work);
        drop(job);
        assert!(
            !self.shared.panicked.swap(false, Ordering::Relaxed),
            "a task panicked on another thread"
        );
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        for worker in self.workers.drain(..) {
            // A worker returns; its tasks' panics were caught and reported where they belong.
            let _ = worker.join();
        }
    }
}

/// An open job; closed, and left by everyone, when dropped, even by a panic.
struct Job<'a> {
    shared: &'a Shared,
}

impl<'a> Job<'a> {
    fn open(
        shared: &'a Shared,
        workers: &[JoinHandle<()>],
        tasks: usize,
        work: &(dyn Fn(usize) + Sync),
    ) -> Self {
        let work: *const (dyn Fn(usize) + Sync + '_) = work;
        // SAFETY: only the lifetime changes; the drop of this job ends all use before the borrow ends.
        let work =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Work>(work) };
        // SAFETY: `run` borrows the pool mutably, so the last job was dropped: closed, and nobody inside.
        unsafe { *shared.work.get() = Some(work) };
        shared.tasks.store(tasks, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        let last = shared.gate.load(Ordering::Relaxed) >> JOB;
        let gate = (last.wrapping_add(1) << JOB) | OPEN;
        // Sequentially consistent, as in `doze`: either the thread sees the job or we see that it sleeps.
        shared.gate.store(gate, Ordering::SeqCst);
        for (asleep, worker) in shared.asleep.iter().zip(workers) {
            wake(asleep, worker.thread());
        }
        Self { shared }
    }
}

fn wake(asleep: &AtomicBool, thread: &Thread) {
    if asleep.load(Ordering::SeqCst) && asleep.swap(false, Ordering::SeqCst) {
        thread.unpark();
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        self.shared.gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while self.shared.gate.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD {
                spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }
}

impl Shared {
    fn take_tasks(&self, work: &(dyn Fn(usize) + Sync)) {
        let tasks = self.tasks.load(Ordering::Relaxed);
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                return;
            }
            work(task);
        }
    }

    /// The life of a worker.
    fn serve(&self, worker: usize) {
        let mut last_job = 0;
        let mut spins = 0;
        while !self.stopping.load(Ordering::Relaxed) {
            let gate = self.gate.load(Ordering::Relaxed);
            if gate & OPEN != 0 && gate >> JOB != last_job {
                if self.enter(gate) {
                    last_job = gate >> JOB;
                    spins = 0;
                }
                continue;
            }
            spins += 1;
            if spins < SPINS_MAX {
                spin_loop();
            } else {
                self.doze(worker, last_job);
                spins = 0;
            }
        }
    }

    /// Takes part in the job, if it still is as `gate` says.
    fn enter(&self, gate: u64) -> bool {
        let entered =
            self.gate
                .compare_exchange_weak(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed);
        if entered.is_err() {
            return false;
        }
        // SAFETY: inside an open job the owner does not write, and the closure lives.
        let work = unsafe { (*self.work.get()).map(|work| &*work) };
        if let Some(work) = work
            && catch_unwind(AssertUnwindSafe(|| self.take_tasks(work))).is_err()
        {
            self.panicked.store(true, Ordering::Relaxed);
        }
        self.gate.fetch_sub(1, Ordering::Release);
        true
    }

    /// Sleeps until a job is opened or the pool stops.
    fn doze(&self, worker: usize, last_job: u64) {
        let asleep = &self.asleep[worker];
        asleep.store(true, Ordering::SeqCst);
        loop {
            let gate = self.gate.load(Ordering::SeqCst);
            let called = gate & OPEN != 0 && gate >> JOB != last_job;
            if called || self.stopping.load(Ordering::SeqCst) || !asleep.load(Ordering::SeqCst) {
                asleep.store(false, Ordering::SeqCst);
                return;
            }
            thread::park();
        }
    }
}
