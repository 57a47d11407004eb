//! A candidate on live traffic: workers hand their decisions into a bounded queue and never wait, and one thread of low
//! priority puts them to the candidate. The gate, an operator or another generation ends it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::machine::Machine;
use crate::policy::PolicySet;
use crate::record::{Listener, Records, Sample};
use crate::rollout::{Candidate, Comparison, Denied, Done, FolderIs, Gate, Shadow, State, Verdict};

/// A candidate that is compared, or that was and waits for a person.
pub(super) struct Comparing {
    shadow: Arc<Shadow>,
    set: Arc<PolicySet>,
    thread: JoinHandle<()>,
    /// It is what the policy folder holds.
    is_of_folder: bool,
}

/// Decisions that may wait for the thread.
const CAPACITY: usize = 16_384;
/// The thread waits so long for a decision before it looks whether it is over.
const WAIT: Duration = Duration::from_millis(50);
/// How often it is looked whether more or fewer decisions are to be compared.
const RENEW: Duration = Duration::from_secs(1);
const ONE_OF_MAX: u32 = 1 << 16;

// === impl Machine ===

impl Machine {
    /// Loads a candidate, and begins to compare it.
    pub(super) fn shadow(&mut self, candidate: Candidate, gate: Gate) -> Result<Done, Denied> {
        if let Some(Comparing { shadow, .. }) = &self.comparing {
            let number = shadow.generation;
            return Err(Denied::Conflict(format!("generation {number} is in the shadow: promote or reject it first")));
        }
        if self.reloader.rollout.published.bypass() {
            let why = "bypass is on: policies are out of the path, and there are no decisions to compare";
            return Err(Denied::Conflict(why.to_owned()));
        }
        let set = self.load(candidate)?;
        let number = set.generation;
        let said =
            self.begin(&set, gate, false).map_err(|why| Denied::Conflict(format!("generation {number}: {why}")))?;
        Ok(Done { generation: number, said })
    }

    /// Begins to compare what the policy folder holds.
    pub(super) fn shadow_folder(&mut self, set: &Arc<PolicySet>, gate: Gate) {
        self.drop_candidate("the policy folder changed, and what it holds is compared");
        self.reloader.forget_refusal();
        let begun = self.begin(set, gate, true);
        let mut board = self.reloader.rollout.board();
        match begun {
            Ok(_) => (board.folder, board.set_aside) = (FolderIs::Shadowing, None),
            Err(why) => {
                let digest = board.find(set.generation).map(|of| of.digest.clone());
                (board.folder, board.set_aside) = (FolderIs::SetAside, digest);
                drop(board);
                tracing::error!("generation {}: {why}", set.generation);
                self.reloader.keep();
            }
        }
    }

    /// The number of the candidate that the policy folder holds.
    pub(super) fn candidate_of_folder(&self) -> Option<u64> {
        self.comparing.as_ref().filter(|of| of.is_of_folder).map(|of| of.shadow.generation)
    }

    /// The policy folder holds something else than the candidate.
    pub(super) fn drop_candidate_of_folder(&mut self) {
        if self.candidate_of_folder().is_some() {
            self.drop_candidate("the policy folder changed meanwhile");
        }
    }

    /// Begins to compare a candidate: what is said of it, or why it cannot be.
    fn begin(&mut self, set: &Arc<PolicySet>, gate: Gate, is_of_folder: bool) -> Result<String, String> {
        let rollout = Arc::clone(&self.reloader.rollout);
        let number = set.generation;
        let begun = rollout.published.active().ok_or_else(|| anyhow::anyhow!("nothing is in force"));
        let begun = begun.and_then(|active| self.compare(set, active, gate));
        let comparing = begun.map_err(|error| {
            let why = format!("it could not be compared: {error:#}");
            rollout.board().reject_candidate(number, why.clone(), self.reloader.clock.now());
            why
        })?;
        let (beside, seconds) = (comparing.shadow.beside, gate.span.as_secs_f64());
        let mut board = rollout.board();
        board.shadow = Some(Arc::clone(&comparing.shadow));
        if let Some(generation) = board.find(number) {
            generation.is(State::Shadowing, self.reloader.clock.now());
        }
        drop(board);
        self.comparing = Some(Comparing { is_of_folder, ..comparing });
        let said = format!("generation {number} is in the shadow of {beside} for {seconds} s");
        tracing::info!("{said} ({})", set.digests());
        Ok(said)
    }

    /// Puts the candidate in force.
    pub(super) fn promote(&mut self) -> Result<Done, Denied> {
        let number = self.candidate()?;
        self.let_through(&format!("generation {number} was promoted by an operator"));
        Ok(Done { generation: number, said: format!("generation {number} is in force{}", self.about_folder()) })
    }

