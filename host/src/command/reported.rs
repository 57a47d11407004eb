//! What a server reports of its commands (COMMAND), laid over the built-in table: rows of commands that the table does
//! not know, made of their flags and key specifications. Pure; the server is asked elsewhere.
//!
//! The flags and key specifications are documented at <https://redis.io/docs/latest/commands/command/> and
//! <https://redis.io/docs/latest/develop/reference/key-specs/>.

use super::keys::{Begin, KeyUse, Keys};
use super::{Data, Kind, NAME_BYTES_MAX, Row, Table};

/// A command or subcommand as a server reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    /// The name, `container|subcommand` for a subcommand, in any case.
    pub name: String,
    /// The number of arguments with the name; negative: at least so many.
    pub arity: i64,
    /// Its flags.
    pub flags: Vec<String>,
    /// The first key, the last (negative: from the end), and the step from one to the next. All 0: no keys.
    pub range: (i64, i64, i64),
    /// Its key specifications. Empty where it has no keys, or the server has no specifications.
    pub keys: Vec<KeySpec>,
    /// It has subcommands.
    pub container: bool,
}

/// One key specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Its flags.
    pub flags: Vec<String>,
    /// Where to begin. None: the server cannot say.
    pub begin: Option<BeginSearch>,
    /// Which arguments from there. None: the server cannot say.
    pub find: Option<FindKeys>,
}

/// Where keys begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BeginSearch {
    /// At a position.
    Index(i64),
    /// Behind a word, looked for from a position on; negative: from the end backwards.
    Keyword(String, i64),
}

/// Which arguments are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindKeys {
    /// A run.
    Range {
        /// The last key, counted from the first; negative: from the end.
        last: i64,
        /// From one key to the next.
        step: i64,
        /// Only the first 1/`limit` of what is left; 0 and 1: all.
        limit: i64,
    },
    /// As many as an argument says.
    KeyNum {
        /// The number of keys, counted from where the search begins.
        count: i64,
        /// The first key, counted from there.
        first: i64,
        /// From one key to the next.
        step: i64,
    },
}

/// Positions further back than this are nonsense, and would overflow.
const POSITION_MAX: i64 = 1 << 20;

// === impl Table ===

impl Table {
    /// The table for a server that reports these commands. The kinds and keys of commands that are known stay; their
    /// arity is the server's.
    pub fn of_server(reported: &[Reported]) -> Self {
        let mut table = Self::of_redis().clone();
        let newer = Self::newest();
        for command in reported.iter().filter(|command| command.name.len() <= NAME_BYTES_MAX) {
            let name = command.name.to_ascii_lowercase();
            let arity = i32::try_from(command.arity).unwrap_or(-1);
            let known = newer.get(name.as_bytes());
            let row = known.map_or_else(|| command.row(name, arity, &table), |known| Row { arity, ..known.clone() });
            table.insert(row);
        }
        table
    }
}

// === impl Reported ===

impl Reported {
    /// The row of a command that the built-in table does not know; `table` has its container.
    fn row(&self, name: String, arity: i32, table: &Table) -> Row {
        let of_session = name.split_once('|').and_then(|(container, _)| table.get(container.as_bytes()));
        let (keys, all_known) = self.places();
        // The built-in table knows what of a connection can be the sidecar's; the rest would be for all who share it.
        let kind = if of_session.is_some_and(|container| container.kind == Kind::Session) {
            Kind::Refused
        } else {
            self.kind(&keys, all_known)
        };
        Row { name: name.into(), arity, kind, keys }
    }

    fn kind(&self, keys: &[Keys], all_known: bool) -> Kind {
        let creates = keys.iter().any(|keys| keys.used() == KeyUse::Create).then_some(Data::Other);
        let writes = self.has("write");
        if self.container {
            Kind::Server
        } else if self.has("pubsub") && self.has("noscript") {
            // It subscribes, and how its replies are counted is not known.
            Kind::Refused
        } else if self.has("blocking") {
            Kind::Block(creates)
        } else if writes && all_known && !keys.is_empty() {
            creates.map_or(Kind::Write, Kind::Create)
        } else if writes || (!self.has("readonly") && (!keys.is_empty() || !all_known)) {
            // What it writes is not known, as with a script.
            Kind::Script
        } else if keys.is_empty() && all_known {
            Kind::Server
        } else {
            Kind::Read
        }
    }

