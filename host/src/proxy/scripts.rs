//! The keys that scripts declare: under rules that the settings name, those get a lifetime too. What a script does to
//! them nobody knows beforehand, and one that fails may have written some of them; so the expiry follows every script,
//! and only a key that has no lifetime by then is given it.

use std::rc::Rc;

use super::lifetime::Lifetime;
use super::{Asked, Plan, Policies, Ruling};
use crate::command::{Command, Data, KeyUse, Row};
use crate::policy::PolicySet;

/// Names all rules.
const ALL: &str = "*";

/// Which rules are named, by their places. Empty: none.
pub(super) fn opted_in(names: Option<&str>, set: &PolicySet, worker: usize) -> Vec<bool> {
    let Some(names) = names else { return Vec::new() };
    let rules = set.rules.rules();
    let is_known = |name: &str| name == ALL || rules.iter().any(|rule| rule.name == name);
    // Once for the process.
    for name in names.split_whitespace().filter(|name| worker == 0 && !is_known(name)) {
        tracing::warn!("script_rules names {name}, and no policy has such a rule");
    }
    let is_named = |rule: &str| names.split_whitespace().any(|name| name == ALL || name == rule);
    let opted: Vec<_> = rules.iter().map(|rule| is_named(&rule.name)).collect();
    if opted.contains(&true) { opted } else { Vec::new() }
}

// === impl Policies ===

impl Policies {
    pub(super) fn decide_script<'a>(&mut self, command: &Command<'a>, row: &Row, now: i64) -> Plan<'a> {
        let mut plan = Plan::as_it_came();
        let (set, value_bytes) = (Rc::clone(self.decider().set()), command.bytes.len() as u64);
        for keys in row.keys.iter().filter(|keys| keys.used() != KeyUse::Read) {
            for key in keys.positions(command).filter_map(|index| command.arg(index)) {
                let Some((id, rule)) = set.rules.find(key) else { continue };
                if self.scripts.get(id.index()) != Some(&true) {
                    continue;
                }
                match self.ruling(id, rule, &Asked { key, data: Data::Other, value_bytes, client: None, now }) {
                    Ruling::Refused(refusal) => return Plan::refused(refusal),
                    // Never in the place of one that it has: the script may have set that, or may only have read.
                    Ruling::Ruled(_, Lifetime::Ms(ms)) => plan = plan.then(key, ms, true),
                    Ruling::Ruled(..) | Ruling::Free => {}
                }
            }
        }
        plan
    }
}
