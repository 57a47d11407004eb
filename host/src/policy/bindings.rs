//! What `wasmtime` makes of the contract. These types stop at this folder: [`super::convert`] turns them into the
//! host's.

#![allow(missing_docs, unreachable_pub, reason = "generated from wit/, which documents every item")]

pub(super) mod ttl {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "ttl-policy",
        imports: { default: trappable },
        // A request is handed over as it lies there: nothing of it is copied but into the guest.
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(super) mod namespaces {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "namespaces-policy",
        imports: { default: trappable },
        with: {
            "bellwether:policy/types": super::ttl::bellwether::policy::types,
            "bellwether:policy/log": super::ttl::bellwether::policy::log,
        },
    });
}

pub(super) mod market_hours {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "market-hours-policy",
        imports: { default: trappable },
        with: {
            "bellwether:policy/types": super::ttl::bellwether::policy::types,
            "bellwether:policy/log": super::ttl::bellwether::policy::log,
        },
    });
}

/// What every policy exports, whatever its role.
pub(super) mod lifecycle {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "package bellwether:host; world any-policy { export bellwether:policy/lifecycle@0.1.0; }",
        world: "bellwether:host/any-policy",
    });
}
