//! The pace that many calls keep together: when a server tells one of them to slow down, all wait.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Pace {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// No call is sent before.
    slow_until: Option<Instant>,
    stopped: bool,
}

impl Pace {
    /// Holds all calls back for so long from now. The caller bounds it.
    pub(crate) fn slow_down(&self, pause: Duration) {
        let mut state = self.lock();
        let until = Instant::now() + pause;
        state.slow_until = Some(state.slow_until.map_or(until, |other| other.max(until)));
    }

    /// Ends all waits, for good.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Waits at least so long, and until no call is held back any more; false once the work has been stopped.
    pub(crate) fn wait(&self, pause: Duration) -> bool {
        let own = Instant::now() + pause;
        let mut state = self.lock();
        loop {
            if state.stopped {
                return false;
            }
            let until = state.slow_until.map_or(own, |slow| slow.max(own));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let waited = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