    /// Where its keys stand, and whether that is all of them.
    fn places(&self) -> (Vec<Keys>, bool) {
        let movable = self.has("movablekeys");
        if self.keys.is_empty() {
            let keys: Vec<_> = self.legacy_place().into_iter().collect();
            return (keys, !movable);
        }
        let named = self.keys.iter().filter(|spec| !spec.has("not_key"));
        let places: Vec<_> = named.map(|spec| spec.place(self.used(spec))).collect();
        let all_known = places.iter().all(Option::is_some) && !self.keys.iter().any(|spec| spec.has("incomplete"));
        (places.into_iter().flatten().collect(), all_known)
    }

    /// The first, the last and the step, as servers report them that have no specifications.
    fn legacy_place(&self) -> Option<Keys> {
        let (first, last, step) = self.range;
        let first = position(first).filter(|first| *first > 0)?;
        let last = if last < 0 { last } else { (last - i64::try_from(first).ok()?).max(0) };
        let used = match (self.has("write"), self.has("denyoom")) {
            (false, _) => KeyUse::Read,
            (true, true) => KeyUse::Create,
            (true, false) => KeyUse::Change,
        };
        range(Begin::At(first), last, step, 1, used)
    }

    /// What becomes of the keys of a specification. What needs memory can make something of nothing; so can what
    /// overwrites, or inserts.
    fn used(&self, spec: &KeySpec) -> KeyUse {
        if self.has("readonly") || spec.has("RO") {
            KeyUse::Read
        } else if spec.has("OW") || spec.has("insert") || (self.has("denyoom") && !spec.has("delete")) {
            KeyUse::Create
        } else {
            KeyUse::Change
        }
    }

    fn has(&self, flag: &str) -> bool {
        has(&self.flags, flag)
    }
}

// === impl KeySpec ===

impl KeySpec {
    /// The place in the table's own terms. None: the server cannot say it.
    fn place(&self, used: KeyUse) -> Option<Keys> {
        let begin = match self.begin.as_ref()? {
            BeginSearch::Index(index) => Begin::At(position(*index)?),
            BeginSearch::Keyword(word, from) => {
                Begin::Behind(word.clone(), Some(*from).filter(|from| from.abs() <= POSITION_MAX)?)
            }
        };
        match (self.find?, begin) {
            (FindKeys::Range { last, step, limit }, begin) => range(begin, last, step, limit, used),
            (FindKeys::KeyNum { count, first, step }, Begin::At(from)) => {
                let [count, first, step] = [position(count)?, position(first)?, position(step)?];
                Some(Keys::Counted { from, count, first, step, used })
            }
            (FindKeys::KeyNum { .. }, Begin::Behind(..)) => None,
        }
    }

    fn has(&self, flag: &str) -> bool {
        has(&self.flags, flag)
    }
}

fn range(first: Begin, last: i64, step: i64, limit: i64, used: KeyUse) -> Option<Keys> {
    let (step, part) = (position(step.max(1))?, position(limit.max(1))?);
    match first {
        Begin::At(index) if last == 0 => Some(Keys::At { index, used }),
        first if last.abs() <= POSITION_MAX => Some(Keys::Range { first, last, step, part, used }),
        _ => None,
    }
}

fn position(number: i64) -> Option<usize> {
    usize::try_from(number).ok().filter(|_| number <= POSITION_MAX)
}

fn has(flags: &[String], flag: &str) -> bool {
    flags.iter().any(|has| has.eq_ignore_ascii_case(flag))
}

#[cfg(test)]
mod tests {
    use super::{BeginSearch, FindKeys, KeySpec, Reported};
    use crate::command::{Kind, Table};

    const ONE: FindKeys = FindKeys::Range { last: 0, step: 1, limit: 0 };

