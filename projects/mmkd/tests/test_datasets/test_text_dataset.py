"""Texts as ids: tokenizers that can be trained again, labels by name, batches."""

import pytest
import torch

from mmdistill.core.errors import UserError
from mmkd.datasets.label_order import label_order
from mmkd.datasets.text_dataset import TextDataset, pad_collate
from mmkd.datasets.tokenizers import load_tokenizer, train_tokenizer

LINES = [('A good film', 'yes', '1.5'), ('a bad, bad film', 'no', '-2'), ('good', 'yes', '0')]
OTHER = ['the film is good', 'film', 'it is bad']


@pytest.fixture
def table(tmp_path):
    """A table with two texts, classes and values."""
    rows = [f'{a}\t{b}\t{c}\t{d}' for (a, c, d), b in zip(LINES, OTHER, strict=True)]
    (tmp_path / 'train.tsv').write_text('\n'.join(['first\tsecond\tclass\tvalue', *rows]) + '\n')
    return tmp_path


def dataset(table, **options):
    """The table's first text and classes, or what is given."""
    given = dict(path='train.tsv', text='first', label='class', labels=['no', 'yes'])
    return TextDataset(**{**given, 'data_root': str(table), **options})


def test_labels_are_found_by_name(table):
    assert dataset(table).labels == [1, 0, 1]
    assert dataset(table, labels=['yes', 'no']).labels == [0, 1, 0]
    assert dataset(table, label='value', labels=None).labels == [1.5, -2.0, 0.0]
    assert 'labels' not in dataset(table, label=None)[0]
    assert dataset(table).metainfo == dict(classes=('no', 'yes'))


def test_wrong_labels_are_named(table):
    with pytest.raises(UserError, match=r"train.tsv, row 1: 'yes' is no class .*labels are"):
        dataset(table, labels=['no', 'yess'])
    with pytest.raises(UserError, match=r"row 1: 'yes' is no number; classes need labels"):
        dataset(table, labels=None)
    with pytest.raises(UserError, match='one or two columns'):
        dataset(table, text=['first', 'second', 'class'])


def test_ids_are_the_texts(table):
    data = dataset(table)
    words = data.tokenizer.decode(data[0]['inputs']['input_ids'])
    assert words == '[CLS] a good film [SEP]'
    pair = dataset(table, text=['first', 'second'])[0]['inputs']
    assert pair['token_type_ids'].count(1) == 5  # the film is good [SEP]
    cut = dataset(table, text=['first', 'second'], max_length=6)
    assert max(map(len, cut.encoded['input_ids'])) == 6


def test_the_same_texts_train_the_same_tokenizer(table):
    texts = [f'{a} {b}' for (a, _, _), b in zip(LINES, OTHER, strict=True)] * 3
    for kind in ('wordpiece', 'bpe'):
        first, second = (train_tokenizer(texts, 60, kind) for _ in range(2))
        assert first.get_vocab() == second.get_vocab() and first.pad_token_id == 0
        assert len(first) <= 60
        assert first('unheard of').input_ids == second('unheard of').input_ids
    with pytest.raises(UserError, match="'wordpiece' or 'bpe'"):
        train_tokenizer(texts, kind='words')
    with pytest.raises(UserError, match='vocab_size must be above 5'):
        train_tokenizer(texts, 3)


def test_a_corpus_or_a_saved_tokenizer_serves_several_tables(table):
    (table / 'dev.tsv').write_text('first\tclass\nfilm zzz\tyes\n')
    train = dataset(table)
    shared = dict(corpus='train.tsv')
    dev = dataset(table, path='dev.tsv', tokenizer=shared)
    assert dev.tokenizer.get_vocab() == train.tokenizer.get_vocab()
    train.tokenizer.save_pretrained(table / 'tokenizer')
    other = dataset(table, path='dev.tsv', tokenizer=dict(pretrained=str(table / 'tokenizer')))
    assert other.encoded == dev.encoded
    with pytest.raises(UserError, match='no tokenizer can be read'):
        load_tokenizer(table / 'nowhere')


def test_batches_are_as_wide_as_their_longest_text(table):
    data = dataset(table)
    batch = pad_collate([data[0], data[1]])
    inputs = batch['inputs']
    lengths = [len(data[n]['inputs']['input_ids']) for n in (0, 1)]
    assert inputs['input_ids'].shape == (2, max(lengths))
    assert inputs['attention_mask'].sum(1).tolist() == lengths
    assert (inputs['input_ids'][inputs['attention_mask'] == 0] == 0).all()
    assert torch.equal(batch['labels'], torch.tensor([1, 0]))


def test_classes_are_brought_into_the_order_of_the_data():
    theirs = dict(CONTRADICTION=0, NEUTRAL=1, ENTAILMENT=2)
    order = label_order(theirs, ['entailment', 'neutral', 'contradiction'])
    logits = torch.tensor([[0.1, 0.2, 0.7]])
    assert order == [2, 1, 0] and torch.equal(logits[:, order], torch.tensor([[0.7, 0.2, 0.1]]))
    assert label_order(dict(LABEL_0=0, LABEL_1=1), ['no', 'yes']) == [0, 1]
    with pytest.raises(UserError, match='2 classes, the data 3'):
        label_order(dict(no=0, yes=1), ['a', 'b', 'c'])
    with pytest.raises(UserError, match="class 'maybe' of the data is none of the network"):
        label_order(dict(no=0, yes=1), ['no', 'maybe'])
