"""`persona-steer serve` in a process of its own. As a script: the same, with creations that take seconds.

Usage: serving.py ARGUMENTS OF serve
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2

from persona_steering.cli.main import run
from persona_steering.engine import create

PATIENCE = 180  # seconds, on a machine that has much else to do
LITTLE = create.Effort(
    prompts_per_question=1,
    questions=16,
    max_new_tokens=12,
    calibration_questions=8,
    search_questions=2,
    coarse_questions=2,
    coarse_doses=(0.2,),
    controls=1,
    safety_prompts=8,
)


class Served:
    """A server of the package in the folder `package`, on the data in `home`; always at the same address."""

    def __init__(self, home: Path, cache: Path, package: Path) -> None:
        self.home = home
        self._environment = os.environ | {
            "PERSONA_STEER_HOME": str(home),
            "PERSONA_STEER_PATHS__CACHE": str(cache),
            "PYTHONPATH": str(package),
            "PERSONA_STEER_GENERATION__MAX_NEW_TOKENS": "32",
        }
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it wrote to its terminal."""
        return (self.home / "server.log").read_text()

    def start(self, *, until: str = "/readyz") -> None:
        """Begins, and waits until it answers on that path."""
        command = [sys.executable, __file__, "--port", self.url.rpartition(":")[2], "--device", "cpu"]
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.home, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers(until):
            assert self._process.poll() is None and time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def kill(self) -> None:
        """As a crash ends it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(PATIENCE)

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=PATIENCE)

    def _answers(self, path: str) -> bool:
        try:
            return httpx2.get(self.url + path, timeout=5).is_success
        except httpx2.TransportError:
            return False


def main(arguments: Sequence[str]) -> int:
    create.EFFORTS.update(dict.fromkeys(create.EFFORTS, LITTLE))
    return run(["serve", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
