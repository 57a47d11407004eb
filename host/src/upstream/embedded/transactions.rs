//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.

use super::{
    call::{Call, Error, Reply},
    keyspace::{Keyspace, Watch},
    session::{Session, Transaction},
    store,
};

pub(super) fn multi(call: &mut Call<'_>) -> Result<(), Error> {
    if call.session.transaction.is_some() {
        return Err(Error::fixed("ERR MULTI calls can not be nested"));
    }
    call.session.transaction = Some(Transaction::default());
    call.reply.ok();
    Ok(())
}

pub(super) fn discard(call: &mut Call<'_>) -> Result<(), Error> {
    if call.session.transaction.is_none() {
        return Err(Error::fixed("ERR DISCARD without MULTI"));
    }
    forget(call.keys, call.session);
    call.reply.ok();
    Ok(())
}

/// Runs what was queued, unless a command was refused or a watched key changed. Neither this nor another command that
/// changes the transaction is ever queued, so it does not come back here.
pub(super) fn exec(call: &mut Call<'_>) -> Result<(), Error> {
    let Some(transaction) = call.session.transaction.take() else {
        return Err(Error::fixed("ERR EXEC without MULTI"));
    };
    let changed = call.session.watches.iter().any(|watch| call.keys.is_changed(watch));
    forget(call.keys, call.session);
    if transaction.refused {
        return Err(Error::fixed("EXECABORT Transaction discarded because of previous errors."));
    }
    if changed {
        call.reply.nil_array();
        return Ok(());
    }
    call.reply.array(transaction.queue.len());
    for queued in &transaction.queue {
        let args: Vec<&[u8]> = queued.args.iter().map(AsRef::as_ref).collect();
        let reply = Reply {
            out: call.reply.out,
            // HELLO may be among the queued.
            protocol: call.session.protocol,
            bytes_max: call.reply.bytes_max,
            is_full: call.reply.is_full,
        };
        let mut queued_call = Call { keys: call.keys, server: call.server, session: call.session, args: &args, reply };
        store::run(&mut queued_call, queued.command);
        call.reply.is_full = queued_call.reply.is_full;
    }
    Ok(())
}

pub(super) fn watch(call: &mut Call<'_>) -> Result<(), Error> {
    if call.session.transaction.is_some() {
        return Err(Error::fixed("ERR WATCH inside MULTI is not allowed"));
    }
    for key in call.args_from(1) {
        if call.session.watches.iter().any(|watch| watch.is_of(key)) {
            continue;
        }
        let bytes: usize = call.session.watches.iter().map(Watch::bytes).sum();
        let fits = bytes.saturating_add(key.len()) <= call.server.limits.transaction_bytes_max;
        if !fits || call.session.watches.len() >= call.server.limits.watches_max {
            return Err(Error::fixed("ERR too many watched keys for Bellwether's embedded store"));
        }
        call.session.watches.push(call.keys.watch(key));
    }
    call.reply.ok();
    Ok(())
}

pub(super) fn unwatch(call: &mut Call<'_>) -> Result<(), Error> {
    unwatch_all(call.keys, call.session);
    call.reply.ok();
    Ok(())
}

/// Forgets the session's transaction and its watches.
pub(super) fn forget(keys: &mut Keyspace, session: &mut Session) {
    session.transaction = None;
    unwatch_all(keys, session);
}

fn unwatch_all(keys: &mut Keyspace, session: &mut Session) {
    for watch in session.watches.drain(..) {
        keys.unwatch(&watch);
    }
}