    fn spec(flags: &str, begin: BeginSearch, find: FindKeys) -> KeySpec {
        KeySpec { flags: words(flags), begin: Some(begin), find: Some(find) }
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// The kind and the keys of a command that only the server knows.
    fn check(name: &str, flags: &str, range: (i64, i64, i64), keys: Vec<KeySpec>, expect: &str) {
        let reported = Reported { name: name.into(), arity: -2, flags: words(flags), range, keys, container: false };
        let table = Table::of_server(&[reported]);
        let row = table.get(name.to_ascii_lowercase().as_bytes()).unwrap();
        let keys: Vec<_> = row.keys.iter().map(|keys| format!("{keys:?}")).collect();
        assert_eq!(format!("{:?} {}", row.kind, keys.join(" ")).trim(), expect, "{name}");
    }

    #[test]
    fn kinds() {
        let at = |index| BeginSearch::Index(index);
        check("new", "readonly", (1, 1, 1), vec![spec("RO access", at(1), ONE)], "Read At { index: 1, used: Read }");
        check(
            "NEW",
            "write denyoom",
            (1, 1, 1),
            vec![spec("RW update", at(1), ONE)],
            "Create(Other) At { index: 1, used: Create }",
        );
        check("new", "write", (1, 1, 1), vec![spec("RW update", at(1), ONE)], "Write At { index: 1, used: Change }");
        check("new", "write", (1, 1, 1), vec![spec("RM delete", at(1), ONE)], "Write At { index: 1, used: Change }");
        check("new", "write", (2, 2, 1), vec![spec("OW", at(2), ONE)], "Create(Other) At { index: 2, used: Create }");
        check(
            "new",
            "write blocking",
            (1, 1, 1),
            vec![spec("RW delete", at(1), ONE)],
            "Block(None) At { index: 1, used: Change }",
        );
        check("new", "write", (0, 0, 0), vec![], "Script");
        check("new", "admin", (0, 0, 0), vec![], "Server");
        check("new", "pubsub noscript", (1, 1, 1), vec![spec("not_key", at(1), ONE)], "Refused");
        check("new", "pubsub", (1, 1, 1), vec![spec("not_key", at(1), ONE)], "Server");
        check("client|new", "noscript", (0, 0, 0), vec![], "Refused");
        check("object|new", "readonly", (2, 2, 1), vec![spec("RO", at(2), ONE)], "Read At { index: 2, used: Read }");
    }

    #[test]
    fn keys() {
        let unknown = |flags: &str| KeySpec { flags: words(flags), begin: None, find: None };
        check("new", "write movablekeys", (0, 0, 0), vec![unknown("RW update")], "Script");
        check("new", "readonly movablekeys", (0, 0, 0), vec![unknown("RO")], "Read");
        check(
            "new",
            "write denyoom movablekeys",
            (1, 1, 1),
            vec![
                spec("OW", BeginSearch::Index(1), ONE),
                spec("RO", BeginSearch::Index(2), FindKeys::KeyNum { count: 0, first: 1, step: 1 }),
            ],
            "Create(Other) At { index: 1, used: Create } Counted { from: 2, count: 0, first: 1, step: 1, used: Read }",
        );
        check(
            "new",
            "readonly",
            (0, 0, 0),
            vec![spec(
                "RO",
                BeginSearch::Keyword("STREAMS".into(), -1),
                FindKeys::Range { last: -1, step: 1, limit: 2 },
            )],
            "Read Range { first: Behind(\"STREAMS\", -1), last: -1, step: 1, part: 2, used: Read }",
        );
        // A server without specifications.
        check(
            "new",
            "write denyoom",
            (1, -1, 2),
            vec![],
            "Create(Other) Range { first: At(1), last: -1, step: 2, part: 1, used: Create }",
        );
        check(
            "new",
            "readonly",
            (2, 3, 1),
            vec![],
            "Read Range { first: At(2), last: 1, step: 1, part: 1, used: Read }",
        );
        // Nonsense is not believed.
        let huge = FindKeys::KeyNum { count: i64::MAX, first: 1, step: 1 };
        check("new", "write", (0, 0, 0), vec![spec("RW", BeginSearch::Index(1), huge)], "Script");
        check("new", "write", (0, 0, 0), vec![spec("RW", BeginSearch::Index(-1), ONE)], "Script");
    }

    #[test]
    fn what_is_known_stays() {
        let get = Reported { name: "GET".into(), arity: -3, flags: words("write"), ..Reported::default() };
        let long = Reported { name: "x".repeat(65), ..Reported::default() };
        let table = Table::of_server(&[get, long.clone()]);
        let row = table.get(b"get").unwrap();
        assert_eq!((row.kind, row.arity, row.keys.len()), (Kind::Read, -3, 1));
        assert_eq!(table.get(long.name.as_bytes()), None);
        assert_eq!(table.get(b"hsetex"), None, "the server has not reported it");
        assert!(Table::newest().get(b"hsetex").is_some());
    }
}
