//! A component beside the contract: which of its functions have another type than `wit/` says, which are missing. For
//! people who are told why a component is refused; what is served is decided by the engine alone.

use anyhow::{Context, bail};
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{Function, Handle, Interface, Resolve, SourceMap, Type, TypeDefKind, WorldItem, WorldKey};

use super::engine::{ELSEWHERE, Role, is_offered};
use super::wasi::is_inert;

/// What a component exports and imports, and what of it is not as the contract says.
#[derive(Debug)]
pub struct Review {
    /// Its exports, with the functions of each interface.
    pub exports: Vec<Item>,
    /// Its imports.
    pub imports: Vec<Item>,
    /// The version of the contract that it was built for.
    pub version: Option<String>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// An interface or a function of a component.
#[derive(Debug)]
pub struct Item {
    /// Its name, such as `bellwether:policy/ttl@0.1.0`.
    pub name: String,
    /// For an import: whether this host offers it.
    pub offered: bool,
    /// For an import: whether it is WASI with nothing behind it.
    pub inert: bool,
}

/// One thing that is not as the contract says.
#[derive(Debug)]
pub struct Fault {
    /// Where: `ttl.decide`, or an interface.
    pub item: String,
    /// What is wrong, and what to do.
    pub what: String,
    /// The type that the contract has.
    pub expected: Option<String>,
    /// The type that the component has.
    pub found: Option<String>,
    /// The first place inside the types that differs.
    pub place: Option<String>,
}

/// The contract's files, by name.
pub const WIT: [(&str, &str); 7] = [
    ("lifecycle.wit", include_str!("../../../wit/lifecycle.wit")),
    ("log.wit", include_str!("../../../wit/log.wit")),
    ("market-hours.wit", include_str!("../../../wit/market-hours.wit")),
    ("namespaces.wit", include_str!("../../../wit/namespaces.wit")),
    ("ttl.wit", include_str!("../../../wit/ttl.wit")),
    ("types.wit", include_str!("../../../wit/types.wit")),
    ("worlds.wit", include_str!("../../../wit/worlds.wit")),
];

/// The contract that this host speaks.
pub const VERSION: &str = "0.1.0";
/// Every contract that was released, and the first host that served it. All of them are served still.
pub const RELEASED: [(&str, &str); 1] = [("0.1.0", "0.1.0")];
const PACKAGE: &str = "bellwether:policy/";
/// How deep types are compared and shown: the contract's own are half as deep.
const DEPTH_MAX: usize = 16;
/// Of fields, cases and flags that are shown.
const PARTS_MAX: usize = 16;

/// Two sets of types: what is expected of a component, and what it has.
struct Pair<'a> {
    expected: &'a Resolve,
    found: &'a Resolve,
}

/// Compares a component with the contract.
///
/// # Errors
/// Its types cannot be read.
pub fn review(component: &[u8]) -> anyhow::Result<Review> {
    let contract = contract()?;
    let decoded = decode(component).context("its types cannot be read")?;
    let DecodedWasm::Component(found, world) = decoded else { bail!("it holds types and no code") };
    let world = &found.worlds[world];
    let names = |items: &mut dyn Iterator<Item = (&WorldKey, &WorldItem)>| {
        let items = items.filter(|(_, item)| !matches!(item, WorldItem::Type { .. }));
        let mut names: Vec<_> = items.map(|(key, _)| found.name_world_key(key)).collect();
        names.sort_unstable();
        names
    };
    let (exports, imports) = (names(&mut world.exports.iter()), names(&mut world.imports.iter()));
    let version = exports.iter().chain(&imports).find_map(|name| name.strip_prefix(PACKAGE)?.split_once('@'));
    let version = version.map(|(_, version)| version.to_owned());
    let pair = Pair { expected: &contract, found: &found };
    let mut faults = missing_interfaces(&contract, &exports);
    faults.extend(version.iter().filter(|version| *version != VERSION).map(|version| {
        let what = format!(
            "this host (bellwether {}) speaks {VERSION}: build the policy with the SDK of this host, or serve it with \
             the host that it was built for",
            env!("CARGO_PKG_VERSION")
        );
        Fault::of(format!("contract {version}"), &what)
    }));
    for (key, item) in &world.exports {
        pair.compare(&found.name_world_key(key), item, true, &mut faults);
    }
    for (key, item) in &world.imports {
        let name = found.name_world_key(key);
        if is_offered(&name) {
            pair.compare(&name, item, false, &mut faults);
        } else if !is_inert(&name) {
            faults.push(Fault::of(name, &format!("imports what this host does not offer; {ELSEWHERE}")));
        }
    }
    let item = |name: String| Item { inert: is_inert(&name), offered: is_offered(&name) || is_inert(&name), name };
    let (exports, imports) = (exports.into_iter().map(item).collect(), imports.into_iter().map(item).collect());
    Ok(Review { exports, imports, version, faults })
}

