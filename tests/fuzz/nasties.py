"""The corpus: texts, numbers and whole values that broke somebody's parser once.

`MARK` stands in every hostile id, so that a log or a metric that shows one is found.
"""

from __future__ import annotations

from typing import Final

MARK: Final = "zQ7"

# Good ids, all of them: 1 to 256 bytes of UTF-8 that no terminal, log or label may take literally.
IDS: Final = tuple(
    f"{MARK}{text}"
    for text in (
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07",
        "\x1b]8;;http://example.invalid\x1b\\link\x1b]8;;\x1b\\",
        "\x9b2J",
        "\u202egnp.exe",
        "\u2066\u2069\u200b\ufeff",
        "a\nb\r\nFORGED 2026-11-25 [CRITICAL] fatal: all lost",
        "\u2028\u2029\x85",
        "\x00\x01\x07\x08\x7f",
        "../../../../etc/passwd",
        "/dev/null",
        "C:\\CON.txt",
        "%s%s%n%x %(user)s {0.__class__} {user_id!r} $HOME `id` $(id)",
        'a",reason="x"} 1\nfreshet_ready{',
        "'; DROP TABLE users; --",
        "<script>alert(1)</script>",
        "é",
        "e\u0301",  # the same to the eye
        "\ufb01\u212b\uff41",  # change under NFKC
        "\U0001f600\U000e0041",
        "\ufffd\ufffe\uffff",
        "true",
        "x" * 250,
        "\U0001f600" * 63,
    )
)

# Keys that look like the user "é": the contract compares bytes.
LOOKALIKES: Final = ("e\u0301", "é ", "É", "\ufeffé", "Ã©", "%C3%A9")

# JSON that may stand where a value stands, sound or not.
RAW_VALUES: Final = tuple(
    text.encode("utf-8", "surrogatepass")
    for text in (
        *("NaN", "Infinity", "-Infinity", "-0", "-0.0", "0", "1e400", "-1e400", "1e-400", "5e-324"),
        *(
            "18446744073709551616",
            "18446744073709551615",
            "9223372036854775808",
            "-1",
            "1e3",
            "1.0",
        ),
        *("-9223372036854775809", "-9223372036854775808", "01", "+1", ".5", "1.", "1e", "0x10"),
        *(
            "9" * 400,
            "1" + "0" * 5000,
            "0." + "0" * 5000 + "1",
            "1e99999999",
            "true",
            "false",
            "null",
        ),
        *(
            '""',
            '" "',
            '"\\u0000"',
            '"\\ud800"',
            '"\\udc00\\ud800"',
            '"\\ud83d\\ude00"',
            '"\ud800"',
        ),
        *('"\\x41"', '"\n"', '"\t"', '"unclosed', "'single'", "[]", "{}", "[[]]", "[null]", "{}}"),
        *(
            '{"a":{"b":{"c":1}}}',
            '[1,2,"x",null,true]',
            '{"":""}',
            "[1,]",
            '{"a":1,}',
            "nul",
            "\ufeff1",
        ),
        *('"' + "x" * 300 + '"', '"' + "é" * 129 + '"', '"' + "\\u00e9" * 128 + '"'),
        *("[" * 500 + "]" * 500, '{"a":' * 300 + "1" + "}" * 300, "[" * 60_000, "[" * 100_000),
        *(
            "[" + "0," * 5000 + "NaN]",
            "[" + "1.5," * 4000 + "1e400]",
            "[" + '"a",' * 4000 + '"\\ud800"]',
        ),
        *('{"a":[' + "1," * 8000 + "18446744073709551616]}", '"' + "\\u0041" * 5000 + '"'),
    )
)

# Values of records, whatever the topic.
VALUES: Final[tuple[bytes | None, ...]] = (
    None,
    b"",
    b" ",
    b"\0",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'"text"',
    b"0",
    b"{",
    b"}",
    b"{}{}",
    b"\xff\xfe{\0}\0",
    b"\xef\xbb\xbf{}",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"[" * 60_000,
    b"[" * 100_000,
    b'{"a":' * 10_000,
    b"{" * 65_536,
    b'"' + b"\\" * 65_534,
    b" " * 65_536,
    b" " * 65_537,
    b"9" * 65_000,
    b"0." + b"9" * 65_000,
    b"{" + b'"a":1,' * 10_000 + b'"a":1}',
    b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
    b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x02os.",
    b"PK\x03\x04",
    b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>",
    bytes(range(256)) * 200,
)

HEADERS: Final[tuple[list[tuple[str, bytes | None]], ...]] = (
    [("trace", b"00-ab-cd-01")],
    [("a", b"1"), ("a", b"2"), ("a", None), ("", b"")],
    [("freshet-reason", b"not_json"), ("freshet-headers", b"99"), ("freshet-value-bytes", b"1")],
    [("bin", bytes(range(256)))],
    [("\x1b[31m" + MARK, b"\x1b]0;x\x07"), ("a\nb", b"c\r\nd")],
    [("n" * 1000, b"v" * 5000)],
    [(f"h{number}", b"x") for number in range(300)],
)
