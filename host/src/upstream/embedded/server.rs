//! Commands about the store itself: PING, INFO, CONFIG, COMMAND and their like.

use super::{
    VERSION,
    call::{Call, Error, integer, is},
    commands, glob, keys,
};

/// What CONFIG GET knows.
const SETTINGS: &[(&str, &str)] = &[("appendonly", "no"), ("databases", "1"), ("maxmemory", "0"), ("save", "")];

pub(super) fn ping(call: &mut Call<'_>) -> Result<(), Error> {
    match call.args_from(1) {
        [] => call.reply.simple("PONG"),
        [text] => call.reply.bulk(text),
        _ => return Err(Error::fixed("ERR wrong number of arguments for 'ping' command")),
    }
    Ok(())
}

pub(super) fn echo(call: &mut Call<'_>) -> Result<(), Error> {
    let text = call.arg(1);
    call.reply.bulk(text);
    Ok(())
}

pub(super) fn select(call: &mut Call<'_>) -> Result<(), Error> {
    keys::database(call.arg(1))?;
    call.reply.ok();
    Ok(())
}

pub(super) fn time(call: &mut Call<'_>) -> Result<(), Error> {
    let now_ms = call.keys.now_ms;
    call.reply.array(2);
    call.reply.bulk(now_ms.div_euclid(1000).to_string().as_bytes());
    call.reply.bulk((now_ms.rem_euclid(1000) * 1000).to_string().as_bytes());
    Ok(())
}

/// There are no replicas to wait for.
pub(super) fn wait(call: &mut Call<'_>) -> Result<(), Error> {
    call.integer(1)?;
    match integer(call.arg(2)) {
        Ok(0..) => {}
        Ok(_) => return Err(Error::fixed("ERR timeout is negative")),
        Err(_) => return Err(Error::fixed("ERR timeout is not an integer or out of range")),
    }
    call.reply.count(0);
    Ok(())
}

pub(super) fn info(call: &mut Call<'_>) -> Result<(), Error> {
    let uptime_seconds = call.keys.now_ms.saturating_sub(call.server.started_at_ms).max(0) / 1000;
    let sections = [
        (
            "Server",
            format!(
                "redis_version:{VERSION}\r\nredis_mode:standalone\r\nbellwether_embedded:1\r\n\
                 uptime_in_seconds:{uptime_seconds}\r\n"
            ),
        ),
        ("Clients", format!("connected_clients:{}\r\n", call.server.sessions)),
        (
            "Memory",
            format!(
                "used_memory:{}\r\nmaxmemory:{}\r\nmaxmemory_policy:noeviction\r\n",
                call.keys.used_bytes(),
                call.server.limits.memory_bytes_max
            ),
        ),
        ("Persistence", "loading:0\r\naof_enabled:0\r\n".into()),
        ("Stats", format!("total_commands_processed:{}\r\n", call.server.commands_run)),
        ("Replication", "role:master\r\nconnected_slaves:0\r\n".into()),
        ("Cluster", "cluster_enabled:0\r\n".into()),
        ("Keyspace", keyspace_line(call)),
    ];
    let wanted = call.args_from(1);
    let asked = |title: &str| {
        let any = |word: &&[u8]| is(word, title) || is(word, "all") || is(word, "default") || is(word, "everything");
        wanted.is_empty() || wanted.iter().any(any)
    };
    let texts: Vec<String> = sections
        .iter()
        .filter(|(title, _)| asked(title))
        .map(|(title, lines)| format!("# {title}\r\n{lines}"))
        .collect();
    call.reply.text(&texts.join("\r\n"));
    Ok(())
}

pub(super) fn config_get(call: &mut Call<'_>) -> Result<(), Error> {
    let patterns = call.args_from(2);
    let asked =
        |name: &str| patterns.iter().any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()));
    let found: Vec<_> = SETTINGS.iter().filter(|(name, _)| asked(name)).collect();
    call.reply.map(found.len());
    for (name, value) in found {
        call.reply.bulk(name.as_bytes());
        call.reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// No command is described: a sidecar lays what is told here over its own table, which knows more.
pub(super) fn command(call: &mut Call<'_>) -> Result<(), Error> {
    call.reply.array(0);
    Ok(())
}

pub(super) fn command_count(call: &mut Call<'_>) -> Result<(), Error> {
    call.reply.count(commands::names().count());
    Ok(())
}

pub(super) fn command_docs(call: &mut Call<'_>) -> Result<(), Error> {
    call.reply.map(0);
    Ok(())
}

pub(super) fn command_info(call: &mut Call<'_>) -> Result<(), Error> {
    let names = call.args_from(2);
    call.reply.array(names.len());
    names.iter().for_each(|_| call.reply.nil());
    Ok(())
}

pub(super) fn command_list(call: &mut Call<'_>) -> Result<(), Error> {
    let names: Vec<_> = commands::names().collect();
    call.reply.array(names.len());
    names.iter().for_each(|name| call.reply.bulk(name.as_bytes()));
    Ok(())
}

fn keyspace_line(call: &Call<'_>) -> String {
    match call.keys.len() {
        0 => String::new(),
        count => format!("db0:keys={count},expires={},avg_ttl=0\r\n", call.keys.expiring()),
    }
}
