//! Which node has which slot, as CLUSTER SLOTS says. Pure.

use std::sync::Arc;

use anyhow::ensure;
use redis::Value;

use super::slot::SLOTS;

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct NodeAddress {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

/// The masters and their slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// Counts up with each change. 0: nothing is known yet.
    pub(super) version: u64,
    masters: Vec<Master>,
    /// By slot, the place of its master in the list.
    owners: Box<[u16]>,
}

/// A master.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Master {
    address: NodeAddress,
    /// Its name in the cluster; empty where it is known from a redirection alone.
    id: String,
}

/// More nodes are not taken for a cluster.
const NODES_MAX: usize = 1000;
const NONE: u16 = u16::MAX;

// === impl Map ===

impl Map {
    /// Nothing is known.
    pub(super) fn empty() -> Self {
        Self { version: 0, masters: Vec::new(), owners: vec![NONE; SLOTS].into() }
    }

    /// Reads the answer to CLUSTER SLOTS of a node at `asked`.
    ///
    /// # Errors
    /// It is not that, or names no slot.
    pub(super) fn read(answer: &Value, asked: &NodeAddress) -> anyhow::Result<Self> {
        let mut map = Self::empty();
        for range in list(answer) {
            let fields = list(range);
            let (Some(first), Some(last)) = (slot(fields.first()), slot(fields.get(1))) else { continue };
            let Some(master) = fields.get(2).and_then(|node| master(list(node), asked)) else { continue };
            let place = map.add(master)?;
            map.owners.get_mut(first..=last.max(first)).into_iter().flatten().for_each(|owner| *owner = place);
        }
        ensure!(map.owners.iter().any(|owner| *owner != NONE), "it knows of no slots");
        Ok(map)
    }

    /// The same with a slot at another node.
    pub(super) fn with(&self, slot: u16, address: &NodeAddress) -> anyhow::Result<Self> {
        let mut map = self.clone();
        let known = map.masters.iter().find(|master| master.address == *address).cloned();
        let place = map.add(known.unwrap_or_else(|| Master { address: address.clone(), id: String::new() }))?;
        map.owners.get_mut(usize::from(slot)).into_iter().for_each(|owner| *owner = place);
        Ok(map)
    }

    /// Whether both say the same, whatever their versions.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let all = 0..SLOTS as u16;
        all.into_iter().all(|slot| self.master(slot) == other.master(slot))
    }

    /// The node that has a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&NodeAddress> {
        Some(&self.master(slot)?.address)
    }

    /// The place of a slot's node among all, which it keeps as long as the map is the same.
    pub(super) fn place_of(&self, slot: u16) -> Option<usize> {
        self.owners.get(usize::from(slot)).filter(|owner| **owner != NONE).map(|owner| usize::from(*owner))
    }

    /// Whether a node has slots.
    pub(super) fn is_master(&self, address: &NodeAddress) -> bool {
        self.masters().any(|(_, master)| master == address)
    }

    /// The nodes that have slots, with the first of them, in their order.
    pub(super) fn masters(&self) -> impl Iterator<Item = (u16, &NodeAddress)> {
        let mut firsts = vec![NONE; self.masters.len()];
        for (slot, owner) in (0..NONE).zip(&self.owners) {
            if let Some(first) = firsts.get_mut(usize::from(*owner)) {
                *first = slot.min(*first);
            }
        }
        let mut found: Vec<_> = firsts.into_iter().zip(&self.masters).filter(|(first, _)| *first != NONE).collect();
        found.sort_unstable_by_key(|(first, _)| *first);
        found.into_iter().map(|(first, master)| (first, &master.address))
    }

    /// A mark of the node that has a slot: another node has another, mostly.
    pub(super) fn mark(&self, slot: u16) -> u8 {
        let id = self.master(slot).map(|master| master.id.as_bytes()).unwrap_or_default();
        id.iter().fold(7, |mark: u8, byte| mark.wrapping_mul(31).wrapping_add(*byte))
    }

    fn master(&self, slot: u16) -> Option<&Master> {
        self.masters.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    fn add(&mut self, master: Master) -> anyhow::Result<u16> {
        let known = self.masters.iter().position(|known| *known == master);
        let place = known.unwrap_or_else(|| {
            self.masters.push(master);
            self.masters.len() - 1
        });
        ensure!(place < NODES_MAX, "it has more than {NODES_MAX} nodes");
        Ok(u16::try_from(place)?)
    }
}

