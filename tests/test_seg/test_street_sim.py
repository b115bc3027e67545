"""Laws of whole streets: what they depend on, which classes occur, how the domains differ."""

from collections import Counter

import numpy as np
import pytest
from street_cases import labels

from mmdistill.seg.street_sim import CLASSES, DOMAINS, VOID, StreetSettings, compose, simulate

ID = {name: number for number, name in enumerate(CLASSES)}
SMALL = StreetSettings(size=(128, 64))
COUNT = 70
ALWAYS = ('road', 'sidewalk', 'building', 'pole', 'vegetation', 'sky', 'person', 'car')
OFTEN = ('wall', 'fence', 'traffic sign', 'terrain', 'bicycle')
RARE = ('traffic light', 'rider', 'truck', 'bus', 'motorcycle')


def _scene(domain: str, index: int, size=(128, 64)):
    return compose(np.random.default_rng(index), domain, *size)


@pytest.fixture(scope='module')
def streets():
    """Pictures of both domains."""
    return {d: [simulate(d, 0, index, SMALL) for index in range(COUNT)] for d in DOMAINS}


@pytest.fixture(scope='module')
def shares(streets):
    """Share of the pixels of every label of each picture, (COUNT, 256)."""
    return {
        domain: np.stack([np.bincount(s.label.ravel(), minlength=256) / s.label.size for s in some])
        for domain, some in streets.items()
    }


# --- what a picture depends on --------------------------------------------


@pytest.mark.parametrize('domain', DOMAINS)
def test_pictures_are_functions_of_domain_seed_and_index(domain):
    def content(*key) -> tuple[bytes, bytes]:
        street = simulate(*key, SMALL)
        return street.image.tobytes(), street.label.tobytes()

    one, again = content(domain, 0, 5), content(domain, 0, 5)
    assert one == again
    other = DOMAINS[1 - DOMAINS.index(domain)]
    for key in ((domain, 0, 6), (domain, 1, 5), (other, 0, 5)):
        image, label = content(*key)
        assert image != one[0] and label != one[1]


@pytest.mark.parametrize('domain', DOMAINS)
def test_the_scene_alone_decides_on_the_labels(domain):
    for index in range(4):
        scene = _scene(domain, index)
        first = labels(scene, 'source', 0)
        for look, seed in (('source', 1), ('target', 0), ('target', 2)):
            np.testing.assert_array_equal(labels(scene, look, seed), first)


@pytest.mark.parametrize('size', [(256, 128), (64, 32), (97, 51), (32, 64)])
def test_pictures_have_the_size_asked_for(size):
    for domain in DOMAINS:
        street = simulate(domain, 1, 2, StreetSettings(size=size))
        assert street.image.shape == (size[1], size[0], 3) and street.image.dtype == np.uint8
        assert street.label.shape == (size[1], size[0]) and street.label.dtype == np.uint8
        assert len(np.unique(street.label)) > 4


@pytest.mark.parametrize('domain', DOMAINS)
def test_a_larger_picture_shows_the_same_street(domain):
    for index in range(3):
        small, large = (
            simulate(domain, 0, index, StreetSettings(size=size)).label
            for size in ((128, 64), (384, 192))
        )
        assert (large[1::3, 1::3] == small).mean() > 0.9


@pytest.mark.parametrize(
    ('size', 'named'), [((16, 64), '16x64'), ((64, 4096), '64x4096'), ((64, 64, 3), '64x64x3')]
)
def test_wrong_sizes_are_named(size, named):
    with pytest.raises(ValueError, match=f'32 to 2048 pixels, got {named}'):
        StreetSettings(size=size)


def test_an_unknown_domain_is_named():
    with pytest.raises(ValueError, match="source, target, got 'goal'"):
        simulate('goal', 0, 0)


# --- what streets hold ----------------------------------------------------


