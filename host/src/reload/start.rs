//! The first generation: what the policy folder holds, or what was kept of an earlier run where the folder is broken or
//! was set aside.

use std::time::Instant;

use super::{Arc, Came, FolderIs, Kept, PolicySet, Rejected, Reloader, digest, one_line};

// === impl Reloader ===

impl Reloader {
    /// Loads the first generation: what the folder holds, unless an operator had set exactly that aside. Where it does
    /// not load, the last good generation that was kept.
    ///
    /// # Errors
    /// It does not load, and there is nothing older to serve with.
    pub fn first(&mut self) -> Result<Arc<PolicySet>, Rejected> {
        let begun = Instant::now();
        self.seen = Some(self.folder.fingerprint());
        let kept = self.kept();
        let mut content = self.folder.read().and_then(|content| Ok((digest(&content.mounts()?), content)));
        let held = content.as_ref().ok().map(|(digest, _)| digest.clone());
        if let Some(kept) = &kept {
            self.take_up(kept);
            if let Ok((_, content)) = &mut content {
                kept.generations.iter().for_each(|of| content.share_with(&of.content));
            }
            if held.is_some() && kept.set_aside == held {
                let why = "the policy folder holds what an operator set aside";
                // Before anything is kept again: the restart after this one is to know it too.
                self.rollout.board().set_aside.clone_from(&held);
                if let Some(set) = self.last_good(kept, why, begun) {
                    let mut board = self.rollout.board();
                    (board.folder, board.last_good) = (FolderIs::SetAside, None);
                    drop(board);
                    return Ok(set);
                }
                self.rollout.board().set_aside = None;
            }
        }
        // What differs from what was in force comes into force by its gate alone, where it can be compared: what is not
        // watched is what whoever starts the process wants.
        let gated = self.gate.is_some() && self.folder.is_watched() && held.is_some();
        let same = |kept: &Kept| {
            let found = kept.generations.iter().find(|of| of.number == kept.active)?;
            held.as_ref().is_some_and(|held| *held == found.digest).then_some(found.number)
        };
        if let Some(kept) = kept.as_ref().filter(|kept| gated && same(kept).is_none()) {
            let why = "the policy folder holds something else, which is compared first";
            if let Some(set) = self.last_good(kept, why, begun) {
                let mut board = self.rollout.board();
                (board.folder, board.last_good) = (FolderIs::Shadowing, None);
                drop(board);
                // So that the first looks take it up.
                self.seen = None;
                return Ok(set);
            }
        }
        let number = {
            let mut board = self.rollout.board();
            match kept.as_ref().and_then(same) {
                Some(number) => board.remember(number, Came::Folder, self.clock.now()).number,
                None => board.begin(Came::Folder, self.clock.now()),
            }
        };
        match content.and_then(|(_, content)| self.load(number, &content, None)) {
            Ok(set) => {
                let is = if self.folder.path().is_some() { FolderIs::InForce } else { FolderIs::None };
                self.rollout.board().folder = is;
                Ok(self.begin_with(set, "", begun))
            }
            Err(rejected) => {
                let Some(kept) = kept else { return Err(rejected) };
                let why = format!("the policy folder was refused: {rejected}");
                let Some(set) = self.last_good(&kept, &why, begun) else { return Err(rejected) };
                self.refuse_folder(number, rejected, set.generation);
                Ok(set)
            }
        }
    }

    /// What was kept of an earlier run.
    fn kept(&self) -> Option<Kept> {
        let read = self.rollout.keep()?.read();
        read.unwrap_or_else(|error| {
            tracing::error!(error = %one_line(&error), "what was kept of earlier generations cannot be used");
            None
        })
    }

    /// The generations of an earlier run can be gone back to.
    fn take_up(&self, kept: &Kept) {
        let mut board = self.rollout.board();
        board.last = board.last.max(kept.last);
        for of in &kept.generations {
            let generation = board.remember(of.number, Came::Kept, of.at);
            generation.has_content(of.content.clone(), of.digest.clone());
            generation.was_active(of.at, of.number == kept.active);
        }
    }

    /// Serves what was in force when the process ended; where that is damaged, the newest before it.
    fn last_good(&self, kept: &Kept, why: &str, begun: Instant) -> Option<Arc<PolicySet>> {
        let active = kept.generations.iter().filter(|of| of.number == kept.active);
        for of in active.chain(kept.generations.iter().rev().filter(|of| of.number != kept.active)) {
            let number = self.rollout.board().remember(of.number, Came::Kept, of.at).number;
            match self.load(number, &of.content, None) {
                Ok(set) => {
                    self.rollout.board().last_good = Some(why.to_owned());
                    return Some(self.begin_with(set, why, begun));
                }
                Err(rejected) => {
                    tracing::error!("generation {number}, which was kept, does not load any more: {rejected}");
                    self.rollout.board().reject(number, &rejected, self.clock.now());
                }
            }
        }
        None
    }

    fn begin_with(&self, set: Arc<PolicySet>, why: &str, begun: Instant) -> Arc<PolicySet> {
        let (number, ms) = (set.generation, begun.elapsed().as_millis());
        if why.is_empty() {
            tracing::info!("generation {number} ({}) {ms} ms", set.digests());
        } else {
            tracing::error!("the last good generation {number} ({}) serves, {ms} ms: {why}", set.digests());
        }
        self.metrics.generations.add(0, 1);
        self.rollout.board().activate(number, &set, "", self.clock.now());
        self.keep();
        self.note_markets(&set);
        set
    }
}
