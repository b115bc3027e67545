"""Packed weights: every code comes back, the sizes are right, the file is checked."""

import pytest
import torch
from torch import nn

from mmdistill.core.errors import UserError
from mmkd.quant.pack import load_packed, pack, pack_codes, save_packed, size_of, unpack_codes
from mmkd.quant.recipe import quantize, restore

RECIPE = [
    dict(layer='Embedding', weight=dict(type='mmkd.Ternary', axis=0)),
    dict(layer='Linear', weight=dict(type='mmkd.Ternary')),
]


class Text(nn.Module):
    """Words, one layer and a norm."""

    def __init__(self, words=30, width=16):
        super().__init__()
        self.words, self.norm = nn.Embedding(words, width), nn.LayerNorm(width)
        self.dense = nn.Linear(width, width)

    def forward(self, ids):
        return self.norm(self.dense(self.words(ids))).mean(1)


@pytest.mark.parametrize('bits', range(1, 9))
@pytest.mark.parametrize('shape', [(1,), (7,), (3, 5), (2, 3, 4), (0,)])
def test_every_code_comes_back(bits, shape):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if bits > 1 else (0, 2)
    codes = torch.randint(low, high, shape, generator=torch.Generator().manual_seed(bits))
    codes = 2 * codes - 1 if bits == 1 else codes
    packed = pack_codes(codes.float(), bits)
    assert packed.dtype == torch.uint8
    assert packed.numel() == -(-codes.numel() // (8 // bits))
    assert torch.equal(unpack_codes(packed, bits, shape).long(), codes)


def test_four_ternary_codes_share_a_byte():
    assert pack_codes(torch.tensor([0.0, 1.0, -1.0, 1.0]), 2).tolist() == [0b01_11_01_00]


def test_wrong_numbers_of_bytes_are_refused():
    with pytest.raises(ValueError, match='2 bytes do not hold 9 codes of 2 bits'):
        unpack_codes(torch.zeros(2, dtype=torch.uint8), 2, (9,))


@pytest.mark.parametrize('kind', ['mmkd.Ternary', 'mmkd.Binary', 'mmkd.Integer'])
def test_the_plain_network_with_packed_weights_gives_the_same_results(kind, tmp_path):
    model, ids = Text().eval(), torch.tensor([[1, 2, 3], [4, 5, 6]])
    quantize(model, [dict(layer='Embedding', weight=dict(type=kind, axis=0)),
                     dict(layer='Linear', weight=dict(type=kind))])  # fmt: skip
    with torch.no_grad():
        wanted = model(ids)
    save_packed(model, tmp_path / 'packed.pth')
    plain = Text().eval()
    plain.load_state_dict(load_packed(tmp_path / 'packed.pth'), strict=True)
    assert torch.equal(plain(ids), wanted)
    assert list(tmp_path.iterdir()) == [tmp_path / 'packed.pth']


def test_size_is_counted_from_what_is_written():
    model = Text(words=30, width=16)
    quantize(model, RECIPE)
    size = size_of(pack(model))
    weights, rest = 30 * 16 + 16 * 16, 3 * 16
    assert (size.quantized, size.rest) == (weights, rest)
    assert size.full == 4 * (weights + rest)
    assert size.packed == weights // 4 + 4 * (30 + 1) + 4 * rest  # codes, scales, the rest
    assert size.ratio == size.full / size.packed and f'{size.ratio:.2f}x' in str(size)


def test_bert_base_becomes_14_9_times_smaller():
    """Sizes of TernaryBERT: 73 matrices and the table of words, counted without making them."""
    linear = 12 * (4 * 768**2 + 2 * 768 * 3072) + 768**2
    words, matrices = 30522 * 768, 12 * 6 + 1
    rest = 518_402
    full = 4 * (linear + words + rest)
    packed = (linear + words) / 4 + 4 * (30522 + matrices) + 4 * rest
    assert full / packed == pytest.approx(14.88, abs=0.01)


def test_what_cannot_be_packed_or_read_is_refused(tmp_path):
    model = Text()
    with pytest.raises(UserError, match='no quantized weight to pack'):
        pack(model)
    quantize(model, RECIPE)
    content = pack(model)
    restore(model)
    path = tmp_path / 'packed.pth'
    torch.save({**content, 'format': 99}, path)
    with pytest.raises(UserError, match='format 99, not 1'):
        load_packed(path)
    torch.save(model.state_dict(), path)
    with pytest.raises(UserError, match='packed.pth: this is no packed network'):
        load_packed(path)
    path.write_bytes(b'nothing')
    with pytest.raises(UserError, match='packed.pth: no packed network can be read'):
        load_packed(path)
    with pytest.raises(FileNotFoundError):
        load_packed(tmp_path / 'nowhere.pth')
