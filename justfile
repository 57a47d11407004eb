# The words a person types. CI types the same ones, without just.

# Run the sidecar on the embedded store, with the standard policies.
dev *flags:
    rustup target add wasm32-unknown-unknown
    cargo run --locked -- dev {{ flags }}

# Install what the tests need, and run every test.
test:
    tests/run

# All that CI asks for.
ci:
    bash .ci/run

# Format, and say what clippy and rustdoc say.
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# The contract's reference, docs/contract.md, anew from the comments in wit/.
contract:
    UPDATE_EXPECT=1 cargo test --locked -p bellwether --test e2e -- contract::

# Fuzz the request scanner, the reply splitter and the command rewriter, each for so many seconds. Needs nightly Rust
# and cargo-fuzz.
fuzz seconds="60":
    tests/fuzz/run {{ seconds }}

# Speed, CPU and memory beside direct Redis, HAProxy and twemproxy (--quick: four minutes; --full: an hour).
bench *flags:
    cargo build --profile dist --locked
    cargo build --profile dist --locked -p bench-load
    cargo build --profile dist --locked -p bench-decisions
    python3 tests/bench/run.py {{ flags }}

# What clients notice of a thousand reloads, and of hostile policies (--quick: three minutes; all: half an hour). The
# report is target/bench/reload/report.md.
bench-reload *flags:
    cargo build --profile dist --locked
    cargo build --profile dist --locked -p bench-load
    python3 tests/bench/reload.py {{ flags }}

# Mixed load through the sidecar while things go wrong, for so many minutes; every reply is checked. The report is below
# target/soak.
soak minutes="60" *flags:
    cargo build --locked
    cargo build --locked -p soak
    target/debug/soak --binary target/debug/bellwether --seconds $(({{ minutes }} * 60)) --report target/soak {{ flags }}

# Look for stale reads in the near cache for so many minutes.
coherence minutes="10":
    COHERENCE_SECONDS=$(({{ minutes }} * 60)) cargo test --locked -p bellwether --test e2e -- --nocapture near::nobody

# Suites that others wrote (rq, dogpile.cache, redis-py, valkey; quick: the first two), direct and through the sidecar.
suites *names="all":
    cargo build --locked
    python3 tests/suites/run.py {{ names }}

# The standard policies as components, by cargo-component (0.21.1), which has to be installed.
components:
    cargo component build --profile policy --target wasm32-unknown-unknown -p market-hours-policy -p namespaces-policy -p ttl-policy

# Nanoseconds for an answer about a market: exchange_calendars, exchange-hours, the crate, the component.
bench-market *flags:
    cargo build --profile dist --locked -p market-peers
    python3 -m venv target/calendars/python
    target/calendars/python/bin/pip install --quiet -r policies/calendar/data/requirements.txt
    target/calendars/python/bin/python tests/markets/bench.py {{ flags }}

# What a policy costs in Rust, JavaScript and Python, as the table of docs/authors-guide.md. Needs what tests/run installs.
bench-languages:
    cargo build --profile dist --locked
    python3 tests/bench/languages.py

# The calendar data anew from its pinned sources; what changed since the last commit (or a data file that is named), and
# target/calendars/report.md on where others disagree.
calendars *old:
    policies/calendar/data/update.sh {{ old }}
