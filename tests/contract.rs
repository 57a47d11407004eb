//! The contract's reference, `docs/contract.md`: made from the files in `wit/`, and compared with what is there. With
//! `UPDATE_EXPECT` set (`just contract`), the file is written instead.

use std::fmt::Write;
use std::path::Path;

use bellwether::policy::contract;
use wit_parser::{Docs, Function, Handle, Interface, PackageId, Resolve, Type, TypeDef, TypeDefKind, WorldItem};

/// The reference while it is written.
struct Page<'a> {
    resolve: &'a Resolve,
    text: String,
}

/// What stands before what is made.
const HEAD: &str = "\
Made from the files in [wit/](../wit) by `just contract`; a change belongs there. How the versions of the contract go
together with those of the sidecar: [versions.md](versions.md). What an author writes is the [SDK](../policies/sdk)'s
one trait, which speaks of the same things.";

// === impl Page ===

impl Page<'_> {
    fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").unwrap();
    }

    /// Comments as they are: they are Markdown already.
    fn docs(&mut self, docs: &Docs) {
        let text = docs.contents.as_deref().expect("everything in the contract is documented").trim().to_owned();
        self.line(&format!("{text}\n"));
    }

    fn worlds(&mut self, package: PackageId) {
        self.line("## Worlds\nWhat a component imports and exports. A component may leave imports out.\n");
        for &world in self.resolve.packages[package].worlds.values() {
            let world = &self.resolve.worlds[world];
            self.line(&format!("### {}", world.name));
            self.docs(&world.docs);
            let names = |items: &mut dyn Iterator<Item = &WorldItem>| {
                let names = items.filter_map(|item| match item {
                    WorldItem::Interface { id, .. } => self.resolve.interfaces[*id].name.as_deref(),
                    _ => None,
                });
                names.map(|name| format!("[{name}](#interface-{name})")).collect::<Vec<_>>().join(", ")
            };
            let (imports, exports) = (names(&mut world.imports.values()), names(&mut world.exports.values()));
            self.line(&format!("Imports {imports}; exports {exports}.\n"));
        }
    }

    fn interface(&mut self, interface: &Interface) {
        self.line(&format!("## Interface {}", interface.name.as_ref().unwrap()));
        self.docs(&interface.docs);
        for function in interface.functions.values() {
            self.function(function);
        }
        for &id in interface.types.values() {
            let of = &self.resolve.types[id];
            // What is used from another interface is documented there.
            if !matches!(of.kind, TypeDefKind::Type(Type::Id(_))) {
                self.definition(of);
            }
        }
    }

    fn function(&mut self, function: &Function) {
        let params = function.params.iter().map(|param| format!("{}: {}", param.name, self.shown(param.ty)));
        let params = params.collect::<Vec<_>>().join(", ");
        let result = function.result.map_or(String::new(), |ty| format!(" -> {}", self.shown(ty)));
        self.line(&format!("### func {}\n```wit\n{0}: func({params}){result}\n```", function.name));
        self.docs(&function.docs);
    }

    fn definition(&mut self, of: &TypeDef) {
        let kind = if matches!(of.kind, TypeDefKind::Type(_)) { "type" } else { of.kind.as_str() };
        self.line(&format!("### {kind} {}", of.name.as_ref().unwrap()));
        if let TypeDefKind::Type(ty) = of.kind {
            self.line(&format!("`{}`\n", self.shown(ty)));
        }
        self.docs(&of.docs);
        let typed = |name: &str, ty: Option<Type>| match ty {
            None => format!("`{name}`"),
            Some(ty) => format!("`{name}({})`", self.shown(ty)),
        };
        let (head, rows): (&str, Vec<(String, &Docs)>) = match &of.kind {
            TypeDefKind::Record(of) => {
                let row = |name: &str, ty: Type| format!("`{name}` | `{}`", self.shown(ty));
                ("field | type", of.fields.iter().map(|field| (row(&field.name, field.ty), &field.docs)).collect())
            }
            TypeDefKind::Variant(of) => {
                ("case", of.cases.iter().map(|case| (typed(&case.name, case.ty), &case.docs)).collect())
            }
            TypeDefKind::Enum(of) => {
                ("case", of.cases.iter().map(|case| (typed(&case.name, None), &case.docs)).collect())
            }
            TypeDefKind::Flags(of) => {
                ("flag", of.flags.iter().map(|flag| (typed(&flag.name, None), &flag.docs)).collect())
            }
            _ => return,
        };
        self.line(&format!("| {head} | |\n|{}", "---|".repeat(head.split('|').count() + 1)));
        for (row, docs) in rows {
            let docs = docs.contents.as_deref().expect("everything in the contract is documented");
            // A row is one line, in which a bar would end a cell.
            let docs = docs.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
            self.line(&format!("| {row} | {docs} |"));
        }
        self.line("");
    }

    /// A type as WIT writes it.
    fn shown(&self, ty: Type) -> String {
        let Type::Id(id) = ty else { return format!("{ty:?}").to_lowercase() };
        let of = &self.resolve.types[id];
        let or_none = |ty: &Option<Type>| ty.map_or("_".to_owned(), |ty| self.shown(ty));
        match (&of.name, &of.kind) {
            (Some(name), _) => name.clone(),
            (None, TypeDefKind::Option(ty)) => format!("option<{}>", self.shown(*ty)),
            (None, TypeDefKind::List(ty)) => format!("list<{}>", self.shown(*ty)),
            (None, TypeDefKind::Result(of)) => format!("result<{}, {}>", or_none(&of.ok), or_none(&of.err)),
            (None, TypeDefKind::Handle(Handle::Own(id) | Handle::Borrow(id))) => self.shown(Type::Id(*id)),
            (None, other) => panic!("the reference does not know how to write a {}", other.as_str()),
        }
    }
}

fn reference() -> String {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(top().join("wit")).unwrap();
    let name = &resolve.packages[package].name;
    assert_eq!(
        name.to_string(),
        format!("bellwether:policy@{}", contract::VERSION),
        "contract.rs says another version"
    );
    let mut page = Page { resolve: &resolve, text: format!("# The contract: {name}\n") };
    page.docs(&resolve.packages[package].docs);
    page.line(&format!("{HEAD}\n"));
    page.worlds(package);
    for &interface in resolve.packages[package].interfaces.values() {
        page.interface(&resolve.interfaces[interface]);
    }
    format!("{}\n", page.text.trim_end())
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn the_reference_is_what_the_contract_says() {
    let (file, got) = (top().join("docs/contract.md"), reference());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, &got).unwrap();
    }
    let expect = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(got == expect, "docs/contract.md is not what wit/ says; `just contract` makes it anew");
}
