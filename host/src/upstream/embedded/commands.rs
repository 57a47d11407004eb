//! The command table: which commands this store has, how many arguments they take, what they do to it.

use super::{
    bits, call::Run, client, counters, expiry, hashes, keys, list_moves, lists, scan, server, set, set_combine, sets,
    sort, sorted_set_combine, sorted_set_ranges, sorted_sets, strings, transactions,
};

/// One command, or one subcommand (`client|id`).
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: &'static str,
    /// How many arguments, the name included; negative: at least so many.
    arity: i8,
    pub(super) effect: Effect,
    pub(super) run: Run,
}

/// What a command does beside its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that needs memory.
    Plain,
    /// It may need memory, so it is refused when there is none.
    Grows,
    /// It changes the transaction, so it is never queued in one.
    Session,
}

use Effect::{Grows, Plain, Session};

const SESSION: &[Command] = &[
    command("auth", -2, Plain, client::auth),
    command("client", -2, Plain, server::command),
    command("client|getname", 2, Plain, client::getname),
    command("client|id", 2, Plain, client::id),
    command("client|info", 2, Plain, client::info),
    command("client|no-evict", 3, Plain, client::switch),
    command("client|no-touch", 3, Plain, client::switch),
    command("client|setinfo", 4, Plain, client::setinfo),
    command("client|setname", 3, Plain, client::setname),
    command("echo", 2, Plain, server::echo),
    command("hello", -1, Plain, client::hello),
    command("ping", -1, Plain, server::ping),
    command("quit", -1, Session, client::quit),
    command("reset", 1, Session, client::reset),
    command("select", 2, Plain, server::select),
    command("multi", 1, Session, transactions::multi),
    command("exec", 1, Session, transactions::exec),
    command("discard", 1, Session, transactions::discard),
    command("watch", -2, Session, transactions::watch),
    command("unwatch", 1, Plain, transactions::unwatch),
];

const SERVER: &[Command] = &[
    command("command", -1, Plain, server::command),
    command("command|count", 2, Plain, server::command_count),
    command("command|docs", -2, Plain, server::command_docs),
    command("command|info", -2, Plain, server::command_info),
    command("command|list", -2, Plain, server::command_list),
    command("config", -2, Plain, server::command),
    command("config|get", -3, Plain, server::config_get),
    command("dbsize", 1, Plain, keys::dbsize),
    command("flushall", -1, Plain, keys::flush),
    command("flushdb", -1, Plain, keys::flush),
    command("info", -1, Plain, server::info),
    command("memory", -2, Plain, server::command),
    command("memory|usage", -3, Plain, keys::memory_usage),
    command("time", 1, Plain, server::time),
    command("wait", 3, Plain, server::wait),
];

const KEYS: &[Command] = &[
    command("copy", -3, Grows, keys::copy),
    command("del", -2, Plain, keys::del),
    command("exists", -2, Plain, keys::exists),
    command("expire", -3, Plain, expiry::expire),
    command("expireat", -3, Plain, expiry::expireat),
    command("expiretime", 2, Plain, expiry::expiretime),
    command("keys", 2, Plain, keys::keys),
    command("object", -2, Plain, server::command),
    command("object|encoding", 3, Plain, keys::object_encoding),
    command("object|idletime", 3, Plain, keys::object_idletime),
    command("object|refcount", 3, Plain, keys::object_refcount),
    command("persist", 2, Plain, expiry::persist),
    command("pexpire", -3, Plain, expiry::pexpire),
    command("pexpireat", -3, Plain, expiry::pexpireat),
    command("pexpiretime", 2, Plain, expiry::pexpiretime),
    command("pttl", 2, Plain, expiry::pttl),
    command("randomkey", 1, Plain, keys::randomkey),
    command("rename", 3, Plain, keys::rename),
    command("renamenx", 3, Plain, keys::renamenx),
    command("scan", -2, Plain, scan::scan),
    command("sort", -2, Grows, sort::sort),
    command("touch", -2, Plain, keys::touch),
    command("ttl", 2, Plain, expiry::ttl),
    command("type", 2, Plain, keys::type_of),
    command("unlink", -2, Plain, keys::del),
];

const STRINGS: &[Command] = &[
    command("append", 3, Grows, strings::append),
    command("bitcount", -2, Plain, bits::bitcount),
    command("decr", 2, Grows, counters::decr),
    command("decrby", 3, Grows, counters::decrby),
    command("get", 2, Plain, strings::get),
    command("getbit", 3, Plain, bits::getbit),
    command("getdel", 2, Plain, strings::getdel),
    command("getex", -2, Plain, set::getex),
    command("getrange", 4, Plain, strings::getrange),
    command("getset", 3, Grows, strings::getset),
    command("incr", 2, Grows, counters::incr),
    command("incrby", 3, Grows, counters::incrby),
    command("incrbyfloat", 3, Grows, counters::incrbyfloat),
    command("mget", -2, Plain, strings::mget),
    command("mset", -3, Grows, strings::mset),
    command("msetnx", -3, Grows, strings::msetnx),
    command("psetex", 4, Grows, set::psetex),
    command("set", -3, Grows, set::set),
    command("setbit", 4, Grows, bits::setbit),
    command("setex", 4, Grows, set::setex),
    command("setnx", 3, Grows, set::setnx),
    command("setrange", 4, Grows, strings::setrange),
    command("strlen", 2, Plain, strings::strlen),
    command("substr", 4, Plain, strings::getrange),
];

