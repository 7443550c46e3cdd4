"""The settings of the gateway: what it listens on, whom it lets in, and how much of each.

Knows no other setting.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from stream.sections import Seconds, Section, Text

_ORIGIN = r"https?://[^\s,/]+"

Origins = Annotated[
    str,
    Meta(
        pattern=rf"^{_ORIGIN}(,{_ORIGIN})*$",
        title="origins such as https://shop.example, with commas between",
    ),
]


class Gateway(Section, frozen=True):
    """HTTP in front of the topics."""

    host: Annotated[Text, Meta(description="address that `freshet gateway` listens on")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65535, description="its port; 0: any free one")] = 8420
    partitions: Annotated[
        str,
        Meta(
            pattern=r"^(all|\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*)$",
            title="all, or numbers and ranges with commas between, such as 0-2,5",
            description="partitions whose users' lists it holds: all, or such as 0-2,5",
        ),
    ] = "all"
    tokens_file: Annotated[
        Text | None,
        Meta(
            description="file of the bearer tokens that are let in, a line each, read again when "
            "it changes; unset: everybody, and then only on a loopback address"
        ),
    ] = None
    open: Annotated[
        bool, Meta(description="without tokens it may listen on other addresses, too")
    ] = False
    rate: Annotated[
        float,
        Meta(
            ge=0,
            le=1e9,
            description="requests a second of a token, or without one of an address; 0: no limit",
        ),
    ] = 1000.0
    burst: Annotated[
        int, Meta(ge=1, le=10**9, description="requests at once that such a client may save up")
    ] = 2000
    cors_origins: Annotated[
        Origins | None,
        Meta(description="origins whose pages may call it; unset: none but its own"),
    ] = None
    max_body_bytes: Annotated[
        int, Meta(ge=1024, le=2**30, description="longest body of a request")
    ] = 4_194_304
    max_streams: Annotated[
        int, Meta(ge=0, le=1_000_000, description="streams of lists open at once")
    ] = 1000
    send_timeout_s: Annotated[
        Seconds, Meta(description="longest wait until the brokers acknowledge what was posted")
    ] = 5.0
