//! How many files may be open, which bounds how many clients can be served.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are no client's: listeners, shared lanes, policies, the pages of the admin server.
const OTHERS: u64 = 64;
/// A client's connection, and one at the server, which it has while it holds something there.
const EACH: u64 = 2;

/// Has the system allow as many open files as so many clients need: how many clients it allows.
pub(super) fn allow(clients_max: usize) -> usize {
    let wanted = (clients_max as u64).saturating_mul(EACH).saturating_add(OTHERS);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(before) = current.filter(|current| *current < wanted) else { return clients_max };
    let most = maximum.map_or(wanted, |maximum| maximum.min(wanted)).max(before);
    let files = match setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }) {
        Ok(()) => most,
        Err(_) => before,
    };
    if files >= wanted {
        return clients_max;
    }
    let served = usize::try_from(files.saturating_sub(OTHERS) / EACH).unwrap_or(usize::MAX).max(1);
    tracing::warn!(
        files,
        clients_max,
        served,
        "too few files may be open for clients_max: fewer clients are served; raise the limit (ulimit -n, or \
         LimitNOFILE of a systemd unit), or lower clients_max"
    );
    served
}
