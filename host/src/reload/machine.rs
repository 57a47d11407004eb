//! The thread that looks at the policy folder and carries out orders, one after the other: every change of the policy
//! set goes through here.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use super::shadow::Comparing;
use super::{Arc, Came, Content, Fingerprint, FolderIs, PolicySet, Rejected, Reloader, digest};
use crate::rollout::{Asked, Candidate, Denied, Done, Earlier, Order};

/// The thread's own.
pub(super) struct Machine {
    pub(super) reloader: Reloader,
    /// The candidate.
    pub(super) comparing: Option<Comparing>,
    /// The folder at the last look, and how many looks before that found the same.
    previous: Fingerprint,
    equal: u32,
    looked: Instant,
}

/// Looks that must find the folder as the one before did: what was being written has been written.
const EQUAL: u32 = 1;
/// The same where a file has become empty: whoever writes a file in its place empties it first, and may be held up.
const EQUAL_WHERE_EMPTY: u32 = 8;

/// Carries out orders and looks at the folder until it is told to stop.
pub(super) fn run(reloader: Reloader) {
    let Some(orders) = reloader.rollout.take_orders() else { return };
    let previous = reloader.seen.clone().unwrap_or_default();
    let mut machine = Machine { reloader, comparing: None, previous, equal: 0, looked: Instant::now() };
    while machine.turn(&orders) {}
}

// === impl Machine ===

