//! A policy that asks the world outside, as its target (`wasm32-wasip2`) lets it. The reason of each decision is what
//! it was told; what it asks for is the end of the key.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::panic, clippy::exit, reason = "that is what it is for")]

use std::fmt::Debug;
use std::hash::BuildHasher;

use bellwether_sdk::{Decision, Description, Inputs, Request, TtlPolicy};

/// The policy.
pub struct Outside;

impl TtlPolicy for Outside {
    fn configure(settings: &str) -> Result<Self, String> {
        assert_eq!(settings, "{}", "it takes no settings");
        Ok(Self)
    }

    fn describe(&self) -> Description {
        Description { reads: Inputs::KEY, ..Description::new("outside", "0.1.0", "Asks the world outside") }
    }

    fn decide(&self, request: &Request) -> Result<Decision, String> {
        let told = match request.key.split(':').nth(1).unwrap_or_default() {
            "panic" => panic!("the message of a panic"),
            "clock" => shown(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)),
            "stopwatch" => shown(std::time::Instant::now().elapsed()),
            "random" => shown(std::hash::RandomState::new().hash_one(1)),
            "file" => shown(std::fs::read("/etc/hostname").map_err(|error| error.kind())),
            "folder" => shown(std::fs::read_dir("/").map(drop).map_err(|error| error.kind())),
            "environment" => shown((std::env::vars().count(), std::env::args().count())),
            "network" => shown(std::net::TcpStream::connect("127.0.0.1:6379").map(drop).map_err(|error| error.kind())),
            "input" => shown(std::io::stdin().read_line(&mut String::new()).map_err(|error| error.kind())),
            "exit" => std::process::exit(3),
            "wait" => {
                std::thread::park_timeout(std::time::Duration::from_secs(3600));
                shown("waited")
            }
            "print" => {
                println!("to standard output");
                eprintln!("to standard error");
                eprint!("without an end of line");
                shown("printed")
            }
            "hold" => loop {
                std::mem::forget(hoard::wasi::cli::stdout::get_stdout());
            },
            "flood" => loop {
                println!("again");
            },
            _ => shown("nothing was asked"),
        };
        Ok(Decision::after(1000, &told))
    }
}

fn shown(told: impl Debug) -> String {
    format!("{told:?}")
}

bellwether_sdk::ttl_policy!(Outside);

/// What the standard library asks for once, to be asked for again and again.
mod hoard {
    #![allow(missing_docs, unreachable_pub, reason = "generated")]

    wit_bindgen::generate!({
        inline: "package test:hoard;
            world hoard { import wasi:cli/stdout@0.2.3; }
            package wasi:cli@0.2.3 {
                interface stdout {
                    use wasi:io/streams@0.2.3.{output-stream};
                    get-stdout: func() -> output-stream;
                }
            }
            package wasi:io@0.2.3 { interface streams { resource output-stream; } }",
        generate_all,
    });
}
