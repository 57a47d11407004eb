#!/usr/bin/env bash
# Makes the calendar data anew and says what is different. `just calendars` is the same.
#
#     policies/calendar/data/update.sh [OLD]
#
# 1. calendars.bin (and ../tests/reference.txt) from the pinned sources, into place
# 2. what changed since OLD, a data file; without it, since the last commit
# 3. target/calendars/report.md: where other libraries disagree, for a person to review; nothing of it is applied
# 4. the tests of the calendar crate, with the new data
# 5. target/calendars/market-hours.toml: the data as settings. Put into a policy folder, it is in force without a build
# Needs Python 3.11 with venv, Rust, git and the package registries. Everything it installs is under target/.
set -euo pipefail
# A relative OLD is relative to where this was typed.
old=${1:+$(realpath "$1")}
cd "$(dirname "$0")/../../.."
data=policies/calendar/data
out=target/calendars
mkdir -p "$out"

# Makes a Python with pinned packages: its folder, then the files that pin them.
python_with() {
    local folder=$1 pins=()
    shift
    for file in "$@"; do pins+=(-r "$data/$file"); done
    [ -x "$folder/bin/python" ] || python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${pins[@]}"
}
python_with "$out/python" requirements.txt
python_with "$out/report-python" requirements.txt requirements-report.txt
if [ -z "$old" ]; then
    old=$out/old.bin
    git show "HEAD:$data/calendars.bin" >"$old"
fi
# Built before the data changes: the program reads files, and would be built again for the data inside it.
cargo build --quiet --locked -p market-peers --bin dump
dump=${CARGO_TARGET_DIR:-target}/debug/dump

echo "== generating"
"$out/python/bin/python" "$data/generate.py"
echo "== what changed"
python3 "$data/diff.py" "$old" "$data/calendars.bin" --dump "$dump" | tee "$out/diff.txt"
echo "== where others disagree"
"$out/report-python/bin/python" "$data/report.py" "$data/calendars.bin" --dump "$dump" --out "$out/report.md"
echo "== testing"
cargo test --quiet --locked -p bellwether-calendar
{
    echo "# Calendar data as settings of the market-hours policy, in place of the data inside it."
    echo "[settings]"
    echo "data = \"$(base64 -w 0 "$data/calendars.bin")\""
} >"$out/market-hours.toml"
echo "== $out/market-hours.toml has the data as settings, $(wc -c <"$out/market-hours.toml") bytes"
