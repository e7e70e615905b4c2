"""Tests of documents that several responses send at the same time."""

from gateway.http.documents import SHARED_FROM, Documents


def test_equal_large_documents_share_one_buffer_while_one_is_sent() -> None:
    documents = Documents()
    first = documents.share(b"a" * SHARED_FROM)
    assert documents.share(b"a" * SHARED_FROM) is first
    other = documents.share(b"b" * SHARED_FROM)
    assert (first.body[:1], other.body[:1]) == (b"a", b"b")


def test_a_document_that_nobody_sends_is_not_kept() -> None:
    documents = Documents()
    documents.share(b"a" * SHARED_FROM)
    assert documents.count == 0


def test_small_documents_are_not_compared() -> None:
    documents = Documents()
    kept = documents.share(b"a" * (SHARED_FROM - 1))
    assert (len(kept.body), documents.count) == (SHARED_FROM - 1, 0)
