//! wasmtime with every limit set: compiling components, checking what they import and export, linking them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};
use wasmtime::{InstanceAllocationStrategy, PoolingAllocationConfig};

use super::apart::{Apart, TooMuch, limit_this_process};
use super::bindings::{market_hours, namespaces, ttl};
use super::bounds;
use super::compiled::{Compiled, CompiledFolder};
use super::instance::State;
use super::limits::{Limits, OwnLimits, TICK_MS};
use super::wasi;
use crate::config::Config;

/// The compilers and the linkers. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    /// For components of the usual shape: instances come from a pool.
    pooled: Shape,
    /// For larger ones, as JavaScript and Python make them.
    roomy: Shape,
    pub(super) limits: Limits,
    /// Where compiled code is kept. None: nowhere.
    folder: Option<CompiledFolder>,
    /// What compiles. None: this process.
    apart: Option<Arc<Apart>>,
    compiled: Arc<Compiled>,
}

#[derive(Clone)]
struct Shape {
    name: &'static str,
    engine: wasmtime::Engine,
    linker: Arc<Linker<State>>,
}

/// A compiled, linked component. A clone is the same one.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) facts: Facts,
    pub(super) pre: InstancePre<State>,
    /// What its instances may take.
    pub(super) limits: Limits,
    /// Its instances come from the pool.
    is_pooled: bool,
}

/// What can be said of a component without running it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// SHA-256 of the bytes, in hexadecimal.
    pub digest: String,
    /// Size in bytes.
    pub bytes: usize,
    /// What it exports.
    pub exports: Vec<String>,
    /// What it imports.
    pub imports: Vec<String>,
    /// What of it is WASI with nothing behind it.
    pub inert: Vec<String>,
    /// What it can be asked for.
    pub roles: Vec<Role>,
    /// What its instances begin with.
    pub needs: Needs,
    /// How long compiling took, or finding what was compiled before.
    pub compile_time: Duration,
    /// Whether its code was on disk.
    pub code_found: bool,
}

/// What the instances of a component begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of its largest memory.
    pub memory_bytes: u64,
    /// Elements of its largest table.
    pub table_elements: u64,
}

/// What a policy can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Rules.
    Namespaces,
    /// Lifetimes.
    Ttl,
    /// Market sessions.
    MarketHours,
}

/// The time between two ticks of the backstop clock.
const TICK: Duration = Duration::from_millis(TICK_MS);
/// Above this a component does not fit the pool, or holds an interpreter and does not fit either: it is not compiled
/// for the pool first, which takes seconds.
const POOLED_BYTES_MAX: usize = 4 * 1024 * 1024;
const STACK_BYTES_MAX: usize = 256 * 1024;
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// What to do about imports.
pub(super) const ELSEWHERE: &str = "policies import the contract, and WASI 0.2 where their tools cannot leave it out; \
                                    a Rust policy for wasm32-unknown-unknown imports nothing else";
const MISFIT: &str = "does not fit the contract (`bellwether policy check` compares them)";
/// What memories are counted in; the custom page sizes proposal is not switched on.
const PAGE_BYTES: u64 = 65_536;
/// Instances that may live at once: workers × policies × generations, with room.
const INSTANCES_MAX: u32 = 4096;
/// What stays resident of an instance's memory between uses.
const KEEP_RESIDENT_BYTES: usize = 64 * 1024;

// === impl Engine ===

impl Engine {
    /// The kinds of engine that code is compiled for.
    pub const SHAPES: [&str; 2] = ["pooled", "roomy"];

