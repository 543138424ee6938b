//! The bounded queue between callers and the worker.
//!
//! Invariant: at most `capacity` items wait; once closed, nothing enters, and nothing that waited is lost.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

/// A queue for many senders and one receiver.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
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
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The next item, if one waits.
    pub(crate) fn try_pop(&self) -> Option<T> {
        self.lock().items.pop_front()
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

    /// Takes out the items that `wanted` picks.
    pub(crate) fn take_if(&self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut state = self.lock();
        if !state.items.iter().any(&wanted) {
            return Vec::new();
        }
        let (taken, kept) = std::mem::take(&mut state.items)
            .into_iter()
            .partition(wanted);
        state.items = kept;
        Vec::from(taken)
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().items.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state
            .lock()
            .expect("nothing panics while the lock is held")
    }
}
