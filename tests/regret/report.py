"""Runs as figures, as a table and as a plot. In: outcomes by policy. Out: JSON, lines, SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from export.comparing.plots import chart
from tests.regret.run import Outcome
from tests.regret.world import Floats, Size

CONFIDENCE = 0.95
_SHOWN = 60  # points of a curve


def summary(
    size: Size,
    visits: Sequence[int],
    outcomes: Mapping[str, Sequence[Outcome]],
    dynamic: str,
    parts: Sequence[str] = (),
) -> dict[str, Any]:
    """Figures of every policy, and the dynamic one beside each by paired differences.

    Parameters
    ----------
    visits : of each seed
    parts : policies that the dynamic one does not have to beat
    """
    regret = {name: np.array([run.regret.sum() for run in of]) for name, of in outcomes.items()}
    policies = {}
    for name, of in outcomes.items():
        beside = interval(regret[dynamic] - regret[name])
        policies[name] = {
            "regret": interval(regret[name]),
            "regret_per_visit": round(float((regret[name] / np.array(visits)).mean()), 5),
            "dynamic_minus_this": beside,
            "dynamic_is_lower": beside["high"] < 0,
            "new_items_tried": round(float(np.mean([run.tried for run in of])), 4),
        }
    rivals = [name for name in outcomes if name != dynamic and name not in parts]
    return {
        "seeds": len(visits),
        "visits_per_seed": round(float(np.mean(visits))),
        "size": asdict(size),
        "confidence": CONFIDENCE,
        "policies": policies,
        "not_beaten": [name for name in rivals if not policies[name]["dynamic_is_lower"]],
        "dynamic_is_lowest": all(policies[name]["dynamic_is_lower"] for name in rivals),
    }


def interval(values: Floats) -> dict[str, float]:
    """Mean of one value a seed, and its confidence interval by Student's t."""
    mean, error = float(values.mean()), float(stats.sem(values))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return {"mean": round(mean, 2), "low": round(mean - half, 2), "high": round(mean + half, 2)}


def lines(report: Mapping[str, Any]) -> list[str]:
    """The figures as a table, lowest regret first."""
    policies = sorted(report["policies"].items(), key=lambda of: of[1]["regret"]["mean"])
    width = max(map(len, report["policies"]))
    told = [
        f"{report['seeds']} seeds, {report['visits_per_seed']:,} visits each; cumulative regret in "
        f"clicks, {report['confidence']:.0%} intervals over seeds; {report['cpu_s']:.0f} s of CPU",
        "",
        f"{'':{width}}  {'regret':>28}  {'a visit':>8}  {'dynamic less this':>28}  new tried",
    ]
    for name, of in policies:
        told.append(
            f"{name:{width}}  {_words(of['regret']):>28}  {of['regret_per_visit']:8.4f}"
            f"  {_words(of['dynamic_minus_this']):>28}  {of['new_items_tried']:9.1%}"
        )
    rest = report["not_beaten"]
    told += ["", f"dynamic is not lower than: {', '.join(rest)}" if rest else "dynamic is lowest"]
    return told


def _words(of: Mapping[str, float]) -> str:
    return f"{of['mean']:,.0f} [{of['low']:,.0f}, {of['high']:,.0f}]"


def drawn(
    report: Mapping[str, Any], outcomes: Mapping[str, Sequence[Outcome]], dynamic: str
) -> str:
    """Mean cumulative regret by round: of the dynamic setting, and the best of each other kind."""
    by_regret = sorted(outcomes, key=lambda name: report["policies"][name]["regret"]["mean"])
    shown = [dynamic, "epsilon 0"]
    for kind in ("temperature", "epsilon"):
        shown += [name for name in by_regret if name.startswith(kind) and name not in shown][:2]
    curves = {}
    for name in shown:
        mean = np.mean([run.regret.cumsum() for run in outcomes[name]], axis=0)
        at = np.unique(np.linspace(0, len(mean) - 1, _SHOWN).astype(int))
        curves[name] = [(float(round_ + 1), float(mean[round_])) for round_ in at]
    title = f"Cumulative regret, mean of {report['seeds']} worlds"
    return chart(title, curves, "rounds", "clicks that the best lists would have had")
