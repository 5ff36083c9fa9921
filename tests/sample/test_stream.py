"""Batches keep what belongs to an image with it."""

import numpy as np

from selfseg.sample.stream import Sample, Stream


def stream(n, memos=True):
    arrays = [np.full((1, 3, 4 + i), i, np.float32) for i in range(n)]
    return Stream([Sample(array, memo={"image": i} if memos else None) for i, array in enumerate(arrays)], n, seed=0)


def test_memos_go_with_their_images_through_every_cut():
    whole = stream(5)
    batch = whole.batch(0)
    parts = [batch, *batch.split(2), batch.share(1, 3), batch.first_image(), *whole.once()]
    for part in parts:
        assert [memo["image"] for memo in part.memos] == list(part.indices) == part.images[:, 0, 0, 0].tolist()
    assert batch.memos[0] is whole.samples[batch.indices[0]].memo  # the dict itself, also while it is empty
    empty = Sample(np.zeros((1, 2, 2), np.float32), memo={})
    assert Stream([empty], 1, seed=0).batch(0).memos[0] is empty.memo


def test_without_memos_there_are_none():
    assert stream(3, memos=False).batch(0).memos is None
