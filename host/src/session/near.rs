//! Reads that are answered from memory.

use super::Session;
use crate::command::{Command, Row};
use crate::proxy::near::{Asks, NearResult};
use crate::resp::write;

// === impl Session ===

impl Session {
    /// Answers a read from memory. False: it is one for the server, which is asked for the values that are worth
    /// keeping.
    pub(super) fn answered_near(&mut self, command: &Command<'_>, row: &Row, now: i64) -> bool {
        let policies = self.shared.policies.borrow();
        // Behind a command that waits the server's reply is of then, and what is in memory is of now.
        let waits = self.held.blocking && self.outbox.owed() > 0;
        if !policies.is_near() || waits || self.held.is_exclusive(&self.outbox) || self.is_muted() {
            return false;
        }
        let Some(asks) = Asks::of(command, row) else { return false };
        drop(policies);
        match asks {
            Asks::One => self.one_near(command.arg(1).unwrap_or_default(), now),
            Asks::Many => self.many_near(command, now),
        }
    }

    fn one_near(&self, key: &[u8], now: i64) -> bool {
        let policies = self.shared.policies.borrow();
        let Some(rule) = policies.near(key) else { return false };
        let mut near = self.shared.near.borrow_mut();
        if let Some(reply) = near.get(self.db, key, rule.near_ms, now) {
            policies.count_near(rule, NearResult::Hit);
            if self.shared.top.is_large(reply.len()) {
                self.shared.top.large(self.db, key, reply.len());
            }
            self.answer_near(reply);
            return true;
        }
        if let Some(fail_safe_ms) = rule.fail_safe_ms.filter(|_| self.shared.lanes.is_lost())
            && let Some(reply) = near.get_left_over(self.db, key, fail_safe_ms, now)
        {
            policies.count_near(rule, NearResult::LeftOver);
            self.answer_near(reply);
            return true;
        }
        if rule.ahead_percent.is_some()
            && let Some((reply, is_tried)) = near.get_late(self.db, key, rule.near_ms, now)
        {
            policies.count_near(rule, NearResult::Hit);
            if is_tried {
                self.answer_near(reply);
            }
            return is_tried;
        }
        drop(near);
        policies.count_near(rule, NearResult::Miss);
        self.shared.lanes.note(self.db, key, rule.near_ms, rule.ahead_percent, now);
        false
    }

    /// All of them or none: a reply is of one moment.
    fn many_near(&self, command: &Command<'_>, now: i64) -> bool {
        let policies = self.shared.policies.borrow();
        let near = self.shared.near.borrow();
        let mut reply = Vec::new();
        write::array(&mut reply, command.args.len() - 1);
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for key in command.rest(1) {
            let Some(rule) = policies.near(key) else { return false };
            let late = || near.get_late(self.db, key, rule.near_ms, now).map(|(value, _)| value);
            match near.get(self.db, key, rule.near_ms, now).or_else(late) {
                Some(value) => {
                    reply.extend_from_slice(value);
                    found.push(rule);
                }
                None => missing.push((key, rule)),
            }
        }
        let all = missing.is_empty();
        if all {
            found.into_iter().for_each(|rule| policies.count_near(rule, NearResult::Hit));
            self.answer_near(&reply);
        }
        drop(near);
        for (key, rule) in missing {
            policies.count_near(rule, NearResult::Miss);
            self.shared.lanes.note(self.db, key, rule.near_ms, rule.ahead_percent, now);
        }
        all
    }

    fn answer_near(&self, reply: &[u8]) {
        match self.held.current() {
            Some(lane) => lane.answer(&self.outbox, reply),
            None => self.outbox.push(reply),
        }
    }
}
