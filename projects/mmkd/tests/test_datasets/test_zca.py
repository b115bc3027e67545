"""Whitening: golden values, inverse, covariance, chunks, signs, files, errors."""

import dataclasses
import logging
import math

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger

from mmdistill.core.errors import UserError
from mmkd.datasets.zca import ZCA, Fingerprint, fitted, whitening_digest

SHAPE = (2, 3, 4)


def pictures(count=200, seed=0, level=0.0, dtype=torch.float64):
    """Images whose pixels depend on each other."""
    draw = torch.Generator().manual_seed(seed)
    mixture = torch.randn(24, 24, generator=draw, dtype=torch.float64)
    mixture = mixture * torch.logspace(-2, 0, 24, dtype=torch.float64)
    flat = torch.randn(count, 24, generator=draw, dtype=torch.float64) @ mixture.T
    return (flat + level).view(count, *SHAPE).to(dtype)


@pytest.fixture
def warnings():
    """Messages of mmengine's logger."""
    found = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def test_two_pixels_by_hand():
    # covariance [[2, 1], [1, 2]]: eigenvalues 3 on (1, 1) and 1 on (1, -1)
    half = 0.5 * math.sqrt(3) * torch.tensor([[1.0, 1], [-1, -1]]).double()
    other = 0.5 * torch.tensor([[1.0, -1], [-1, 1]]).double()
    images = (math.sqrt(3) * torch.cat([half, other])).view(4, 1, 1, 2) + 7
    zca = ZCA.fit([images], eps=1)
    torch.testing.assert_close(zca.values, torch.tensor([1.0, 3]).double())
    torch.testing.assert_close(zca.mean, torch.tensor([7.0, 7]).double())
    together, apart = 4**-0.5, 2**-0.5
    wanted = torch.tensor([[together + apart, together - apart]]).double() / 2
    torch.testing.assert_close(zca.matrix, torch.cat([wanted, wanted.flip(1)]))


def test_equals_the_formula_by_a_singular_value_decomposition():
    images = pictures(level=3)
    flat = images.flatten(1).numpy()
    apart = flat - flat.mean(0)
    basis, values, _ = np.linalg.svd(apart.T @ apart / 199)
    wanted = apart @ (basis @ np.diag((values + 0.1) ** -0.5) @ basis.T)
    found = ZCA.fit([images]).whiten(images)
    torch.testing.assert_close(found.flatten(1), torch.from_numpy(wanted), rtol=0, atol=1e-12)


@pytest.mark.parametrize('eps', [1e-3, 0.1, 10])
def test_colouring_undoes_whitening(eps):
    images = pictures(level=5)
    zca, others = ZCA.fit([images], eps), pictures(50, seed=1)
    for given in (images, others):
        assert float((zca.colour(zca.whiten(given)) - given).abs().max()) < 1e-10
        assert float((zca.whiten(zca.colour(given)) - given).abs().max()) < 1e-10
    single = images.float()
    back = zca.colour(zca.whiten(single))
    assert back.dtype == torch.float32 and back.shape == single.shape
    torch.testing.assert_close(back, single, rtol=0, atol=1e-4)


def test_variances_of_whitened_images_in_the_eigenbasis():
    images, eps = pictures(level=2), 0.1
    zca = ZCA.fit([images], eps)
    covariance = torch.cov(zca.whiten(images).flatten(1).T)
    found = zca.vectors.T @ covariance @ zca.vectors
    wanted = zca.values / (zca.values + eps)
    torch.testing.assert_close(found, wanted.diag(), rtol=0, atol=1e-12)
    assert float(covariance.diag().min()) > 0 and float(covariance.diag().max()) <= 1
    assert float(wanted.min()) < 0.1 and float(wanted.max()) > 0.9


def test_chunks_of_any_size_give_the_same():
    images = pictures(level=4)
    whole = ZCA.fit([images])
    for size in (1, 7, 150, 199):
        parts = ZCA.fit(iter(images.split(size)))
        torch.testing.assert_close(parts.mean, whole.mean, rtol=0, atol=1e-12)
        torch.testing.assert_close(parts.matrix, whole.matrix, rtol=0, atol=1e-10)
        assert parts.digest == whole.digest == whitening_digest(images.split(size), 0.1)
    empty = ZCA.fit([images[:0], images, images[:0]])
    assert torch.equal(empty.matrix, whole.matrix) and empty.digest == whole.digest


def test_a_large_mean_costs_no_accuracy():
    # steps of 2^-20 beside 2^24 are exact: nothing but the sums could round
    images = (pictures() * 2**20).round() / 2**20
    near, far = (ZCA.fit((images + level).split(30)) for level in (0, 2**24))
    assert float((near.matrix - far.matrix).abs().max()) < 1e-7


def test_signs_of_eigenvectors_do_not_matter():
    images = pictures()
    zca = ZCA.fit([images])
    signs = torch.where(torch.arange(24) % 3 == 0, -1.0, 1.0).double()
    other = dataclasses.replace(zca, vectors=zca.vectors * signs)
    assert torch.equal(other.matrix, zca.matrix) and torch.equal(other.inverse, zca.inverse)
    torch.testing.assert_close(zca.matrix, zca.matrix.T, rtol=0, atol=1e-14)


