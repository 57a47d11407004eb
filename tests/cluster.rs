//! A cluster behind the sidecar, which looks like one server: real nodes, slots that move, nodes that die.

mod failover;
mod moving;
mod near;
mod tls;
mod whole;

use crate::harness::Client;

/// Holds a list of commands, each with the reply it must get.
fn check(client: &mut Client, lines: &[(&str, &str)]) {
    for (line, expect) in lines {
        assert_eq!(client.ask(line), expect.trim_end(), "{line}");
    }
}

/// Sends commands at once, and gives their replies.
fn pipeline(client: &mut Client, lines: &[String]) -> Vec<String> {
    let bytes: Vec<u8> =
        lines.iter().flat_map(|line| crate::harness::encoded(&line.split(' ').collect::<Vec<_>>())).collect();
    client.send(&bytes);
    lines.iter().map(|_| String::from_utf8_lossy(&client.reply()).trim_end().to_owned()).collect()
}
