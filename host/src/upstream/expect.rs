//! What a lane does with each reply it is owed: hand it on as it came, drop it, or answer something else. Pure.

use std::cell::RefCell;
use std::rc::Rc;

use super::Loss;
use super::outbox::{Channels, Outbox};
use crate::lease::Look;
use crate::near::Fill;
use crate::resp::{Protocol, reply, write};

/// What is to be done with one reply, or with none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Hand it on.
    Forward,
    /// Drop it: the client did not ask.
    Swallow,
    /// The reply of a SET … NX that stands for SETNX: nothing is 0, OK is 1.
    SetNx,
    /// The array of EXEC, some of whose elements the client did not ask for.
    Exec(Rc<[Expect]>),
    /// Answer this in its place.
    Replace(Rc<[u8]>),
    /// No reply of the server: answer this when its turn comes.
    Local(Rc<[u8]>),
    /// The reply of the PING behind a command that subscribes. An error that comes in place of that command's
    /// confirmations is the client's, and the reply of the PING is still to come.
    Fence,
    /// The reply of the lane's own opening: an error ends the lane.
    Opening,
    /// The reply of CLIENT TRACKING on a lane that reads for the near cache.
    Tracking,
    /// The whole lifetime of a value for the near cache.
    Span(Rc<Fill>),
    /// A value for the near cache.
    Value(Rc<Fill>),
    /// Its lifetime.
    Lifetime(Rc<Fill>),
    /// The reply of WAIT: handed on unless what the session wrote may be lost by now.
    Waited(Loss),
    /// The lane's own number at the server.
    Number,
    /// Hand it on with our number of the connection that invalidations go to.
    Renumber,
    /// The session makes of it what the client is told.
    Noted,
    /// The same for EXEC's array, in which elements with these places confirm subscriptions.
    Executed(Rc<[usize]>),
    /// The reply of HELLO: the lane speaks this protocol from here on.
    Protocol(Protocol),
    /// Hand it on, unless the key is not there: then its place is kept, and the session looks further.
    Look(Rc<Look>),
    /// Keep it for whoever sent the command.
    Keep(Rc<Kept>),
    /// Hand on the one that was kept in place of this.
    Give(Rc<Kept>),
    /// The reply of taking a lease on a value that is near its end: whoever has it is told that there is none, others
    /// are given it.
    Ahead(Rc<[u8]>),
}

/// A reply that is kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept(RefCell<Option<Box<[u8]>>>);

/// What happened to the subscriptions of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PubSub {
    /// A message, or a frame of another kind that answers no command.
    Message,
    /// So many subscriptions are left.
    Confirmation {
        /// Of what.
        of: Channels,
        /// How many.
        count: i64,
    },
}

// === impl Expect ===

impl Expect {
    /// Delivers `bytes`, the server's reply.
    pub fn deliver(&self, bytes: &[u8], protocol: Protocol, outbox: &Outbox) {
        match self {
            Self::Forward | Self::Look(_) => outbox.push(bytes),
            Self::Swallow | Self::Fence | Self::Opening | Self::Number | Self::Protocol(_) => {}
            // The lane itself hands these to the near cache.
            Self::Tracking | Self::Span(_) | Self::Value(_) | Self::Lifetime(_) => {}
            Self::Keep(kept) => kept.keep(bytes),
            Self::Give(kept) => outbox.push(&kept.take().unwrap_or_default()),
            Self::Ahead(_) if bytes.first() == Some(&b'+') => {
                let mut nil = Vec::new();
                write::nil(&mut nil, protocol);
                outbox.push(&nil);
            }
            Self::Ahead(value) => outbox.push(value),
            Self::Renumber => outbox.push_renumbered(bytes),
            Self::Waited(loss) => {
                if !outbox.tell_lost_writes(*loss) {
                    outbox.push(bytes);
                }
            }
            Self::Noted => outbox.note(bytes),
            Self::Executed(places) => {
                let elements = if places.is_empty() { None } else { reply::elements(bytes) };
                let confirm = |place: &usize| pub_sub(elements.as_ref()?.get(*place)?);
                for confirmed in places.iter().filter_map(confirm) {
                    if let PubSub::Confirmation { of, count } = confirmed {
                        outbox.set_subscriptions(of, count);
                    }
                }
                outbox.note(bytes);
            }
            Self::SetNx => outbox.push(set_nx(bytes)),
            Self::Exec(slots) => match exec(bytes, slots, protocol) {
                Some(reply) => outbox.push(&reply),
                None => outbox.push(bytes),
            },
            Self::Replace(reply) | Self::Local(reply) => outbox.push(reply),
        }
    }

    /// Whether the client waits for something.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::Swallow | Self::Fence | Self::Opening | Self::Number | Self::Noted => false,
            Self::Executed(_) | Self::Protocol(_) | Self::Tracking | Self::Value(_) | Self::Lifetime(_) => false,
            Self::Keep(_) | Self::Span(_) => false,
            Self::Forward | Self::SetNx | Self::Exec(_) | Self::Replace(_) | Self::Local(_) | Self::Renumber => true,
            Self::Look(_) | Self::Give(_) | Self::Ahead(_) | Self::Waited(_) => true,
        }
    }

    /// Whether the server sends a reply.
    pub(super) fn is_remote(&self) -> bool {
        !matches!(self, Self::Local(_))
    }
}

