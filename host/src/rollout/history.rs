//! Which generations there are and were: their states with times and reasons, and what is kept of them to go back to.
//! Bounded in number and bytes. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::content::Content;
use super::shadow::Shadow;
use crate::policy::{PolicySet, Rejected, Stage, one_line};

/// What there is to tell.
pub struct Board {
    /// All generations, the oldest first.
    pub generations: Vec<Generation>,
    /// The number of the one that decides.
    pub active: u64,
    /// The largest number that was given.
    pub last: u64,
    /// What the policy folder is to the generation that decides.
    pub folder: FolderIs,
    /// The digest of what the policy folder holds, where it was set aside.
    pub set_aside: Option<String>,
    /// Why an earlier generation is served in the place of what the policy folder holds, since the start.
    pub last_good: Option<String>,
    /// What keeping the last good generation for a restart came to: nothing where it is kept, or why it is not.
    pub unkept: Option<String>,
    /// The last comparison.
    pub shadow: Option<Arc<Shadow>>,
    max: usize,
    bytes_max: usize,
}

/// A policy set on its way.
pub struct Generation {
    /// Its number. None is given twice.
    pub number: u64,
    /// What tells its policies from others. Empty where its files could not be read.
    pub digest: String,
    /// Where it came from.
    pub came: Came,
    /// How far it is, and when it came so far; the last is now.
    pub states: Vec<(State, i64)>,
    /// Why it is no longer in force, or never was.
    pub reason: Option<String>,
    /// The step at which it was rejected, and the policy at fault.
    pub rejected: Option<(&'static str, Option<String>)>,
    /// Names and digests of its policies.
    pub policies: Vec<(String, String)>,
    content: Option<Content>,
    set: Option<Arc<PolicySet>>,
}

/// A generation that can be put in force again: what it is made of, loaded still or to be loaded again.
pub struct Earlier {
    /// Its number.
    pub number: u64,
    /// What it is made of.
    pub content: Option<Content>,
    /// The one that was last in force before stays loaded.
    pub set: Option<Arc<PolicySet>>,
}

/// Where a generation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// The policy folder, or the standard policies alone.
    Folder,
    /// An operator's upload.
    Upload,
    /// What was kept of an earlier run.
    Kept,
}

/// How far a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its files have been read.
    Read,
    /// Its components have been compiled.
    Compiled,
    /// They export and import what they must.
    Linked,
    /// Its policies have taken their settings.
    Configured,
    /// They have passed their own cases.
    SelfTested,
    /// It is compared with the one in force.
    Shadowing,
    /// It decides.
    Active,
    /// It has decided.
    Retired,
    /// It never will.
    Rejected,
}

/// What the policy folder is to the generation that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderIs {
    /// There is none.
    None,
    /// That generation is what it holds.
    InForce,
    /// An operator put another generation in force, or what it holds was not let through: it is left alone until it
    /// changes.
    SetAside,
    /// What it holds is compared with that generation.
    Shadowing,
    /// What it holds was refused.
    Refused,
}

// === impl Board ===

impl Board {
    /// Without generations.
    pub(super) fn new(max: usize, bytes_max: usize) -> Self {
        Self {
            generations: Vec::new(),
            active: 0,
            last: 0,
            folder: FolderIs::None,
            set_aside: None,
            last_good: None,
            unkept: None,
            shadow: None,
            max: max.max(1),
            bytes_max,
        }
    }

    /// A new generation, which is being read.
    pub fn begin(&mut self, came: Came, at: i64) -> u64 {
        self.last += 1;
        self.remember(self.last, came, at);
        self.last
    }

    /// A generation that had its number before.
    pub fn remember(&mut self, number: u64, came: Came, at: i64) -> &mut Generation {
        self.last = self.last.max(number);
        self.generations.retain(|generation| generation.number != number);
        let place = self.generations.partition_point(|generation| generation.number < number);
        self.generations.insert(place, Generation::new(number, came, at));
        &mut self.generations[place]
    }

