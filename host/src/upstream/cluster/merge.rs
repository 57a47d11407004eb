//! One reply made of the replies of several nodes. Pure.

use bytes::Bytes;

use super::cursor::Cursor;
use crate::resp::{Protocol, reply, write};

/// How the replies to the parts of a command become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// The first; an error of any comes before it.
    First,
    /// Arrays whose elements stand at these places of the whole, part by part.
    Places(Vec<Vec<usize>>),
    /// The sum of numbers.
    Sum,
    /// The smallest of numbers.
    Least,
    /// Arrays of numbers: the smallest at each place.
    LeastEach,
    /// Arrays, one behind the other.
    Concat,
    /// The first that is something.
    Something,
    /// SCAN: the cursor of this node, or of the one to go on with.
    Scan {
        /// Whose keys these are.
        here: Cursor,
        /// The first slot of the next. None: this was the last.
        next: Option<u16>,
    },
}

// === impl Merge ===

impl Merge {
    /// The one reply.
    pub(super) fn of(&self, parts: &[Bytes], protocol: Protocol) -> Bytes {
        let refused = parts.iter().find(|part| part.first() == Some(&reply::kind::ERROR));
        let first = parts.first().cloned().unwrap_or_default();
        if let Some(error) = refused
            && *self != Self::Something
        {
            return error.clone();
        }
        let numbers = || parts.iter().filter_map(|part| reply::integer(part));
        let mut out = Vec::new();
        match self {
            Self::First => return first,
            Self::Sum => write::integer(&mut out, numbers().fold(0, i64::saturating_add)),
            Self::Least => write::integer(&mut out, numbers().min().unwrap_or_default()),
            Self::LeastEach => least_each(parts, &mut out),
            Self::Concat => {
                let elements: Vec<_> = parts.iter().filter_map(|part| reply::elements(part)).flatten().collect();
                write::array(&mut out, elements.len());
                elements.iter().for_each(|element| out.extend_from_slice(element));
            }
            Self::Places(places) => placed(places, parts, protocol, &mut out),
            Self::Something => {
                let something = parts.iter().find(|part| !reply::is_nil(part) && part.first() != Some(&b'-'));
                return something.cloned().unwrap_or(first);
            }
            Self::Scan { here, next } => {
                if scanned(&first, *here, *next, &mut out).is_none() {
                    return first;
                }
            }
        }
        out.into()
    }
}

fn least_each(parts: &[Bytes], out: &mut Vec<u8>) {
    let rows: Vec<Vec<i64>> = parts
        .iter()
        .filter_map(|part| Some(reply::elements(part)?.iter().filter_map(|number| reply::integer(number)).collect()))
        .collect();
    let width = rows.iter().map(Vec::len).min().unwrap_or_default();
    write::array(out, width);
    for place in 0..width {
        write::integer(out, rows.iter().filter_map(|row| row.get(place)).copied().min().unwrap_or_default());
    }
}

fn placed(places: &[Vec<usize>], parts: &[Bytes], protocol: Protocol, out: &mut Vec<u8>) {
    let mut nil = Vec::new();
    write::nil(&mut nil, protocol);
    let mut whole: Vec<&[u8]> = vec![&nil; places.iter().map(Vec::len).sum()];
    for (places, part) in places.iter().zip(parts) {
        for (place, element) in places.iter().zip(reply::elements(part).unwrap_or_default()) {
            if let Some(slot) = whole.get_mut(*place) {
                *slot = element;
            }
        }
    }
    write::array(out, whole.len());
    whole.iter().for_each(|element| out.extend_from_slice(element));
}

/// None: it is not a reply of SCAN.
fn scanned(frame: &[u8], here: Cursor, next: Option<u16>, out: &mut Vec<u8>) -> Option<()> {
    let elements = reply::elements(frame)?;
    let [cursor, keys] = elements.as_slice() else { return None };
    let of_node: u64 = std::str::from_utf8(reply::text(cursor)?).ok()?.parse().ok()?;
    let then = match (of_node, next) {
        (0, None) => Some(0),
        (0, Some(slot)) => Cursor::begin(slot).number(),
        (of_node, _) => Cursor { of_node, ..here }.number(),
    };
    match then {
        Some(then) => {
            write::array(out, 2);
            write::bulk_number(out, then);
            out.extend_from_slice(keys);
        }
        None => {
            write::error(out, "ERR bellwether cannot put a node into its cursor, which is too large; scan the node")
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::{Bytes, Cursor, Merge};
    use crate::resp::Protocol;

    fn check(merge: &Merge, parts: &[&'static str], expect: &str) {
        let parts: Vec<_> = parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect();
        let merged = merge.of(&parts, Protocol::Resp2);
        assert_eq!(String::from_utf8_lossy(&merged), expect, "{merge:?}");
    }

    #[test]
    fn replies_become_one() {
        check(&Merge::First, &["+OK\r\n", "+OK\r\n"], "+OK\r\n");
        check(&Merge::First, &["+OK\r\n", "-ERR x\r\n"], "-ERR x\r\n");
        check(&Merge::Sum, &[":1\r\n", ":0\r\n", ":5\r\n"], ":6\r\n");
        check(&Merge::Sum, &[":1\r\n", "-NOPERM x\r\n"], "-NOPERM x\r\n");
        check(&Merge::Least, &[":1\r\n", ":0\r\n"], ":0\r\n");
        check(&Merge::LeastEach, &["*2\r\n:1\r\n:0\r\n", "*2\r\n:0\r\n:2\r\n"], "*2\r\n:0\r\n:0\r\n");
        check(&Merge::Concat, &["*1\r\n$1\r\na\r\n", "*0\r\n", "*1\r\n$1\r\nb\r\n"], "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        check(&Merge::Something, &["$-1\r\n", "-LOADING\r\n", "$1\r\na\r\n"], "$1\r\na\r\n");
        check(&Merge::Something, &["$-1\r\n", "$-1\r\n"], "$-1\r\n");
        let places = Merge::Places(vec![vec![0, 2], vec![1]]);
        check(&places, &["*2\r\n$1\r\na\r\n$-1\r\n", "*1\r\n$1\r\nb\r\n"], "*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n");
        let here = Cursor { of_node: 0, slot: 5, mark: 1 };
        let scan = |next| Merge::Scan { here, next };
        check(&scan(Some(7)), &["*2\r\n$1\r\n0\r\n*0\r\n"], "*2\r\n$1\r\n7\r\n*0\r\n");
        check(&scan(None), &["*2\r\n$1\r\n0\r\n*0\r\n"], "*2\r\n$1\r\n0\r\n*0\r\n");
        check(&scan(None), &["*2\r\n$1\r\n3\r\n*0\r\n"], "*2\r\n$8\r\n12599301\r\n*0\r\n");
        check(&scan(None), &["-ERR syntax error\r\n"], "-ERR syntax error\r\n");
    }
}
