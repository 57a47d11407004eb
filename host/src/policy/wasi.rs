//! WASI for components whose tools cannot leave it out, and nothing behind it: no files, no network, no environment, a
//! clock that stands still, and the same random numbers in every call. What a component writes to its outputs becomes
//! lines of the policy's log, so that the message of a panic arrives.
//!
//! Functions are defined by name for each component that imports them, whatever release of WASI 0.2 it was built for;
//! what could not be answered truthfully ends the call.

use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};
use wasmtime::component::{Component, Linker, Resource, ResourceAny, ResourceType, Val};
use wasmtime::{Error, Result, StoreContextMut};

use super::instance::State;
use super::log::PolicyLog;

/// What a store holds for it.
#[derive(Debug)]
pub(super) struct Inert {
    /// Where the sequence of random numbers is.
    random: u64,
    /// What was written and has no end of line yet.
    written: [Vec<u8>; 2],
}

/// Who can be written to, by the numbers of their streams.
const OUTPUTS: [tracing::Level; 2] = [tracing::Level::INFO, tracing::Level::WARN];
const STDOUT: u32 = 0;
const STDERR: u32 = 1;

struct InputStream;
struct OutputStream;
struct Pollable;
struct IoError;
/// A descriptor, a socket and the like: there are none.
struct Absent;

/// Packages that are linked, in any release of 0.2. Others have functions that no answer fits.
const PACKAGES: [&str; 7] = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"];
/// What a call costs beside what the guest does, since fuel does not pay for the host's time.
const CALL_FUEL: u64 = 1000;
const LINE_BYTES_MAX: usize = 1024;
const RANDOM_BYTES_MAX: u64 = 4096;
const WRITE_BYTES_MAX: u64 = 4096;
/// Words in which functions say that something may not be done, for those whose result is one of them.
const DENIALS: [&str; 3] = ["access-denied", "access", "not-permitted"];

/// Whether an import is linked so.
pub(super) fn is_inert(import: &str) -> bool {
    import.strip_prefix("wasi:").and_then(|rest| rest.split_once('@')).is_some_and(|(name, version)| {
        let package = name.split('/').next().unwrap_or_default();
        PACKAGES.contains(&package) && version.starts_with("0.2.")
    })
}

