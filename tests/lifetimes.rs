//! How long keys live: each way in which a command comes to a lifetime, compared with what direct Redis does. The files
//! of `lifetimes` are conversations, held under rules whose every decision is 100 s.

#[test]
fn conversations() {
    crate::harness::conversation::check("lifetimes");
}
