"""Networks by config, teachers out of checkpoints, and what cannot be read."""

import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.models.classifier import Classifier
from mmkd.models.frozen_teacher import FrozenTeacher
from mmkd.models.hugging_face import hf_classifier

SMALL = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
BERT = dict(task='text', family='bert', config=dict(SMALL, vocab_size=30), num_labels=3)
IDS = dict(input_ids=torch.tensor([[1, 2, 3]]), attention_mask=torch.ones(1, 3, dtype=torch.long))


def test_outputs_and_names_of_classes():
    network = hf_classifier(**{**BERT, 'labels': ['no', 'perhaps', 'yes']})
    assert network(**IDS).logits.shape == (1, 3)
    assert network.config.label2id == dict(no=0, perhaps=1, yes=2)
    vit = hf_classifier('image', 'vit', dict(SMALL, image_size=8, patch_size=4), num_labels=2)
    assert vit(pixel_values=torch.zeros(1, 3, 8, 8)).logits.shape == (1, 2)


def test_a_saved_network_comes_back(tmp_path):
    network = hf_classifier(**BERT).eval()
    network.save_pretrained(tmp_path)
    other = hf_classifier('text', pretrained=str(tmp_path)).eval()
    assert torch.allclose(other(**IDS).logits, network(**IDS).logits, atol=1e-7)


@pytest.mark.parametrize('prefix', ['network.', 'student.', ''])
def test_a_teacher_comes_out_of_a_checkpoint_of_a_training(prefix, tmp_path):
    network, path = hf_classifier(**BERT).eval(), tmp_path / 'iter_1.pth'
    state = {prefix + name: value for name, value in network.state_dict().items()}
    torch.save(dict(state_dict=state, meta={}), path)
    other = hf_classifier(**BERT, checkpoint=str(path)).eval()
    assert torch.allclose(other(**IDS).logits, network(**IDS).logits, atol=1e-7)
    wide = {**BERT, 'config': dict(BERT['config'], vocab_size=31)}
    with pytest.raises(UserError, match=r'iter_1.pth: .*word_embed.* shape \(30, 16\)'):
        hf_classifier(**wide, checkpoint=str(path))
    deep = {**BERT, 'config': dict(BERT['config'], num_hidden_layers=2)}
    with pytest.raises(UserError, match='not those of a BertForSequenceClassification'):
        hf_classifier(**deep, checkpoint=str(path))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(task='sound'), "task must be one of .*, got 'sound'"),
        (dict(family='brt'), "family 'brt' is not known .did you mean 'bert'"),
        (dict(config=dict(hiden_size=3)), "bert has no key 'hiden_size' .did you mean"),
        (dict(pretrained='x'), 'give either pretrained, or family'),
        (dict(checkpoint='nowhere.pth'), 'nowhere.pth: there is no such checkpoint'),
    ],
)
def test_wrong_options_say_so(options, message):
    with pytest.raises(UserError, match=message):
        hf_classifier(**{**BERT, **options})


def test_a_folder_without_network_says_so(tmp_path):
    with pytest.raises(UserError, match='there is no config.json; save_pretrained writes one'):
        hf_classifier('text', pretrained=str(tmp_path))


def test_a_classifier_learns_labels_and_predicts():
    model = Classifier(hf_classifier(**BERT))
    labels = torch.tensor([2])
    loss = model(IDS, labels, mode='loss')['loss_labels']
    logits = model(IDS)
    model.eval()
    found = model(IDS, labels, mode='predict')
    assert torch.allclose(found[0]['logits'], model(IDS)[0]) and found[0]['label'] == 2
    assert logits.shape == (1, 3) and loss.requires_grad
    with pytest.raises(UserError, match='the batch has no labels'):
        model(IDS, None, mode='loss')
    value = Classifier(hf_classifier(**{**BERT, 'num_labels': 1})).eval()
    squared = (value(IDS)[:, 0] - 1.5).square().mean()
    assert torch.allclose(value(IDS, torch.tensor([1.5]), mode='loss')['loss_labels'], squared)


def test_a_teacher_in_half_precision_gives_float32():
    network = hf_classifier(**BERT)
    full = FrozenTeacher(network)(IDS).logits
    half = FrozenTeacher(network, torch.bfloat16)(IDS).logits
    assert half.dtype == torch.float32 and not torch.equal(half, full)
    assert torch.allclose(half, full, atol=0.05)