/// Which hosts serve components of a contract, in words. None: no such contract was released.
pub fn hosts(version: &str) -> Option<String> {
    let (_, first) = RELEASED.iter().find(|(released, _)| *released == version)?;
    Some(format!("bellwether {first} and later"))
}

/// The contract as types: what every component is compared with.
fn contract() -> anyhow::Result<Resolve> {
    let mut sources = SourceMap::default();
    WIT.iter().for_each(|(path, text)| sources.push_str(path, *text));
    let group = sources.parse().map_err(|(_, error)| error).context("the contract")?;
    let mut resolve = Resolve::default();
    resolve.push_group(group).context("the contract")?;
    Ok(resolve)
}

/// An interface of the contract by its short name.
fn interface<'a>(contract: &'a Resolve, name: &str) -> Option<&'a Interface> {
    contract.interfaces.iter().map(|(_, interface)| interface).find(|of| of.name.as_deref() == Some(name))
}

/// What every policy must export, and does not.
fn missing_interfaces(contract: &Resolve, exports: &[String]) -> Vec<Fault> {
    let has = |name: &str| exports.iter().any(|export| short(export) == Some(name));
    let roles = [Role::Namespaces, Role::Ttl, Role::MarketHours].map(Role::interface);
    let mut faults = Vec::new();
    if !has("lifecycle") {
        let what = format!("is not exported: every policy exports {PACKAGE}lifecycle@{VERSION}");
        faults.push(Fault::of("lifecycle".to_owned(), &what));
    }
    if !roles.iter().any(|role| has(role)) {
        let loose = exports.iter().find(|export| {
            let functions = |role: &&str| interface(contract, role).map(|of| of.functions.contains_key(*export));
            roles.iter().filter_map(functions).any(|has| has)
        });
        let hint = loose.map_or(String::new(), |name| {
            format!("; it exports a function {name:?} by itself, which belongs inside an interface of the contract")
        });
        let what = format!(
            "exports none of {PACKAGE}namespaces, {PACKAGE}ttl and {PACKAGE}market-hours, so there is nothing to ask \
             it{hint}"
        );
        faults.push(Fault::of("role".to_owned(), &what));
    }
    faults
}

/// `ttl` of `bellwether:policy/ttl@0.1.0`.
fn short(name: &str) -> Option<&str> {
    name.strip_prefix(PACKAGE)?.split('@').next()
}

// === impl Fault ===

impl Fault {
    fn of(item: String, what: &str) -> Self {
        Self { item, what: what.to_owned(), expected: None, found: None, place: None }
    }
}

// === impl Pair ===

