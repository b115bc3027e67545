"""Keypoint-Mix draws what it says, its peers are corners of it, nothing else has a say."""

import itertools

import pytest
import torch
from pose_cases import mixed_by_definition, uniform

from mmdistill.core.errors import UserError
from mmdistill.pose.keypoint_mix import KeypointMix, cyclic_partners, pick
from mmdistill.registry import TASK_UTILS

CUTOUT = dict(scope='cutout', patches=5, mix_weight=(1, 1), fill=0.0)
OCCLUDE = dict(scope='inter', patches=2, mix_weight=(1, 1), fill=0.0)


def rectangle(center, half, size):
    """Slice along one axis of a patch that is clipped to the image."""
    return slice(max(0, center - half), max(0, min(size, center + half + 1)))


def joint_cutout(images, patches):
    """Joint-Cutout by itself: rectangles around joints become 0."""
    height, width = images.shape[-2:]
    cut = images.clone()
    for n, m in itertools.product(*map(range, patches.active.shape)):
        (x, y), (ax, ay) = patches.target[n, m].tolist(), patches.half[n, m].tolist()
        if patches.active[n, m]:
            cut[n, :, rectangle(y, ay, height), rectangle(x, ax, width)] = 0
    return cut


def cut_occlude(images, patches):
    """Cut-Occlude by itself: paste from a copy padded with 0."""
    height, width = images.shape[-2:]
    far = max(height, width)
    donors = torch.nn.functional.pad(images, (far,) * 4)
    pasted = images.clone()
    for n, m in itertools.product(*map(range, patches.active.shape)):
        (x, y), (u, v) = patches.target[n, m].tolist(), patches.source[n, m].tolist()
        (ax, ay), donor = patches.half[n, m].tolist(), donors[patches.donor[n, m]]
        if patches.active[n, m]:
            rows, columns = rectangle(y, ay, height), rectangle(x, ax, width)
            top, left = far + v - y, far + u - x
            pasted[n, :, rows, columns] = donor[
                :, top + rows.start : top + rows.stop, left + columns.start : left + columns.stop
            ]
    return pasted


def batch_of(batch=4, joints=6, size=(192, 256), seed=0):
    """Images and their :func:`joints_of`."""
    images = uniform(batch, 3, *size[::-1], seed=seed) - 0.5
    return images, *joints_of(batch, joints, size, seed)


def joints_of(batch, joints=6, size=(192, 256), seed=0):
    """Joints and confidences; the last joint of each sample is not confident."""
    places = uniform(batch, joints, 2, seed=seed + 1) * (torch.tensor(size) - 1)
    confidences = 0.2 + 0.8 * uniform(batch, joints, seed=seed + 2)
    confidences[:, -1] = 0.05
    return places, confidences


@pytest.mark.parametrize('scope', ['intra', 'inter', 'cutout'])
def test_the_drawn_patches_mix_as_defined(scope):
    images, places, confidences = batch_of(size=(48, 64))
    mix = KeypointMix(scope, patches=4, fill=0.5 if scope == 'cutout' else None)
    numbers = mix.numbers(4, generator=torch.Generator().manual_seed(3))
    patches = mix.draw(places, confidences, numbers, (48, 64))
    mixed = mix(images, places, confidences, numbers)
    assert patches.active.all() and not torch.equal(mixed, images)
    assert torch.equal(mixed, mixed_by_definition(images, patches, mix.fill))


def test_pixels_outside_the_patches_stay():
    """Fact 8: at most the sum of (2 a_x + 1)(2 a_y + 1) pixels change."""
    images, places, confidences = batch_of()
    mix = KeypointMix(patches=3)
    numbers = mix.numbers(4, generator=torch.Generator().manual_seed(0))
    patches = mix.draw(places, confidences, numbers, (192, 256))
    changed = (mix(images, places, confidences, numbers) != images).any(1)
    limit = (2 * patches.half + 1).prod(-1).sum(1)
    assert (changed.sum((1, 2)) <= limit).all() and changed.flatten(1).any(1).all()
    x, y = torch.arange(192), torch.arange(256)[:, None]
    for n in range(4):
        inside = torch.zeros(256, 192, dtype=torch.bool)
        for (dx, dy), (ax, ay) in zip(patches.target[n], patches.half[n], strict=True):
            inside |= ((x - dx).abs() <= ax) & ((y - dy).abs() <= ay)
        assert not (changed[n] & ~inside).any()


@pytest.mark.parametrize('size', [(48, 64), (64, 64)])
def test_joint_cutout_is_a_corner(size):
    images, places, confidences = batch_of(size=size)
    mix = TASK_UTILS.build(dict(type='mmdistill.KeypointMix', **CUTOUT))
    numbers = mix.numbers(4, generator=torch.Generator().manual_seed(5))
    patches = mix.draw(places, confidences, numbers, size)
    cut = mix(images, places, confidences, numbers)
    assert torch.equal(cut, joint_cutout(images, patches)) and (cut == 0).any()


