//! What a load is: which requests, over which keys, by how many clients; and one client's replies, checked one by one.
//! It must not know when requests go out.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::keys::{Draw, KEYS_OF_REQUEST_MAX, Keys};
use crate::template::{Progress, Request, shown};

/// What is asked, of whom, and for how long.
pub(crate) struct Load {
    pub(crate) to: SocketAddr,
    pub(crate) clients: usize,
    pub(crate) pipeline: usize,
    pub(crate) seconds: Duration,
    /// Before the first request that is counted.
    pub(crate) warm_up: Duration,
    /// It ends when so many are counted.
    pub(crate) requests_max: Option<u64>,
    pub(crate) keys: Keys,
    pub(crate) requests: Vec<Request>,
    /// Places in `requests`, as often as each is to be drawn.
    pub(crate) choice: Vec<usize>,
    pub(crate) seed: u64,
    /// Processes whose use of the processors is counted.
    pub(crate) cpu_of: Vec<u32>,
}

/// What one client is owed.
pub(crate) struct Owed {
    /// The place of the next reply's request.
    place: u64,
    /// What has come of a reply that is not whole.
    begun: Vec<u8>,
}

/// No reply for so long, and the server is taken for dead.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 256 * 1024;

// === impl Load ===

impl Load {
    /// Where a client's requests begin.
    pub(crate) fn first_place(&self, client: usize) -> u64 {
        let mut draw = Draw::new(self.seed.wrapping_add(client as u64 * 7919));
        draw.below(1 << 20);
        draw.below(1 << 40)
    }

    /// The place behind this one.
    pub(crate) fn next_place(place: u64) -> u64 {
        place + KEYS_OF_REQUEST_MAX as u64
    }

    /// The request at a place.
    pub(crate) fn request(&self, place: u64) -> anyhow::Result<&Request> {
        let draw = if self.choice.len() == 1 { 0 } else { Draw::new(place).below(u64::MAX) as usize };
        let chosen = self.choice.get(draw % self.choice.len().max(1)).context("the mix is empty")?;
        self.requests.get(*chosen).context("the mix is empty")
    }

    /// Writes the request at a place.
    pub(crate) fn write(&self, place: u64, out: &mut Vec<u8>) -> anyhow::Result<()> {
        self.request(place)?.sent.write(&self.keys, place, out);
        Ok(())
    }
}

// === impl Owed ===

impl Owed {
    pub(crate) fn new(place: u64) -> Self {
        Self { place, begun: Vec::new() }
    }

    /// Memory to read into.
    pub(crate) fn memory() -> Vec<u8> {
        vec![0; READ_BYTES]
    }

    /// Reads what is there and counts the replies in it, which are no more than these. None: nothing is there.
    ///
    /// # Errors
    /// A reply is another one than the request's, or the connection is lost.
    pub(crate) fn read(
        &mut self,
        load: &Load,
        stream: &mut impl Read,
        memory: &mut [u8],
        owed: usize,
    ) -> anyhow::Result<Option<usize>> {
        let bytes = match stream.read(memory) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(bytes) => memory.get(..bytes).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(Some(0)),
            Err(error) => return Err(error).context("the connection is lost"),
        };
        if self.begun.is_empty() {
            let (replies, used) = self.take(load, bytes, owed)?;
            self.begun.extend_from_slice(bytes.get(used..).unwrap_or_default());
            return Ok(Some(replies));
        }
        let mut begun = std::mem::take(&mut self.begun);
        begun.extend_from_slice(bytes);
        let (replies, used) = self.take(load, &begun, owed)?;
        begun.drain(..used);
        self.begun = begun;
        Ok(Some(replies))
    }

    /// Checks the replies in some bytes: how many are whole, and how many bytes they have.
    fn take(&mut self, load: &Load, bytes: &[u8], owed: usize) -> anyhow::Result<(usize, usize)> {
        let (mut replies, mut used) = (0, 0);
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            if replies == owed {
                bail!("wrong reply: {} came, and nothing was asked", shown(rest));
            }
            let reply = &load.request(self.place)?.reply;
            match reply.check(&load.keys, self.place, rest) {
                Progress::Whole(bytes) => {
                    used += bytes;
                    replies += 1;
                    self.place = Load::next_place(self.place);
                }
                Progress::Partial => break,
                Progress::Wrong => {
                    let expected = reply.expected(&load.keys, self.place);
                    bail!("wrong reply: {} came, and {expected} is right", shown(rest));
                }
            }
        }
        Ok((replies, used))
    }
}
