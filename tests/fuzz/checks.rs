//! What must hold for any bytes: of the request scanner, the reply splitter and the command rewriter. The fuzz targets
//! run this for bytes that a fuzzer finds, the ordinary tests for the corpora.

use std::path::Path;

use bellwether::clock::Clock;
use bellwether::command::{Command, Kind, SetForm, Table};
use bellwether::config::{Config, Texts};
use bellwether::proxy::lifetime::Lifetime;
use bellwether::proxy::set::{ClientExpiry, Set};
use bellwether::proxy::{Plan, Policies, What};
use bellwether::reload::{Folder, Reloader};
use bellwether::resp::reply::{self, Splitter};
use bellwether::resp::request::{Limits, Scanned, Scanner};
use bellwether::resp::write;

/// What one scan found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Command(Vec<Vec<u8>>),
    Empty,
    Wrong(String),
}

/// Small, so that a fuzzer finds them.
const LIMITS: Limits = Limits { args_max: 12, bulk_bytes_max: 64, command_bytes_max: 256 };
/// Large enough for all that is made of a command within [`LIMITS`].
const OUTER: Limits = Limits { args_max: 64, bulk_bytes_max: 4096, command_bytes_max: 65536 };
/// 14 November 2023.
const NOW: i64 = 1_700_000_000_000;

/// The bytes of a client: cut into any pieces they are the same commands, and a command's arguments are its bytes. The
/// first byte says how they are cut.
pub fn request(data: &[u8]) {
    let Some((&seed, bytes)) = data.split_first() else { return };
    let whole = commands(bytes, usize::MAX);
    for step in [1, 1 + usize::from(seed % 7), 1 + usize::from(seed)] {
        assert_eq!(commands(bytes, step), whole, "in steps of {step}");
    }
    for found in whole {
        if let Found::Command(args) = found {
            assert_eq!(one_command(&encoded(&args)), args);
        }
    }
}

/// What a session finds in bytes that arrive in steps.
fn commands(bytes: &[u8], step: usize) -> Vec<Found> {
    let (mut scanner, mut inbox, mut found) = (Scanner::new(LIMITS), Vec::new(), Vec::new());
    for chunk in bytes.chunks(step.min(bytes.len().max(1))) {
        inbox.extend_from_slice(chunk);
        loop {
            let (length, what) = match scanner.scan(&inbox) {
                Ok(Scanned::Incomplete) => break,
                Ok(Scanned::Empty(length)) => (length, Found::Empty),
                Ok(Scanned::Command(length)) => {
                    let whole = &inbox[..length];
                    let args: Vec<_> = scanner.args().iter().map(|arg| arg.of(whole).to_vec()).collect();
                    assert!(!args.is_empty() && args.len() <= LIMITS.args_max);
                    assert!(args.iter().all(|arg| arg.len() <= LIMITS.bulk_bytes_max));
                    (length, Found::Command(args))
                }
                Ok(Scanned::Inline(length, encoded)) => (length, Found::Command(one_command(&encoded))),
                Err(error) => {
                    found.push(Found::Wrong(error.to_string()));
                    return found;
                }
            };
            assert!(length > 0 && length <= inbox.len(), "{length} of {} bytes", inbox.len());
            found.push(what);
            inbox.drain(..length);
            scanner.reset();
        }
    }
    found
}

/// The arguments of bytes that are one command and nothing else.
fn one_command(bytes: &[u8]) -> Vec<Vec<u8>> {
    let limits = Limits { args_max: 1 << 20, bulk_bytes_max: 1 << 20, command_bytes_max: 1 << 24 };
    let mut scanner = Scanner::new(limits);
    assert_eq!(scanner.scan(bytes), Ok(Scanned::Command(bytes.len())), "{:?}", bytes.escape_ascii().to_string());
    scanner.args().iter().map(|arg| arg.of(bytes).to_vec()).collect()
}

fn encoded(args: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write::array(&mut bytes, args.len());
    args.iter().for_each(|arg| write::bulk(&mut bytes, arg));
    bytes
}

/// The bytes of a server: cut into any pieces they are the same replies. The first byte says how they are cut.
pub fn reply(data: &[u8]) {
    let Some((&seed, bytes)) = data.split_first() else { return };
    let whole = replies(bytes, usize::MAX);
    for step in [1, 1 + usize::from(seed % 7), 1 + usize::from(seed)] {
        assert_eq!(replies(bytes, step), whole, "in steps of {step}");
    }
    let mut from = 0;
    for length in whole.0 {
        let frame = &bytes[from..from + length];
        from += length;
        let (_, _, _) = (reply::text(frame), reply::integer(frame), reply::is_nil(frame));
        if let Some(elements) = reply::elements(frame) {
            let inner: usize = elements.iter().map(|element| element.len()).sum();
            let head = frame.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            assert_eq!(head + inner, frame.len(), "the elements of {:?}", frame.escape_ascii().to_string());
        }
    }
}

