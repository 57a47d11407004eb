"""What reloads and hostile policies are measured on: components, sidecars with a policy folder of their own, and the
load, of which every reply is checked."""

import contextlib
import os
import pathlib
import subprocess
import tempfile
import time
from typing import NamedTuple

import servers
from cases import closed_case, flush, told
from change import Folder
from measure import Bench, Path

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Reads, writes with a lifetime in them, and writes behind which an expiry is sent whose reply nobody is given.
MIX = "get:5,set:2,hset:1,zadd:1,mget:1"
CLIENTS, PIPELINE = 50, 16
# A Monday morning in Mumbai, so that quotes live for a minute whenever this runs.
AT = 1_795_408_200
# Packages of this workspace, and what they are compiled for.
COMPONENTS = {
    "ttl": "wasm32-unknown-unknown",
    "hostile": "wasm32-unknown-unknown",
    "hostile-roles": "wasm32-unknown-unknown",
    "first": "wasm32-unknown-unknown",
    "outside": "wasm32-wasip2",
}
PROJECTS = {"ttl": "policies/ttl", "first": "examples/first-policy"}


class Stand(NamedTuple):
    """A sidecar, its policy folder, and the way to it."""

    sidecar: servers.Server
    folder: Folder
    path: Path


def components(place: servers.Place, given: pathlib.Path | None) -> dict[str, bytes]:
    """Every component, out of a folder where one is given; otherwise they are built."""
    folder = given or place.folder / "components"
    if given is None:
        folder.mkdir()
        for name in COMPONENTS:
            told(f"building {name}")
            build(place, name, folder / f"{name}.wasm")
    try:
        return {name: (folder / f"{name}.wasm").read_bytes() for name in COMPONENTS}
    except OSError as error:
        raise servers.Failure(f"cannot read a component: {error}; without --components they are built") from None


def build(place: servers.Place, name: str, out: pathlib.Path) -> None:
    """A component, by cargo for WASI, which makes one by itself, and otherwise by the sidecar's own verb."""
    if COMPONENTS[name] == "wasm32-wasip2":
        target = ROOT / "target/bench/wasi"
        command = ["cargo", "build", "--locked", "--profile", "policy", "--package", f"{name}-policy"]
        run([*command, "--target", COMPONENTS[name], "--target-dir", target])
        out.write_bytes((target / COMPONENTS[name] / "policy" / f"{name}_policy.wasm").read_bytes())
    else:
        project = ROOT / PROJECTS.get(name, f"tests/{name}")
        run([place.binary, "policy", "build", project, "--out", out, "--", "--locked"])


def run(command: list) -> None:
    """Builds as `policy` in Cargo.toml does: what is shipped is small, and compiled sooner."""
    as_shipped = {"OPT_LEVEL": "s", "LTO": "true", "CODEGEN_UNITS": "1", "PANIC": "abort", "STRIP": "true"}
    shipped = {f"CARGO_PROFILE_RELEASE_{name}": value for name, value in as_shipped.items()}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | shipped)
    if done.returncode != 0:
        raise servers.Failure(f"{' '.join(words)}\nfailed: {done.stderr.strip() or done.stdout.strip()}")


@contextlib.contextmanager
def standing(bench: Bench, files: dict[str, bytes], poll_ms: int, redis: servers.Server, more: tuple = ()):
    """A sidecar with a policy folder of its own, and the folder."""
    with tempfile.TemporaryDirectory(dir=bench.place.folder) as path:
        folder = Folder(pathlib.Path(path) / "policies.d")
        for name, content in files.items():
            folder.put(name, content)
        # Compiled code of its own too: otherwise a second run would find what the first one compiled.
        more = ("--policy-folder", folder.path, "--compiled-folder", pathlib.Path(path) / "compiled", *more)
        more += ("--policy-poll-ms", poll_ms, "--clock-offset", f"{AT - int(time.time())}s")
        with bench.place.sidecar(redis.port, more=more) as sidecar:
            yield Stand(sidecar, folder, Path("sidecar", sidecar.port, {"proxy": sidecar, "redis": redis}))


def case_of(seconds: float, requests: int | None, **more) -> dict:
    """The load."""
    more |= {"requests": requests} if requests else {}
    return closed_case(MIX, CLIENTS, PIPELINE, 256, warm_up_seconds=0.3, **more) | {"seconds": seconds}


def load(bench: Bench, path: Path, case: dict, seed: int, redis: servers.Server) -> dict:
    """One measurement, from keys that are there, and without lifetimes that have begun earlier."""
    flush(bench, redis)
    case = dict(case)
    filled = {name: case[name] for name in ("keys", "value_bytes", "prefix") if name in case}
    bench.run("fill", redis.port, **filled)
    figures = bench.load(path, case, seed, case.pop("seconds"))
    if path.processes["proxy"].process.poll() is not None:
        raise servers.Failure("the sidecar has ended")
    return figures