    /// Builds the compilers, with the limits and the folder of compiled code that the configuration says. A folder that
    /// cannot be used costs compiling at every start, and nothing else.
    ///
    /// # Errors
    /// This machine cannot run them.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let limits = Limits::of(config);
        let open = |folder| CompiledFolder::open(folder, config.compiled_bytes_max);
        let folder = config.compiled_folder.as_deref().map(open).transpose().unwrap_or_else(|error| {
            tracing::warn!("compiled code is not kept (compiled_folder): {error:#}");
            None
        });
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(INSTANCES_MAX)
            .total_core_instances(INSTANCES_MAX)
            .total_memories(INSTANCES_MAX)
            .total_tables(INSTANCES_MAX)
            .max_core_instances_per_component(8)
            .max_memories_per_component(1)
            .max_tables_per_component(4)
            .max_memory_size(limits.memory_bytes_max)
            .table_elements(TABLE_ELEMENTS_MAX)
            .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
            .table_keep_resident(KEEP_RESIDENT_BYTES);
        Ok(Self {
            pooled: Shape::new(Self::SHAPES[0], InstanceAllocationStrategy::Pooling(pool), folder.as_ref())?,
            roomy: Shape::new(Self::SHAPES[1], InstanceAllocationStrategy::OnDemand, folder.as_ref())?,
            limits,
            folder,
            apart: None,
            compiled: Arc::default(),
        })
    }

    /// The same, by which components are compiled in another process, with the limits of the configuration: what
    /// `program` is, which is this one, started with `compile`. Without a folder they are compiled in this process.
    #[must_use]
    pub fn compiled_by(self, program: PathBuf, config: &Config) -> Self {
        let mut args: Vec<OsString> = vec!["compile".into()];
        for (flag, value) in [
            ("--compiled-bytes-max", config.compiled_bytes_max),
            ("--policy-memory-bytes-max", config.policy_memory_bytes_max as u64),
            ("--policy-compile-bytes-max", config.policy_compile_bytes_max),
        ] {
            args.extend([flag.into(), value.to_string().into()]);
        }
        let time_max = Duration::from_millis(config.policy_compile_ms_max);
        let apart = config.compiled_folder.as_ref().map(|folder| {
            args.extend(["--compiled-folder".into(), folder.into()]);
            Arc::new(Apart { program, args, bytes_max: config.policy_compile_bytes_max, time_max })
        });
        Self { apart, ..self }
    }

    /// In the process that compiles: puts a component's code for one of the [`Self::SHAPES`] into the folder. From here
    /// on this process may take `bytes_max` more of memory.
    ///
    /// # Errors
    /// It does not compile, or the process cannot be limited.
    pub fn compile_for_another(&self, shape: &str, component: &[u8], bytes_max: u64) -> anyhow::Result<()> {
        let shape = [&self.pooled, &self.roomy].into_iter().find(|of| of.name == shape);
        limit_this_process(bytes_max)?;
        self.compile(shape.context("there is no such shape")?, component).map(drop)
    }

    /// How the components that were loaded came by their code.
    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// Compiles and links a component.
    ///
    /// # Errors
    /// It is too large, not a component, imports what this host does not offer, or exports no role.
    pub(super) fn load(&self, bytes: &[u8], own: &OwnLimits) -> anyhow::Result<Loaded> {
        let limits = self.limits.with(own);
        if bytes.len() > self.limits.component_bytes_max {
            bail!("{} bytes; at most {} are allowed", bytes.len(), self.limits.component_bytes_max);
        }
        if !bytes.starts_with(b"\0asm") {
            bail!("this is not a WebAssembly component: it does not begin as one");
        }
        if is_core_module(bytes) {
            bail!(
                "this is a core module, not a component; build it with `bellwether policy build`, or turn it into a \
                 component with `wasm-tools component new`"
            );
        }
        let begun = std::time::Instant::now();
        let may_pool = bytes.len() <= POOLED_BYTES_MAX && self.fits_pool(&limits);
        let pooled = match may_pool.then(|| self.compile(&self.pooled, bytes)).transpose() {
            Err(error) if error.is::<TooMuch>() => return Err(error),
            pooled => pooled.ok().flatten(),
        };
        let is_pooled = pooled.is_some();
        let (shape, (component, code_found)) = match pooled {
            Some(compiled) => (&self.pooled, compiled),
            None => (&self.roomy, self.compile(&self.roomy, bytes)?),
        };
        self.compiled.count(code_found);
        let compile_time = begun.elapsed();
        let ty = component.component_type();
        // Their order in the file is the linker's, and says nothing.
        let mut exports: Vec<_> = ty.exports(&shape.engine).map(|(name, _)| name.to_owned()).collect();
        let mut imports: Vec<_> = ty.imports(&shape.engine).map(|(name, _)| name.to_owned()).collect();
        exports.sort_unstable();
        imports.sort_unstable();
        let unknown = imports.iter().filter(|name| !is_offered(name) && !wasi::is_inert(name));
        let unknown: Vec<_> = unknown.map(String::as_str).collect();
        if !unknown.is_empty() {
            bail!("imports {}, which this host does not offer; {ELSEWHERE}", unknown.join(", "));
        }
        let needs = needs(&component, &limits)?;
        let pre = shape.link(&component, imports.iter().any(|name| wasi::is_inert(name)));
        let pre = pre.map_err(chain).context(MISFIT)?;
        let facts = Facts {
            digest: digest(bytes),
            bytes: bytes.len(),
            roles: roles(&pre, &exports)?,
            exports,
            inert: imports.iter().filter(|name| wasi::is_inert(name)).cloned().collect(),
            imports,
            needs,
            compile_time,
            code_found,
        };
        Ok(Loaded { facts, pre, limits, is_pooled })
    }

    /// A component that was loaded before, within the limits of another policy. None: it has to be loaded anew.
    pub(super) fn load_again(&self, loaded: &Loaded, own: &OwnLimits) -> anyhow::Result<Option<Loaded>> {
        let limits = self.limits.with(own);
        if loaded.is_pooled && !self.fits_pool(&limits) {
            return Ok(None);
        }
        needs(loaded.pre.component(), &limits)?;
        Ok(Some(Loaded { limits, ..loaded.clone() }))
    }

    /// What the pool keeps for an instance is as large as the settings say.
    fn fits_pool(&self, limits: &Limits) -> bool {
        limits.memory_bytes_max <= self.limits.memory_bytes_max
    }

    /// Compiles a component, or finds what was compiled before; which of the two.
    fn compile(&self, shape: &Shape, bytes: &[u8]) -> anyhow::Result<(Component, bool)> {
        let compile = || Component::new(&shape.engine, bytes).map_err(chain);
        let Some(folder) = &self.folder else { return Ok((compile()?, false)) };
        let mut entry = folder.vouch(&shape.engine, bytes)?;
        let apart = self.apart.as_ref().filter(|_| !folder.has(&entry));
        if let Some(apart) = apart {
            apart.compile(shape.name, bytes)?;
            entry = folder.vouch(&shape.engine, bytes)?;
        }
        let component = compile()?;
        Ok((component, folder.seal(&entry) && apart.is_none()))
    }
}

