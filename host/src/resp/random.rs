//! Random streams of commands and replies, cut into random pieces: what is found is what was written, whatever the cut.

use proptest::collection::vec;
use proptest::prelude::*;

use super::reply::{Splitter, elements};
use super::request::{Limits, Scanned, Scanner};
use super::{Protocol, parse_integer, write};

/// What a client writes.
#[derive(Clone, Debug)]
enum Written {
    /// A command as an array.
    Array(Vec<Vec<u8>>),
    /// A command as a line.
    Line(Vec<Vec<u8>>),
    /// What is no command.
    Nothing(&'static [u8]),
    /// What ends the connection.
    Wrong(Vec<u8>, &'static str),
}

/// What a scanner finds.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Command(Vec<Vec<u8>>),
    Wrong(String),
}

const LIMITS: Limits = Limits { args_max: 6, bulk_bytes_max: 48, command_bytes_max: 200 };

// === impl Written ===

impl Written {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Array(args) => {
                write::array(&mut bytes, args.len());
                args.iter().for_each(|arg| write::bulk(&mut bytes, arg));
            }
            Self::Line(words) => {
                for word in words {
                    bytes.push(b' ');
                    bytes.push(b'"');
                    word.iter().for_each(|byte| bytes.extend(format!("\\x{byte:02x}").into_bytes()));
                    bytes.push(b'"');
                }
                bytes.extend_from_slice(b"\r\n");
            }
            Self::Nothing(nothing) => bytes.extend_from_slice(nothing),
            Self::Wrong(wrong, _) => bytes.extend_from_slice(wrong),
        }
        bytes
    }
}

fn written() -> impl Strategy<Value = Written> {
    let args = || vec(vec(any::<u8>(), 0..44), 1..=LIMITS.args_max);
    let bulk_too_long = (LIMITS.bulk_bytes_max + 1..1000).prop_map(|length| {
        Written::Wrong(format!("*1\r\n${length}\r\n").into_bytes(), "Protocol error: invalid bulk length")
    });
    let too_many = (LIMITS.args_max + 1..1000).prop_map(|count| {
        Written::Wrong(format!("*{count}\r\n").into_bytes(), "Protocol error: invalid multibulk length")
    });
    let nothing = prop::sample::select(vec![&b"*0\r\n"[..], b"*-1\r\n", b"\r\n", b"\n", b"  \r\n"]);
    prop_oneof![
        12 => args().prop_map(Written::Array),
        4 => args().prop_map(Written::Line),
        2 => nothing.prop_map(Written::Nothing),
        1 => bulk_too_long,
        1 => too_many,
        1 => Just(Written::Wrong(b"*2\r\n$1\r\na\r\n:1\r\n".to_vec(), "Protocol error: expected '$', got ':'")),
        1 => Just(Written::Wrong(b"GET \"a\r\n".to_vec(), "Protocol error: unbalanced quotes in request")),
    ]
}

/// Bytes in pieces, cut where the numbers say.
fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect()
}

fn scanned(pieces: &[&[u8]]) -> Vec<Found> {
    let (mut scanner, mut inbox, mut found) = (Scanner::new(LIMITS), Vec::new(), Vec::new());
    for piece in pieces {
        inbox.extend_from_slice(piece);
        loop {
            let length = match scanner.scan(&inbox) {
                Ok(Scanned::Incomplete) => break,
                Ok(Scanned::Empty(length)) => length,
                Ok(Scanned::Command(length)) => {
                    found.push(Found::Command(args(&scanner, &inbox)));
                    length
                }
                Ok(Scanned::Inline(length, encoded)) => {
                    let limits = Limits { args_max: 1000, bulk_bytes_max: 1000, command_bytes_max: 10_000 };
                    let mut inner = Scanner::new(limits);
                    assert_eq!(inner.scan(&encoded), Ok(Scanned::Command(encoded.len())));
                    found.push(Found::Command(args(&inner, &encoded)));
                    length
                }
                Err(error) => {
                    found.push(Found::Wrong(error.to_string()));
                    return found;
                }
            };
            inbox.drain(..length);
            scanner.reset();
        }
    }
    assert!(inbox.is_empty(), "{:?} is left", inbox.escape_ascii().to_string());
    found
}

fn args(scanner: &Scanner, bytes: &[u8]) -> Vec<Vec<u8>> {
    scanner.args().iter().map(|arg| arg.of(bytes).to_vec()).collect()
}

/// What is to be found in what was written: all commands up to what is wrong.
fn expected(written: &[Written]) -> Vec<Found> {
    let mut found = Vec::new();
    for one in written {
        match one {
            Written::Nothing(_) => {}
            // The limit is looked at before the end of the last argument's line.
            Written::Array(_) if one.bytes().len() > LIMITS.command_bytes_max + 2 => {
                found.push(Found::Wrong("Protocol error: too big command".into()));
                return found;
            }
            Written::Array(args) | Written::Line(args) => found.push(Found::Command(args.clone())),
            Written::Wrong(_, error) => {
                found.push(Found::Wrong((*error).into()));
                return found;
            }
        }
    }
    found
}