def test_fewer_images_than_pixels_are_whitened_too():
    images = pictures(10)
    zca = ZCA.fit([images])
    # nine directions are seen, the others have no variance
    assert int((zca.values > 1e-12).sum()) == 9 and float(zca.values.min()) >= 0
    assert float((zca.colour(zca.whiten(images)) - images).abs().max()) < 1e-10


def test_gradients_pass_through():
    zca = ZCA.fit([pictures()])
    images = pictures(2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(zca.whiten, images)
    assert torch.autograd.gradcheck(zca.colour, images)


def test_the_digest_is_of_images_and_eps():
    images = pictures()
    changed = images.clone()
    changed[7, 1, 2, 3] += 1e-9
    others = [
        ([images], 0.2),
        ([changed], 0.1),
        ([images[:-1]], 0.1),
        ([images.flip(0)], 0.1),
        ([images.view(200, 1, 6, 4)], 0.1),
        ([images.float()], 0.1),
    ]
    digests = {ZCA.fit(chunks, eps).digest for chunks, eps in [([images], 0.1), *others]}
    assert len(digests) == 7
    # images that lie in memory in another order are the same
    turned = images.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    assert not turned.is_contiguous()
    assert whitening_digest([turned], 0.1) == whitening_digest([images], 0.1)


def test_files_keep_every_bit(tmp_path):
    path = tmp_path / 'deep' / 'zca.npz'
    zca = ZCA.fit([pictures()], 0.3)
    zca.save(path)
    found = ZCA.load(path)
    for name in ('mean', 'vectors', 'values', 'matrix', 'inverse'):
        assert torch.equal(getattr(found, name), getattr(zca, name)), name
    assert (found.shape, found.eps, found.digest) == (SHAPE, 0.3, zca.digest)
    assert [each.name for each in path.parent.iterdir()] == ['zca.npz']


def test_a_cache_is_read_if_it_is_of_the_same_images_and_eps(tmp_path, warnings):
    path, images = tmp_path / 'zca.npz', pictures()
    zca = fitted(images, 0.1, path)
    # a file that says so of itself is believed: it was read, not fitted again
    marked = dataclasses.replace(zca, mean=zca.mean + 1)
    marked.save(path)
    assert torch.equal(fitted(images, 0.1, path).mean, marked.mean) and not warnings
    for count, (given, eps) in enumerate([(images + 1, 0.1), (images + 1, 0.2)], start=1):
        found = fitted(given, eps, str(path))
        assert torch.equal(found.mean, ZCA.fit([given]).mean) and found.eps == eps
        assert ZCA.load(path).digest == found.digest != zca.digest
        assert len(warnings) == count and 'zca.npz: this whitening is of other' in warnings[-1]
    assert torch.equal(fitted(images).matrix, ZCA.fit([images]).matrix)


def test_other_files_are_refused_and_kept(tmp_path):
    path = tmp_path / 'other.npz'
    with pytest.raises(UserError, match=r'other.npz: this is no whitening .* No such file'):
        ZCA.load(path)
    with open(path, 'wb') as file:
        np.savez(file, weights=np.arange(3))
    content = path.read_bytes()
    for damaged in (content, content[:40], b'text', b''):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match='other.npz: this is no whitening that can be read'):
            fitted(pictures(), 0.1, path)
        assert path.read_bytes() == damaged
    with open(path, 'wb') as file:
        np.save(file, np.arange(3))
    with pytest.raises(UserError, match='other.npz: this is no whitening'):
        ZCA.load(path)


def test_what_cannot_be_fitted_says_so():
    images = pictures(4)
    for eps in (0, -0.1, math.nan, math.inf):
        with pytest.raises(UserError, match=f'eps of a whitening must be above 0, got {eps}'):
            ZCA.fit([images], eps)
    for chunks, count in (([], 0), ([images[:1]], 1)):
        with pytest.raises(UserError, match=f'at least two images, got {count}'):
            ZCA.fit(chunks)
    for wrong in (math.nan, math.inf):
        bad = images.clone()
        bad[1, 0, 0, 0] = wrong
        with pytest.raises(UserError, match='not finite'):
            ZCA.fit(bad.split(2))
    with pytest.raises(UserError, match=r'one shape and type, got \(2, 3, 3\) .* \(2, 3, 4\)'):
        ZCA.fit([images, images[..., 1:]])
    with pytest.raises(UserError, match='got .* torch.float32 after .* torch.float64'):
        ZCA.fit([images, images.float()])
    zca = ZCA.fit([images])
    for call in (zca.whiten, zca.colour):
        with pytest.raises(UserError, match=r'on images \(2, 3, 4\), got \(3, 2, 4\)'):
            call(images.view(4, 3, 2, 4))


def test_a_fingerprint_of_nothing_differs_from_one_of_something():
    fingerprint = Fingerprint()
    empty = fingerprint.digest()
    fingerprint.add(torch.zeros(0, 3))
    assert fingerprint.digest() != empty and fingerprint.count == 0
