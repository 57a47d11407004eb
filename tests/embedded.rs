//! The embedded store against a real server: the commands of its corpus, byte for byte, in both protocols, through the
//! binary.

use crate::harness::transcript::words;
use crate::harness::{Client, Redis, Sidecar};

const CORPUS: &str = include_str!("../host/src/upstream/embedded/corpus.txt");

/// How alike replies must be, by the corpus' markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alike {
    Exactly,
    InAnyOrder,
    InShape,
    Nearly,
}

/// A line of the corpus.
struct Line {
    number: usize,
    second: bool,
    alike: Alike,
    words: Vec<Vec<u8>>,
}

/// Commands that the session answers before the store is asked: `transcripts` has them.
const OF_THE_SESSION: [&str; 6] = ["AUTH", "CLIENT", "HELLO", "RESET", "QUIT", "SELECT"];
/// Milliseconds by which times that are compared may be apart.
const NEARLY_MS: i64 = 5_000;

// === impl Line ===

impl Line {
    /// A line, unless it is of the session.
    fn parse(number: usize, line: &str) -> Option<Self> {
        let (mut rest, mut second, mut alike) = (line, false, Alike::Exactly);
        while let Some((marker @ ("@" | "~" | "?" | "+"), after)) = rest.split_once(' ') {
            match marker {
                "@" => second = true,
                "~" => alike = Alike::InAnyOrder,
                "?" => alike = Alike::InShape,
                _ => alike = Alike::Nearly,
            }
            rest = after;
        }
        let words = words(rest).unwrap_or_else(|| panic!("line {number}: {line}"));
        let name = String::from_utf8_lossy(words.first()?).to_uppercase();
        let name = name.split('|').next()?;
        (!OF_THE_SESSION.contains(&name)).then_some(Self { number, second, alike, words })
    }

    fn send(&self, clients: &mut [Client; 2]) -> Vec<u8> {
        let client = &mut clients[usize::from(self.second)];
        client.command(&self.words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        client.reply()
    }

    /// Whether the two replies are as alike as the line says.
    fn agrees(&self, one: &[u8], other: &[u8]) -> bool {
        let number = |bytes: &[u8]| std::str::from_utf8(bytes.strip_prefix(b":")?).ok()?.trim_end().parse::<i64>().ok();
        match self.alike {
            _ if one == other => true,
            Alike::Exactly => false,
            Alike::Nearly => number(one).zip(number(other)).is_some_and(|(a, b)| (a - b).abs() <= NEARLY_MS),
            Alike::InAnyOrder => sorted(frames(one)) == sorted(frames(other)),
            Alike::InShape => shapes(&frames(one)) == shapes(&frames(other)),
        }
    }
}

/// The frames of a reply one behind the other, aggregates as their heads.
fn frames(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let head = rest.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
        let length: Option<usize> = std::str::from_utf8(&rest[1..head - 2]).ok().and_then(|text| text.parse().ok());
        let end =
            if matches!(rest[0], b'$' | b'=' | b'!') { length.map_or(head, |length| head + length + 2) } else { head };
        found.push(&rest[..end]);
        rest = &rest[end..];
    }
    found
}

fn sorted(mut frames: Vec<&[u8]>) -> Vec<&[u8]> {
    if let Some((_, elements)) = frames.split_first_mut() {
        elements.sort_unstable();
    }
    frames
}

/// Frames without their content: of aggregates the length remains.
fn shapes<'a>(frames: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let cut =
        |frame: &&'a [u8]| if matches!(frame[0], b'$' | b':' | b'+' | b',' | b'=') { &frame[..1] } else { *frame };
    frames.iter().map(cut).collect()
}

fn clients(connect: impl Fn() -> Client, protocol: &str) -> [Client; 2] {
    [(); 2].map(|()| {
        let mut client = connect();
        client.ask(&format!("HELLO {protocol}"));
        client
    })
}

#[test]
fn answers_as_a_server() {
    let lines: Vec<_> = CORPUS
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|(index, line)| Line::parse(index + 1, line))
        .collect();
    assert!(lines.len() > 1000, "the corpus has {} lines", lines.len());
    let mut wrong = Vec::new();
    for protocol in ["2", "3"] {
        let (redis, sidecar) = (Redis::start(), Sidecar::dev(&[]));
        let (mut direct, mut embedded) = (clients(|| redis.client(), protocol), clients(|| sidecar.client(), protocol));
        for line in &lines {
            let (expect, got) = (line.send(&mut direct), line.send(&mut embedded));
            if !line.agrees(&expect, &got) {
                let sent: Vec<_> = line.words.iter().map(|word| word.escape_ascii().to_string()).collect();
                let (expect, got) = (expect.escape_ascii(), got.escape_ascii());
                let (number, sent) = (line.number, sent.join(" "));
                wrong.push(format!(
                    "RESP{protocol}, line {number}\n  sent     {sent}\n  expected {expect}\n  got      {got}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} replies differ:\n{}", wrong.len(), wrong.join("\n"));
}
