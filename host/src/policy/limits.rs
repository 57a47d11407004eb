//! What a policy may take: the limits of the settings, and what a policy's own file says of it.

use serde::{Deserialize, Serialize};

use crate::config::Config;

/// What a policy may take. All of it always applies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Instructions of one decision.
    pub fuel_max: u64,
    /// Instructions of loading: `configure`, `describe`, `rules`, `symbols`.
    pub load_fuel_max: u64,
    /// Wall-clock time of one call; a backstop, fuel is the budget.
    pub call_ms_max: u64,
    /// Linear memory of one instance.
    pub memory_bytes_max: usize,
    /// Calls into the host of one decision.
    pub host_calls_max: u32,
    /// Bytes a policy may hand to the host in one call.
    pub hostcall_bytes_max: usize,
    /// Lines that one instance may log in a second.
    pub log_lines_per_second_max: u32,
    /// Size of a component.
    pub component_bytes_max: usize,
    /// Decisions before an instance is replaced by a fresh one.
    pub instance_calls_max: u32,
    /// Decisions that one worker remembers.
    pub memo_entries_max: usize,
}

/// The limits of one policy that are not those of the settings: `[limits]` in its file. Each is the setting
/// `policy_…` of the same name, for this policy alone; it may be more or less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OwnLimits {
    /// Instructions of one decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_max: Option<u64>,
    /// Instructions that loading it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_fuel_max: Option<u64>,
    /// Milliseconds of one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_ms_max: Option<u64>,
    /// Bytes of memory of one instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<usize>,
    /// Calls into the host of one decision, log lines included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_calls_max: Option<u32>,
    /// Bytes that it may hand to the host in one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostcall_bytes_max: Option<usize>,
    /// Lines that one instance may log in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_lines_per_second_max: Option<u32>,
}

/// The time between two ticks of the backstop clock, in milliseconds. Coarse: a thread that waits for a core must not be
/// taken for one that hangs.
pub(super) const TICK_MS: u64 = 100;

// === impl Limits ===

impl Limits {
    /// The limits of a configuration.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            fuel_max: config.policy_fuel_max,
            load_fuel_max: config.policy_load_fuel_max,
            call_ms_max: config.policy_call_ms_max,
            memory_bytes_max: config.policy_memory_bytes_max,
            host_calls_max: config.policy_host_calls_max,
            hostcall_bytes_max: config.policy_hostcall_bytes_max,
            log_lines_per_second_max: config.policy_log_lines_per_second_max,
            component_bytes_max: config.policy_component_bytes_max,
            instance_calls_max: config.policy_instance_calls_max,
            memo_entries_max: config.policy_memo_entries_max,
        }
    }

    /// The same with a policy's own.
    pub(super) fn with(self, own: &OwnLimits) -> Self {
        Self {
            fuel_max: own.fuel_max.unwrap_or(self.fuel_max),
            load_fuel_max: own.load_fuel_max.unwrap_or(self.load_fuel_max),
            call_ms_max: own.call_ms_max.unwrap_or(self.call_ms_max),
            memory_bytes_max: own.memory_bytes_max.unwrap_or(self.memory_bytes_max),
            host_calls_max: own.host_calls_max.unwrap_or(self.host_calls_max),
            hostcall_bytes_max: own.hostcall_bytes_max.unwrap_or(self.hostcall_bytes_max),
            log_lines_per_second_max: own.log_lines_per_second_max.unwrap_or(self.log_lines_per_second_max),
            ..self
        }
    }

    /// Ticks of the backstop clock after which a call is ended.
    pub(super) fn ticks_max(&self) -> u64 {
        // One more: the first tick can come at once.
        self.call_ms_max.div_ceil(TICK_MS) + 1
    }
}
