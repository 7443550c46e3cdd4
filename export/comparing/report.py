"""Say what was measured. In: `Measured`. Out: text for people, JSON-ready values, charts.

Must not know: where the figures come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from export.comparing.compare import Results, spread
from export.comparing.plots import Points, chart, page
from export.measuring.diversity import Point
from export.measuring.measure import Measured
from export.measuring.metrics.calibration import Reliability
from export.training.train import BASELINE
from export.writing import unwritable
from stream.terminal import counted, printable

TOLD = ("recall@20", "ndcg@20", "mrr@20")  # of other lists


class Unmeasured(NamedTuple):
    """The baseline that could not be asked the same.

    Attributes
    ----------
    why : the log that it is trained on is not at hand
    held_out : what the bundle's manifest says of it, on the newest events of that log
    """

    why: str
    held_out: Any

    def lines(self) -> list[str]:
        """For people."""
        why = printable(self.why)
        found = [f"baseline  not measured on these lists: {why}; give that log with --baseline LOG"]
        figures = self.held_out if isinstance(self.held_out, dict) else {}
        known = {name: figures.get(name) for name in TOLD}
        if all(isinstance(value, int | float) for value in known.values()):
            values = "  ".join(f"{name} {value:.4f}" for name, value in known.items())
            other = f"{BASELINE} on the newest events of that log, which are other lists"
            found.append(f"          {other}: {values}")
        return found


def bundle_text(
    measured: Measured, baseline: Measured | Unmeasured, against: Measured | None = None
) -> str:
    """A measured bundle beside the baseline.

    Parameters
    ----------
    baseline : on the same questions; `measured` or `against` itself where that is the baseline
    against : another bundle, on the same questions
    """
    lines = [
        f"bundle    {measured.bundle_id}  {printable(measured.model)}, {measured.items:,} items",
        f"measured  {counted(measured.cases, 'list')} of {counted(measured.users, 'user')}; "
        f"{measured.left_out}",
    ]
    if measured.unknown_targets:
        lines.append(
            f"misses    {measured.unknown_targets:,} of {measured.targets:,} targets are items "
            "that the bundle does not know"
        )
    others = {"baseline": baseline, "other": against}
    known = {
        name: other
        for name, other in others.items()
        if isinstance(other, Measured) and other is not measured
    }
    if baseline is against:
        known.pop("baseline", None)
    if isinstance(baseline, Unmeasured):
        lines += baseline.lines()
    else:
        it = {id(measured): "the bundle itself", id(against): "the other bundle"}
        lines.append(f"baseline  {it.get(id(baseline), f'{BASELINE}, trained anew')}")
    if against is not None:
        lines.append(f"other     {against.bundle_id}  {printable(against.model)}")
    tested = {name: measured.against(other) for name, other in known.items()}
    lines += ["", _row("", "", "95% interval", *(f"{name}, difference, p" for name in known))]
    for name, value in measured.metrics.items():
        beside = []
        for other_name, other in known.items():
            test = tested[other_name].get(name)
            told = f"  {test['difference']:+.4f}  {test['p']:.3f}" if test else ""
            beside.append(f"{other.metrics[name]:.4f}{told}")
        low, high = measured.confidence.get(name, (None, None))
        interval = "" if low is None else f"{low:.4f} to {high:.4f}"
        lines.append(_row(name, f"{value:.4f}", interval, *beside))
    lines += ["", "slices (with the longest list)"]
    for name, figures in measured.slices.items():
        values = "  ".join(
            f"{metric} {value:.4f}" for metric, value in figures.items() if metric != "cases"
        )
        lines.append(f"  {name:16} {figures['cases']:>9,}  {values}")
    lines.append(f"calibration error {measured.calibration.error:.5f}")
    lines.append(f"popularity counted in the {measured.popularity_of}")
    return "\n".join(lines)


def bundle_json(
    measured: Measured, baseline: Measured | Unmeasured, against: Measured | None = None
) -> dict[str, Any]:
    """The same as JSON: what was measured at the top, the others below."""
    found = measured.to_json()
    if isinstance(baseline, Unmeasured):
        found["baseline"] = {"measured": False, "give": "--baseline LOG", **baseline._asdict()}
    else:
        found["baseline"] = baseline.to_json()
        if baseline is not measured:
            found["against_baseline"] = measured.against(baseline)
    if against is not None:
        found["other"] = against.to_json()
        same = baseline is against
        found["against_other"] = found["against_baseline"] if same else measured.against(against)
    return found


def diversity_text(curve: Sequence[Point], k: int) -> str:
    """What diversity costs, a line a strength; nothing where nobody asked."""
    if not curve:
        return ""
    head = f"diversity  {f'ndcg@{k}':24}{f'recall@{k}':12}{'unlike':10}coverage"
    lines = [
        f"{point.diversity:<11g}"
        f"{f'{point.ndcg:.4f} [{point.low:.4f}, {point.high:.4f}]':24}"
        f"{point.recall:<12.4f}{point.unlike:<10.4f}{point.coverage:.4f}"
        for point in curve
    ]
    return "\n".join(["", "", head, *lines])


def results_text(results: Results, rated: Mapping[str, Any] | None = None) -> str:
    """Models of one comparison, line by line; p is that of the difference to the baseline.

    Parameters
    ----------
    rated : what `rating_errors` found
    """
    lines = []
    for model, of_model in results.items():
        for setting, measured in of_model.items():
            test = measured.against(results[BASELINE][setting]) if model != BASELINE else {}
            values = []
            for name in (
                f"{metric}@{k}" for k in measured.ks for metric in ("recall", "ndcg", "mrr")
            ):
                low, high = measured.confidence[name]
                value = f"{name} {measured.metrics[name]:.4f} [{low:.4f} {high:.4f}]"
                values.append(f"{value} p {test[name]['p']:.3f}" if test else value)
            label = f"{model}, {setting.exclusion}"
            lines.append(
                f"{label:38} {setting.moment:15} lists {measured.cases}  {'  '.join(values)}"
            )
    if rated is not None:
        errors = "  ".join(
            "{} {:.4f} [{:.4f} {:.4f}]".format(name, rated[name], *rated["confidence"][name])
            for name in ("rmse", "mae")
        )
        lines.append(
            f"ratings predicted: {rated['ratings']:,}  {errors}  "
            f"rmse of always the mean {rated['rmse_of_mean']:.4f}"
        )
    return "\n".join(lines)


def results_json(
    results: Results, rated: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """The same as JSON: by model and exclusion, then by moment; `ratings` where there are some."""
    found: dict[str, dict[str, Any]] = {}
    for model, of_model in results.items():
        for setting, measured in of_model.items():
            entry = measured.to_json()
            if model != BASELINE:
                entry["against_baseline"] = measured.against(results[BASELINE][setting])
            found.setdefault(f"{model}, {setting.exclusion}", {})[setting.moment] = entry
    if rated is not None:
        found["ratings"] = dict(rated)
    return found


def splits_json(found: Sequence[Results]) -> dict[str, dict[str, Any]]:
    """Mean and deviation over splits, by model and exclusion, then by metric."""
    return {
        f"{model}, {setting.exclusion}": {
            name: spread([results[model][setting] for results in found], name)
            for name in measured.metrics
        }
        for model, of_model in found[0].items()
        for setting, measured in of_model.items()
    }


def splits_text(found: Sequence[Results]) -> str:
    """The same as text."""
    lines = []
    for label, metrics in splits_json(found).items():
        values = "  ".join(
            f"{name} {figures['mean']:.4f} +- {figures['deviation']:.4f}"
            for name, figures in metrics.items()
            if name.split("@")[0] in ("recall", "ndcg", "mrr")
        )
        lines.append(f"{label:38} {len(found)} splits  {values}")
    return "\n".join(lines)


def write_charts(
    folder: Path,
    reliabilities: Mapping[str, Reliability],
    learning: Mapping[str, Points],
    k: int,
    diverse: Sequence[Point] = (),
) -> list[Path]:
    """Write `reliability.svg`, other charts where there is a curve, and all as `report.html`.

    These are `learning.svg`, and `diversity.svg` of `diverse`.

    Returns
    -------
    their paths

    Raises
    ------
    UsageError
        The folder cannot be written.
    """
    bins = {
        name: list(zip(found.score.tolist(), found.hits.tolist(), strict=True))
        for name, found in reliabilities.items()
    }
    charts = {
        "reliability.svg": chart(
            "Are scores probabilities?", bins, "mean score", "share wanted", diagonal=True
        )
    }
    if any(learning.values()):
        charts["learning.svg"] = chart("Learning curve", learning, "training events", f"recall@{k}")
    if diverse:
        curves = {
            f"ndcg@{k}": [(point.unlike, point.ndcg) for point in diverse],
            "its 95% interval, from": [(point.unlike, point.low) for point in diverse],
            "to": [(point.unlike, point.high) for point in diverse],
        }
        charts["diversity.svg"] = chart(
            "What diversity costs",
            curves,
            "how unlike the items of a list are",
            f"ndcg@{k}",
            from_zero=False,
        )
    files = {**charts, "report.html": page("Evaluation", charts.values())}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(folder, error) from None
    return [folder / name for name in files]


def _row(name: str, value: str, interval: str, *others: str) -> str:
    beside = "  ".join(f"{other:26}" for other in others)
    return f"{name:19} {value:>10}  {interval:18} {beside}".rstrip()