/// Links what a component imports of WASI.
pub(super) fn link(linker: &mut Linker<State>, component: &Component) -> Result<()> {
    let engine = component.engine();
    for (import, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        if !is_inert(import) {
            continue;
        }
        let mut instance = linker.instance(import)?;
        for (name, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::Resource(_) => instance.resource(name, resource(name), |_, _| Ok(()))?,
                ComponentItem::ComponentFunc(_) => {
                    let short = import.trim_start_matches("wasi:").split('@').next().unwrap_or_default().to_owned();
                    let own = name.to_owned();
                    instance.func_new(name, move |store, ty, params, results| {
                        let answer = answer(store, &short, &own, &ty, params)?;
                        if let (Some(result), Some(answer)) = (results.first_mut(), answer) {
                            *result = answer;
                        }
                        Ok(())
                    })?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The host's type of a resource. Interfaces hand each other's on under the same names.
fn resource(name: &str) -> ResourceType {
    match name {
        "input-stream" => ResourceType::host::<InputStream>(),
        "output-stream" => ResourceType::host::<OutputStream>(),
        "pollable" => ResourceType::host::<Pollable>(),
        "error" | "io-error" => ResourceType::host::<IoError>(),
        _ => ResourceType::host::<Absent>(),
    }
}

/// What a function answers; none: it has no result.
fn answer(
    mut store: StoreContextMut<'_, State>,
    interface: &str,
    function: &str,
    ty: &ComponentFunc,
    params: &[Val],
) -> Result<Option<Val>> {
    charge(&mut store, CALL_FUEL)?;
    let method = function.split_once('.').map_or(function, |(_, method)| method);
    Ok(Some(match (interface, method) {
        ("cli/environment", "get-environment" | "get-arguments") => Val::List(Vec::new()),
        ("filesystem/preopens", "get-directories") => Val::List(Vec::new()),
        ("cli/environment", "initial-cwd") | ("filesystem/types", "filesystem-error-code") => Val::Option(None),
        ("cli/terminal-stdin" | "cli/terminal-stdout" | "cli/terminal-stderr", _) => Val::Option(None),
        ("cli/exit", _) => return Err(Error::msg("the policy ended itself (wasi:cli/exit)")),
        ("cli/stdin", _) => own(&mut store, Resource::<InputStream>::new_own(0))?,
        ("cli/stdout", _) => own(&mut store, Resource::<OutputStream>::new_own(STDOUT))?,
        ("cli/stderr", _) => own(&mut store, Resource::<OutputStream>::new_own(STDERR))?,
        ("io/error", "to-debug-string") => Val::String("there is nothing behind this stream".to_owned()),
        ("io/streams" | "clocks/monotonic-clock", "subscribe" | "subscribe-instant" | "subscribe-duration") => {
            release(&mut store, params)?;
            own(&mut store, Resource::<Pollable>::new_own(0))?
        }
        ("io/poll", _) => return poll(&mut store, method, params),
        ("io/streams", _) if function.starts_with("[method]output-stream.") => write(&mut store, method, params)?,
        ("io/streams", _) => {
            release(&mut store, params)?;
            closed()
        }
        ("clocks/monotonic-clock", "now") => Val::U64(0),
        ("clocks/monotonic-clock", "resolution") => Val::U64(1_000_000),
        ("clocks/wall-clock", "now") => instant(0, 0),
        ("clocks/wall-clock", "resolution") => instant(0, 1_000_000),
        ("random/random" | "random/insecure", "get-random-u64" | "get-insecure-random-u64") => {
            Val::U64(store.data_mut().wasi().random())
        }
        ("random/random" | "random/insecure", _) => random_bytes(&mut store, params)?,
        ("random/insecure-seed", _) => Val::Tuple(vec![Val::U64(0), Val::U64(0)]),
        _ => denial(ty).ok_or_else(|| {
            Error::msg(format!(
                "the policy called {function} of wasi:{interface}; policies have no files, no network and no time but \
                 `now`"
            ))
        })?,
    }))
}

/// Takes fuel for the host's own work.
fn charge(store: &mut StoreContextMut<'_, State>, fuel: u64) -> Result<()> {
    let left = store.get_fuel()?.checked_sub(fuel);
    store.set_fuel(left.ok_or_else(|| Error::msg("all fuel consumed by calls of WASI"))?)
}

fn own<T: 'static>(store: &mut StoreContextMut<'_, State>, resource: Resource<T>) -> Result<Val> {
    ResourceAny::try_from_resource(resource, store).map(Val::Resource)
}

/// Gives back what a call was lent, or a list of it.
fn release(store: &mut StoreContextMut<'_, State>, params: &[Val]) -> Result<()> {
    for param in params {
        match param {
            Val::Resource(lent) => lent.resource_drop(&mut *store)?,
            Val::List(list) => {
                for lent in list {
                    if let Val::Resource(lent) = lent {
                        lent.resource_drop(&mut *store)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Nothing has to be waited for: whatever is asked is ready.
fn poll(store: &mut StoreContextMut<'_, State>, method: &str, params: &[Val]) -> Result<Option<Val>> {
    release(store, params)?;
    Ok(match (method, params.first()) {
        ("ready", _) => Some(Val::Bool(true)),
        ("poll", Some(Val::List(list))) => {
            Some(Val::List((0..u32::try_from(list.len()).unwrap_or(u32::MAX)).map(Val::U32).collect()))
        }
        _ => None,
    })
}

/// A method of an output.
fn write(store: &mut StoreContextMut<'_, State>, method: &str, params: &[Val]) -> Result<Val> {
    let Some(Val::Resource(output)) = params.first() else { return Err(Error::msg("no stream was given")) };
    let output = output.try_into_resource::<OutputStream>(&mut *store)?.rep();
    release(store, params.get(1..).unwrap_or_default())?;
    Ok(match (method, params.get(1)) {
        ("check-write", _) => Val::Result(Ok(Some(Box::new(Val::U64(WRITE_BYTES_MAX))))),
        ("write" | "blocking-write-and-flush", Some(Val::List(bytes))) => {
            charge(store, bytes.len() as u64)?;
            let bytes = bytes.iter().filter_map(|byte| if let Val::U8(byte) = byte { Some(*byte) } else { None });
            store.data_mut().write(output, bytes);
            Val::Result(Ok(None))
        }
        ("splice" | "blocking-splice", _) => closed(),
        // What is flushed, and zeroes, which nobody reads.
        _ => Val::Result(Ok(None)),
    })
}

fn closed() -> Val {
    Val::Result(Err(Some(Box::new(Val::Variant("closed".to_owned(), None)))))
}

fn instant(seconds: u64, nanoseconds: u32) -> Val {
    let fields = [("seconds", Val::U64(seconds)), ("nanoseconds", Val::U32(nanoseconds))];
    Val::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
}

fn random_bytes(store: &mut StoreContextMut<'_, State>, params: &[Val]) -> Result<Val> {
    let count = match params.first() {
        Some(Val::U64(count)) if *count <= RANDOM_BYTES_MAX => *count,
        _ => return Err(Error::msg(format!("the policy asked for more than {RANDOM_BYTES_MAX} random bytes at once"))),
    };
    charge(store, count)?;
    let wasi = store.data_mut().wasi();
    Ok(Val::List((0..count).map(|_| Val::U8(wasi.random().to_le_bytes()[0])).collect()))
}

/// The word in which a function says that it may not, where it has one.
fn denial(ty: &ComponentFunc) -> Option<Val> {
    let Some(Type::Result(result)) = ty.results().next() else { return None };
    let Some(Type::Enum(error)) = result.err() else { return None };
    let word = DENIALS.into_iter().find(|word| error.names().any(|name| name == *word))?;
    Some(Val::Result(Err(Some(Box::new(Val::Enum(word.to_owned()))))))
}

// === impl Inert ===

impl Inert {
    pub(super) fn new() -> Self {
        Self { random: 0, written: [Vec::new(), Vec::new()] }
    }

    /// Begins a call: it draws the same numbers as every other, whatever was asked before.
    pub(super) fn begin(&mut self) {
        self.random = 0;
    }

    /// Takes what is written to an output: whole lines go to the log, and so does a line that is too long.
    pub(super) fn write(&mut self, log: &mut PolicyLog, output: u32, bytes: impl Iterator<Item = u8>) {
        let place = usize::from(output == STDERR);
        for byte in bytes {
            if byte != b'\n' {
                self.written[place].push(byte);
            }
            if byte == b'\n' || self.written[place].len() == LINE_BYTES_MAX {
                self.end_line(log, place);
            }
        }
    }

    /// Ends a call: what has no end of line is a line all the same.
    pub(super) fn end(&mut self, log: &mut PolicyLog) {
        for place in 0..OUTPUTS.len() {
            self.end_line(log, place);
        }
    }

    fn end_line(&mut self, log: &mut PolicyLog, place: usize) {
        if !self.written[place].is_empty() {
            log.write(OUTPUTS[place], &String::from_utf8_lossy(&self.written[place]));
            self.written[place].clear();
        }
    }

    /// The next of a fixed sequence (splitmix64: <https://prng.di.unimi.it/splitmix64.c>).
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
