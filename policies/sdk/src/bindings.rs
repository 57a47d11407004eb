//! The generated bindings, one module per interface of the contract, and nothing written by hand.
//!
//! One world per interface and not per role: a role's component is the sum of the interfaces its macro exports, so each
//! type exists once, whatever the role, and needs no conversion between worlds. The exports of a world are described
//! to the component encoder only where its export macro is used (`pub_export_macro`), so that a component claims its
//! own role and no other.

#![allow(missing_docs, unreachable_pub, reason = "generated: the documentation is that of wit/, where there is any")]

/// What a policy may call, and the types that more than one interface speaks.
pub mod host {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package bellwether:sdk-host;
            world host {
                import bellwether:policy/types@0.1.0;
                import bellwether:policy/log@0.1.0;
                import bellwether:policy/market-hours@0.1.0;
            }",
        generate_all,
        generate_unused_types: true,
        skip: ["transitions", "special-days", "markets"],
        additional_derives: [PartialEq, Eq],
    });
}

/// `lifecycle`, exported by every policy.
pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package bellwether:sdk-lifecycle;
            world lifecycle { export bellwether:policy/lifecycle@0.1.0; }",
        generate_all,
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
    });
}

/// `namespaces`, exported by namespaces policies.
pub mod namespaces {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package bellwether:sdk-namespaces;
            world namespaces { export bellwether:policy/namespaces@0.1.0; }",
        with: { "bellwether:policy/types@0.1.0": crate::bindings::host::bellwether::policy::types },
        generate_all,
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export_namespaces",
    });
}

/// `ttl`, exported by ttl policies.
pub mod ttl {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package bellwether:sdk-ttl;
            world ttl { export bellwether:policy/ttl@0.1.0; }",
        with: { "bellwether:policy/types@0.1.0": crate::bindings::host::bellwether::policy::types },
        generate_all,
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export_ttl",
    });
}

/// `market-hours`, exported by market-hours policies.
pub mod market_hours {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package bellwether:sdk-market-hours;
            world market-hours { export bellwether:policy/market-hours@0.1.0; }",
        with: { "bellwether:policy/types@0.1.0": crate::bindings::host::bellwether::policy::types },
        generate_all,
        additional_derives: [PartialEq, Eq],
        pub_export_macro: true,
        export_macro_name: "export_market_hours",
    });
}
