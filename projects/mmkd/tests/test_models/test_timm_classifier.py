"""Networks of timm by name, weights out of files, and what cannot be made."""

import pytest
import timm
import torch

from mmdistill.core.errors import UserError
from mmkd.intervention.teacher_intervention import TeacherIntervention
from mmkd.models.classifier import Classifier
from mmkd.models.timm_classifier import timm_classifier
from mmkd.registry import MODELS

SIZE = dict(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=3)
TINY = dict(name='vit_tiny_patch16_224', num_classes=3, options=SIZE)
IMAGES = dict(pixel_values=torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16))


def test_a_config_makes_what_timm_makes():
    torch.manual_seed(0)
    network = MODELS.build(dict(type='mmkd.TimmClassifier', **TINY)).eval()
    torch.manual_seed(0)
    plain = timm.create_model('vit_tiny_patch16_224', num_classes=3, **SIZE).eval()
    assert torch.equal(network(**IMAGES).logits, plain(IMAGES['pixel_values']))
    assert list(network.state_dict()) == [f'model.{name}' for name in plain.state_dict()]


@pytest.mark.parametrize('wrap', [Classifier, TeacherIntervention, lambda network: network])
def test_weights_come_out_of_a_checkpoint_of_a_training(wrap, tmp_path):
    network, path = timm_classifier(**TINY).eval(), tmp_path / 'iter_1.pth'
    wanted = network(**IMAGES).logits
    torch.save(dict(state_dict=wrap(network).state_dict(), meta={}), path)
    other = timm_classifier(**TINY, checkpoint=str(path)).eval()
    assert torch.equal(other(**IMAGES).logits, wanted)
    with pytest.raises(UserError, match=r'iter_1.pth: model.head.weight has shape \(3, 24\)'):
        timm_classifier(**{**TINY, 'num_classes': 4}, checkpoint=str(path))
    deep = {**TINY, 'options': dict(SIZE, depth=3)}
    with pytest.raises(UserError, match='not those of a TimmNetwork of this config'):
        timm_classifier(**deep, checkpoint=str(path))


def test_weights_come_out_of_a_file_with_keys_of_timm(tmp_path):
    network, path = timm_classifier(**TINY).eval(), tmp_path / 'timm.pth'
    torch.save(network.model.state_dict(), path)
    other = timm_classifier(**{**TINY, 'options': dict(SIZE, checkpoint_path=str(path))}).eval()
    assert torch.equal(other(**IMAGES).logits, network(**IMAGES).logits)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(name='vit_tny_patch16_224'), "'vit_tny_patch16_224' is no .* mean 'vit_tiny_patch16"),
        (dict(name='hf-hub:timm/vit_tiny'), 'is no model of timm'),
        (dict(options=dict(dpth=2)), "options: timm cannot make 'vit_tiny_patch16_224' .*'dpth'"),
        (dict(options=dict(pretrained=True)), "options: 'pretrained' cannot be among them"),
        (dict(options=dict(num_classes=2)), "'num_classes' cannot be .*: num_classes stands"),
        (dict(checkpoint='nowhere.pth'), 'nowhere.pth: there is no such checkpoint'),
    ],
)
def test_wrong_options_of_timm_say_so(given, message):
    with pytest.raises(UserError, match=message):
        timm_classifier(**{**TINY, **given})