// === impl Shape ===

impl Shape {
    fn new(
        name: &'static str,
        strategy: InstanceAllocationStrategy,
        folder: Option<&CompiledFolder>,
    ) -> anyhow::Result<Self> {
        let mut config = wasmtime::Config::new();
        config
            .allocation_strategy(strategy)
            .cache(folder.map(CompiledFolder::cache))
            .concurrency_support(false)
            // On the thread that asks for it: who waits has a low priority while clients are served, and so has the
            // process that compiles.
            .parallel_compilation(false)
            .consume_fuel(true)
            .epoch_interruption(true)
            .max_wasm_stack(STACK_BYTES_MAX)
            .cranelift_nan_canonicalization(true)
            .wasm_relaxed_simd(false)
            .wasm_memory64(false);
        let engine = wasmtime::Engine::new(&config).map_err(chain)?;
        let mut linker = Linker::new(&engine);
        ttl::bellwether::policy::log::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)
            .map_err(chain)?;
        ttl::bellwether::policy::market_hours::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)
            .map_err(chain)?;
        ttl::bellwether::policy::types::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)
            .map_err(chain)?;
        let ticking = engine.weak();
        std::thread::Builder::new().name("epoch".into()).spawn(move || {
            // Ends by itself with the engine. A tick that comes late is one tick, never several at once.
            while let Some(engine) = ticking.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::park_timeout(TICK);
            }
        })?;
        Ok(Self { name, engine, linker: Arc::new(linker) })
    }

    /// Links a component, to an inert WASI too where it imports it.
    fn link(&self, component: &Component, with_wasi: bool) -> wasmtime::Result<InstancePre<State>> {
        if !with_wasi {
            return self.linker.instantiate_pre(component);
        }
        let mut linker = Linker::clone(&self.linker);
        wasi::link(&mut linker, component)?;
        linker.instantiate_pre(component)
    }
}

