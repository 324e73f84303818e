"""Every shipped archetype on one model: created, calibrated and measured on held-out questions.

    python benchmarks/archetypes.py --workspace runs-archetypes

writes `results/archetypes.json` and the table of `docs/archetypes.md`. It resumes where it was stopped. Also
measured: how well the safety axis tells held-out safe from unsafe prompts, and what orthogonalisation leaves.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from machine import describe_machine

from persona_steering import ModelWrapper, PersonaManager, get_config
from persona_steering.backends.base import Progress, Request, Sampling, conversation
from persona_steering.engine.create import EFFORTS, Creator
from persona_steering.personas import list_archetypes, load_archetype, load_safety_prompts
from persona_steering.vectors import Calibration, Interval, SteeringVector, orthogonalize_persona

HERE = Path(__file__).parent
MARKS = ("<!-- table:begin -->", "<!-- table:end -->")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True, help="where vectors and runs are kept")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--effort", choices=EFFORTS, default="standard")
    parser.add_argument("--only", nargs="*", help="archetypes; all by default")
    options = parser.parse_args()
    config = get_config(
        overrides={
            "model.name": options.model,
            "paths.vectors": options.workspace / "vectors",
            "paths.runs": options.workspace / "runs",
        }
    )
    model, manager = ModelWrapper(config), PersonaManager(config)
    creator = Creator(model, manager, config, effort=EFFORTS[options.effort], progress=show)
    rows = []
    for name in options.only or list_archetypes():
        started = time.perf_counter()
        created = creator.create(load_archetype(name), reuse=True)
        rows.append(measured(created.vector, manager.safety_axis()))
        print(f"{name}: {json.dumps(rows[-1]['raw'])} in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    result = {
        "model": model.identity.model_dump(mode="json"),
        "effort": EFFORTS[options.effort].model_dump(mode="json"),
        "machine": describe_machine(),
        "safety": held_out_safety(model, manager.safety_axis(), EFFORTS[options.effort].safety_prompts),
        "archetypes": rows,
    }
    (HERE / "results" / "archetypes.json").write_text(json.dumps(result, indent=1) + "\n")
    write_table(HERE.parent / "docs" / "archetypes.md", result)


def show(progress: Progress) -> None:
    if progress.done == progress.total:
        print(f"  {progress.phase} {progress.done}/{progress.total}", file=sys.stderr)


def measured(vector: SteeringVector, axis: SteeringVector) -> dict[str, object]:
    """The stored evidence of one vector, raw and safe."""
    raw, safe = vector.metadata.calibration, vector.metadata.safe_calibration
    cosines = orthogonalize_persona(vector, axis).cosine(axis).values()
    assert raw is not None and safe is not None
    return {
        "name": vector.name,
        "kept": vector.metadata.counts,
        "layers": [raw.layers[0], raw.layers[-1]],
        "dose": raw.relative_dose,
        "questions": raw.num_questions,
        "controls": raw.num_controls,
        "raw": evidence(raw),
        "safe": evidence(safe),
        "cosine_with_safety_axis": float(np.mean([abs(c) for c in vector.cosine(axis).values()])),
        "cosine_after_orthogonalisation": max(abs(c) for c in cosines),
    }


def evidence(calibration: Calibration) -> dict[str, object]:
    def interval(value: Interval | None) -> list[float] | None:
        return None if value is None else [round(value.mean, 4), round(value.low, 4), round(value.high, 4)]

    return {
        "score": interval(calibration.persona_score),
        "control": interval(calibration.control_score),
        "coherence": interval(calibration.coherence),
        "prompted_gain": interval(calibration.prompted_gain),
        "weak": calibration.weak_reason,
    }


def held_out_safety(model: ModelWrapper, axis: SteeringVector, used: int) -> dict[str, object]:
    """AUROC per layer of answers to safe against unsafe prompts that the axis was not made from.

    The best layer is chosen on every second prompt, and its AUROC is that of the others.
    """
    scores = {}
    for kind in ("safe", "unsafe"):
        prompts = [item.prompt for item in load_safety_prompts(kind)][used : used + 100]
        requests = [
            Request(conversation(prompt), sampling=Sampling(max_new_tokens=48, seed=i), capture=axis.layers)
            for i, prompt in enumerate(prompts)
        ]
        found = [done.activations for done in model.backend.generate(requests) if done.activations]
        scores[kind] = {k: [float(one.mean[k] @ axis.unit(k)) for one in found] for k in axis.layers}
    halves = [
        {k: auroc(scores["safe"][k][start::2], scores["unsafe"][k][start::2]) for k in axis.layers} for start in (0, 1)
    ]
    best = max(halves[0], key=lambda layer: halves[0][layer])
    return {
        "prompts": [len(scores[kind][axis.layers[0]]) for kind in ("safe", "unsafe")],
        "auroc": {str(k): round(auroc(scores["safe"][k], scores["unsafe"][k]), 4) for k in axis.layers},
        "best": {"layer": best, "auroc": round(halves[1][best], 4)},
    }


def auroc(positive: list[float], negative: list[float]) -> float:
    """The chance that a positive scores above a negative; ties count half."""
    a, b = np.array(positive)[:, None], np.array(negative)[None, :]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def write_table(page: Path, result: dict[str, object]) -> None:
    """Replaces what stands between the marks of the page."""
    text = page.read_text()
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    page.write_text(f"{before}{MARKS[0]}\n{table(result)}\n{MARKS[1]}{after}")


def status(raw: Mapping[str, object], safe: Mapping[str, object]) -> str:
    """Whether a vector steers, raw and made safe."""
    if raw["weak"]:
        return f"weak: {raw['weak']}"
    return "ready; weak with safety on" if safe["weak"] else "ready"


def table(result: dict) -> str:  # type: ignore[type-arg]
    def span(values: list[float] | None, digits: int = 2) -> str:
        if values is None:
            return "not measurable"
        mean, low, high = (f"{value:.{digits}f}" for value in values)
        return f"{mean} [{low}, {high}]"

    lines = [
        "| archetype | layers | dose | persona score | random control | coherence | safe: score | safe: coherence | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    passed = 0
    for row in result["archetypes"]:
        raw, safe = row["raw"], row["safe"]
        passed += not raw["weak"]
        lines.append(
            f"| {row['name']} | {row['layers'][0]}-{row['layers'][1]} | {row['dose']:.2f} | {span(raw['score'])} "
            f"| {span(raw['control'])} | {span(raw['coherence'], 0)} | {span(safe['score'])} "
            f"| {span(safe['coherence'], 0)} | {status(raw, safe)} |"
        )
    rows = result["archetypes"]
    safety = result["safety"]
    aurocs = safety["auroc"].values()
    kept = [r["safe"]["score"][0] / r["raw"]["score"][0] for r in rows if r["safe"]["score"] and r["raw"]["score"]]
    largest = max(row["cosine_after_orthogonalisation"] for row in rows)
    lines += [
        "",
        f"{passed} of {len(rows)} archetypes pass (score at least 0.5, its lower bound above the control's upper "
        f"bound, coherence at least 60). {rows[0]['questions']} held-out questions each, "
        f"{rows[0]['controls']} control directions, 95 % intervals.",
        "",
        f"Safety axis, {safety['prompts'][0]} safe and {safety['prompts'][1]} unsafe held-out prompts: AUROC "
        f"{min(aurocs):.3f} to {max(aurocs):.3f} over the layers; layer {safety['best']['layer']}, chosen on one half "
        f"of them, has {safety['best']['auroc']:.3f} on the other. "
        f"Orthogonalised vectors: largest |cosine| with the axis {largest:.1e} "
        f"(before: {np.mean([r['cosine_with_safety_axis'] for r in rows]):.2f} on average); they keep "
        f"{100 * float(np.mean(kept)):.0f} % of the persona score on average ({100 * min(kept):.0f} % at least; "
        f"{sum(one >= 0.8 for one in kept)} of {len(kept)} keep 80 % or more).",
        "",
        f"Machine: {result['machine']}. Model: {result['model']['id']}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
