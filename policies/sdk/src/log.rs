//! Lines for the policy's own log, which the sidecar prints with the policy's name.
//!
//! The host cuts a line at 1024 bytes and keeps at most 100 lines a second of a policy. Never write a value: logs are
//! read by more people than data. Natively the lines are captured: [`testing::take_log`](crate::testing::take_log).

#[doc(inline)]
pub use crate::bindings::host::bellwether::policy::log::Level;

/// Writes a line for whoever is looking for a cause.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message.as_ref());
}

/// Writes a line about something that happened as it should.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref());
}

/// Writes a line about something that works but should be looked at.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref());
}

/// Writes a line about something that does not work.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref());
}

#[cfg(target_arch = "wasm32")]
fn write(level: Level, message: &str) {
    crate::bindings::host::bellwether::policy::log::write(level, message);
}

#[cfg(not(target_arch = "wasm32"))]
fn write(level: Level, message: &str) {
    crate::testing::capture(level, message);
}