impl Pair<'_> {
    /// Compares an interface of the component with the contract's of that name. An import may leave functions out.
    fn compare(&self, name: &str, item: &WorldItem, is_export: bool, faults: &mut Vec<Fault>) {
        let (Some(short), WorldItem::Interface { id, .. }) = (short(name), item) else { return };
        // Told once, of the whole component.
        if name.split_once('@').is_none_or(|(_, version)| version != VERSION) {
            return;
        }
        let Some(expected) = interface(self.expected, short) else {
            faults.push(Fault::of(name.to_owned(), "is no interface of the contract"));
            return;
        };
        let found = &self.found.interfaces[*id];
        for (function, expected) in &expected.functions {
            let item = format!("{short}.{function}");
            match found.functions.get(function) {
                None if is_export => faults.push(Fault {
                    expected: Some(signature(self.expected, expected)),
                    ..Fault::of(item, "is not exported")
                }),
                None => {}
                Some(found) => faults.extend(self.function(item, expected, found)),
            }
        }
        if !is_export {
            let unknown = found.functions.keys().filter(|function| !expected.functions.contains_key(*function));
            faults.extend(unknown.map(|name| Fault::of(format!("{short}.{name}"), "is no function of the contract")));
        }
    }

    fn function(&self, item: String, expected: &Function, found: &Function) -> Option<Fault> {
        let params = |of: &Function| of.params.iter().map(|param| param.name.clone()).collect::<Vec<_>>();
        let place = if expected.kind.is_async() != found.kind.is_async() {
            "it is async".to_owned()
        } else if params(expected) != params(found) {
            "the parameters".to_owned()
        } else {
            let each = expected.params.iter().zip(&found.params);
            let mut differing = each.filter_map(|(a, b)| self.place(&a.name, a.ty, b.ty, 0));
            match (differing.next(), expected.result, found.result) {
                (Some(place), ..) => place,
                (None, Some(a), Some(b)) => self.place("the result", a, b, 0)?,
                (None, None, None) => return None,
                (None, ..) => "the result".to_owned(),
            }
        };
        Some(Fault {
            expected: Some(signature(self.expected, expected)),
            found: Some(signature(self.found, found)),
            place: Some(place),
            ..Fault::of(item, "has another type")
        })
    }

    /// The first place at which two types differ, with both; none: they are the same. It goes as deep as the contract's
    /// own types are.
    fn place(&self, at: &str, expected: Type, found: Type, depth: usize) -> Option<String> {
        let (expected, found) = (plain(self.expected, expected), plain(self.found, found));
        let differ = || {
            let (expected, found) = (whole(self.expected, expected), whole(self.found, found));
            Some(format!("{at}: expected {expected}, found {found}"))
        };
        let (Type::Id(a), Type::Id(b)) = (expected, found) else {
            return if expected == found { None } else { differ() };
        };
        if depth == DEPTH_MAX {
            return differ();
        }
        let both = |name: &str, a: Option<Type>, b: Option<Type>| match (a, b) {
            (Some(a), Some(b)) => self.place(&format!("{at}{name}"), a, b, depth + 1),
            (None, None) => None,
            _ => differ(),
        };
        match (&self.expected.types[a].kind, &self.found.types[b].kind) {
            (TypeDefKind::Record(a), TypeDefKind::Record(b)) if a.fields.len() == b.fields.len() => {
                let mut pairs = a.fields.iter().zip(&b.fields);
                pairs.find_map(|(a, b)| {
                    if a.name == b.name { both(&format!(".{}", a.name), Some(a.ty), Some(b.ty)) } else { differ() }
                })
            }
            (TypeDefKind::Variant(a), TypeDefKind::Variant(b)) if a.cases.len() == b.cases.len() => {
                let mut pairs = a.cases.iter().zip(&b.cases);
                pairs.find_map(
                    |(a, b)| {
                        if a.name == b.name { both(&format!(".{}", a.name), a.ty, b.ty) } else { differ() }
                    },
                )
            }
            (TypeDefKind::Enum(a), TypeDefKind::Enum(b)) => {
                let same = a.cases.iter().map(|case| &case.name).eq(b.cases.iter().map(|case| &case.name));
                if same { None } else { differ() }
            }
            (TypeDefKind::Flags(a), TypeDefKind::Flags(b)) => {
                let same = a.flags.iter().map(|flag| &flag.name).eq(b.flags.iter().map(|flag| &flag.name));
                if same { None } else { differ() }
            }
            (TypeDefKind::Option(a), TypeDefKind::Option(b)) => both("?", Some(*a), Some(*b)),
            (TypeDefKind::List(a), TypeDefKind::List(b)) => both("[]", Some(*a), Some(*b)),
            (TypeDefKind::Result(a), TypeDefKind::Result(b)) => {
                both(" ok", a.ok, b.ok).or_else(|| both(" error", a.err, b.err))
            }
            // The contract has no other kinds.
            _ => differ(),
        }
    }
}

