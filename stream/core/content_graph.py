"""Vectors of items from their catalogue records. In: a bundle's content graph. Out: vectors.

On the CPU whatever serves the rest: an item is described once. Proves itself on the bundle's own
records when it is made: hashing, Unicode and graph must give here what they gave in training.

Must not know: catalogues, Kafka, the other graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from stream.contracts import Item
from stream.core.bundle import CONTENT, Bundle, Content
from stream.core.content import Features, features
from stream.core.sessions import brief, open_content
from stream.errors import BundleError

# The graph takes F x D float32 an item; 32 items of the most features (4,000) and 128 dimensions
# take 66 MB.
AT_ONCE: Final = 32
_CURE: Final = "make the bundle again with `freshet-export train`"


class ContentGraph:
    """Runs `content.onnx`.

    Parameters
    ----------
    options : ONNX Runtime's, for the runs that prove the graph

    Attributes
    ----------
    spec : which features the graph knows

    Raises
    ------
    BundleError : the graph does not load, or misses the bundle's records
    """

    def __init__(self, bundle: Bundle, content: Content, options: Any) -> None:
        self.spec = content.spec
        self._dim = bundle.manifest.embedding_dim
        self._session = open_content(bundle, content)
        self._options = options
        self._check(bundle, content)
        self._options = None

    @classmethod
    def of(cls, bundle: Bundle, options: Any = None) -> ContentGraph | None:
        """The graph of a bundle that has one."""
        return None if bundle.content is None else cls(bundle, bundle.content, options)

    def vectors(self, items: Sequence[Item]) -> npt.NDArray[np.float32]:
        """Vectors of items from what their records say: float32, shape (items, D).

        Zeros for an item of which nothing is said, or nothing that makes a finite vector.
        """
        vectors = np.zeros((len(items), self._dim), np.float32)
        for first in range(0, len(items), AT_ONCE):
            some = slice(first, first + AT_ONCE)
            vectors[some] = self._run(features(items[some], self.spec.size, self.spec.embedding))
        vectors[~np.isfinite(vectors).all(axis=1)] = 0
        return vectors

    def _run(self, some: Features) -> npt.NDArray[np.float32]:
        inputs = {"feature_ids": some.ids, "feature_values": some.values}
        (vectors,) = self._session.run(["vector"], inputs, self._options)
        found: npt.NDArray[np.float32] = vectors
        return found

    def _check(self, bundle: Bundle, content: Content) -> None:
        file = bundle.path / CONTENT
        last = np.array([[content.spec.size + content.spec.embedding - 1]], np.int64)
        try:
            items = [msgspec.json.decode(record, type=Item) for record in content.records]
            found = self.vectors(items)
            self._run(Features(last, np.ones((1, 1), np.float32)))  # every id is within its tables
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise BundleError(f"{file}: cannot be run ({brief(error)}); {_CURE}") from None
        worst = float(np.abs(found - content.vectors).max(initial=0))
        allowed = bundle.manifest.golden.tolerance
        if not worst <= allowed:
            raise BundleError(
                f"{file}: differs by up to {worst:.3g} on the bundle's records, allowed "
                f"{allowed:.3g}: this Freshet reads records otherwise than training did; {_CURE}"
            )