// === impl Kept ===

impl Kept {
    pub(super) fn keep(&self, reply: &[u8]) {
        self.0.replace(Some(reply.into()));
    }

    /// The reply, if it has come.
    pub fn take(&self) -> Option<Box<[u8]>> {
        self.0.take()
    }
}

fn set_nx(bytes: &[u8]) -> &[u8] {
    match bytes {
        nil if reply::is_nil(nil) => b":0\r\n",
        b"+OK\r\n" => b":1\r\n",
        other => other,
    }
}

/// The array of EXEC without the elements that the client did not ask for. None: it is to be handed on as it is, since
/// the transaction did not run.
fn exec(bytes: &[u8], slots: &[Expect], protocol: Protocol) -> Option<Vec<u8>> {
    let elements = reply::elements(bytes).filter(|elements| elements.len() == slots.len())?;
    let outbox = Outbox::new(usize::MAX);
    for (element, slot) in elements.iter().zip(slots) {
        slot.deliver(element, protocol, &outbox);
    }
    let mut out = Vec::with_capacity(bytes.len());
    write::array(&mut out, slots.iter().filter(|slot| slot.is_answer()).count());
    outbox.drain(|kept| out.extend_from_slice(kept));
    Some(out)
}

/// Whether a frame shows a command to a monitor: `+1795411215.117080 [9 127.0.0.1:33716] "SELECT" "9"`. No reply of a
/// command looks like that.
pub(super) fn is_monitored(bytes: &[u8]) -> bool {
    let number = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let Some(rest) = bytes.strip_prefix(b"+") else { return false };
    let (seconds, rest) = rest.split_at(number(rest));
    let Some(rest) = rest.strip_prefix(b".") else { return false };
    let (fraction, rest) = rest.split_at(number(rest));
    !seconds.is_empty() && !fraction.is_empty() && rest.starts_with(b" [")
}

/// What a frame of a connection that subscribes says. None: it answers a command.
pub(super) fn pub_sub(bytes: &[u8]) -> Option<PubSub> {
    let push = bytes.first() == Some(&reply::kind::PUSH);
    if !push && bytes.first() != Some(&reply::kind::ARRAY) {
        return None;
    }
    let elements = reply::elements(bytes)?;
    let of = match reply::text(elements.first()?)? {
        b"subscribe" | b"unsubscribe" => Channels::Plain,
        b"psubscribe" | b"punsubscribe" => Channels::Patterns,
        b"ssubscribe" | b"sunsubscribe" => Channels::Shards,
        b"message" | b"pmessage" | b"smessage" => return Some(PubSub::Message),
        _ => return push.then_some(PubSub::Message),
    };
    Some(PubSub::Confirmation { of, count: reply::integer(elements.get(2)?)? })
}

#[cfg(test)]
mod tests {
    use super::{Expect, PubSub, pub_sub};
    use crate::resp::Protocol;
    use crate::upstream::outbox::{Channels, Outbox};

    fn check(expect: &Expect, reply: &str, answer: &str) {
        let outbox = Outbox::new(1024);
        expect.deliver(reply.as_bytes(), Protocol::Resp2, &outbox);
        assert_eq!(
            outbox.drain(|bytes| String::from_utf8_lossy(bytes).into_owned()),
            answer,
            "{expect:?} of {reply:?}"
        );
    }

    #[test]
    fn replies() {
        check(&Expect::Forward, "+OK\r\n", "+OK\r\n");
        check(&Expect::Swallow, ":1\r\n", "");
        check(&Expect::SetNx, "$-1\r\n", ":0\r\n");
        check(&Expect::SetNx, "_\r\n", ":0\r\n");
        check(&Expect::SetNx, "+OK\r\n", ":1\r\n");
        check(&Expect::SetNx, "-OOM\r\n", "-OOM\r\n");
        let exec = Expect::Exec([Expect::Forward, Expect::Swallow, Expect::SetNx].into());
        check(&exec, "*3\r\n:1\r\n:1\r\n+OK\r\n", "*2\r\n:1\r\n:1\r\n");
        check(&exec, "*-1\r\n", "*-1\r\n");
        check(&exec, "_\r\n", "_\r\n");
        check(&exec, "-EXECABORT x\r\n", "-EXECABORT x\r\n");
    }

    #[test]
    fn subscriptions() {
        let check = |frame: &str, expect: Option<PubSub>| assert_eq!(pub_sub(frame.as_bytes()), expect, "{frame:?}");
        let confirmed = |of, count| Some(PubSub::Confirmation { of, count });
        check("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n", confirmed(Channels::Plain, 2));
        check(">3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n", confirmed(Channels::Shards, 0));
        check("*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n", confirmed(Channels::Plain, 0));
        check("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", Some(PubSub::Message));
        check(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n", Some(PubSub::Message));
        check("*2\r\n$4\r\npong\r\n$0\r\n\r\n", None);
        check("+PONG\r\n", None);
    }
}
