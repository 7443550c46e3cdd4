"""All that the demo's shop sells and shows. In: the sample, `data/made_up.toml`. Out: items.

Products, their titles and their prices are real. What else a shop has is made up: categories and
brands (by words of the titles), shops, coupons, ads, articles. What the model was not trained on
has the direction of its category's products as its vector. Knows nothing of brokers.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple
from zlib import crc32

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from stream.contracts import Item
from stream.core.bundle import Bundle
from stream.demo import sample

MADE_UP: Final = sample.DATA / "made_up.toml"
SETTINGS: Final = Path(__file__).parent / "freshet.toml"  # with the demo's placements
_WORD: Final = re.compile(r"[A-Z0-9'-]+")
_DECIMALS: Final = 4  # of a vector in a record

Vectors = Mapping[str, NDArray[np.float32]]  # by category, each of length 1


class _Category(Struct, forbid_unknown_fields=True):
    shop: str
    words: str
    first: str = ""


class _Products(Struct, forbid_unknown_fields=True):
    category: str
    brands: list[str]
    sale_one_in: Annotated[int, Meta(ge=1)]
    used_up: str
    repurchase_s: int


class _Shop(Struct, forbid_unknown_fields=True):
    title: str
    rating: float


class _Coupon(Struct, forbid_unknown_fields=True):
    title: str
    tags: tuple[str, ...]


class _Coupons(Struct, forbid_unknown_fields=True):
    category: str
    welcome: _Coupon
    regular: _Coupon


class _Told(Struct, forbid_unknown_fields=True):
    """An ad or an article."""

    title: str
    category: str
    bid: float | None = None
    budget: float | None = None
    budget_period_s: float | None = None


class _MadeUp(Struct, forbid_unknown_fields=True):
    categories: dict[str, _Category]
    products: _Products
    shops: dict[str, _Shop]
    coupons: _Coupons
    ads: list[_Told]
    content: list[_Told]


class _Words(NamedTuple):
    """Category of each word; `first` are those that win wherever they stand."""

    first: dict[str, str]
    last: dict[str, str]


def assortment(bundle: Bundle | None) -> list[Item]:
    """Everything in the catalogue: products first, in the sample's order.

    Parameters
    ----------
    bundle : the model that will serve, which may make vectors of records by itself; None: what it
        was not trained on gets no vector
    """
    made_up = _read()
    products = list(_products(made_up))
    describes = bundle is not None and bundle.content is not None
    vectors = {} if bundle is None or describes else category_vectors(products, bundle)
    return [*products, *_others(made_up, vectors)]


def with_vectors(items: Iterable[Item]) -> list[Item]:
    """Those whose records bring a vector, which is of one model alone."""
    return [item for item in items if item.embedding is not None]


def records(items: Iterable[Item]) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each item's record for the items topic."""
    for item in items:
        yield item.item_id.encode(), msgspec.json.encode(item)


def coupon_of(category: str) -> str:
    """The item_id of a category's coupon."""
    return f"coupon-{_slug(category)}"


def category_vectors(products: Iterable[Item], bundle: Bundle) -> Vectors:
    """The direction of each category's products: float32, shape (dim,), of length 1.

    Categories of which the model knows no product are left out.
    """
    row_of = {item_id: row for row, item_id in enumerate(bundle.item_ids)}
    rows: dict[str, list[int]] = {}
    for item in products:
        if item.category is not None and item.item_id in row_of:
            rows.setdefault(item.category, []).append(row_of[item.item_id])
    table = bundle.embeddings
    sums = {category: table[of].sum(axis=0) for category, of in rows.items()}
    return {
        category: total / np.linalg.norm(total) for category, total in sums.items() if total.any()
    }


def _read(path: Path = MADE_UP) -> _MadeUp:
    return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _MadeUp)


def _products(made_up: _MadeUp) -> Iterator[Item]:
    rules, words = made_up.products, _words(made_up.categories)
    used_up = set(rules.used_up.split())
    for _, line in sample.catalogue():
        item = msgspec.json.decode(line, type=Item)
        title = item.title or ""
        in_title = _WORD.findall(title)
        category = _category(in_title, words) or rules.category
        yield msgspec.structs.replace(
            item,
            category=category,
            brand=next((brand for brand in rules.brands if brand in title), None),
            shop=made_up.categories[category].shop,
            tags=("sale",) if crc32(item.item_id.encode()) % rules.sale_one_in == 0 else (),
            repurchase_s=rules.repurchase_s if used_up & set(in_title) else None,
        )


def _others(made_up: _MadeUp, vectors: Vectors) -> Iterator[Item]:
    for item_id, shop in made_up.shops.items():
        # No vector: Freshet gives a shop the direction of what it sells.
        yield Item(item_id, kind="shop", title=shop.title, rating=shop.rating)
    coupons = made_up.coupons
    for category in made_up.categories:
        title = coupons.category.format(category=category)
        fields = _of_category(category, vectors)
        yield Item(coupon_of(category), kind="coupon", title=title, **fields)
    for name, special in (("welcome", coupons.welcome), ("regular", coupons.regular)):
        yield Item(f"coupon-{name}", kind="coupon", title=special.title, tags=special.tags)
    for ad in made_up.ads:
        fields = {
            **_of_category(ad.category, vectors),
            "shop": made_up.categories[ad.category].shop,
            "bid": ad.bid,
            "budget": ad.budget,
            "budget_period_s": ad.budget_period_s,
        }
        yield Item(f"ad-{_slug(ad.title)}", kind="ad", title=ad.title, **fields)
    for article in made_up.content:
        fields = _of_category(article.category, vectors)
        yield Item(f"read-{_slug(article.title)}", kind="content", title=article.title, **fields)


def _of_category(category: str, vectors: Vectors) -> dict[str, Any]:
    vector = vectors.get(category)
    embedding = None if vector is None else tuple(vector.round(_DECIMALS).tolist())
    return {"category": category, "embedding": embedding}


def _words(categories: Mapping[str, _Category]) -> _Words:
    return _Words(
        {word: name for name, of in categories.items() for word in of.first.split()},
        {word: name for name, of in categories.items() for word in of.words.split()},
    )


def _category(title: list[str], words: _Words) -> str | None:
    for known in words:
        found = [known[word] for word in title if word in known]
        if found:
            return found[-1]
    return None


def _slug(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))