    /// The generation of a number.
    pub fn find(&mut self, number: u64) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|generation| generation.number == number)
    }

    /// One that decides, has decided or may: what a candidate is laid over.
    pub fn content(&self, number: u64) -> Option<&Content> {
        self.generations.iter().find(|generation| generation.number == number)?.content.as_ref()
    }

    /// It did not come far enough.
    pub fn reject(&mut self, number: u64, rejected: &Rejected, at: i64) {
        let Some(generation) = self.find(number) else { return };
        generation.reason = Some(one_line(&rejected.reason));
        generation.rejected = Some((rejected.stage.label(), rejected.policy.clone()));
        generation.drop_with(State::Rejected, at);
        self.bound();
    }

    /// A candidate is dropped after it was compared, for this reason.
    pub fn reject_candidate(&mut self, number: u64, reason: String, at: i64) {
        let Some(generation) = self.find(number) else { return };
        generation.reason = Some(reason);
        generation.rejected = Some(("shadow", None));
        generation.drop_with(State::Rejected, at);
        self.bound();
    }

    /// It decides from now on, and the one before does no longer, for this reason.
    pub fn activate(&mut self, number: u64, set: &Arc<PolicySet>, reason: &str, at: i64) {
        let before = self.active;
        if let Some(generation) = self.find(before).filter(|_| before != number) {
            generation.states.push((State::Retired, at));
            generation.reason = Some(reason.to_owned());
        }
        if let Some(generation) = self.find(number) {
            generation.states.push((State::Active, at));
            generation.reason = None;
            generation.set = Some(Arc::clone(set));
        }
        self.active = number;
        // One is kept compiled to go back to at once; the others are compiled again.
        for generation in &mut self.generations {
            if ![before, number].contains(&generation.number) && generation.state() == State::Retired {
                generation.set = None;
            }
        }
        self.bound();
    }

    /// The generation to go back to: of this number, or the one that was last in force before.
    ///
    /// # Errors
    /// There is none; the text says why.
    pub fn to_go_back_to(&self, number: Option<u64>) -> Result<Earlier, String> {
        let can = |generation: &&Generation| generation.state() == State::Retired && generation.is_kept();
        let known = || {
            let numbers: Vec<_> = self.generations.iter().filter(can).map(|of| of.number.to_string()).collect();
            if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") }
        };
        let found = match number {
            Some(number) if number == self.active => return Err(format!("generation {number} is in force")),
            Some(number) => self.generations.iter().filter(can).find(|generation| generation.number == number),
            None => self.generations.iter().filter(can).max_by_key(|generation| generation.active_until()),
        };
        let Some(found) = found else {
            let what = number.map_or("there is no earlier generation".to_owned(), |number| {
                format!("generation {number} is not kept")
            });
            return Err(format!("{what}; those that can be gone back to: {}", known()));
        };
        Ok(Earlier { number: found.number, content: found.content.clone(), set: found.set.clone() })
    }

    /// Those that can be gone back to and the one that decides, the oldest first.
    pub fn kept(&self) -> impl Iterator<Item = (&Generation, &Content)> {
        let decides = |of: &&Generation| matches!(of.state(), State::Active | State::Retired);
        self.generations.iter().filter(decides).filter_map(|of| Some((of, of.content.as_ref()?)))
    }

    /// Forgets what is too much: the oldest first, never the one that decides or a candidate.
    fn bound(&mut self) {
        for state in [State::Retired, State::Rejected] {
            // The one that decides is one of the kept.
            let max = if state == State::Retired { self.max - 1 } else { self.max };
            while self.generations.iter().filter(|of| of.state() == state).count() > max {
                let Some(oldest) = self.generations.iter().position(|of| of.state() == state) else { break };
                self.generations.remove(oldest);
            }
        }
        while self.bytes() > self.bytes_max {
            let kept = |of: &&mut Generation| of.state() == State::Retired && of.content.is_some();
            let Some(oldest) = self.generations.iter_mut().find(kept) else { break };
            (oldest.content, oldest.set) = (None, None);
        }
    }

    /// Bytes of all files, each once.
    fn bytes(&self) -> usize {
        let contents = self.generations.iter().filter_map(|of| of.content.as_ref());
        let files = contents.flat_map(|content| content.files.values().chain(content.standard.values()));
        let mut seen = BTreeSet::new();
        files.filter(|bytes| seen.insert(bytes.as_ptr())).map(|bytes| bytes.len()).sum()
    }
}

// === impl Generation ===

impl Generation {
    fn new(number: u64, came: Came, at: i64) -> Self {
        Self {
            number,
            digest: String::new(),
            came,
            states: vec![(State::Read, at)],
            reason: None,
            rejected: None,
            policies: Vec::new(),
            content: None,
            set: None,
        }
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.states.last().map_or(State::Read, |(state, _)| *state)
    }

    /// Its files are known.
    pub fn has_content(&mut self, content: Content, digest: String) {
        (self.content, self.digest) = (Some(content), digest);
    }

    /// It came so far.
    pub fn reached(&mut self, stage: Stage, at: i64) {
        let states: &[State] = match stage {
            Stage::Read | Stage::Assemble => &[],
            Stage::Compile => &[State::Compiled, State::Linked],
            Stage::Configure => &[State::Configured],
            Stage::SelfTest => &[State::SelfTested],
        };
        states.iter().for_each(|state| self.is(*state, at));
    }

    /// It is in this state from now on.
    pub fn is(&mut self, state: State, at: i64) {
        tracing::debug!("generation {} is {}", self.number, state.label());
        self.states.push((state, at));
    }

    /// It decided in an earlier run, and when that ended, or before.
    pub fn was_active(&mut self, at: i64, to_the_end: bool) {
        self.states = vec![(State::Active, at), (State::Retired, at)];
        let why = if to_the_end { "the process ended" } else { "before this start" };
        self.reason = Some(why.to_owned());
    }

    /// It is loaded.
    pub fn loaded(&mut self, set: &PolicySet) {
        let policy = |policy: &Arc<crate::policy::Policy>| (policy.name.clone(), policy.facts.digest.clone());
        self.policies = set.policies.iter().map(policy).collect();
    }

    /// When it last came into force.
    pub fn active_since(&self) -> Option<i64> {
        self.states.iter().rev().find(|(state, _)| *state == State::Active).map(|(_, at)| *at)
    }

    /// Whether it can be put in force again.
    pub fn is_kept(&self) -> bool {
        self.content.is_some() || self.set.is_some()
    }

    fn active_until(&self) -> Option<(i64, u64)> {
        self.states.iter().rev().find(|(state, _)| *state == State::Retired).map(|(_, at)| (*at, self.number))
    }

    fn drop_with(&mut self, state: State, at: i64) {
        self.states.push((state, at));
        (self.content, self.set) = (None, None);
    }
}

// === impl Came ===

impl Came {
    /// What people call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Upload => "upload",
            Self::Kept => "kept",
        }
    }
}

// === impl State ===

impl State {
    /// What people call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Compiled => "compiled",
            Self::Linked => "linked",
            Self::Configured => "configured",
            Self::SelfTested => "self-tested",
            Self::Shadowing => "shadowing",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Rejected => "rejected",
        }
    }
}

// === impl FolderIs ===

impl FolderIs {
    /// What people call it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::InForce => "in force",
            Self::SetAside => "set aside",
            Self::Shadowing => "in the shadow",
            Self::Refused => "refused",
        }
    }
}
