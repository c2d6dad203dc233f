"""Records of runs with free fields whose law we chose, for the tests of `field_copies` and `power_vs_exp`."""

import numpy as np

from agf_core.analysis import field_grids

R = np.arange(128)


def law(exponent=None, rate=None):
    """log g at r = 0 … 127: (1 + r)^-exponent or e^(-rate r)."""
    return -exponent * np.log1p(R) if rate is None else -rate * R.astype(float)


def record(config, log_field, loss=2.0, noise=0.0, status="ok"):
    """What a run with a free field leaves; log_field broadcasts to (L, H, 128)."""
    model = config.model
    rng = np.random.default_rng(int(config.id, 16))
    shape = model["layers"], model["heads"], model["context"]
    values = np.broadcast_to(log_field, shape) + noise * rng.standard_normal(shape)
    tables = (values / model["encoding_options"]["gain"]).round(5)
    made = {"id": config.id, "config": config.to_dict(), "status": status, "code": "c"}
    made["provenance"] = {"commit": "abc", "device": "x86_64 CPU", "started": "2026-11-26T10:00:00", "text": None}
    if status != "ok":
        return made | {"error": "loss nan by step 7", "step": 7}
    layers = [{"table": t.ravel().tolist()} for t in tables]
    return made | {
        "fields": [{"step": 0, "layers": [{} for _ in layers]}, {"step": 9, "layers": layers}],
        "measured": {str(model["context"]): {"loss": loss}},
    }


def planted_records(profile, learned=lambda law_, value: law(value) if law_ == "power" else law(rate=value), **given):
    return {
        c.id: record(c, learned(law_, value), **given)
        for reader in field_grids.READERS
        for (law_, value, _), configs in field_grids.planted(profile, reader).items()
        for c in configs
    }


def text_records(profile, learned, noise=0.05):
    return {
        c.id: record(c, learned(text, broken), noise=noise)
        for (text, broken, _), configs in field_grids.texts(profile).items()
        for c in configs
    }


def steepness(text, broken):
    """A law for every text, whole and broken."""
    return 0.6 + 0.2 * field_grids.TEXTS.index(text) + 0.15 * field_grids.BREAKS.index(broken)
