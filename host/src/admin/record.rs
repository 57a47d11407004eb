//! Decisions as they are made, as the lines of a trace. Keys are shown: who may read this page may read them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Either;
use hyper::body::{Body, Bytes, Frame};
use hyper::{Response, StatusCode};
use tokio::time::{Interval, MissedTickBehavior};

use super::{Status, TEXT, response};
use crate::record::{Head, Line, Listener, Sample};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    sample: Sample,
}

/// The page, for as long as somebody reads it.
#[derive(Debug)]
pub(super) struct Stream {
    listener: Listener,
    /// The first line, until it is given.
    head: Option<Head>,
    look: Interval,
    /// Drops that have been told.
    told: u64,
}

const TYPE: &str = "application/jsonl; charset=utf-8";
/// Records that may wait for a reader: at 100,000 decisions a second, the tenth of one.
const CAPACITY: usize = 16_384;
/// How often records are taken. They are not told of, so that a worker need not wake anyone.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes that are put together at once, and little more.
const FRAME_BYTES: usize = 64 * 1024;

// === impl Asked ===

impl Asked {
    /// Reads `sample=1/N`.
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let mut asked = Self { sample: Sample::ALL };
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=').map(|(name, text)| (name, Sample::parse(text))) {
                Some(("sample", Some(sample))) => asked.sample = sample,
                _ => return Err(format!("there is sample=1/N, with N from 1 to {}, and not {option:?}\n", u32::MAX)),
            }
        }
        Ok(asked)
    }
}

/// Begins to listen, and gives what is heard. `only_head`: the reader wants no body.
pub(super) fn page(status: &Status, asked: Asked, only_head: bool) -> Response<super::Body> {
    if only_head {
        return response(StatusCode::OK, TYPE, String::new());
    }
    let listener = match status.records.listen(asked.sample, CAPACITY) {
        Ok(listener) => listener,
        Err(error) => return response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{error:#}\n")),
    };
    tracing::info!(sample = %asked.sample, "decisions are recorded, with their keys");
    let head = Head::new(status.clock.now(), status.current.borrow().generation, asked.sample);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut page = response(StatusCode::OK, TYPE, String::new());
    *page.body_mut() = Either::Right(Stream { listener, head: Some(head), look, told: 0 });
    page
}

// === impl Stream ===

impl Stream {
    /// What has come meanwhile.
    fn lines(&mut self) -> String {
        let mut lines = self.head.take().map(|head| Line::Head(head).write()).unwrap_or_default();
        while lines.len() < FRAME_BYTES
            && let Some(record) = self.listener.try_recv()
        {
            lines.push_str(&record.line());
            lines.push('\n');
        }
        let dropped = self.listener.dropped();
        if dropped != self.told {
            self.told = dropped;
            lines.push_str(&Line::Dropped(dropped).write());
        }
        lines
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            let lines = self.lines();
            if !lines.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(lines.into()))));
            }
            if self.look.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
