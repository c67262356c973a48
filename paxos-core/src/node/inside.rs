//! Whether a thread is at work for the state machine of a node.
//!
//! Whoever waits there for the node waits for itself: nothing more is applied and no read is served until
//! it returns. It is told so, which it would otherwise never find out.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

/// Stands for one node of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeKey(u64);

thread_local! {
    /// The node whose state machine works on this thread.
    static AT_WORK: Cell<Option<NodeKey>> = const { Cell::new(None) };
}

impl NodeKey {
    /// One that no other node has.
    pub(super) fn new() -> NodeKey {
        static LAST: AtomicU64 = AtomicU64::new(0);
        NodeKey(LAST.fetch_add(1, Ordering::Relaxed))
    }

    /// Works for the node's state machine.
    pub(super) fn enter<R>(self, work: impl FnOnce() -> R) -> R {
        /// Puts back what was there, if the work panics too.
        struct Restore(Option<NodeKey>);

        impl Drop for Restore {
            fn drop(&mut self) {
                AT_WORK.set(self.0);
            }
        }

        let _restore = Restore(AT_WORK.replace(Some(self)));
        work()
    }

    /// Whether this thread works for the node's state machine.
    pub(super) fn is_entered(self) -> bool {
        AT_WORK.get() == Some(self)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        thread,
    };

    use super::*;

    #[test]
    fn a_thread_is_inside_for_as_long_as_the_work_lasts_and_no_other_thread_with_it() {
        let (one, other) = (NodeKey::new(), NodeKey::new());
        one.enter(|| {
            assert!(one.is_entered() && !other.is_entered());
            let elsewhere = thread::spawn(move || one.is_entered());
            assert!(!elsewhere.join().expect("no panic"));
            other.enter(|| assert!(other.is_entered()));
            assert!(one.is_entered());
        });
        assert!(!one.is_entered());
        let panic = catch_unwind(AssertUnwindSafe(|| one.enter(|| panic!("the work"))));
        assert!(panic.is_err() && !one.is_entered());
    }
}
