"""What the tools that measure write into a page of the documentation: reasons, and a table between its marks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from onnxprune.model import Model
from onnxprune.report import FixedAxis

OWN = ("a window", "the gates", "one index for each")  # an operator's own axes, which tie a weight to nothing


def reasons(fixed: Iterable[FixedAxis], after: Model) -> str:
    """Why most of what is left is left: the two reasons that fix axes of the most parameters."""
    weighed: Counter[str] = Counter()
    for axis in fixed:
        if not axis.reason.startswith(OWN) and axis.tensor in after.weights:
            who = f" ({axis.node})" if axis.reason.startswith("a graph") else ""
            weighed[f"{axis.reason}{who}"] += math.prod(after.weights[axis.tensor].shape)
    return "; ".join(reason for reason, _ in weighed.most_common(2))


def written(text: str, name: str, table: str) -> str:
    """`text` with the table between `<!-- name -->` and `<!-- /name -->`; an empty page is the table alone.

    `ValueError` for a page without such marks: what it holds would be lost.
    """
    if not text:
        return table
    head, mark, rest = text.partition(f"<!-- {name} -->")
    _, end, tail = rest.partition(f"<!-- /{name} -->")
    if not mark or not end:
        raise ValueError(f"the page has no marks <!-- {name} --> and <!-- /{name} -->, between which the table goes")
    return f"{head}{mark}\n\n{table}\n{end}{tail}"
