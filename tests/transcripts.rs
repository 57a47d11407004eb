//! Conversations as bytes: what is sent and what comes back, whole and one byte at a time, in both protocols. Each is a
//! file of `transcripts`; what only a program can say is in `crowd` and
//! `apart`.

mod apart;
mod crowd;

#[test]
fn conversations() {
    crate::harness::conversation::check("transcripts");
}
