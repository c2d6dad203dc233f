"""Distance fields: laws g_h(r) by which attention fades with token distance r, one per head.

A field knows nothing of queries and keys: it gives log g for distances, and `agf_core.attention` places it.

| field | log g(r) | known as |
|---|---|---|
| `PowerField` | -k log(1 + r/r0) | KERPLE-log (r0 trained); with r0 = 1, how this book writes AGF |
| `ExponentialField` | -m r | ALiBi (m fixed) |
| `StretchedExponentialField` | -a r^p | KERPLE-power, BAM |
| `TableField` | a free table over buckets, or over every distance | T5 |
| `MlpField` | an MLP of log(1 + c r) / log(1 + c max(L, query)) | FIRE |
| `PairField` | a free number for every query position and distance | Synthesizer's random alignment |
"""

from agf_core.fields.base import Field
from agf_core.fields.exponential import ExponentialField, alibi_slopes
from agf_core.fields.mlp import MlpField
from agf_core.fields.pairs import PairField
from agf_core.fields.power import PowerField
from agf_core.fields.stretched import StretchedExponentialField
from agf_core.fields.table import TableField, t5_bucket

__all__ = [
    "ExponentialField",
    "Field",
    "MlpField",
    "PairField",
    "PowerField",
    "StretchedExponentialField",
    "TableField",
    "alibi_slopes",
    "t5_bucket",
]
