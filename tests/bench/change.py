"""A policy folder that is changed while a sidecar serves, and what the sidecar says of it. It does not know what
clients do meanwhile."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import threading
import time
from collections.abc import Callable

import servers

# Between two looks at what the sidecar says: what a look costs it is the same whether the folder changes or not.
LOOK_SECONDS = 0.01
PATIENCE_SECONDS = 120.0
NAMES = ("generations", "generations_refused", "folder_refused", "components_compiled")
COUNTED = re.compile(rf"^bellwether_({'|'.join(NAMES)})(?:_total)? (\d+)")


class Folder:
    """A policy folder."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, content: bytes) -> None:
        """Puts a file there in one step."""
        beside = self.path / f".{name}"
        beside.write_bytes(content)
        os.rename(beside, self.path / name)

    def take(self, name: str) -> None:
        """Takes a file away."""
        (self.path / name).unlink(missing_ok=True)

    def other_settings(self, number: int) -> None:
        """Settings that were not there before; no component changes."""
        text = f'[settings.namespaces."fyntrix:general"]\nopen_ttl_ms = {60_000 + number}\n'
        self.put("ttl.toml", text.encode())

    def other_component(self, policy: str, component: bytes, number: int) -> None:
        """The same component with other bytes, so that it has to be compiled: a custom section, which has the id 0, its
        size, and a name, which is all that is in it."""
        name = f"build {number}".encode()
        self.put(f"{policy}.wasm", component + bytes([0, len(name) + 1, len(name)]) + name)


class Changes:
    """Changes one after the other, each as soon as the one before is in force, or refused where it is to be."""

    def __init__(self, sidecar: servers.Server, change: Callable[[int], None], refused: str | None = None):
        self.sidecar, self.change = sidecar, change
        # What is said where each change is to be refused. None: each is to be put in force.
        self.refused = refused
        self.connection = http.client.HTTPConnection("127.0.0.1", sidecar.admin, timeout=PATIENCE_SECONDS)
        self.made = 0
        self.failure: Exception | None = None

    def counts(self) -> dict[str, int]:
        """What the sidecar has counted."""
        found = (COUNTED.match(line) for line in self._get("/metrics").splitlines())
        return {match[1]: int(match[2]) for match in found if match}

    def _get(self, path: str) -> str:
        try:
            self.connection.request("GET", path)
            return self.connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise servers.Failure(f"{self.sidecar.name} does not answer {path}: {error}") from None

    def compiled(self) -> dict[str, int]:
        """How many generations were put in force, and components compiled, since the start."""
        counts = self.counts()
        return {name: counts[name] for name in ("generations", "components_compiled")}

    @contextlib.contextmanager
    def during(self, until: int):
        """Makes changes while the block runs, but no more in all than `until`; filled in at its end: how many, and
        what each took."""
        stop, told = threading.Event(), {"seconds_each": [], "resident_mib": []}
        thread = threading.Thread(target=self._run, args=(stop, until, told), daemon=True)
        before = self.compiled()
        thread.start()
        try:
            yield told
        finally:
            stop.set()
            thread.join()
        if self.failure:
            raise self.failure
        told |= {name: after - before[name] for name, after in self.compiled().items()}

    def wait_until_accepted(self) -> None:
        """Waits until the folder holds nothing that was refused."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.counts()["folder_refused"]:
            if time.monotonic() > deadline:
                raise servers.Failure("the policy folder is still refused")
            time.sleep(LOOK_SECONDS)

    def _run(self, stop: threading.Event, until: int, told: dict) -> None:
        try:
            while not stop.is_set():
                if self.made < until:
                    self._one(told)
                else:
                    self.counts()
                    stop.wait(LOOK_SECONDS)
        except Exception as failure:  # Whatever it is, the run ends with it.
            self.failure = failure

    def _one(self, told: dict) -> None:
        """One change, and the wait until it is in force, or refused."""
        before, begun = self.counts(), time.monotonic()
        self.change(self.made + 1)
        while True:
            time.sleep(LOOK_SECONDS)
            now = self.counts()
            # It is counted before it is told.
            refused = now["generations_refused"] > before["generations_refused"] and self._refused()
            if refused:
                self._expect(refused["reason"])
                break
            if now["generations"] > before["generations"]:
                self._expect(None)
                break
            if time.monotonic() - begun > PATIENCE_SECONDS:
                raise servers.Failure(f"change {self.made + 1} is not in force after {PATIENCE_SECONDS:g} s")
        self.made += 1
        told["seconds_each"].append(round(time.monotonic() - begun, 4))
        told["resident_mib"].append(resident_mib(self.sidecar))

    def _refused(self) -> dict | None:
        return json.loads(self._get("/policies"))["last_refused"]

    def _expect(self, refused: str | None) -> None:
        """What came of a change has to be what was to come of it."""
        if refused is None and self.refused is not None:
            raise servers.Failure(f"change {self.made + 1} is in force, and was to be refused: {self.refused}")
        if refused is not None and (self.refused is None or self.refused not in refused):
            raise servers.Failure(f"change {self.made + 1} was refused: {refused}; expected {self.refused}")


def resident_mib(server: servers.Server) -> float:
    """A server's memory now."""
    return round(server.resident_kib() / 1024, 1)