const HASHES: &[Command] = &[
    command("hdel", -3, Plain, hashes::hdel),
    command("hexists", 3, Plain, hashes::hexists),
    command("hget", 3, Plain, hashes::hget),
    command("hgetall", 2, Plain, hashes::hgetall),
    command("hincrby", 4, Grows, hashes::hincrby),
    command("hincrbyfloat", 4, Grows, hashes::hincrbyfloat),
    command("hkeys", 2, Plain, hashes::hkeys),
    command("hlen", 2, Plain, hashes::hlen),
    command("hmget", -3, Plain, hashes::hmget),
    command("hmset", -4, Grows, hashes::hmset),
    command("hrandfield", -2, Plain, hashes::hrandfield),
    command("hscan", -3, Plain, scan::hscan),
    command("hset", -4, Grows, hashes::hset),
    command("hsetnx", 4, Grows, hashes::hsetnx),
    command("hstrlen", 3, Plain, hashes::hstrlen),
    command("hvals", 2, Plain, hashes::hvals),
];

const LISTS: &[Command] = &[
    command("lindex", 3, Plain, lists::lindex),
    command("linsert", 5, Grows, lists::linsert),
    command("llen", 2, Plain, lists::llen),
    command("lmove", 5, Grows, list_moves::lmove),
    command("lmpop", -4, Plain, list_moves::lmpop),
    command("lpop", -2, Plain, lists::lpop),
    command("lpos", -3, Plain, lists::lpos),
    command("lpush", -3, Grows, lists::lpush),
    command("lpushx", -3, Grows, lists::lpushx),
    command("lrange", 4, Plain, lists::lrange),
    command("lrem", 4, Plain, lists::lrem),
    command("lset", 4, Grows, lists::lset),
    command("ltrim", 4, Plain, lists::ltrim),
    command("rpop", -2, Plain, lists::rpop),
    command("rpoplpush", 3, Grows, list_moves::rpoplpush),
    command("rpush", -3, Grows, lists::rpush),
    command("rpushx", -3, Grows, lists::rpushx),
];

const SETS: &[Command] = &[
    command("sadd", -3, Grows, sets::sadd),
    command("scard", 2, Plain, sets::scard),
    command("sdiff", -2, Plain, set_combine::sdiff),
    command("sdiffstore", -3, Grows, set_combine::sdiffstore),
    command("sinter", -2, Plain, set_combine::sinter),
    command("sintercard", -3, Plain, set_combine::sintercard),
    command("sinterstore", -3, Grows, set_combine::sinterstore),
    command("sismember", 3, Plain, sets::sismember),
    command("smembers", 2, Plain, sets::smembers),
    command("smismember", -3, Plain, sets::smismember),
    command("smove", 4, Plain, sets::smove),
    command("spop", -2, Plain, sets::spop),
    command("srandmember", -2, Plain, sets::srandmember),
    command("srem", -3, Plain, sets::srem),
    command("sscan", -3, Plain, scan::sscan),
    command("sunion", -2, Plain, set_combine::sunion),
    command("sunionstore", -3, Grows, set_combine::sunionstore),
];

const SORTED_SETS: &[Command] = &[
    command("zadd", -4, Grows, sorted_sets::zadd),
    command("zcard", 2, Plain, sorted_sets::zcard),
    command("zcount", 4, Plain, sorted_set_ranges::zcount),
    command("zdiff", -3, Plain, sorted_set_combine::zdiff),
    command("zdiffstore", -4, Grows, sorted_set_combine::zdiffstore),
    command("zincrby", 4, Grows, sorted_sets::zincrby),
    command("zinter", -3, Plain, sorted_set_combine::zinter),
    command("zintercard", -3, Plain, sorted_set_combine::zintercard),
    command("zinterstore", -4, Grows, sorted_set_combine::zinterstore),
    command("zlexcount", 4, Plain, sorted_set_ranges::zlexcount),
    command("zmpop", -4, Plain, sorted_sets::zmpop),
    command("zmscore", -3, Plain, sorted_sets::zmscore),
    command("zpopmax", -2, Plain, sorted_sets::zpopmax),
    command("zpopmin", -2, Plain, sorted_sets::zpopmin),
    command("zrandmember", -2, Plain, sorted_sets::zrandmember),
    command("zrange", -4, Plain, sorted_set_ranges::zrange),
    command("zrangebylex", -4, Plain, sorted_set_ranges::zrangebylex),
    command("zrangebyscore", -4, Plain, sorted_set_ranges::zrangebyscore),
    command("zrangestore", -5, Grows, sorted_set_ranges::zrangestore),
    command("zrank", 3, Plain, sorted_sets::zrank),
    command("zrem", -3, Plain, sorted_sets::zrem),
    command("zremrangebylex", 4, Plain, sorted_set_ranges::zremrangebylex),
    command("zremrangebyrank", 4, Plain, sorted_set_ranges::zremrangebyrank),
    command("zremrangebyscore", 4, Plain, sorted_set_ranges::zremrangebyscore),
    command("zrevrange", -4, Plain, sorted_set_ranges::zrevrange),
    command("zrevrangebylex", -4, Plain, sorted_set_ranges::zrevrangebylex),
    command("zrevrangebyscore", -4, Plain, sorted_set_ranges::zrevrangebyscore),
    command("zrevrank", 3, Plain, sorted_sets::zrevrank),
    command("zscan", -3, Plain, scan::zscan),
    command("zscore", 3, Plain, sorted_sets::zscore),
    command("zunion", -3, Plain, sorted_set_combine::zunion),
    command("zunionstore", -4, Grows, sorted_set_combine::zunionstore),
];

