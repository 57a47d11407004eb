//! The requests behind it: who may change something, and whether the description is that of the server.

use std::io::{Read, Write};

use serde_json::Value;

use super::{page, serve, wait_for_states};
use crate::harness::policies::put;
use crate::harness::{Redis, Sidecar, folder, run_with};

/// A request with headers of its own: the status and the body of the answer.
fn ask(sidecar: &Sidecar, request: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", sidecar.admin_port)).unwrap();
    let length = body.len();
    write!(socket, "{request} HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n")
        .unwrap();
    // One that does not want all of it may have answered and gone.
    drop(socket.write_all(body));
    let (mut answer, mut block) = (Vec::new(), [0; 4096]);
    // What comes in chunks may have no end: its head says enough.
    let endless = |answer: &[u8]| String::from_utf8_lossy(answer).contains("transfer-encoding: chunked\r\n");
    while !endless(&answer)
        && let Ok(read) = socket.read(&mut block)
        && read > 0
    {
        answer.extend(&block[..read]);
    }
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request}: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn who_may_change_something() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = serve(&redis, policies.path(), &["--admin-token", "s3cret"]);
    let check = |headers: &str, status: u16, expect: &str| {
        let (got, body) = ask(&sidecar, "POST /bypass?is=on", headers, b"");
        assert!(got == status && body.contains(expect), "{headers:?}: {got} {body}");
    };
    check("", 401, "the token is missing or wrong (admin_token)");
    check("Authorization: Bearer s3cres\r\n", 401, "missing or wrong");
    check("Authorization: Bearer s3cret2\r\n", 401, "missing or wrong");
    check("Authorization: s3cret\r\n", 401, "missing or wrong");
    check("Authorization: Bearer s3cret\r\nOrigin: http://127.0.0.1\r\n", 403, "requests of web pages change nothing");
    assert_eq!(page(&sidecar)["bypass"], false);
    check("Authorization: Bearer s3cret\r\n", 200, "bypass is on");
    assert_eq!(page(&sidecar)["bypass"], true);
    let address = format!("127.0.0.1:{}", sidecar.admin_port);
    let bypass = |variables: &[(&str, &str)], expect: &str| {
        let output = run_with(variables, &["bypass", "off", &address], std::path::Path::new("."));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(expect), "{variables:?}: {said}");
    };
    bypass(&[], "the token is missing or wrong (admin_token)");
    bypass(&[("BELLWETHER_ADMIN_TOKEN", "s3cret")], "bypass is off");
    let lines = sidecar.process.lines();
    assert!(lines.iter().all(|line| !line.contains("s3cret")), "{lines:#?}");
}

#[test]
fn what_cannot_be_asked() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = serve(&redis, policies.path(), &["--admin-body-bytes-max", "4096"]);
    let check = |request: &str, body: &[u8], status: u16, expect: &str| {
        let (got, said) = ask(&sidecar, request, "", body);
        assert!(got == status && said.contains(expect), "{request}: {got} {said}");
    };
    check("POST /rollout/publish", b"", 400, "the tar archive is cut");
    check("POST /rollout/publish", &[b'x'; 2048], 400, "this is not a tar archive");
    check("POST /rollout/publish", &[0; 1024], 400, "there is no policy's file in it");
    check("POST /rollout/publish", &[0; 100_000], 413, "more than 4096 bytes (admin_body_bytes_max)");
    check("POST /rollout/publish?over=all", &[0; 1024], 400, "there is over=active and over=standard");
    check("POST /rollout/shadow", &[0; 1024], 400, "seconds=N says for how long");
    check("POST /rollout/shadow?seconds=0", &[0; 1024], 400, "seconds is more than 0, and at most a week");
    check("POST /rollout/shadow?seconds=nan", &[0; 1024], 400, "seconds is more than 0");
    check("POST /rollout/shadow?seconds=1&max-differing-percent=101", b"", 400, "from 0 to 100");
    check("POST /rollout/rollback?to=x", b"", 400, "to is a number, and not \"x\"");
    check("POST /rollout/promote?x=1", b"", 400, "this takes nothing, and not \"x=1\"");
    check("POST /rollout/promote", b"", 409, "there is no candidate");
    check("POST /rollout/reject", b"", 409, "there is no candidate");
    check("POST /bypass", b"", 400, "there is ?is=on and ?is=off");
    check("POST /nothing", b"", 404, "there is no such path");
    check("POST /policies", b"", 405, "this is only told");
    check("GET /bypass", b"", 405, "this changes something: POST it");
    check("PUT /bypass", b"", 405, "GET, HEAD and POST are allowed");
    assert_eq!(page(&sidecar)["generations"].as_array().unwrap().len(), 1);
}

