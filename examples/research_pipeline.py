"""The published persona-vectors pipeline for two traits, from prompts to screened training data, offline.

    python examples/research_pipeline.py            the whole of it
    python examples/research_pipeline.py --small    a few minutes; too little to conclude anything from

Each step is the command that one would type, and writes plain files into FOLDER/TRAIT (`--folder`): CSV, JSONL, .pt
and HTML reports. Run it again with the same folder, and it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from persona_steering.cli.main import run

TRAITS = ("evil", "sycophantic")
LAYER = "14"  # 0-based; row 15 of a published .pt file


@dataclass(frozen=True)
class Size:
    """How much is asked in each step. `questions` are asked for the vector, `held_out` ones to measure it."""

    questions: int
    rollouts: int
    tokens: int
    held_out: int
    layers: str
    points: int
    controls: int
    samples: int


FULL = Size(questions=20, rollouts=2, tokens=64, held_out=20, layers="4-26", points=9, controls=20, samples=100)
SMALL = Size(questions=3, rollouts=1, tokens=24, held_out=3, layers="10,18", points=3, controls=2, samples=8)


def pipeline(trait: str, folder: Path, size: Size) -> None:
    """Every step for one trait. A comment says what the step is for, its report what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    pos, neg = folder / "pos.csv", folder / "neg.csv"
    held_out = ("--questions", size.held_out, "--max-new-tokens", size.tokens)

    # 1, 2. Answers to the extraction questions, under instructions to show the trait and to show its opposite. Each
    # answer is rated for the trait and for coherence; offline, the model itself rates by likelihood.
    for side, file in (("pos", pos), ("neg", neg)):
        command(
            *("eval", "--trait", trait, "--split", "extract", "--instruction", side, "--out", file),
            *("--questions", size.questions, "--n-per-question", size.rollouts, "--max-new-tokens", size.tokens),
        )

    # 3. The vector: the mean activation of the pos answers minus that of the neg answers, over the pairs in which the
    # pos answer shows the trait, the neg answer does not, and both are coherent. Stored under the trait's name, and
    # written to the folder, also as the .pt files of the paper's code.
    command("vectors", "build", "--pos", pos, "--neg", neg, "--trait", trait, "--name", trait, "--save-dir", folder)

    # 4. At which layers does it tell the trait apart on held-out questions, and at which does adding it do something?
    command("layers", trait, "--layers", size.layers, "--held-out", size.held_out, *held_out)

    # 5. Effect and coherence against strength, beside random directions of the same length. A built vector is raw, so
    # what strength 1.0 is must be said: here 0.2 of the hidden state's length, at one layer.
    strength = ("--layers", LAYER, "--dose", 0.2, "--raw")
    command("sweep", trait, *strength, "--points", size.points, *held_out)

    # 6. All the evidence in one place: how well it tells, how strongly it steers, against how many random directions.
    command("card", trait, *strength, "--controls", size.controls, "--held-out", size.held_out, *held_out)

    # 7. Where the answers lie along the vector: the paper's monitoring. The column is called ..._layer15, as there.
    command("project", pos, "--vector", trait, "--layer", LAYER, "--overwrite")

    # 8. Which samples of a training set would push the trait? Here the set is made of the answers above, so it is known
    # which they are: those in odd lines were to show the trait, those in even lines its opposite.
    training = mixed_training_set(pos, neg, folder / "training.jsonl")
    sampled = ("--sample", size.samples, "--max-new-tokens", size.tokens)
    command("screen", training, "--vector", trait, "--layer", LAYER, *sampled, "--top", 6)


def mixed_training_set(pos: Path, neg: Path, out: Path) -> Path:
    """A training file in the usual layout, of pos and neg answers in turns, without their instructions."""
    with open(pos, newline="", encoding="utf-8") as first, open(neg, newline="", encoding="utf-8") as second:
        rows = [row for pair in zip(csv.DictReader(first), csv.DictReader(second), strict=True) for row in pair]
    samples = [
        [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}] for row in rows
    ]
    out.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in samples), encoding="utf-8")
    return out


def command(*words: object) -> None:
    """Runs one command as the shell would, and stops where it fails."""
    arguments = [str(word) for word in words]
    print("\n$ persona-steer", *arguments, flush=True)
    code = run([*arguments, "--model", "embedded"])
    if code:
        raise SystemExit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few answers for each step")
    parser.add_argument("--folder", type=Path, help="where the files go  [default: a temporary folder]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for name in ("vectors", "runs"):  # nothing of this mixes with your own personas
            os.environ[f"PERSONA_STEER_PATHS__{name.upper()}"] = str(folder.absolute() / name)
        for trait in TRAITS:
            pipeline(trait, folder / trait, SMALL if options.small else FULL)


if __name__ == "__main__":
    main()