/// Commands that have subcommands. All but COMMAND do nothing without one; their arity sees to it.
const CONTAINERS: &[&str] = &["client", "command", "config", "memory", "object"];

/// What Redis 7.0 has and this store has not: blocking, streams, scripts, pub/sub, geography, cluster, administration.
const ABSENT: &str = "\
    ACL, ASKING, BGREWRITEAOF, BGSAVE, BITFIELD, BITFIELD_RO, BITOP, BITPOS, BLMOVE, BLMPOP, BLPOP, BRPOP, \
    BRPOPLPUSH, BZMPOP, BZPOPMAX, BZPOPMIN, CLIENT CACHING, CLIENT GETREDIR, CLIENT HELP, CLIENT KILL, CLIENT LIST, \
    CLIENT PAUSE, CLIENT REPLY, CLIENT TRACKING, CLIENT TRACKINGINFO, CLIENT UNBLOCK, CLIENT UNPAUSE, CLUSTER, \
    COMMAND GETKEYS, COMMAND GETKEYSANDFLAGS, COMMAND HELP, CONFIG HELP, CONFIG RESETSTAT, CONFIG REWRITE, CONFIG \
    SET, DEBUG, DUMP, EVAL, EVAL_RO, EVALSHA, EVALSHA_RO, FAILOVER, FCALL, FCALL_RO, FUNCTION, GEOADD, GEODIST, \
    GEOHASH, GEOPOS, GEORADIUS, GEORADIUS_RO, GEORADIUSBYMEMBER, GEORADIUSBYMEMBER_RO, GEOSEARCH, GEOSEARCHSTORE, \
    LASTSAVE, LATENCY, LCS, LOLWUT, MEMORY DOCTOR, MEMORY HELP, MEMORY MALLOC-STATS, MEMORY PURGE, MEMORY STATS, \
    MIGRATE, MODULE, MONITOR, MOVE, OBJECT FREQ, OBJECT HELP, PFADD, PFCOUNT, PFDEBUG, PFMERGE, PFSELFTEST, \
    PSUBSCRIBE, PSYNC, PUBLISH, PUBSUB, PUNSUBSCRIBE, READONLY, READWRITE, REPLCONF, REPLICAOF, RESTORE, RESTORE- \
    ASKING, ROLE, SAVE, SCRIPT, SHUTDOWN, SLAVEOF, SLOWLOG, SORT_RO, SPUBLISH, SSUBSCRIBE, SUBSCRIBE, SUNSUBSCRIBE, \
    SWAPDB, SYNC, UNSUBSCRIBE, XACK, XADD, XAUTOCLAIM, XCLAIM, XDEL, XGROUP, XINFO, XLEN, XPENDING, XRANGE, XREAD, \
    XREADGROUP, XREVRANGE, XSETID, XTRIM";

// === impl Command ===

impl Command {
    /// Whether it takes so many arguments, the name included.
    pub(super) fn takes(&self, args: usize) -> bool {
        let needed = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { args >= needed } else { args == needed }
    }

    /// Whether it is reached through a container only.
    pub(super) fn is_subcommand(&self) -> bool {
        self.name.contains('|')
    }

    /// Whether its second argument names a subcommand.
    pub(super) fn is_container(&self) -> bool {
        CONTAINERS.contains(&self.name)
    }
}

/// All commands and subcommands.
pub(super) fn table() -> impl Iterator<Item = &'static Command> {
    [SESSION, SERVER, KEYS, STRINGS, HASHES, LISTS, SETS, SORTED_SETS].into_iter().flatten()
}

/// The names of the commands, without subcommands.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    table().filter(|command| !command.is_subcommand()).map(|command| command.name)
}

/// Whether the server has this command (`XADD`, `CLIENT TRACKING`) and this store has not.
pub(super) fn is_absent(name: &str) -> bool {
    ABSENT.split(", ").any(|absent| absent == name)
}

const fn command(name: &'static str, arity: i8, effect: Effect, run: Run) -> Command {
    Command { name, arity, effect, run }
}