def test_cut_occlude_is_a_corner():
    images, places, confidences = batch_of(size=(48, 64))
    mix = TASK_UTILS.build(dict(type='mmdistill.KeypointMix', **OCCLUDE))
    for seed in range(5):
        numbers = mix.numbers(4, generator=torch.Generator().manual_seed(seed))
        patches = mix.draw(places, confidences, numbers, (48, 64))
        assert (patches.donor != torch.arange(4)[:, None]).all()
        pasted = mix(images, places, confidences, numbers)
        assert torch.equal(pasted, cut_occlude(images, patches))


def test_sizes_and_centres_are_the_published_ones():
    """Half sizes 10..19 and jitter N(0, 10) at a width of 192, in proportion elsewhere."""
    places, confidences = joints_of(400)
    mix = KeypointMix(patches=5)
    numbers = mix.numbers(400, generator=torch.Generator().manual_seed(0))
    patches = mix.draw(places, confidences, numbers, (192, 256))
    assert patches.half.unique().tolist() == list(range(10, 20))
    counts = patches.half.flatten().bincount()[10:].double()
    assert counts.min() > 0.8 * counts.mean()
    assert patches.weight.min() >= 0.1 and patches.weight.max() <= 0.5
    steps = (patches.target[:, :, None] - places[:, None]).norm(dim=-1).min(-1).values
    assert steps.median() < 20
    still = KeypointMix(patches=5, jitter=0.0).draw(places, confidences, numbers, (192, 256))
    spread = (patches.target - still.target).double().std()
    assert spread == pytest.approx(10, abs=0.3)
    double = KeypointMix().draw(places, confidences, numbers[:, :2], (384, 512))
    assert (double.half.min(), double.half.max()) == (20, 38)


def chosen(patches, places):
    """Which joints the patches of a mix without jitter lie on, target and source."""
    own = (patches.target[:, :, None] == places[:, None].round()).all(-1)
    other = (patches.source[:, :, None] == places[patches.donor].round()).all(-1)
    return own.int().argmax(-1), other.int().argmax(-1)


@pytest.mark.parametrize('scope', ['intra', 'inter'])
def test_confident_joints_are_chosen_and_never_the_same(scope):
    """Fact 10: i != j within an image; joints below the threshold never take part."""
    places, confidences = joints_of(64)
    mix = KeypointMix(scope, patches=8, jitter=0.0)
    numbers = mix.numbers(64, generator=torch.Generator().manual_seed(0))
    patches = mix.draw(places, confidences, numbers, (192, 256))
    target, source = chosen(patches, places)
    assert patches.active.all()
    assert target.unique().tolist() == source.unique().tolist() == [0, 1, 2, 3, 4]
    if scope == 'intra':
        assert (target != source).all() and (patches.donor == torch.arange(64)[:, None]).all()
    else:
        assert (patches.donor != torch.arange(64)[:, None]).all()
        assert (target == source).any()


def test_a_batch_of_one_mixes_within_the_image():
    """Fact 10."""
    images, places, confidences = batch_of(batch=1)
    mix = KeypointMix('inter', patches=20, jitter=0.0)
    numbers = mix.numbers(1, generator=torch.Generator().manual_seed(0))
    patches = mix.draw(places, confidences, numbers, (192, 256))
    target, source = chosen(patches, places)
    assert patches.active.all() and (patches.donor == 0).all() and (target != source).all()
    intra = KeypointMix('intra', patches=20, jitter=0.0)
    assert torch.equal(
        mix(images, places, confidences, numbers), intra(images, places, confidences, numbers)
    )


@pytest.mark.parametrize('scope', ['intra', 'inter', 'cutout'])
def test_samples_without_two_confident_joints_are_left_alone(scope):
    """Fact 10: also when confidences or joints are no numbers."""
    images, places, confidences = batch_of(batch=5)
    confidences[0] = 0.0
    confidences[1, 1:] = 0.1
    confidences[2], places[2] = torch.nan, torch.nan
    mix = KeypointMix(scope, fill=0.0)
    for seed in range(5):
        mixed = mix(images, places, confidences, generator=torch.Generator().manual_seed(seed))
        same = (mixed == images).flatten(1).all(1).tolist()
        assert same[:3] == [True, scope != 'cutout', True]
        assert scope == 'inter' or same[3:] == [False, False]
        assert mixed.isfinite().all()


