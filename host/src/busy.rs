//! Busy polling: who has just had something to do looks for more before it sleeps. To be woken takes longer than most
//! requests do, and whoever waits for the answer waits for that too. It costs the processor that it runs on.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How long one thread goes on looking, and whether it has had something to do.
#[derive(Debug)]
pub struct Busy {
    span: Duration,
    stirred: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

// === impl Busy ===

impl Busy {
    /// One that goes on for so long. Zero: not at all.
    pub fn new(span: Duration) -> Self {
        Self { span, stirred: Cell::new(false), waiting: RefCell::default() }
    }

    /// Something was to be done.
    pub fn stir(&self) {
        if !self.span.is_zero() {
            self.stirred.set(true);
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Keeps the thread's runtime from sleeping, from when something was to be done until nothing has been for the
    /// span. It has no end.
    pub async fn keep_awake(&self) {
        loop {
            poll_fn(|cx| {
                if self.stirred.get() {
                    return Poll::Ready(());
                }
                self.waiting.replace(Some(cx.waker().clone()));
                Poll::Pending
            })
            .await;
            let mut since = Instant::now();
            while self.stirred.get() || since.elapsed() < self.span {
                if self.stirred.take() {
                    since = Instant::now();
                }
                // Looks at the sockets without waiting, and comes back.
                tokio::task::yield_now().await;
            }
        }
    }
}
