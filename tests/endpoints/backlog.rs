//! Clients that come all at once wait for their turn, as many as the setting says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{Redis, Sidecar};

/// More than come at once to a server with Redis's own default (tcp-backlog 511).
const CROWD: usize = 700;

/// Connects so many clients while the sidecar accepts none: those that got a place.
fn crowd(sidecar: &Sidecar, size: usize) -> Vec<TcpStream> {
    let address = SocketAddr::from(([127, 0, 0, 1], sidecar.port));
    let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(200));
    (0..size).map(connect).map_while(Result::ok).collect()
}

#[test]
fn clients_that_come_at_once() {
    let redis = Redis::start();
    let check = |flags: &[&str], size: usize, expect: std::ops::RangeInclusive<usize>| {
        let sidecar = Sidecar::serve(&redis, flags);
        sidecar.process.signal("STOP");
        let mut clients = crowd(&sidecar, size);
        assert!(expect.contains(&clients.len()), "{flags:?}: {} of {size}", clients.len());
        sidecar.process.signal("CONT");
        for client in &mut clients {
            client.write_all(b"PING\r\n").unwrap();
        }
        for client in &mut clients {
            let mut pong = [0; 7];
            client.read_exact(&mut pong).unwrap();
            assert_eq!(&pong, b"+PONG\r\n");
        }
    };
    check(&[], CROWD, CROWD..=CROWD);
    // The kernel lets in one more.
    check(&["--listen-backlog", "10"], 20, 10..=12);
}