// === impl Role ===

impl Role {
    /// The interface that a component exports for it.
    pub fn interface(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Ttl => "ttl",
            Self::MarketHours => "market-hours",
        }
    }
}

/// The roles of a component: those whose interfaces it exports, which must then fit.
fn roles(pre: &InstancePre<State>, exports: &[String]) -> anyhow::Result<Vec<Role>> {
    let mut roles = Vec::new();
    for role in [Role::Namespaces, Role::Ttl, Role::MarketHours] {
        let interface = format!("bellwether:policy/{}@", role.interface());
        if !exports.iter().any(|export| export.starts_with(&interface)) {
            continue;
        }
        match role {
            Role::Namespaces => namespaces::NamespacesPolicyPre::new(pre.clone()).map(drop),
            Role::Ttl => ttl::TtlPolicyPre::new(pre.clone()).map(drop),
            Role::MarketHours => market_hours::MarketHoursPolicyPre::new(pre.clone()).map(drop),
        }
        .map_err(chain)
        .with_context(|| format!("its {} {MISFIT}", role.interface()))?;
        roles.push(role);
    }
    if roles.is_empty() {
        bail!(
            "exports none of bellwether:policy/namespaces, bellwether:policy/ttl and bellwether:policy/market-hours, \
             so there is nothing to ask it"
        );
    }
    Ok(roles)
}

pub(super) fn is_offered(import: &str) -> bool {
    let offered = ["types", "log", "market-hours"];
    import
        .strip_prefix("bellwether:policy/")
        .and_then(|rest| rest.split('@').next())
        .is_some_and(|interface| offered.contains(&interface))
}

/// A core module begins as a component does, but for its version.
fn is_core_module(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm\x01\0\0\0")
}

/// wasmtime's error with its whole chain.
pub(super) fn chain(error: wasmtime::Error) -> anyhow::Error {
    let mut causes = error.chain().map(ToString::to_string).collect::<Vec<_>>();
    let root = causes.pop().unwrap_or_default();
    causes.into_iter().rev().fold(anyhow::Error::msg(root), anyhow::Error::context)
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What instances of a component begin with. One that begins with more than it may have would fail at its first
/// call; here it can be told what the limit is.
fn needs(component: &Component, limits: &Limits) -> anyhow::Result<Needs> {
    let Some(required) = component.resources_required() else { return Ok(Needs::default()) };
    // The limit holds for each memory and each table by itself, as the store enforces it.
    let memory_bytes = required.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
    let table_elements = required.max_initial_table_size.unwrap_or(0);
    let memory_bytes_max = limits.memory_bytes_max;
    if usize::try_from(memory_bytes).map_or(true, |bytes| bytes > memory_bytes_max) {
        bail!(
            "needs {memory_bytes} bytes of memory from the start; at most {memory_bytes_max} are allowed \
             (policy_memory_bytes_max, or memory_bytes_max under [limits] in the policy's file)"
        );
    }
    if usize::try_from(table_elements).map_or(true, |elements| elements > bounds::TABLE_ELEMENTS_MAX) {
        bail!("needs a table of {table_elements} elements; at most {} are allowed", bounds::TABLE_ELEMENTS_MAX);
    }
    if required.num_memories > bounds::MEMORIES_MAX || required.num_tables > bounds::TABLES_MAX {
        bail!(
            "needs {} memories and {} tables; at most {} and {} are allowed",
            required.num_memories,
            required.num_tables,
            bounds::MEMORIES_MAX,
            bounds::TABLES_MAX
        );
    }
    Ok(Needs { memory_bytes, table_elements })
}
