//! What is seen of busy and large keys on the way.

use super::Session;
use crate::command::{Command, KeyUse, Kind, Row};
use crate::top::Touch;

/// Keys of one command that are looked at.
const LOOKED_KEYS_MAX: usize = 64;

// === impl Session ===

impl Session {
    /// Takes note of what is done with the keys of a command.
    pub(super) fn note_keys(&self, command: &Command<'_>, row: Option<&Row>) {
        let policies = self.shared.policies.borrow();
        let keys = row.into_iter().flat_map(|row| &row.keys).take(LOOKED_KEYS_MAX);
        let touches = keys.flat_map(|keys| {
            let touch = move |key| Touch { db: self.db, key, writes: keys.used() != KeyUse::Read, rule: None };
            keys.positions(command).take(LOOKED_KEYS_MAX).filter_map(|index| command.arg(index)).map(touch)
        });
        let ruled = touches.map(|touch| Touch { rule: policies.rule_of(touch.key), ..touch });
        self.shared.top.look(ruled, policies.generation());
    }

    /// Takes note of a large value.
    pub(super) fn note_large(&self, command: &Command<'_>, row: &Row) {
        let top = &self.shared.top;
        let pairs = matches!(row.kind, Kind::MultiSet | Kind::MultiSetEx);
        let written = row.keys.iter().filter(|keys| keys.used() != KeyUse::Read);
        for index in written.flat_map(|keys| keys.positions(command)).take(LOOKED_KEYS_MAX) {
            let Some(key) = command.arg(index) else { continue };
            let bytes = match row.kind {
                _ if pairs => command.arg(index + 1).map_or(0, <[u8]>::len),
                Kind::Set(_) => command.rest(index + 1).map(<[u8]>::len).max().unwrap_or(0),
                // Of a list or a hash: what this command adds.
                _ => command.rest(index + 1).map(<[u8]>::len).sum(),
            };
            if top.is_large(bytes) {
                top.large(self.db, key, bytes);
            }
        }
    }
}
