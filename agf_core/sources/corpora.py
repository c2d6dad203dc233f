"""NLTK corpora as texts, read by NLTK's own corpus readers.

| name | documents | tags | left out |
|---|---|---|---|
| brown | 500 samples | universal, from Brown's | |
| treebank | files of the Wall Street Journal | universal, from the Penn tags | traces (-NONE-) |
| inaugural, state_union | speeches | | |
| shakespeare | plays | | titles, speakers, stage directions |
| genesis | King James and World English Bible | | the other languages |
| webtext | files | | |

Untagged corpora are tokenised by `plain.split_sentences`: NLTK's sentence splitter needs trained data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .locate import find_package
from .plain import offsets, split_sentences
from .text import Text

Tagged = list[tuple[str, str]]


@dataclass(frozen=True)
class Corpus:
    """What the page says of a corpus."""

    source: str
    licence: str


SPEECHES = "public domain (speeches of presidents of the United States)"
CORPORA = {
    "brown": Corpus(
        "Brown University Standard Corpus of Present-Day American English (Francis & Kučera 1964, 1979), through NLTK",
        "non-commercial research only; not redistributed here",
    ),
    "treebank": Corpus(
        "Penn Treebank sample, Wall Street Journal (LDC 1995), through NLTK",
        "non-commercial use only; not redistributed here",
    ),
    "inaugural": Corpus("inaugural addresses of presidents of the United States, through NLTK", SPEECHES),
    "state_union": Corpus("State of the Union addresses, 1945 on, through NLTK", SPEECHES),
    "shakespeare": Corpus("eight plays by Shakespeare in Jon Bosak's XML, through NLTK", "public domain"),
    "genesis": Corpus(
        "Genesis, King James Version and World English Bible, through NLTK", "public domain (both translations)"
    ),
    "webtext": Corpus("web text, NLTK's sample", "not stated by its compilers; not redistributed here"),
}


def read_corpus(name: str, path: Path) -> Text:
    """The corpus `name` (a key of `CORPORA`), whose NLTK package lies at `path` (folder or zip). Parsed, not cached."""
    names, documents = [], []
    for document_name, document in _READERS[name](name, path):
        names.append(document_name)
        documents.append(document)
    tags = None
    if name in ("brown", "treebank"):
        mapping = _universal({"brown": "en-brown", "treebank": "en-ptb"}[name])
        tags = [mapping[tag] for document in documents for sentence in document for _, tag in sentence]
        documents = [[[word for word, _ in sentence] for sentence in document] for document in documents]
    tokens, sentences, starts = offsets(documents)
    about = CORPORA[name]
    return Text(tokens, tags, sentences, starts, about.source, about.licence, name=name, document_names=names)


def reader(path: Path, kind: str, pattern: str, *, inner: str = "", **options: Any) -> Any:
    """NLTK's corpus reader of class `kind` on the package at `path`, folder or zip.

    Built here rather than taken from `nltk.corpus`, so that what is read is exactly the file that was fingerprinted.
    """
    import nltk.corpus.reader as readers
    from nltk.data import FileSystemPathPointer, ZipFilePathPointer

    _allow(path)
    if path.suffix == ".zip":
        root: Any = ZipFilePathPointer(str(path), f"{path.stem}/{inner}")
    else:
        root = FileSystemPathPointer(str(path / inner))
    return getattr(readers, kind)(root, pattern, **options)


def _brown(name: str, path: Path) -> Iterator[tuple[str, list[Tagged]]]:
    from nltk.tag import str2tuple

    corpus = reader(path, "TaggedCorpusReader", r"c[a-z]\d\d", encoding="ascii")
    for file in corpus.fileids():
        # What corpus.tagged_sents(file) gives (a test compares), four times as fast without its paragraph views.
        lines = (line.split() for line in corpus.raw(file).splitlines())
        yield file, [[str2tuple(pair) for pair in line] for line in lines if line]


def _treebank(name: str, path: Path) -> Iterator[tuple[str, list[Tagged]]]:
    corpus = reader(path, "BracketParseCorpusReader", r"wsj_.*\.mrg", inner="combined/", encoding="ascii")
    for file in corpus.fileids():
        yield file, [[pair for pair in sent if pair[1] != "-NONE-"] for sent in corpus.tagged_sents(file)]


def _plain(name: str, path: Path) -> Iterator[tuple[str, list[list[str]]]]:
    pattern, encoding = {
        "inaugural": (r"(?!\.).*\.txt", "latin1"),
        "state_union": (r"(?!\.).*\.txt", "ISO-8859-2"),
        "genesis": (r"english-(?:kjv|web)\.txt", "utf8"),
        "webtext": (r"(?!README|\.).*\.txt", "ISO-8859-2"),
    }[name]
    corpus = reader(path, "PlaintextCorpusReader", pattern, encoding=encoding)
    for file in corpus.fileids():
        yield file, split_sentences(corpus.raw(file))


def _shakespeare(name: str, path: Path) -> Iterator[tuple[str, list[list[str]]]]:
    corpus = reader(path, "XMLCorpusReader", r"(?!\.).*\.xml")
    for file in corpus.fileids():
        # Only .text and the tails: a stage direction inside a line is not spoken.
        speeches = (
            "\n".join("".join([line.text or "", *(child.tail or "" for child in line)]) for line in speech.iter("LINE"))
            for speech in corpus.xml(file).iter("SPEECH")
        )
        yield file, [sentence for speech in speeches for sentence in split_sentences(speech)]


_READERS: dict[str, Any] = {
    "brown": _brown,
    "treebank": _treebank,
    "shakespeare": _shakespeare,
    **dict.fromkeys(("inaugural", "state_union", "genesis", "webtext"), _plain),
}


def _universal(tagset: str) -> dict[str, str]:
    """NLTK's mapping of a tag set to the universal one (Petrov, Das & McDonald 2012); unknown tags become X."""
    from nltk.tag.mapping import tagset_mapping

    package = find_package("taggers/universal_tagset")
    if package is None:
        raise LookupError("NLTK's universal_tagset is not on its search path")
    _allow(package)
    return tagset_mapping(tagset, "universal")


def _allow(package: Path) -> None:
    """Let NLTK read this package: it took NLTK_DATA when it was imported and refuses paths outside its search path."""
    import nltk.data

    folder = str(package.parent.parent)
    if folder not in nltk.data.path:
        nltk.data.path.insert(0, folder)