def test_donors_without_confident_joints_give_nothing():
    images, places, confidences = batch_of(batch=2)
    confidences[1] = 0.0
    mixed = KeypointMix('inter')(images, places, confidences)
    assert torch.equal(mixed, images)


@pytest.mark.parametrize('scope', ['intra', 'inter', 'cutout'])
def test_the_order_of_the_batch_does_not_matter(scope):
    """Samples that change places together with their numbers change nothing else."""
    images, places, confidences = batch_of(batch=6, size=(48, 64))
    mix = KeypointMix(scope, patches=3, fill=0.0)
    numbers = mix.numbers(6, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    plain = mix(images, places, confidences, numbers)
    moved = mix(images[order], places[order], confidences[order], numbers[order])
    assert torch.equal(moved, plain[order])
    if scope != 'inter':
        for n in range(6):
            one = slice(n, n + 1)
            alone = mix(images[one], places[one], confidences[one], numbers[one])
            assert torch.equal(alone, plain[one])


def test_partners_form_one_cycle():
    for batch, count in ((1, 3), (2, 3), (7, 4)):
        partner = cyclic_partners(uniform(batch, count))
        for m in range(count):
            seen, at = [], 0
            for _ in range(batch):
                seen.append(at)
                at = int(partner[at, m])
            assert at == 0 and sorted(seen) == list(range(batch))


def test_picks_are_equally_likely_and_allowed():
    valid = torch.tensor([True, False, True, True, False])
    numbers = torch.arange(300) / 300
    counts = pick(valid.expand(300, 5), numbers).bincount(minlength=5)
    assert counts.tolist() == [100, 0, 100, 100, 0]
    last = torch.tensor([1 - 2**-24])
    assert pick(torch.ones(1, 17, dtype=torch.bool), last) == 16
    assert pick(torch.zeros(1, 3, dtype=torch.bool), last) == 0


def test_the_same_seed_gives_the_same_views():
    """Fact 11."""
    images, places, confidences = batch_of()
    mix = KeypointMix()

    def run(seed):
        return mix(images, places, confidences, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(run(3), run(3)) and not torch.equal(run(3), run(4))


@pytest.mark.parametrize('scope', ['intra', 'inter', 'cutout'])
def test_no_step_waits_for_the_device(scope):
    """Fact 11: tensors without data; whatever asked for a value would fail."""
    images, places, confidences = (each.to('meta') for each in batch_of())
    mixed = KeypointMix(scope, fill=0.0)(images, places, confidences)
    assert mixed.shape == images.shape and mixed.device.type == 'meta'


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_no_step_waits_for_the_gpu():
    """Fact 11: and the GPU gives what the CPU gives."""
    images, places, confidences = batch_of()
    mix = KeypointMix('inter')
    numbers = mix.numbers(4)
    expected = mix(images, places, confidences, numbers)
    there = [each.cuda() for each in (images, places, confidences, numbers)]
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode('error')
    try:
        mixed = mix(*there)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    torch.testing.assert_close(mixed.cpu(), expected)


def test_inputs_stay_and_no_gradient_flows():
    """Fact 12."""
    images, places, confidences = batch_of()
    images.requires_grad_(), places.requires_grad_()
    before = [each.detach().clone() for each in (images, places, confidences)]
    numbers = KeypointMix().numbers(4)
    kept = numbers.clone()
    mixed = KeypointMix()(images, places, confidences, numbers)
    assert not mixed.requires_grad
    for value, old in zip((images, places, confidences, numbers), (*before, kept), strict=True):
        assert torch.equal(value, old)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_other_precisions_and_autocast(dtype):
    images, places, confidences = batch_of()
    numbers = KeypointMix().numbers(4)
    exact = KeypointMix()(images, places, confidences, numbers)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = KeypointMix()(images.to(dtype), places.float(), confidences.float(), numbers)
    assert mixed.dtype == dtype
    assert (mixed.double() - exact).abs().max() < 4 * torch.finfo(dtype).eps


def test_unknown_keys_and_wrong_values_are_refused():
    import mmdistill.pose

    assert mmdistill.pose.KeypointMix is KeypointMix
    with pytest.raises(TypeError, match='patch_count'):
        TASK_UTILS.build(dict(type='mmdistill.KeypointMix', patch_count=2))
    for wrong in (
        dict(scope='image'),
        dict(patches=0),
        dict(patches=1.5),
        dict(mix_weight=(0.5, 0.1)),
        dict(mix_weight=(0.0, 1.1)),
        dict(mix_weight=0.5),
        dict(half_size=(-0.1, 0.1)),
        dict(jitter=-1),
        dict(confidence=float('nan')),
        dict(scope='cutout'),
    ):
        with pytest.raises(UserError, match='KeypointMix'):
            KeypointMix(**wrong)
