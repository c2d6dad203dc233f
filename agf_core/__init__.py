"""Distance fields in attention, and the tools that test what they explain.

The subpackages are imported where they are used (`from agf_core.fitting import fit_curve`), so that a page that only
counts words never waits for torch.
"""

__version__ = "0.1.0"
