"""The rules of `prometheus/` as objects of Prometheus' operator, for `kubectl apply`.

    python -m deploy.operator_rules

A PrometheusRule's `spec` is a file of rules as it stands, comments and all: change the file in
`prometheus/` and run this. A test holds the two together.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from deploy.queries import RULES

FILE = Path(__file__).parent / "kubernetes" / "components" / "monitoring" / "rules.yaml"
_HEAD = """\
# Written by `python -m deploy.operator_rules` from the files in deploy/prometheus/: change those.
"""
_OBJECT = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: freshet-{name}
  labels: {{app.kubernetes.io/name: freshet}}
spec:
"""


def manifest() -> str:
    """An object for each file of rules."""
    objects = [
        _OBJECT.format(name=file.stem) + textwrap.indent(file.read_text(encoding="utf-8"), "  ")
        for file in RULES
    ]
    return _HEAD + "---\n".join(objects)


def main() -> None:
    """Write them."""
    FILE.write_text(manifest(), encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    main()
