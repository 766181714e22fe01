"""Performance data of the Nagios plugin convention, read with suspicion and written exactly.

`'label'=value[UOM];[warn];[crit];[min];[max]`, items separated by blanks, a quote inside a label
doubled. Source: Monitoring Plugins development guidelines, section "Performance data".
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

ITEM = re.compile(
    r"(?:'(?P<quoted>(?:[^']|''){1,200})'|(?P<bare>[^\s'=]{1,200}))="
    r"(?P<value>[-+]?\d{1,30}(?:\.\d{0,30})?(?:[eE][-+]?\d{1,3})?)(?P<unit>[A-Za-z%]{0,3})"
    r"(?:;\S*)?(?=\s|$)"
)
UNITS = {
    "": ("", 1.0), "s": ("_s", 1.0), "ms": ("_s", 1e-3), "us": ("_s", 1e-6), "%": ("_percent", 1.0),
    "c": ("_count", 1.0), "b": ("_bytes", 1.0), "kb": ("_bytes", 1e3), "mb": ("_bytes", 1e6),
    "gb": ("_bytes", 1e9), "tb": ("_bytes", 1e12),
}
"""Unit of measure → suffix of our name, factor. Seconds and bytes are kept in their base unit."""
MOST = 64


def read_perfdata(text: str) -> dict[str, float]:
    """The numbers in `text`, by name with unit; whatever does not parse is left out.

    Names are lower case with `_` for anything unusual, the first of two equal ones wins, and at
    most 64 are kept. `U` (the plugin could not tell) is left out, as is anything not finite.
    """
    found: dict[str, float] = {}
    for item in ITEM.finditer(text[:65_536]):
        unit = UNITS.get(item["unit"].lower())
        if unit is None or (item.start() and not text[item.start() - 1].isspace()):
            continue
        label = (item["quoted"] or item["bare"]).replace("''", "'").lower()
        name = re.sub(r"[^a-z0-9]+", "_", label).strip("_")
        value = float(item["value"]) * unit[1]
        if name and math.isfinite(value):
            found.setdefault(name if name.endswith(unit[0]) else name + unit[0], value)
        if len(found) >= MOST:
            break
    return found


def write_perfdata(
    label: str,
    value: float | None,
    unit: str = "",
    *,
    warn: str = "",
    crit: str = "",
    least: str = "",
    most: str = "",
) -> str:
    """One item; None is written `U`, "the value could not be determined", without a unit."""
    clean = label.replace("=", "_").replace("|", "_").replace("'", "''")
    shown = "U" if value is None or not math.isfinite(value) else _number(value) + unit
    tail: Sequence[str] = (warn, crit, least, most)
    return f"'{clean}'=" + ";".join((shown, *tail)).rstrip(";")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6f}".rstrip("0")