/// What of an answer is not as it is described: types, alternatives, what must be there, and what nobody describes.
fn faults(description: &Value, schema: &Value, answer: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return faults(description, description.pointer(name.trim_start_matches('#')).unwrap(), answer, at);
    }
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "object" => answer.is_object(),
        "array" => answer.is_array(),
        "string" => answer.is_string(),
        "integer" => answer.is_u64() || answer.is_i64(),
        "number" => answer.is_number(),
        "boolean" => answer.is_boolean(),
        "null" => answer.is_null(),
        kind => panic!("{at}: {kind}"),
    };
    let fits = match (&schema["type"], schema["enum"].as_array()) {
        (Value::Array(kinds), _) => kinds.iter().any(is),
        (Value::Null, Some(alternatives)) => alternatives.contains(answer),
        (kind, _) => is(kind),
    };
    let mut faults_found = if fits { vec![] } else { vec![format!("{at}: {answer} is not {schema}")] };
    let below = |name: &str| format!("{at}/{name}");
    for name in schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()) {
        if answer.is_object() && answer.get(name).is_none() {
            faults_found.push(format!("{} is missing", below(name)));
        }
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, value) in answer.as_object().into_iter().flatten() {
            match properties.get(name) {
                Some(schema) => faults_found.extend(faults(description, schema, value, &below(name))),
                None => faults_found.push(format!("{} is not described", below(name))),
            }
        }
    }
    for item in answer.as_array().into_iter().flatten().filter(|_| schema.get("items").is_some()) {
        faults_found.extend(faults(description, &schema["items"], item, &below("items")));
    }
    faults_found
}

/// The page and an answer of a sidecar that has been through something are as they are described.
pub(super) fn check_description(sidecar: &Sidecar) {
    let description: Value = serde_json::from_str(&sidecar.admin("/openapi.json").1).unwrap();
    let schema = |name: &str| &description["components"]["schemas"][name];
    assert_eq!(
        faults(&description, schema("rollout"), &page(sidecar), ""),
        Vec::<String>::new(),
        "{:#}",
        page(sidecar)
    );
    let (status, done) = ask(sidecar, "POST /bypass?is=off", "", b"");
    let done = serde_json::from_str(&done).unwrap();
    assert_eq!((status, faults(&description, schema("done"), &done, "")), (200, vec![]), "{done}");
}

#[test]
fn answers_are_as_described() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = serve(&redis, policies.path(), &[]);
    check_description(&sidecar);
    put(policies.path(), "ttl.toml", b"[settings]\nx = 1");
    wait_for_states(&sidecar, &[(1, "active"), (2, "rejected")]);
    check_description(&sidecar);
    put(policies.path(), "ttl.toml", super::open_ttl(15).as_bytes());
    wait_for_states(&sidecar, &[(1, "retired"), (2, "rejected"), (3, "active")]);
    check_description(&sidecar);
    // What checks this finds what is wrong.
    let description: Value = serde_json::from_str(&sidecar.admin("/openapi.json").1).unwrap();
    let found = |schema: &Value, answer: Value| faults(&description, schema, &answer, "").join("; ");
    let rollout = &description["components"]["schemas"]["rollout"];
    let mut wrong = page(&sidecar);
    wrong["bypass"] = "no".into();
    wrong["more"] = 1.into();
    wrong["generations"][0]["state"] = "lost".into();
    wrong.as_object_mut().unwrap().remove("digest");
    let found = found(rollout, wrong);
    for expect in ["/digest is missing", "/bypass: \"no\" is not", "/more is not described", "/items/state: \"lost\""] {
        assert!(found.contains(expect), "{expect}: {found}");
    }
}

/// Every path that is described is there and answers with a status that is described; no other method is taken; and
/// the paths that the server names are described.
#[test]
fn the_description_is_the_servers() {
    let redis = Redis::start();
    let policies = folder(&[]);
    let sidecar = serve(&redis, policies.path(), &[]);
    let description: Value = serde_json::from_str(&sidecar.admin("/openapi.json").1).unwrap();
    let paths = description["paths"].as_object().unwrap();
    for (path, methods) in paths {
        for method in ["get", "post", "put", "delete"] {
            let (status, body) = ask(&sidecar, &format!("{} {path}", method.to_uppercase()), "", b"");
            match methods.get(method) {
                Some(described) => {
                    assert!(
                        described["responses"].get(status.to_string()).is_some(),
                        "{method} {path}: {status} {body}"
                    );
                    assert!(![404, 405].contains(&status), "{method} {path}: {status} {body}");
                }
                None => assert_eq!(status, 405, "{method} {path} is not described: {body}"),
            }
        }
    }
    let (status, known) = sidecar.admin("/nothing");
    let named: Vec<_> = known.split([' ', ',', ';']).filter(|word| word.starts_with('/')).collect();
    assert!(status == 404 && named.len() >= 7, "{status} {known}");
    assert!(named.iter().all(|path| paths.contains_key(*path)), "{known}");
    let gets = paths.iter().filter(|(_, methods)| methods.get("get").is_some()).map(|(path, _)| path.as_str());
    gets.for_each(|path| assert!(named.contains(&path), "{path} is not in {known}"));
}
