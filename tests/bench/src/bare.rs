//! The least that a process between many clients and one server does, to measure others by: it takes what each client
//! has sent, gives it to the server at once for all, and hands everyone as many bytes as its replies have. It reads
//! nothing of them: requests are of one length, and so are replies. Without a server it knows every reply itself.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// What is asked, and where the replies come from.
pub(crate) struct Sort {
    pub(crate) request_bytes: usize,
    pub(crate) replies: Replies,
}

/// Where the replies come from.
pub(crate) enum Replies {
    /// The server there, each of so many bytes.
    Asked(SocketAddr, usize),
    /// From here, by the number at the end of the request.
    Known(Vec<Vec<u8>>),
}

/// A client.
struct Client {
    stream: TcpStream,
    /// It has been answered its PING.
    greeted: bool,
    /// Bytes of a request that is not whole.
    begun: Vec<u8>,
}

/// The one connection.
struct Server {
    stream: TcpStream,
    /// What is to be sent.
    out: Vec<u8>,
    /// Who is owed how many bytes, in order.
    owed: VecDeque<(usize, usize)>,
}

const LISTENER: Token = Token(usize::MAX - 1);
const SERVER: Token = Token(usize::MAX - 2);
const EVENTS: usize = 1024;
const READ_BYTES: usize = 256 * 1024;
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const NUMBER_DIGITS: usize = 12;
const LINE_END_BYTES: usize = 2;

/// Serves until the process ends.
///
/// # Errors
/// The address cannot be listened on, the server is gone, or somebody does not read what it is sent.
pub(crate) fn run(listen: SocketAddr, sort: &Sort) -> anyhow::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut server = match sort.replies {
        Replies::Asked(to, _) => Some(Server::connect(to, &poll)?),
        Replies::Known(_) => None,
    };
    crate::verbs::print(&serde_json::json!({ "listening": listener.local_addr()?.to_string() }))?;
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut memory = vec![0; READ_BYTES];
    let mut events = Events::with_capacity(EVENTS);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            match (event.token(), &mut server) {
                (LISTENER, _) => accept(&poll, &listener, &mut clients)?,
                (SERVER, Some(server)) => server.hand_on(&mut clients, &mut memory)?,
                (Token(index), server) => take(sort, &mut clients, index, server.as_mut(), &mut memory)?,
            }
        }
        if let Some(server) = &mut server {
            server.send()?;
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, clients: &mut Vec<Option<Client>>) -> anyhow::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nodelay(true)?;
        poll.registry().register(&mut stream, Token(clients.len()), Interest::READABLE)?;
        clients.push(Some(Client { stream, greeted: false, begun: Vec::new() }));
    }
}

/// Takes what a client has sent.
fn take(
    sort: &Sort,
    clients: &mut [Option<Client>],
    index: usize,
    mut server: Option<&mut Server>,
    memory: &mut [u8],
) -> anyhow::Result<()> {
    let Some(place) = clients.get_mut(index) else { return Ok(()) };
    while let Some(client) = place {
        let Some(bytes) = read(&mut client.stream, memory)? else { return Ok(()) };
        if bytes == 0 {
            let owes = server.as_ref().is_some_and(|server| server.owed.iter().any(|(client, _)| *client == index));
            ensure!(!owes, "a client left before it was answered");
            *place = None;
            return Ok(());
        }
        let requests = client.requests(memory.get(..bytes).unwrap_or_default(), sort.request_bytes)?;
        match (&sort.replies, &mut server) {
            (Replies::Asked(_, reply_bytes), Some(server)) if !requests.is_empty() => {
                server.out.extend_from_slice(&requests);
                server.owed.push_back((index, requests.len() / sort.request_bytes * reply_bytes));
            }
            (Replies::Known(known), _) => client.answer(&requests, sort.request_bytes, known)?,
            _ => {}
        }
        // Readiness is told once: less than there was room for is all there is.
        if bytes < memory.len() {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads what is there. None: nothing is.
fn read(stream: &mut TcpStream, memory: &mut [u8]) -> anyhow::Result<Option<usize>> {
    loop {
        match stream.read(memory) {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever is done may leave as it likes.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Some(0)),
            Err(error) => return Err(error).context("a connection is lost"),
        }
    }
}

// === impl Client ===

impl Client {
    /// The whole requests that are there with these bytes.
    fn requests<'a>(&mut self, read: &'a [u8], request_bytes: usize) -> anyhow::Result<std::borrow::Cow<'a, [u8]>> {
        if !self.greeted {
            ensure!(read == PING, "a client does not begin with PING");
            self.greeted = true;
            self.stream.write_all(b"+PONG\r\n")?;
            return Ok((&[]).into());
        }
        if self.begun.is_empty() && read.len().is_multiple_of(request_bytes) {
            return Ok(read.into());
        }
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(read);
        self.begun = all.split_off(all.len() / request_bytes * request_bytes);
        Ok(all.into())
    }

    /// Answers by itself.
    fn answer(&mut self, requests: &[u8], request_bytes: usize, known: &[Vec<u8>]) -> anyhow::Result<()> {
        let mut out = Vec::new();
        for request in requests.chunks_exact(request_bytes) {
            let digits = request.iter().rev().skip(LINE_END_BYTES).take(NUMBER_DIGITS).rev();
            let number = digits.fold(0, |number, digit| number * 10 + usize::from(digit.wrapping_sub(b'0')));
            out.extend_from_slice(known.get(number).with_context(|| format!("no reply to number {number}"))?);
        }
        self.stream.write_all(&out).context("a client does not take its replies")
    }
}

// === impl Server ===

impl Server {
    fn connect(to: SocketAddr, poll: &Poll) -> anyhow::Result<Self> {
        let stream = crate::verbs::connect(to)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, SERVER, Interest::READABLE)?;
        Ok(Self { stream, out: Vec::new(), owed: VecDeque::new() })
    }

    /// Hands on what it has answered.
    fn hand_on(&mut self, clients: &mut [Option<Client>], memory: &mut [u8]) -> anyhow::Result<()> {
        while let Some(bytes) = read(&mut self.stream, memory)? {
            ensure!(bytes > 0, "the server closed the connection");
            let mut rest = memory.get(..bytes).unwrap_or_default();
            while !rest.is_empty() {
                let (index, owed) = self.owed.front_mut().context("the server answers what nobody asked")?;
                let (now, later) = rest.split_at(rest.len().min(*owed));
                let client = clients.get_mut(*index).and_then(Option::as_mut).context("a client left")?;
                client.stream.write_all(now).context("a client does not take its replies")?;
                *owed -= now.len();
                if *owed == 0 {
                    self.owed.pop_front();
                }
                rest = later;
            }
            if bytes < memory.len() {
                break;
            }
        }
        Ok(())
    }

    /// Sends it what there is.
    fn send(&mut self) -> anyhow::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).context("the server does not take what it is sent")?;
            self.out.clear();
        }
        Ok(())
    }
}
