"""The words of the atlas, written from its run (ours)."""

from __future__ import annotations

from agf_core.analysis.accuracy_words import table
from agf_core.analysis.atlas import COMMON, NEAREST, SWITCHES, Atlas
from agf_core.figures import Number

DIVERGED = "The training of the atlas's model diverged here, so there is nothing to walk through."
ALT = (
    "A map of token vectors with the path of one word through the layers of a small language model, with everything, "
    "with the field only and with the association only."
)


def caption(page: Atlas) -> str:
    """To be read alone, above the live figure or the still one."""
    first, second = page.plane.shares
    return (
        f"Walk through the embedding space of a small model ({page.config.model['layers']} layers, trained here in "
        f"profile {page.profile}). A word's residual stream starts at the word's own vector; each layer's attention, "
        "then its MLP, moves it; the next word is read where it ends. Choose a sentence, a word, a step, and what the "
        "model reads with: everything, the field only (scores 0) or the association only (log g = 0). **The plane** "
        f"has {first:.0%} and {second:.0%} of the variance of vectors scaled to length one; the rest of every distance "
        "is not seen, so what lies side by side can be far apart. **Nearest tokens** are found in the full space, by "
        f"cosine to the {len(page.vectors):,} token vectors. Within the layers that is a reading of ours, akin to the "
        "*logit lens*: the model itself compares with token vectors only at the end, and there by a product, in which "
        f"lengths count too. Dots: the {min(COMMON, len(page.vectors))} commonest tokens. In print and without scripts "
        "the picture is still: the middle word of one sentence, in all three ways."
    )


def numbers(page: Atlas) -> dict[str, Number]:
    """What other pages may quote; recorded in every profile."""
    names = ("everything", "field", "association")
    found: dict[str, Number] = {f"atlas_{n}": page.loss[s] for n, s in zip(names, SWITCHES)}
    return found | {"atlas_plane": float(page.plane.shares.sum()), "atlas_next": float(page.reading[-1, 1])}


def reading(page: Atlas) -> str:
    """What the streams say to a reader on all of the held-out text, step by step and by switch."""
    rows = [["step", "nearest token is the word itself", "… is the word that follows"]]
    rows += [[step, f"{own:.0%}", f"{follows:.0%}"] for step, (own, follows) in zip(page.steps, page.reading)]
    names = dict(zip(SWITCHES, ("with everything", "with the field only", "with the association only")))
    losses = ", ".join(f"{page.loss[s]:.2f} {name}" for s, name in names.items())
    notes = "".join(f" *{note}.*" for note in page.data.note.split("; ") if note)
    if (page.data.origin or {}).get("name") == "genesis":
        notes += " The text is in two translations: what is held out of one may have been read in the other's words."
    return (
        f"On {page.places:,} held-out places this model's loss is, in nats a word, {losses}. It was trained with both, "
        "and in every layer: a switch shows what *this* model does in their absence, not what a model trained without "
        f"them would do.{notes}\n\nOn the same places, with everything, how often the nearest of all token vectors is "
        f"the word just read, and how often the one that follows:\n\n{table(rows)}\n\n"
        "Where a stream is near neither, a token's name says little of it: later layers read it by matrices of their "
        f"own. The {NEAREST} nearest are named at every step, however far they are; their cosines say how far."
    )
