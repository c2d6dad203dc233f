"""Plain text to tokens and sentences, by rules short enough to print on a page.

A token is a number, an abbreviation of the list below or with inner stops (U.S.), a word with inner hyphens or
apostrophes, a run of stops or dashes, or one other character. A sentence ends after . ! ? or … and whatever closing
quotes and brackets follow, and at a blank line. Unlike NLTK's Punkt this needs no trained data; it is wrong after
an abbreviation that is not listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .locate import fingerprint
from .text import Text

TOKEN = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|St|Jr|Sr|Messrs|Prof|Gen|Gov|Sen|Rep|No|vs|etc)\."
    r"|[^\W\d_](?:\.[^\W\d_])+\.?"
    r"|\d+(?:[.,:]\d+)*"
    r"|\w+(?:['’-]\w+)*"
    r"|\.{2,}|-{2,}|[^\w\s]"
)
BLANK_LINE = re.compile(r"\n[ \t\r\f]*\n")
ENDS = {".", "!", "?", "…"}
QUOTES = {'"', "'"}
CLOSERS = {*QUOTES, "”", "’", "»", ")", "]", "}"}


def tokenize(text: str) -> list[str]:
    """Tokens of a string, by the rule above."""
    return TOKEN.findall(text)


def split_sentences(text: str) -> list[list[str]]:
    """Sentences, each a list of at least one token; paragraphs (parted by blank lines) end sentences too."""
    sentences: list[list[str]] = []
    for paragraph in BLANK_LINE.split(text):
        current: list[str] = []
        ended = False
        for token in tokenize(paragraph):
            # A straight quote closes only what the sentence opened.
            closes = token in CLOSERS and (token not in QUOTES or current.count(token) % 2 == 1)
            if ended and not closes and token not in ENDS:
                sentences.append(current)
                current, ended = [], False
            current.append(token)
            ended = ended or token in ENDS or token.startswith("..")
        if current:
            sentences.append(current)
    return sentences


def offsets(documents: Iterable[list[list[str]]]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Documents of sentences to (tokens, sentence starts, document starts); empty ones are left out."""
    tokens: list[str] = []
    sentences: list[int] = []
    starts: list[int] = []
    for document in documents:
        here = len(tokens)
        for sentence in document:
            if sentence:
                sentences.append(len(tokens))
                tokens += sentence
        if len(tokens) > here:
            starts.append(here)
    return tokens, np.array(sentences, np.int64), np.array(starts, np.int64)


def read_file(path: Path) -> Text:
    """A UTF-8 file as a text of one document, or of several where form feeds (\\f) part them; untagged.

    Raises FileNotFoundError for a missing path, ValueError for a folder, a binary or otherwise not UTF-8 file, or
    one with no token.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected the path of one UTF-8 text file: join its files or name one")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the path of a UTF-8 text file")
    raw = path.read_bytes()
    if b"\0" in raw:
        raise ValueError(f"{path} looks binary (it holds zero bytes); expected UTF-8 text: export it as plain text")
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {raw[error.start]:#04x} at {error.start}); expected UTF-8 text: convert it, "
            "for example with `iconv -f latin1 -t utf-8`"
        ) from error
    tokens, sentences, documents = offsets(split_sentences(part) for part in content.replace("\r\n", "\n").split("\f"))
    if not tokens:
        raise ValueError(f"{path} holds no words; expected UTF-8 text with at least one token")
    return Text(
        tokens, None, sentences, documents, source=f"the file {path.name}", licence="the file's own", name=path.stem,
        document_names=[f"{path.stem}-{i + 1}" for i in range(len(documents))],
        origin={"name": path.name, "path": str(path.resolve()), **fingerprint(path), "note": ""},
    )  # fmt: skip
