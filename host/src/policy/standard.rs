//! The standard policies, compiled into this program by its build.

/// A component that is part of this program.
#[derive(Debug)]
pub struct Standard {
    /// Its name, and the name of its policy.
    pub name: &'static str,
    /// The component.
    pub component: &'static [u8],
    /// The cases shipped beside it.
    pub cases: &'static str,
}

/// The standard set.
pub const STANDARD: &[Standard] = &[
    Standard {
        name: "market-hours",
        component: include_bytes!(concat!(env!("OUT_DIR"), "/market-hours.wasm")),
        cases: include_str!("../../../policies/market-hours/cases.toml"),
    },
    Standard {
        name: "namespaces",
        component: include_bytes!(concat!(env!("OUT_DIR"), "/namespaces.wasm")),
        cases: include_str!("../../../policies/namespaces/cases.toml"),
    },
    Standard {
        name: "ttl",
        component: include_bytes!(concat!(env!("OUT_DIR"), "/ttl.wasm")),
        cases: include_str!("../../../policies/ttl/cases.toml"),
    },
];