impl Machine {
    /// One order, or one look. False: there will be no more.
    fn turn(&mut self, orders: &Receiver<Asked>) -> bool {
        match orders.recv_timeout(self.reloader.poll.saturating_sub(self.looked.elapsed())) {
            Ok(Asked { order: Order::Stop, .. }) | Err(RecvTimeoutError::Disconnected) => return false,
            Ok(Asked { order, answer }) => {
                // Who asked may have gone.
                drop(answer.send(self.take(order)));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        self.judge();
        if self.looked.elapsed() >= self.reloader.poll {
            self.looked = Instant::now();
            self.look();
        }
        true
    }

    fn take(&mut self, order: Order) -> Result<Done, Denied> {
        match order {
            Order::Shadow(candidate, gate) => self.shadow(candidate, gate),
            Order::Publish(candidate) => self.publish(candidate),
            Order::Promote => self.promote(),
            Order::Reject => self.reject(),
            Order::Rollback(number) => self.rollback(number),
            Order::Stop => Err(Denied::Conflict("the sidecar stops".to_owned())),
        }
    }

    /// Looks whether the folder has changed, and takes up what it holds once nobody writes there any more.
    fn look(&mut self) {
        let folder = &self.reloader.folder;
        if !folder.is_watched() {
            return;
        }
        let now = folder.fingerprint();
        self.equal = if now == self.previous { self.equal.saturating_add(1) } else { 0 };
        self.previous.clone_from(&now);
        let seen = self.reloader.seen.as_ref();
        let was = |name| seen.and_then(|seen| seen.get(name));
        let is_emptied = now.iter().any(|(name, of)| of.1 == 0 && was(name) != Some(of));
        if self.equal < if is_emptied { EQUAL_WHERE_EMPTY } else { EQUAL } || seen == Some(&now) {
            return;
        }
        tracing::debug!("the policy folder changed; reading it");
        let content = folder.read();
        // What was read is of one moment, or it is read again.
        if folder.fingerprint() == now {
            self.reloader.seen = Some(now);
            self.take_up(content);
        }
    }

    /// The folder holds something else.
    fn take_up(&mut self, content: Result<Content, Rejected>) {
        let begun = Instant::now();
        let Some(old) = self.reloader.rollout.published.active() else { return };
        let held = content.and_then(|content| Ok((digest(&content.mounts()?), content)));
        if let Ok((held, _)) = &held
            && self.is_known(held, &old)
        {
            return;
        }
        self.drop_candidate_of_folder();
        let reloader = &self.reloader;
        let number = reloader.rollout.board().begin(Came::Folder, reloader.clock.now());
        let loaded = held.and_then(|(_, mut content)| {
            self.share(&mut content);
            reloader.load(number, &content, Some(&old))
        });
        match (loaded, reloader.gate) {
            (Ok(set), Some(gate)) => self.shadow_folder(&set, gate),
            (Ok(set), None) => {
                reloader.forget_refusal();
                let mut board = reloader.rollout.board();
                (board.folder, board.set_aside, board.last_good) = (FolderIs::InForce, None, None);
                drop(board);
                self.put_in_force(&set, &format!("generation {number} of the policy folder came into force"), begun);
            }
            (Err(rejected), _) => reloader.refuse_folder(number, rejected, old.generation),
        }
    }

    /// Whether nothing is to be done about what the folder holds now: it is in force, in the shadow or set aside.
    fn is_known(&mut self, held: &str, old: &PolicySet) -> bool {
        let rollout = Arc::clone(&self.reloader.rollout);
        let digest_of = |number: u64| rollout.board().find(number).map(|of| of.digest.clone());
        if self.candidate_of_folder().and_then(digest_of).is_some_and(|digest| digest == *held) {
            tracing::debug!("what the policy folder holds changed, the candidate did not");
            return true;
        }
        let is_in_force = digest_of(old.generation).is_some_and(|digest| digest == *held);
        if is_in_force {
            self.drop_candidate_of_folder();
        }
        let reloader = &self.reloader;
        let mut board = rollout.board();
        if is_in_force && board.content(board.active).is_some() {
            let was = std::mem::replace(&mut board.folder, FolderIs::InForce);
            (board.set_aside, board.last_good) = (None, None);
            drop(board);
            reloader.forget_refusal();
            if matches!(was, FolderIs::InForce | FolderIs::None) {
                tracing::debug!("what the policy folder holds changed, the policies did not");
            } else {
                let serving = old.generation;
                tracing::info!("the policy folder holds again what generation {serving} serves");
                reloader.keep();
            }
            return true;
        }
        if board.set_aside.as_deref() == Some(held) {
            board.folder = FolderIs::SetAside;
            tracing::info!("the policy folder holds still what was set aside, and is left alone");
            return true;
        }
        false
    }

    /// Loads what was uploaded.
    pub(super) fn load(&mut self, candidate: Candidate) -> Result<Arc<PolicySet>, Denied> {
        let reloader = &self.reloader;
        let active = reloader.rollout.published.active();
        let number = active.as_ref().map_or(0, |set| set.generation);
        let mut content = match reloader.rollout.board().content(number) {
            Some(content) if candidate.over => content.with(candidate.files),
            _ => Content::new(candidate.files, reloader.folder.json(), None),
        };
        self.share(&mut content);
        let held = content.mounts().map(|mounts| digest(&mounts));
        let mut board = reloader.rollout.board();
        if let Ok(held) = &held
            && board.find(number).is_some_and(|of| of.digest == *held)
        {
            return Err(Denied::Conflict(format!("generation {number} is made of the same, so that nothing changes")));
        }
        let number = board.begin(Came::Upload, reloader.clock.now());
        drop(board);
        reloader.load(number, &content, active.as_deref()).map_err(|rejected| {
            reloader.metrics.generations_refused.add(0, 1);
            tracing::error!("generation {number}, an upload, refused: {rejected}");
            let said = rejected.to_string();
            reloader.rollout.board().reject(number, &rejected, reloader.clock.now());
            Denied::Refused { generation: number, said }
        })
    }

    fn publish(&mut self, candidate: Candidate) -> Result<Done, Denied> {
        let begun = Instant::now();
        let set = self.load(candidate)?;
        self.put_upload_in_force(&set, &format!("generation {} was put in force", set.generation), begun);
        Ok(Done { generation: set.generation, said: format!("generation {} is in force", set.generation) })
    }

    fn rollback(&mut self, number: Option<u64>) -> Result<Done, Denied> {
        let begun = Instant::now();
        let reloader = &self.reloader;
        let found = reloader.rollout.board().to_go_back_to(number);
        let Earlier { number, content, set } = found.map_err(Denied::Conflict)?;
        let set = match (set, content) {
            (Some(set), _) => set,
            (None, Some(content)) => self.load_again(number, &content)?,
            (None, None) => return Err(Denied::Conflict(format!("generation {number} is not kept"))),
        };
        self.set_folder_aside(number);
        self.put_in_force(&set, &format!("rolled back to generation {number}"), begun);
        Ok(Done { generation: number, said: format!("generation {number} is in force{}", self.about_folder()) })
    }

    /// Compiles a generation again that was in force before.
    fn load_again(&self, number: u64, content: &Content) -> Result<Arc<PolicySet>, Denied> {
        let reloader = &self.reloader;
        let active = reloader.rollout.published.active();
        let refused = |rejected: Rejected| Denied::Refused { generation: number, said: rejected.to_string() };
        let mounts = content.mounts().map_err(refused)?;
        let set = PolicySet::load(&reloader.engine, number, &mounts, active.as_deref()).map_err(refused)?;
        if let Some(generation) = reloader.rollout.board().find(number) {
            generation.loaded(&set);
        }
        Ok(Arc::new(set))
    }

    /// An operator puts a generation in force that is not what the folder holds.
    pub(super) fn put_upload_in_force(&mut self, set: &Arc<PolicySet>, why: &str, begun: Instant) {
        self.set_folder_aside(set.generation);
        self.put_in_force(set, why, begun);
    }

    /// What the folder holds now is left alone until it holds something else, unless it is what generation `number` is.
    fn set_folder_aside(&mut self, number: u64) {
        let reloader = &mut self.reloader;
        reloader.forget_refusal();
        if reloader.folder.path().is_none() {
            return;
        }
        self.previous = reloader.folder.fingerprint();
        reloader.seen = Some(self.previous.clone());
        let held = reloader.folder.mounts().ok().map(|mounts| digest(&mounts));
        let mut board = reloader.rollout.board();
        let same = held.is_some() && board.find(number).map(|of| of.digest.clone()) == held;
        board.last_good = None;
        (board.folder, board.set_aside) = if same { (FolderIs::InForce, None) } else { (FolderIs::SetAside, held) };
    }

    pub(super) fn about_folder(&self) -> &'static str {
        match self.reloader.rollout.board().folder {
            FolderIs::SetAside => "; the policy folder holds something else and is left alone until it changes",
            _ => "",
        }
    }

    /// From now on it decides. `why` the one before no longer does.
    pub(super) fn put_in_force(&mut self, set: &Arc<PolicySet>, why: &str, begun: Instant) {
        // A candidate was compared with what no longer decides.
        self.drop_candidate(&format!("generation {} came into force meanwhile", set.generation));
        let reloader = &self.reloader;
        let rollout = &reloader.rollout;
        let Some(old) = rollout.published.active() else { return };
        let number = set.generation;
        rollout.board().activate(number, set, why, reloader.clock.now());
        if let Err(error) = rollout.published.publish(Arc::clone(set)) {
            tracing::error!(error = %format!("{error:#}"), "generation {number} could not be put in force");
            return;
        }
        reloader.metrics.generations.add(0, 1);
        let (changed, ms) = (set.changes_from(&old), begun.elapsed().as_millis());
        tracing::info!("generation {} → {number} ({changed}) {ms} ms{}", old.generation, self.about_folder());
        reloader.keep();
        reloader.note_markets(set);
    }

    /// Bytes that are in memory already are taken from there.
    fn share(&self, content: &mut Content) {
        let board = self.reloader.rollout.board();
        for generation in &board.generations {
            if let Some(known) = board.content(generation.number) {
                content.share_with(known);
            }
        }
    }
}
