"""A network's classes are brought into the order of the data, in weights and in its config."""

import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.evaluation.scores import accuracy
from mmkd.models.hugging_face import hf_classifier, reorder_classes
from mmkd.registry import MODELS

THEIRS = ['CONTRADICTION', 'ENTAILMENT', 'NEUTRAL']
OURS = ['entailment', 'neutral', 'contradiction']
PLACES = [1, 2, 0]  # of ours among theirs
SMALL = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
IDS = dict(input_ids=torch.arange(3, 27).view(8, 3))


@pytest.fixture
def folder(tmp_path):
    """A saved network with the other order; its classes are far apart."""
    torch.manual_seed(0)
    config = dict(SMALL, vocab_size=30, initializer_range=0.5)
    network = hf_classifier('text', 'bert', config, labels=THEIRS)
    torch.nn.init.normal_(network.classifier.bias)
    network.save_pretrained(tmp_path)
    return str(tmp_path)


def logits_of(network, **inputs):
    """Logits of evaluation."""
    with torch.no_grad():
        return network.eval()(**(inputs or IDS)).logits


def test_outputs_are_those_of_the_network_at_other_places(folder):
    plain = hf_classifier('text', pretrained=folder)
    options = dict(task='text', pretrained=folder, num_labels=3, data_labels=OURS)
    ours = MODELS.build(dict(type='mmkd.HFClassifier', **options))
    expected = logits_of(plain)[:, PLACES]
    assert torch.allclose(logits_of(ours), expected, atol=1e-6)
    assert not torch.allclose(logits_of(plain), expected, atol=0.1)
    assert ours.config.id2label == dict(enumerate(OURS))
    assert ours.config.label2id == {name: number for number, name in enumerate(OURS)}
    for name, value in plain.state_dict().items():
        there = value[PLACES] if name.startswith('classifier.') else value
        assert torch.equal(ours.state_dict()[name], there), name


def test_a_teacher_scores_the_same_under_every_order_of_the_data(folder):
    names = [THEIRS[n].lower() for n in (0, 1, 2, 0, 2, 1, 1, 0)]
    scores = []
    for order in ([each.lower() for each in THEIRS], OURS, OURS[::-1]):
        network = hf_classifier('text', pretrained=folder, data_labels=order)
        found = logits_of(network).argmax(1).numpy()
        labels = torch.tensor([order.index(each) for each in names]).numpy()
        scores.append(accuracy(labels, found))
    assert scores[0] == scores[1] == scores[2]
    plain = logits_of(hf_classifier('text', pretrained=folder)).argmax(1).numpy()
    wrong = accuracy(torch.tensor([OURS.index(each) for each in names]).numpy(), plain)
    assert wrong != scores[0]  # what the numbers alone would give


def test_once_is_enough(folder, tmp_path):
    ours = hf_classifier('text', pretrained=folder, data_labels=OURS)
    before = logits_of(ours)
    reorder_classes(ours, OURS)
    assert torch.equal(logits_of(ours), before)
    ours.save_pretrained(tmp_path / 'ours')
    again = hf_classifier('text', pretrained=str(tmp_path / 'ours'), data_labels=OURS)
    assert torch.allclose(logits_of(again), before, atol=1e-6)
    # a checkpoint of a training has the order of the data already
    torch.save(dict(state_dict={f'network.{k}': v for k, v in ours.state_dict().items()}),
               tmp_path / 'iter_1.pth')  # fmt: skip
    last = hf_classifier(
        'text', pretrained=folder, data_labels=OURS, checkpoint=str(tmp_path / 'iter_1.pth')
    )
    assert torch.allclose(logits_of(last), before, atol=1e-6)


def test_networks_without_names_are_taken_as_they_are(tmp_path):
    network = hf_classifier('text', 'bert', dict(SMALL, vocab_size=30), num_labels=3)
    before = logits_of(network)
    reorder_classes(network, OURS)
    assert torch.equal(logits_of(network), before)
    assert network.config.id2label == dict(enumerate(OURS))
    # a nameless network whose order is known: labels names its outputs, data_labels moves them
    nameless = hf_classifier('text', 'bert', dict(SMALL, vocab_size=30), num_labels=3)
    nameless.save_pretrained(tmp_path)
    moved = hf_classifier('text', pretrained=str(tmp_path), labels=THEIRS, data_labels=OURS)
    assert torch.allclose(logits_of(moved), logits_of(nameless)[:, PLACES], atol=1e-6)


@pytest.mark.parametrize(
    ('task', 'family', 'config'),
    [
        ('text', 'roberta', dict(SMALL, vocab_size=30)),  # two layers in its head
        ('text', 'gpt2', dict(n_embd=16, n_layer=1, n_head=2, vocab_size=30, pad_token_id=0)),
        ('image', 'vit', dict(SMALL, image_size=8, patch_size=4)),
        ('image', 'resnet', dict(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])),
    ],
)  # fmt: skip
def test_heads_of_several_families(task, family, config):
    network = hf_classifier(task, family, config, labels=THEIRS)
    pixels = torch.rand(2, 3, 8 if family == 'vit' else 32, 8 if family == 'vit' else 32)
    inputs = IDS if task == 'text' else dict(pixel_values=pixels)
    before = logits_of(network, **inputs)
    reorder_classes(network, OURS)
    assert torch.allclose(logits_of(network, **inputs), before[:, PLACES], atol=1e-6)


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['entailment', 'neutral', 'contradicts'], "class 'contradicts' of the data is none of"),
        (['entailment', 'not_entailment'], 'the network has 3 classes, the data 2'),
        (['entailment', 'neutral', 'neutral'], 'each needs a name and a number of its own'),
    ],
)
def test_other_classes_say_so(names, message, folder):
    with pytest.raises(UserError, match=message):
        hf_classifier('text', pretrained=folder, data_labels=names)


def test_a_head_that_is_not_known_says_so(folder):
    network = hf_classifier('text', pretrained=folder)
    network.classifier = torch.nn.Identity()
    with pytest.raises(UserError, match='no linear layer of 3 outputs behind its encoder'):
        reorder_classes(network, OURS)