/// A type without the names that others gave it. Aliases are chains, not rings.
fn plain(resolve: &Resolve, mut ty: Type) -> Type {
    while let Type::Id(id) = ty
        && let TypeDefKind::Type(inner) = &resolve.types[id].kind
    {
        ty = *inner;
    }
    ty
}

/// A function's type as WIT writes it.
fn signature(resolve: &Resolve, function: &Function) -> String {
    let params = function.params.iter().map(|param| format!("{}: {}", param.name, shown(resolve, param.ty, 0)));
    let result = function.result.map_or(String::new(), |ty| format!(" -> {}", shown(resolve, ty, 0)));
    let is_async = if function.kind.is_async() { "async " } else { "" };
    format!("{is_async}func({}){result}", params.collect::<Vec<_>>().join(", "))
}

/// A type by its name, or as WIT writes one that has none.
fn shown(resolve: &Resolve, ty: Type, depth: usize) -> String {
    let inner = |ty: Type| if depth == DEPTH_MAX { "…".to_owned() } else { shown(resolve, ty, depth + 1) };
    let optional = |ty: Option<Type>| ty.map_or("_".to_owned(), inner);
    let Type::Id(id) = ty else { return format!("{ty:?}").to_lowercase() };
    let of = &resolve.types[id];
    if let Some(name) = &of.name {
        return name.clone();
    }
    match &of.kind {
        TypeDefKind::Option(ty) => format!("option<{}>", inner(*ty)),
        TypeDefKind::List(ty) => format!("list<{}>", inner(*ty)),
        TypeDefKind::Result(of) if of.ok.is_none() && of.err.is_none() => "result".to_owned(),
        TypeDefKind::Result(of) if of.err.is_none() => format!("result<{}>", optional(of.ok)),
        TypeDefKind::Result(of) => format!("result<{}, {}>", optional(of.ok), optional(of.err)),
        TypeDefKind::Tuple(of) => {
            format!("tuple<{}>", of.types.iter().take(PARTS_MAX).map(|ty| inner(*ty)).collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Handle(Handle::Own(id)) => format!("own<{}>", inner(Type::Id(*id))),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", inner(Type::Id(*id))),
        TypeDefKind::Type(ty) => inner(*ty),
        other => other.as_str().to_owned(),
    }
}

/// A type with what it is made of, one level deep.
fn whole(resolve: &Resolve, ty: Type) -> String {
    let Type::Id(id) = ty else { return shown(resolve, ty, 0) };
    let of = &resolve.types[id];
    let name = of.name.as_deref().unwrap_or("");
    let typed = |name: &str, ty: Option<Type>| match ty {
        None => name.to_owned(),
        Some(ty) => format!("{name}({})", shown(resolve, ty, 0)),
    };
    let parts: Vec<String> = match &of.kind {
        TypeDefKind::Record(of) => {
            of.fields.iter().map(|field| format!("{}: {}", field.name, shown(resolve, field.ty, 0))).collect()
        }
        TypeDefKind::Variant(of) => of.cases.iter().map(|case| typed(&case.name, case.ty)).collect(),
        TypeDefKind::Enum(of) => of.cases.iter().map(|case| case.name.clone()).collect(),
        TypeDefKind::Flags(of) => of.flags.iter().map(|flag| flag.name.clone()).collect(),
        _ => return shown(resolve, ty, 0),
    };
    let left_out = if parts.len() > PARTS_MAX { ", …" } else { "" };
    let parts = parts.iter().take(PARTS_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    format!("{} {name} {{ {parts}{left_out} }}", of.kind.as_str())
}
