"""Figures besides the means over lists. In: answers, hits. Out: numbers by name.

Must not know: which model it is, the command line.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from export.data.dataset import Log
from export.measuring.evaluate import Answers
from export.measuring.metrics import lists
from export.measuring.metrics.ranking import Hits, by_list
from stream.core.bundle import Bundle
from stream.core.model import Model

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

COLD = 5  # events; users and items of fewer are cold
HISTORIES = (0, 1, 2, 5, 10, 50)  # known events from which each slice by history begins
IN_SLICES = ("recall", "ndcg", "mrr")
DIGITS = 6  # behind the point, of all figures


def counts_by_row(answers: Answers, bundle: Bundle, trained_on: Log | None) -> Float64:
    """Interactions with each row of the bundle: float64, shape (n,); row 0 has none.

    Parameters
    ----------
    trained_on : where they are counted; None: in what the questions know
    """
    n = len(bundle.item_ids)
    if trained_on is not None:
        row_of = {item_id: row for row, item_id in enumerate(bundle.item_ids)}
        rows = np.array([row_of.get(item_id, 0) for item_id in trained_on.items], np.int64)
        counted = rows[trained_on.item]
    else:
        questions = answers.questions
        last = np.zeros(len(questions.histories), np.int64)
        for query in questions.queries:
            last[query.user] = max(last[query.user], query.position)
        known = [h[:end] for h, end in zip(questions.histories, last.tolist(), strict=True)]
        counted = answers.row_by_code[questions.log.item[np.concatenate(known)]]
    counts = np.bincount(counted, minlength=n).astype(np.float64)
    counts[0] = 0
    return counts


def of_all_lists(
    answers: Answers, model: Model, counts: Float64, ks: Sequence[int]
) -> dict[str, float]:
    """Coverage and the like at every k, by `name@k`; `counts` is `counts_by_row`'s."""
    known = _known_popularity(answers, counts)
    items = model.bundle.manifest.items - 1
    figures: dict[str, float] = {}
    for k in ks:
        listed = answers.listed[:, :k]
        figures |= {
            f"listed@{k}": float((listed > 0).sum(axis=1).mean()),
            f"coverage@{k}": lists.coverage(listed, items),
            f"gini@{k}": lists.gini(listed, items),
            f"novelty@{k}": lists.novelty(listed, counts),
            f"diversity@{k}": lists.intra_list_diversity(listed, model.embeddings),
            f"popularity@{k}": lists.average_popularity(listed, counts),
            f"popularity_lift@{k}": lists.popularity_lift(listed, known, counts),
        }
    return figures


def _known_popularity(answers: Answers, counts: Float64) -> Float64:
    """Mean count of the items that each query knows: float64, shape (n,); nan where none is."""
    questions = answers.questions
    of_user: dict[int, Float64] = {}
    found = np.full(len(questions.queries), np.nan)
    for number, query in enumerate(questions.queries):
        if query.user not in of_user:
            rows = answers.row_by_code[questions.log.item[questions.histories[query.user]]]
            having = np.cumsum(rows > 0)
            of_user[query.user] = np.cumsum(counts[rows]) / np.where(having, having, np.nan)
        if query.position:
            found[number] = of_user[query.user][query.position - 1]
    return found


def by_slice(
    answers: Answers, hits: Hits, targets: list[Int64], counts: Float64, k: int
) -> dict[str, dict[str, float]]:
    """Means over the lists of each slice; cold and warm items: with those targets alone."""
    length = np.array([query.position for query in answers.questions.queries])
    cold = counts < COLD
    cold_wanted = np.array([cold[rows].sum() for rows in targets])
    cold_at = hits.at & cold[answers.listed]
    judged = {
        "cold users": _some(hits, length < COLD),
        "warm users": _some(hits, length >= COLD),
        "cold items": Hits(cold_at, cold_wanted),
        "warm items": Hits(hits.at & ~cold_at, hits.wanted - cold_wanted),
    }
    for first, following in zip(HISTORIES, [*HISTORIES[1:], None], strict=True):
        inside = (length >= first) & (True if following is None else length < following)
        end = "+" if following is None else "" if following == first + 1 else f"-{following - 1}"
        judged[f"history {first}{end}"] = _some(hits, inside)
    found = {}
    for name, some in judged.items():
        of = _some(some, some.wanted > 0)
        if len(of.wanted):
            means = by_list(of, [k], IN_SLICES)
            found[name] = {
                "cases": len(of.wanted),
                **{metric: round(float(v.mean()), DIGITS) for metric, v in means.items()},
            }
    return found


def _some(hits: Hits, chosen: npt.NDArray[np.bool_]) -> Hits:
    return Hits(hits.at[chosen], hits.wanted[chosen])