// === impl NodeAddress ===

impl NodeAddress {
    /// Reads `host:port` as a redirection names it; an empty or unknown host is that of the node that said it.
    pub(super) fn read(text: &str, said_by: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let host = if is_unknown(host) { Arc::clone(&said_by.host) } else { host.into() };
        Some(Self { host, port })
    }
}

impl std::fmt::Display for NodeAddress {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.host, self.port)
    }
}

/// A node whose own name is not known to it says so in one of these ways.
fn is_unknown(host: &str) -> bool {
    host.is_empty() || host == "?"
}

fn master(fields: &[Value], asked: &NodeAddress) -> Option<Master> {
    let host = text(fields.first()?).filter(|host| !is_unknown(host));
    let Value::Int(port) = fields.get(1)? else { return None };
    let port = u16::try_from(*port).ok().filter(|port| *port != 0)?;
    let host = host.map_or_else(|| Arc::clone(&asked.host), Into::into);
    Some(Master { address: NodeAddress { host, port }, id: fields.get(2).and_then(text).unwrap_or_default() })
}

fn slot(value: Option<&Value>) -> Option<usize> {
    let Some(Value::Int(slot)) = value else { return None };
    usize::try_from(*slot).ok().filter(|slot| *slot < SLOTS)
}

fn list(value: &Value) -> &[Value] {
    if let Value::Array(values) = value { values } else { &[] }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Map, NodeAddress, Value};

    fn at(host: &str, port: u16) -> NodeAddress {
        NodeAddress { host: host.into(), port }
    }

    fn range(first: i64, last: i64, host: Value, port: i64, id: &str) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), Value::BulkString(id.into()), Value::Array(vec![])]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    #[test]
    fn slots_have_owners() {
        let named = |host: &str| Value::BulkString(host.into());
        let answer = Value::Array(vec![
            range(8000, 16_383, named("b"), 2, "two"),
            range(0, 5000, named(""), 1, "one"),
            range(5001, 7000, Value::Nil, 1, "one"),
            range(7001, 7001, named("?"), 3, "three"),
        ]);
        let map = Map::read(&answer, &at("asked", 9)).unwrap();
        let masters: Vec<_> = map.masters().map(|(slot, node)| format!("{slot} {node}")).collect();
        assert_eq!(masters, ["0 asked:1", "7001 asked:3", "8000 b:2"]);
        assert_eq!(map.owner(6000), Some(&at("asked", 1)));
        assert_eq!(map.owner(7500), None);
        assert_ne!(map.mark(0), map.mark(8000));

        // A slot that has moved, to a node that nobody has told of.
        let moved = map.with(7001, &at("c", 4)).unwrap();
        assert_eq!(moved.owner(7001), Some(&at("c", 4)));
        assert!(!moved.is_master(&at("asked", 3)));
        assert!(!moved.is_like(&map) && moved.with(7001, &at("asked", 3)).unwrap().is_like(&map));
        assert!(Map::read(&Value::Array(vec![]), &at("a", 1)).is_err());
        assert!(Map::read(&Value::Nil, &at("a", 1)).is_err());
    }

    #[test]
    fn addresses_of_redirections() {
        let check = |text: &str, expect: Option<NodeAddress>| {
            assert_eq!(NodeAddress::read(text, &at("asked", 9)), expect, "{text}");
        };
        check("10.0.0.1:7000", Some(at("10.0.0.1", 7000)));
        check(":7000", Some(at("asked", 7000)));
        check("?:7000", Some(at("asked", 7000)));
        check("::1:7000", Some(at("::1", 7000)));
        check("host", None);
        check("host:0", None);
    }
}
