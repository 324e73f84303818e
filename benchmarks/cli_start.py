"""How long `persona-steer --help` takes beside an empty Python, and that it loads no heavy package.

python benchmarks/cli_start.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from timing import Figure, positive, ratio, report, take_turns

from persona_steering.cli.main import COMMANDS

HEAVY = ("torch", "transformers", "fastapi", "llama_cpp", "vllm")
_LOADED = """
import json, sys
sys.argv = ["persona-steer", "--help"]
from persona_steering.cli.main import main
try:
    main()
except SystemExit as done:
    print(json.dumps([done.code, sorted(sys.modules)]), file=sys.stderr)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=positive, default=10, help="turns of each side")
    parser.add_argument("--out", type=Path, help="result file (default: results/cli_start-cpu.json)")
    options = parser.parse_args(arguments)
    heavy = heavy_modules()
    sides = {"help": help_command(), "python": [sys.executable, "-c", "pass"]}
    found = take_turns({name: wall_time(command) for name, command in sides.items()}, repeats=options.repeats)
    medians = {name: statistics.median(turns) for name, turns in found.items()}
    figures = [
        Figure(
            "persona-steer --help",
            medians["help"],
            low=min(found["help"]),
            high=max(found["help"]),
            target=0.3,
            at_most=True,
            unit="s",
            details={"command": " ".join([Path(sides["help"][0]).name, *sides["help"][1:]])},
        ),
        Figure("python -c pass", medians["python"], low=min(found["python"]), high=max(found["python"]), unit="s"),
        ratio("--help / empty Python", found["help"], found["python"]),
        slowest_command(options.repeats),
        Figure("heavy packages loaded by --help", len(heavy), target=0, at_most=True, details={"loaded": heavy}),
    ]
    report("cli_start", figures, device="cpu", options=options)


def help_command() -> list[str]:
    """The installed command, or the module where it is not installed."""
    script = Path(sys.executable).with_name("persona-steer")
    start = [str(script)] if script.exists() else [sys.executable, "-m", "persona_steering.cli.main"]
    return [*start, "--help"]


def slowest_command(repeats: int) -> Figure:
    """The slowest `COMMAND --help` of all commands, by the median of a third of the turns."""
    *start, flag = help_command()
    sides = {name: wall_time([*start, name, flag]) for name in COMMANDS}
    found = take_turns(sides, repeats=max(1, repeats // 3))
    medians = {name: statistics.median(turns) for name, turns in found.items()}
    slowest = max(medians, key=lambda name: medians[name])
    turns = found[slowest]
    details = {"command": f"persona-steer {slowest} --help", "commands": len(medians)}
    bounds = {"low": min(turns), "high": max(turns)}
    return Figure(
        "slowest COMMAND --help", medians[slowest], **bounds, target=0.3, at_most=True, unit="s", details=details
    )


def wall_time(command: Sequence[str]) -> Callable[[], float]:
    """A side that runs a command and returns its seconds."""

    def run() -> float:
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start

    return run


def heavy_modules() -> list[str]:
    """Those of HEAVY that are loaded once `--help` has been shown."""
    done = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True)
    code, loaded = json.loads(done.stderr.splitlines()[-1])
    if code:
        raise SystemExit(f"--help ended with exit code {code}")
    return [name for name in HEAVY if name in loaded]


if __name__ == "__main__":
    main()
