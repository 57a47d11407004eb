//! A ttl policy that does nothing, written by hand: what a call to it takes, no policy can take less of. It gives back
//! all memory that it was given after each call, and asks for none itself.

use anyhow::Context;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Everything it answers is zero: no error, `keep`, no reason. Memory it is given lies from 1024 on.
const TEXT: &str = r#"(module
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 1024))
    (data (i32.const 256) "blank")
    ;; What `describe` answers: three texts, and that it reads nothing.
    (data (i32.const 272) "\00\01\00\00\05\00\00\00\00\01\00\00\05\00\00\00\00\01\00\00\05\00\00\00\00")
    (func (export "cabi_realloc") (param $old i32) (param $from i32) (param $align i32) (param $bytes i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and
            (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
            (i32.sub (i32.const 0) (local.get $align))))
        (global.set $free (i32.add (local.get $at) (local.get $bytes)))
        (local.get $at))
    (func (export "bellwether:policy/lifecycle@0.1.0#configure") (param i32 i32) (result i32)
        (global.set $free (i32.const 1024))
        (i32.const 0))
    (func (export "bellwether:policy/lifecycle@0.1.0#describe") (result i32)
        (i32.const 272))
    (func (export "bellwether:policy/ttl@0.1.0#decide") (param i32) (result i32)
        (global.set $free (i32.const 1024))
        (i32.const 0)))"#;

/// The component.
pub(crate) fn component() -> anyhow::Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let wit = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../wit");
    let (package, _) = resolve.push_dir(&wit).with_context(|| format!("cannot read {}", wit.display()))?;
    let world = resolve.select_world(&[package], Some("ttl-policy"))?;
    let mut module = wat::parse_str(TEXT)?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}