/// The lengths of the replies in bytes that arrive in steps, and whether garbage ends them.
fn replies(bytes: &[u8], step: usize) -> (Vec<usize>, bool) {
    let (mut splitter, mut inbox, mut found) = (Splitter::default(), Vec::new(), Vec::new());
    for chunk in bytes.chunks(step.min(bytes.len().max(1))) {
        inbox.extend_from_slice(chunk);
        loop {
            match splitter.split(&inbox) {
                Ok(None) => break,
                Ok(Some(length)) => {
                    assert!(length > 0 && length <= inbox.len());
                    found.push(length);
                    inbox.drain(..length);
                }
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

/// The commands of a client: what is sent in their place is whole commands about their own keys, and a SET that is
/// written anew says the same with another lifetime.
pub fn rewrite(data: &[u8]) {
    thread_local!(static POLICIES: std::cell::RefCell<Policies> = std::cell::RefCell::new(policies()));
    let (mut scanner, mut rest) = (Scanner::new(OUTER), data);
    loop {
        match scanner.scan(rest) {
            Ok(Scanned::Command(length)) => {
                let command = Command { bytes: &rest[..length], args: scanner.args() };
                POLICIES.with_borrow_mut(|policies| rewritten(&command, policies));
                rest = &rest[length..];
            }
            Ok(Scanned::Inline(length, bytes)) => {
                let mut scanner = Scanner::new(OUTER);
                if let Ok(Scanned::Command(_)) = scanner.scan(&bytes) {
                    let command = Command { bytes: &bytes, args: scanner.args() };
                    POLICIES.with_borrow_mut(|policies| rewritten(&command, policies));
                }
                rest = &rest[length..];
            }
            Ok(Scanned::Empty(length)) => rest = &rest[length..],
            Ok(Scanned::Incomplete) | Err(_) => return,
        }
        scanner.reset();
    }
}

fn rewritten(command: &Command<'_>, policies: &mut Policies) {
    let Some(row) = command.row(Table::newest()).filter(|row| row.takes(command.args.len())) else { return };
    for keys in &row.keys {
        assert!(keys.positions(command).all(|index| index < command.args.len()));
    }
    if let Kind::Set(form) = row.kind
        && let Some(set) = Set::read(form, command, NOW)
    {
        for lifetime in [Lifetime::Ms(7), Lifetime::Never] {
            written_anew(&set, lifetime);
        }
    }
    let plan = policies.decide(command, row, NOW);
    for words in sent(&plan, command) {
        let is_own = |word: &Vec<u8>| command.rest(0).any(|arg| arg == word.as_slice());
        assert!(words.len() < 2 || is_own(&words[1]), "{plan:?}: {words:?}");
    }
}

fn written_anew(set: &Set<'_>, lifetime: Lifetime) {
    let mut bytes = Vec::new();
    set.write(lifetime, &mut bytes);
    let mut scanner = Scanner::new(Limits { command_bytes_max: 1 << 20, bulk_bytes_max: 1 << 20, ..OUTER });
    assert_eq!(scanner.scan(&bytes), Ok(Scanned::Command(bytes.len())));
    let command = Command { bytes: &bytes, args: scanner.args() };
    let again = Set::read(SetForm::Set, &command, NOW).unwrap();
    let expiry = if let Lifetime::Ms(ms) = lifetime { ClientExpiry::Ms(ms) } else { ClientExpiry::None };
    let mut expect = *set;
    expect.expiry = expiry;
    assert_eq!(again, expect);
}

/// The words of all commands that a plan sends.
fn sent(plan: &Plan<'_>, command: &Command<'_>) -> Vec<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    match &plan.what {
        What::AsItCame => bytes.extend_from_slice(command.bytes),
        What::Set(set, lifetime) => set.write(*lifetime, &mut bytes),
        What::Instead(args) => {
            write::array(&mut bytes, args.len());
            args.iter().for_each(|arg| write::bulk(&mut bytes, arg));
        }
        What::Refused(refusal) => {
            assert!(plan.follows.is_empty());
            let mut error = Vec::new();
            write::error(&mut error, refusal);
            assert_eq!(replies(&error, usize::MAX), (vec![error.len()], false));
            return Vec::new();
        }
    }
    let mut all = vec![one_command(&bytes)];
    for follow in &plan.follows {
        let mut bytes = Vec::new();
        follow.write(&mut bytes);
        all.push(one_command(&bytes));
    }
    all
}

/// The policies of the folder beside this file.
fn policies() -> Policies {
    // The fuzz targets are a crate of their own beside the folder; the ordinary tests are the host's.
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = ["policies", "../tests/fuzz/policies"].into_iter().map(|folder| top.join(folder));
    let folder = folders.find(|folder| folder.join("namespaces.toml").is_file()).unwrap();
    let config = Config::from_texts(&Texts::defaults()).unwrap();
    let mut reloader = Reloader::new(&config, Folder::new(Some(folder), "any"), Clock::new(|| NOW, 0)).unwrap();
    Policies::new(reloader.first().unwrap(), reloader.metrics(), 0, &config)
}
