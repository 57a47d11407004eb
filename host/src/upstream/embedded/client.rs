//! Commands about the session: HELLO, AUTH, CLIENT, RESET, QUIT.

use crate::resp::{Protocol, parse_integer};

use super::{
    VERSION,
    call::{Call, Error, is, shown},
    session::Session,
    transactions,
};

/// The answer to a password that is not the default user's, which has none.
const WRONG_PASSWORD: Error = Error::fixed("WRONGPASS invalid username-password pair or user is disabled.");

pub(super) fn hello(call: &mut Call<'_>) -> Result<(), Error> {
    let (version, mut rest) = match call.args_from(1) {
        [] => (None, &[][..]),
        [version, rest @ ..] => (Some(protocol(version)?), rest),
    };
    let mut user = None;
    let mut name = None;
    while let [word, tail @ ..] = rest {
        rest = match tail {
            [name, _password, tail @ ..] if is(word, "AUTH") => {
                user = Some(*name);
                tail
            }
            [new_name, tail @ ..] if is(word, "SETNAME") => {
                check_name(new_name)?;
                name = Some(*new_name);
                tail
            }
            _ => {
                return Err(Error::about(format!("ERR Syntax error in HELLO option '{}'", shown(word))));
            }
        };
    }
    if user.is_some_and(|user| user != b"default") {
        return Err(WRONG_PASSWORD);
    }
    if let Some(name) = name {
        call.session.name = name.to_vec();
    }
    if let Some(version) = version {
        call.session.protocol = version;
        call.reply.protocol = version;
    }
    describe(call);
    Ok(())
}

pub(super) fn auth(call: &mut Call<'_>) -> Result<(), Error> {
    match call.args_from(1) {
        [_password] => Err(Error::fixed(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?",
        )),
        [user, _password] if *user == b"default" => {
            call.reply.ok();
            Ok(())
        }
        [_user, _password] => Err(WRONG_PASSWORD),
        _ => Err(Error::SYNTAX),
    }
}

pub(super) fn reset(call: &mut Call<'_>) -> Result<(), Error> {
    transactions::forget(call.keys, call.session);
    *call.session = Session::new(call.session.id);
    call.reply.simple("RESET");
    Ok(())
}

pub(super) fn quit(call: &mut Call<'_>) -> Result<(), Error> {
    call.session.closing = true;
    call.reply.ok();
    Ok(())
}

pub(super) fn setname(call: &mut Call<'_>) -> Result<(), Error> {
    let name = call.arg(2);
    check_name(name)?;
    call.session.name = name.to_vec();
    call.reply.ok();
    Ok(())
}

pub(super) fn getname(call: &mut Call<'_>) -> Result<(), Error> {
    let name = Some(call.session.name.as_slice()).filter(|name| !name.is_empty());
    call.reply.bulk_or_nil(name);
    Ok(())
}

pub(super) fn id(call: &mut Call<'_>) -> Result<(), Error> {
    call.reply.integer(i64::try_from(call.session.id).unwrap_or(i64::MAX));
    Ok(())
}

pub(super) fn info(call: &mut Call<'_>) -> Result<(), Error> {
    let queued = call
        .session
        .transaction
        .as_ref()
        .map_or(-1, |transaction| i64::try_from(transaction.queue.len()).unwrap_or(i64::MAX));
    let line = format!(
        "id={} addr=embedded:0 laddr=embedded:0 fd=-1 name={} flags=N db=0 sub=0 psub=0 multi={queued} resp={}\n",
        call.session.id,
        shown(&call.session.name),
        version(call.session.protocol),
    );
    call.reply.text(&line);
    Ok(())
}

/// What a client library calls itself: taken, and of no consequence.
pub(super) fn setinfo(call: &mut Call<'_>) -> Result<(), Error> {
    let option = call.arg(2);
    if !is(option, "LIB-NAME") && !is(option, "LIB-VER") {
        return Err(Error::about(format!("ERR Unrecognized option '{}'", shown(option))));
    }
    call.reply.ok();
    Ok(())
}

/// NO-EVICT and NO-TOUCH: nothing is ever evicted here.
pub(super) fn switch(call: &mut Call<'_>) -> Result<(), Error> {
    if !is(call.arg(2), "ON") && !is(call.arg(2), "OFF") {
        return Err(Error::SYNTAX);
    }
    call.reply.ok();
    Ok(())
}

fn describe(call: &mut Call<'_>) {
    let protocol = call.session.protocol;
    call.reply.map(7);
    let texts = [("server", "redis"), ("version", VERSION)];
    texts.iter().for_each(|(name, text)| text_pair(call, name, text));
    call.reply.bulk(b"proto");
    call.reply.integer(version(protocol));
    call.reply.bulk(b"id");
    call.reply.integer(i64::try_from(call.session.id).unwrap_or(i64::MAX));
    let texts = [("mode", "standalone"), ("role", "master")];
    texts.iter().for_each(|(name, text)| text_pair(call, name, text));
    call.reply.bulk(b"modules");
    call.reply.array(0);
}

fn text_pair(call: &mut Call<'_>, name: &str, text: &str) {
    call.reply.bulk(name.as_bytes());
    call.reply.bulk(text.as_bytes());
}

fn version(protocol: Protocol) -> i64 {
    match protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    }
}

fn protocol(arg: &[u8]) -> Result<Protocol, Error> {
    match parse_integer(arg) {
        Some(2) => Ok(Protocol::Resp2),
        Some(3) => Ok(Protocol::Resp3),
        Some(_) => Err(Error::fixed("NOPROTO unsupported protocol version")),
        None => Err(Error::fixed("ERR Protocol version is not an integer or out of range")),
    }
}

fn check_name(name: &[u8]) -> Result<(), Error> {
    if name.iter().all(u8::is_ascii_graphic) {
        return Ok(());
    }
    Err(Error::fixed("ERR Client names cannot contain spaces, newlines or special characters."))
}
