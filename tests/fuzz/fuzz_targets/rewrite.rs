//! Fuzzes what is sent in place of a client's commands.

#![no_main]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target runs one of the checks")]
mod checks;

// The policies are compiled before the first input, whose time would not be enough.
libfuzzer_sys::fuzz_target!(init: checks::rewrite(b"PING\r\n"), |data: &[u8]| checks::rewrite(data));