    /// Drops the candidate.
    pub(super) fn reject(&mut self) -> Result<Done, Denied> {
        let generation = self.candidate()?;
        self.drop_candidate("an operator rejected it");
        Ok(Done { generation, said: format!("generation {generation} is rejected") })
    }

    /// Does what the gate says, once it says something.
    pub(super) fn judge(&mut self) {
        let Some(Comparing { shadow, thread, .. }) = &self.comparing else { return };
        let (number, counts) = (shadow.generation, shadow.in_words());
        match shadow.verdict() {
            Some(Verdict::Promote) => {
                self.let_through(&format!("generation {number} was promoted by its gate: {counts}"));
            }
            Some(Verdict::Reject(why)) => self.drop_candidate(&format!("the gate did not let it through: {why}")),
            Some(Verdict::Over) => {
                shadow.end("the time is over, and a person decides".to_owned());
                tracing::warn!("generation {number} was compared, {counts}: promote or reject it");
            }
            Some(Verdict::Wait) | None => {
                if thread.is_finished() && shadow.found().ended.is_none() {
                    self.drop_candidate("the comparison ended in a fault of bellwether's own");
                }
            }
        }
    }

    /// Drops the candidate, if there is one.
    pub(super) fn drop_candidate(&mut self, why: &str) {
        let Some(Comparing { shadow, is_of_folder, .. }) = self.comparing.take() else { return };
        let (number, beside, counts) = (shadow.generation, shadow.beside, shadow.in_words());
        tracing::error!("generation {number} was rejected in the shadow, {beside} serves on: {why}; {counts}");
        let at = self.reloader.clock.now();
        self.reloader.metrics.generations_refused.add(0, 1);
        let mut board = self.reloader.rollout.board();
        if is_of_folder {
            board.set_aside = board.find(number).map(|of| of.digest.clone());
            board.folder = FolderIs::SetAside;
        }
        board.reject_candidate(number, why.to_owned(), at);
        drop(board);
        if is_of_folder {
            // A restart is to know it too.
            self.reloader.keep();
        }
        shadow.end(format!("rejected: {why}"));
    }

    /// The number of the candidate.
    fn candidate(&self) -> Result<u64, Denied> {
        let comparing = self.comparing.as_ref();
        comparing.map(|of| of.shadow.generation).ok_or_else(|| Denied::Conflict("there is no candidate".to_owned()))
    }

    fn let_through(&mut self, why: &str) {
        let begun = Instant::now();
        let Some(Comparing { shadow, set, is_of_folder, .. }) = self.comparing.take() else { return };
        if is_of_folder {
            // What the folder has come to hold since is for the next look.
            let mut board = self.reloader.rollout.board();
            (board.folder, board.set_aside, board.last_good) = (FolderIs::InForce, None, None);
            drop(board);
            self.put_in_force(&set, why, begun);
        } else {
            self.put_upload_in_force(&set, why, begun);
        }
        shadow.end("promoted".to_owned());
    }

    fn compare(&self, set: &Arc<PolicySet>, active: Arc<PolicySet>, gate: Gate) -> anyhow::Result<Comparing> {
        let records = self.reloader.records();
        let listener = records.listen(Sample::ALL, CAPACITY)?;
        let shadow = Arc::new(Shadow::new(set, &active, gate));
        let (of, candidate) = (Arc::clone(&shadow), Arc::clone(set));
        let thread = std::thread::Builder::new().name("shadow".into()).spawn(move || {
            // It has the priority of the thread that makes it.
            run(&of, listener, &records, Comparison::new(Arc::clone(&of), active, candidate));
        })?;
        Ok(Comparing { shadow, set: Arc::clone(set), thread, is_of_folder: false })
    }
}

/// Puts decisions to the candidate until the gate says something, or somebody ends it. Where there are more decisions
/// than it can take, a part of them is asked for, so that workers have less to hand over.
fn run(shadow: &Shadow, mut listener: Listener, records: &Arc<Records>, mut comparison: Comparison) {
    let (begun, mut renewed, mut one_of) = (Instant::now(), Instant::now(), 1_u32);
    while shadow.goes_on(begun.elapsed()) {
        if let Some(record) = listener.recv(WAIT) {
            comparison.take(&record);
        }
        if renewed.elapsed() < RENEW {
            continue;
        }
        renewed = Instant::now();
        let dropped = listener.dropped();
        let next = if dropped > 0 { one_of.saturating_mul(2).min(ONE_OF_MAX) } else { (one_of / 2).max(1) };
        if next != one_of
            && let Some(sample) = Sample::one_of(next)
            && let Ok(other) = records.listen(sample, CAPACITY)
        {
            // What still waits is of another sample.
            let waiting = std::iter::from_fn(|| listener.try_recv()).take(CAPACITY).count();
            (listener, one_of) = (other, next);
            shadow.sampled(one_of, dropped + waiting as u64);
        }
    }
    shadow.sampled(one_of, listener.dropped());
}
