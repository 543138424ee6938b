//! The bounded queue between callers and the worker.
//!
//! Invariant: at most `capacity` items wait; once closed, nothing enters, and nothing that waited is lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};

/// A queue for many senders and one receiver.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
    /// What the lock guards, for looking at without it.
    length: AtomicUsize,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

/// Why an item did not enter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full { queued: usize },
    Closed,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State {
            items: VecDeque::with_capacity(capacity),
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            capacity,
            length: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn push(&self, item: T) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.items.len() >= self.capacity {
            return Err(Refused::Full {
                queued: state.items.len(),
            });
        }
        state.items.push_back(item);
        self.length.store(state.items.len(), Ordering::Release);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The next item, if one waits. An empty queue takes no lock.
    pub(crate) fn try_pop(&self) -> Option<T> {
        if self.len() == 0 {
            return None;
        }
        let mut state = self.lock();
        let item = state.items.pop_front();
        self.length.store(state.items.len(), Ordering::Release);
        item
    }

    /// Blocks until an item waits or the queue is closed.
    pub(crate) fn wait(&self) {
        let state = self.lock();
        let idle = |state: &mut State<T>| state.items.is_empty() && !state.closed;
        drop(
            self.changed
                .wait_while(state, idle)
                .expect("nothing panics while the lock is held"),
        );
    }

    /// Takes out the items that `wanted` picks. An empty queue takes no lock.
    pub(crate) fn take_if(&self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        if self.len() == 0 {
            return Vec::new();
        }
        let mut state = self.lock();
        if !state.items.iter().any(&wanted) {
            return Vec::new();
        }
        let (taken, kept) = std::mem::take(&mut state.items)
            .into_iter()
            .partition(wanted);
        state.items = kept;
        self.length.store(state.items.len(), Ordering::Release);
        Vec::from(taken)
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.is_closed.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(crate) fn len(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state
            .lock()
            .expect("nothing panics while the lock is held")
    }
}