/// A reply of any kind, RESP2 and RESP3, nested.
fn a_reply() -> impl Strategy<Value = Vec<u8>> {
    let line = "[+\\-,(#][^\r\n]{0,12}".prop_map(|line| format!("{line}\r\n").into_bytes());
    let number = any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes());
    let nothing = prop::sample::select(vec!["_\r\n", "$-1\r\n", "*-1\r\n"]).prop_map(|text| text.as_bytes().to_vec());
    let bulk = (prop::sample::select(vec!['$', '=', '!']), vec(any::<u8>(), 0..40))
        .prop_map(|(kind, bytes)| [format!("{kind}{}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat());
    let leaf = prop_oneof![line, number, nothing, bulk];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let list = (prop::sample::select(vec!['*', '~', '>']), vec(inner.clone(), 0..6));
        let list =
            list.prop_map(|(kind, items)| [format!("{kind}{}\r\n", items.len()).into_bytes(), items.concat()].concat());
        let map = vec((inner.clone(), inner.clone()), 0..4).prop_map(|pairs| {
            let items: Vec<u8> =
                pairs.iter().flat_map(|(key, value)| [key.as_slice(), value]).flatten().copied().collect();
            [format!("%{}\r\n", pairs.len()).into_bytes(), items].concat()
        });
        let attribute = (inner.clone(), inner.clone(), inner)
            .prop_map(|(key, value, reply)| [b"|1\r\n".to_vec(), key, value, reply].concat());
        prop_oneof![list, map, attribute]
    })
}

/// The lengths of the replies that arrive in pieces, and whether garbage ended them.
fn split(pieces: &[&[u8]]) -> (Vec<usize>, bool) {
    let (mut splitter, mut inbox, mut found) = (Splitter::default(), Vec::new(), Vec::new());
    for piece in pieces {
        inbox.extend_from_slice(piece);
        loop {
            match splitter.split(&inbox) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    found.push(length);
                    inbox.drain(..length);
                }
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn commands_however_they_are_cut(all in vec(written(), 0..8), cuts in vec(any::<prop::sample::Index>(), 0..12)) {
        let bytes: Vec<u8> = all.iter().flat_map(Written::bytes).collect();
        prop_assert_eq!(scanned(&pieces(&bytes, &cuts)), expected(&all));
    }

    #[test]
    fn replies_however_they_are_cut(all in vec(a_reply(), 0..8), cuts in vec(any::<prop::sample::Index>(), 0..12)) {
        let lengths: Vec<_> = all.iter().map(Vec::len).collect();
        prop_assert_eq!(split(&pieces(&all.concat(), &cuts)), (lengths, false));
    }

    #[test]
    fn garbage_however_it_is_cut(bytes in vec(any::<u8>(), 0..64), cuts in vec(any::<prop::sample::Index>(), 0..12)) {
        prop_assert_eq!(split(&pieces(&bytes, &cuts)), split(&[&bytes]));
    }

    #[test]
    fn elements_are_the_replies_inside(all in vec(a_reply(), 0..6)) {
        let mut array = Vec::new();
        write::array(&mut array, all.len());
        array.extend(all.concat());
        let expect: Vec<_> = all.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(elements(&array), Some(expect));
        prop_assert_eq!(elements(array.get(..array.len() - 1).unwrap()), None);
    }

    #[test]
    fn what_is_written_is_one_reply(text in ".{0,20}", bytes in vec(any::<u8>(), 0..20), number: i64) {
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let (mut verbatim, mut nil, mut nil_array, mut double) = (vec![], vec![], vec![], vec![]);
            write::verbatim(&mut verbatim, protocol, &text);
            write::nil(&mut nil, protocol);
            write::nil_array(&mut nil_array, protocol);
            write::double(&mut double, protocol, "1.5");
            frames.extend([verbatim, nil, nil_array, double]);
        }
        let (mut error, mut bulk, mut integer) = (vec![], vec![], vec![]);
        write::error(&mut error, &text);
        write::bulk(&mut bulk, &bytes);
        write::integer(&mut integer, number);
        frames.extend([error, bulk, integer]);
        for frame in frames {
            prop_assert_eq!(split(&[&frame]), (vec![frame.len()], false));
        }
    }

    #[test]
    fn integers_are_read_as_they_are_written(number: i64, text in "[-+ ]?[0-9]{1,21}") {
        prop_assert_eq!(parse_integer(number.to_string().as_bytes()), Some(number));
        let spelled = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
        prop_assert_eq!(parse_integer(text.as_bytes()), spelled);
    }
}
