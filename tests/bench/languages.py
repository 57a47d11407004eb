#!/usr/bin/env python3
"""What a policy costs in each language: the first policy of examples/ three times, as a table for docs/authors-guide.md.

    just bench-languages
    python3 tests/bench/languages.py --binary PATH

Needs the tools that tests/run installs. Sizes and instructions are the same on every machine, times are not.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "target/languages"
ROWS = [("Rust", "first-policy"), ("JavaScript", "first-policy-js"), ("Python", "first-policy-python")]
HEAD = """\
| | component | compile, once | found again | an instance, configured | memory | a call | fuel |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/dist/bellwether")
    binary = parser.parse_args().binary.resolve()
    print(HEAD)
    for language, example in ROWS:
        # Node looks for packages in the folders around the project.
        folder = TOOLS / "measured" / example
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        print(row(language, example, binary, folder))


def row(language: str, example: str, binary: pathlib.Path, folder: pathlib.Path) -> str:
    """Builds one of them and measures it."""
    project, more = ROOT / "examples" / example, ["--", "--locked", "--profile", "policy"]
    if language != "Rust":
        project, more = shutil.copytree(project, folder / "project"), []
    component = folder / "first-policy.wasm"
    variables = os.environ | {"PATH": f"{TOOLS}/bin:{os.environ['PATH']}"}

    def ask(*words: object) -> str:
        command = [binary, "policy", *words]
        return subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True, text=True).stdout

    def bench() -> dict:
        return json.loads(ask("bench", component, "--json", "--compiled-folder", folder / "compiled"))

    ask("build", project, "--out", component, "--compiled-folder", "", *more)
    compiled, found = bench()["components"][0], bench()
    if found["debug_build"]:
        print("this bellwether is a debug build: its times are several times those of a release")
    found = found["components"][0]
    columns = [
        language,
        size(compiled["bytes"]),
        f"{compiled['compile_ms'] / 1000:.2f} s",
        f"{found['compile_ms']} ms",
        time(found["instantiate_us"]["median"]),
        size(found["memory_bytes"]),
        time(found["call_ns"]["median"] / 1000),
        f"{found['fuel']:,}",
    ]
    return f"| {' | '.join(columns)} |"


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} KB"


def time(micros: float) -> str:
    """Microseconds for people."""
    if micros >= 1000:
        return f"{micros / 1000:.1f} ms"
    return f"{micros:.0f} µs" if micros >= 10 else f"{micros:.2g} µs"


if __name__ == "__main__":
    main()