@pytest.mark.parametrize('domain', DOMAINS)
def test_classes_occur_as_often_as_they_shall(shares, domain):
    present = (shares[domain] > 0).mean(0)
    named = {name: present[number] for name, number in ID.items()}
    assert all(named[name] > 0.85 for name in ALWAYS), named
    assert all(named[name] > 0.25 for name in OFTEN), named
    assert all(0.01 < named[name] < 0.25 for name in RARE), named
    assert set(ALWAYS + OFTEN + RARE) | {'train'} == set(CLASSES) and named['train'] == 0
    assert set(np.flatnonzero(present)) <= {*range(19), VOID}
    void = shares[domain][:, VOID].mean()
    assert 0.001 < void < 0.06


def test_domains_share_their_semantics(shares):
    means = [shares[domain].mean(0) for domain in DOMAINS]
    assert np.abs(means[0] - means[1]).sum() / 2 < 0.15  # total variation
    for name in ('road', 'sidewalk', 'building', 'vegetation', 'sky', 'car', 'pole'):
        ratio = means[0][ID[name]] / means[1][ID[name]]
        assert 0.4 < ratio < 2.5, name


def test_domains_are_laid_out_differently(streets):
    source, target = (
        np.array([
            (s.scene.camera.tall, s.scene.camera.focal / 128, abs(s.scene.camera.curve),
             s.scene.ground.half, s.scene.camera.horizon) for s in streets[domain]
        ]) for domain in DOMAINS
    )  # fmt: skip
    assert source[:, 0].min() > target[:, 0].max()  # height of the camera
    assert source[:, 1].max() <= target[:, 1].min() + 0.01  # focal length
    assert 1.5 * source[:, 2].mean() < target[:, 2].mean()  # bends
    assert source[:, 3].mean() > target[:, 3].mean() + 0.5  # width of the road
    assert 1.3 * source[:, 4].std() < target[:, 4].std()  # pitch


def test_domains_look_differently(streets):
    def saturation(image) -> float:
        low, high = image.min(-1).astype(float), image.max(-1).astype(float)
        return float(((high - low) / np.maximum(high, 1)).mean())

    means = [np.mean([saturation(s.image) for s in streets[domain]]) for domain in DOMAINS]
    assert means[0] > 1.5 * means[1]

    def rough(street) -> float:
        """Mean change between neighbours that both show the sky."""
        sky = street.label == ID['sky']
        both = sky[:, 1:] & sky[:, :-1]
        steps = np.abs(np.diff(street.image.astype(float), axis=1)).mean(-1)
        return float(steps[both].mean()) if both.any() else np.nan

    noise = [np.nanmedian([rough(s) for s in streets[domain]]) for domain in DOMAINS]
    assert noise[1] > 2 * noise[0]


def test_nothing_stands_in_something_else(streets):
    for domain in DOMAINS:
        for street in streets[domain][:20]:
            corners = np.stack([thing.footprint for thing in street.scene.things])
            low, high = corners.min(1), corners.max(1)
            overlap = (np.minimum(high[:, None], high) - np.maximum(low[:, None], low)).min(-1)
            np.fill_diagonal(overlap, -1)
            assert (overlap <= 1e-9).all()


def test_sky_is_above_the_horizon_and_road_below(streets):
    for domain in DOMAINS:
        for street in streets[domain]:
            rows = np.arange(64)[:, None] + np.zeros((1, 128))
            assert rows[street.label == ID['sky']].max() <= street.scene.camera.horizon + 2
            assert rows[street.label == ID['road']].min() >= street.scene.camera.horizon - 1


def test_things_are_of_many_kinds(streets):
    for domain in DOMAINS:
        kinds = Counter(type(t).__name__ for s in streets[domain] for t in s.scene.things)
        expected = {'Block', 'Clutter', 'Pedestrian', 'Plant', 'Pole', 'TwoWheeler', 'Vehicle'}
        assert set(kinds) == expected and min(kinds.values()) > 15
        bonnets = np.mean([s.scene.bonnet is not None for s in streets[domain]])
        assert 0 < bonnets < 1
