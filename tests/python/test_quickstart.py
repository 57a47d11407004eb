"""The examples, as a person runs them, and the quickstart's application before and after the sidecar."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from harness import BINARY, ROOT, Client, Process, Redis, Sidecar, environment

EXAMPLES = ROOT / "examples"

PATHS = ["/quote/RELIANCE.NS", "/history/RELIANCE.NS", "/scores", "/levels/RELIANCE.NS", "/context/planner"]

# How many seconds each key lives that the application leaves behind: on Redis alone, and by the policies while the
# market is open. None: without end.
LIFETIMES = {
    "fyntrix:general:quote:RELIANCE.NS": (None, 60),
    "fyntrix:historical:RELIANCE.NS:1d": (None, 900),
    "fyntrix:scores:global": (None, 300),
    "fyntrix:support_resistance:RELIANCE.NS": (86_400, 3_600),
    "fyntrix:context:planner": (1_800, 1_800),
    "fyntrix:context:planner:persist": (None, 86_400),
}
# What the policies keep beside them: the last levels, for ten minutes after their end, for those who ask while one client
# computes them anew.
BESIDE = {"bw:s:{fyntrix:support_resistance:RELIANCE.NS}": 4_200}


class App(Process):
    """The quickstart's application, that knows a host and a port."""

    def __init__(self, port: int) -> None:
        variables = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port), "REDIS_DB": "0", "REDIS_PASSWORD": ""}
        super().__init__(sys.executable, EXAMPLES / "quickstart" / "app.py", **variables)
        self.address = self.wait_for(r"app listens on (\S+)")

    def page(self, path: str) -> Any:
        """What a browser gets."""
        with urllib.request.urlopen(self.address + path) as answer:
            return json.load(answer)


def test_before_and_after(direct: Redis, serving: Sidecar, trying: Sidecar) -> None:
    before = check_app(direct.port, column=0)
    assert [check_app(sidecar.port, column=1) for sidecar in (serving, trying)] == [before, before]


def check_app(port: int, column: int) -> list[Any]:
    """Every page is the same when it is computed, when it is cached, and after everything was lost; then the keys live
    as long as the column says. What the pages are."""
    with App(port) as app, Client(port, decode_responses=True) as client:
        r = client.redis
        r.flushall()
        pages = [app.page(path) for path in PATHS]
        assert [app.page(path) for path in PATHS] == pages
        r.flushall()
        assert [app.page(path) for path in PATHS] == pages
        expected = {key: columns[column] for key, columns in LIFETIMES.items()} | (BESIDE if column else {})
        assert client.wait(r.scan_iter()) == sorted(expected)
        for key, expect in expected.items():
            left = r.ttl(key)
            assert left == -1 if expect is None else expect - 5 < left <= expect, f"{key} lives {left} s"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            app.page("/nothing")
        return pages


@pytest.mark.parametrize("name", ["quickstart", "reload", "typhoon"])
def test_examples(name: str) -> None:
    """An example prints what its README says, but for what is measured and what depends on the second it starts in."""
    command = [sys.executable, EXAMPLES / name / "run.py", BINARY]
    printed = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True).stdout
    [promised] = re.findall(r"```text\n(.*?)```", Path(EXAMPLES, name, "README.md").read_text(), re.DOTALL)
    assert _without_measures(printed) == _without_measures(promised)


def _without_measures(text: str) -> str:
    measured = r"(?<=h )\d\d(?= min)|\d+(?= ms:)|\d+\.\d+(?= s later)|\d+(?= calls)|(?<=process: )\d+"
    return re.sub(measured, "..", text)
