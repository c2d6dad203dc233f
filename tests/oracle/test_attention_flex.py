"""The wrapper of FlexAttention against the reference, where it can run: inference on a CPU (one compilation, slow)."""

import pytest
import torch

from agf_core.attention import attend
from agf_core.fields import PowerField, TableField

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
]


@pytest.mark.parametrize(
    ("placement", "causal", "padded", "queries"), [("logit", True, False, 40), ("score", False, False, 24)]
)
def test_flex_agrees_with_the_reference(placement, causal, padded, queries):
    torch.manual_seed(0)
    torch._dynamo.reset()
    q = torch.randn(2, 4, queries, 16, requires_grad=True)  # under no_grad below
    k, v = torch.randn(2, 2, 40, 16), torch.randn(2, 2, 40, 16)
    mask = torch.rand(2, 40) > 0.3 if padded else None
    field = PowerField(4) if placement == "logit" else TableField(4, 8, max_distance=20, initial=torch.randn(4, 8))
    options = {"field": field, "placement": placement, "causal": causal, "key_mask": mask}
    with torch.no_grad():
        ours = attend(q, k, v, backend="flex", **options)
        expected = attend(q, k, v, backend="reference", **options)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
