//! A core module made a component, as the build of this program and `bellwether policy build` do it. The build script
//! includes this file, so that it uses nothing of the crate.

use anyhow::Context;

/// Turns a core module, built against the SDK for `wasm32-unknown-unknown`, into a component.
///
/// # Errors
/// It is not one, or it imports what no interface explains.
pub fn component(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let component = wit_component::ComponentEncoder::default().validate(true).module(module)?.encode()?;
    without_names(&component)
}

/// Leaves out the names of a component's parts, a custom section that only a debugger reads: a hundredth of it.
fn without_names(component: &[u8]) -> anyhow::Result<Vec<u8>> {
    const CUSTOM: u8 = 0;
    let (header, mut rest) = component.split_at_checked(8).context("it has no header")?;
    let mut kept = header.to_vec();
    while let Some((&id, after_id)) = rest.split_first() {
        // The section's size, in LEB128.
        let digits = after_id.iter().position(|byte| byte & 0x80 == 0).context("a section has no size")? + 1;
        let (size, after_size) = after_id.split_at(digits);
        let size = size.iter().rev().fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f));
        let (body, next) = after_size.split_at_checked(size).context("a section is cut off")?;
        if id != CUSTOM || !body.starts_with(b"\x0ecomponent-name") {
            kept.extend_from_slice(&rest[..rest.len() - next.len()]);
        }
        rest = next;
    }
    Ok(kept)
}
