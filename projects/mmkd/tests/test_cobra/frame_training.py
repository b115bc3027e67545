"""A short training of a tiny student on ten frames, with everything that draws."""

from mmengine.evaluator import BaseMetric
from tiny_frames import VOCAB, pairs, word_tokenizer

import mmkd.language.length_groups
import mmkd.language.seq2seq_batches
import mmkd.language.seq2seq_student
import mmkd.loops.accumulating
import mmkd.loops.frames  # noqa: F401
from mmkd.cobra.tables.table import write_frames
from mmkd.registry import METRICS

STEPS = 9
"""Three epochs of ten frames, in steps of four."""


@METRICS.register_module(force=True)
class WrittenLengths(BaseMetric):
    """Lengths of what was written, by frame."""

    default_prefix = 'written'

    def process(self, data_batch, data_samples):
        self.results += [(row['frame'].frame_id, len(row['text'])) for row in data_samples]

    def compute_metrics(self, results):
        return dict(count=len(results), sum=sum(size for _, size in results), ids=len(set(results)))


def write_source(folder):
    """Writes frames and a tokenizer; returns the folder."""
    write_frames(folder / 'frames.parquet', pairs(5))
    word_tokenizer().save_pretrained(folder / 'words')
    return folder


def config(source, work_dir, batch=4, accumulate=2, dropout=0.1, **optimizer):
    """A training with everything that draws: dropout, dropped contexts, groups."""
    data = dict(
        type='mmkd.CobraFrameDataset',
        frames=str(source / 'frames.parquet'),
        template='tokens',
        tokenizer=str(source / 'words'),
    )
    network = dict(
        model_type='t5', vocab_size=VOCAB, d_model=16, d_kv=4, d_ff=16, num_layers=1,
        num_heads=2, dropout_rate=dropout,
    )  # fmt: skip
    return dict(
        default_scope='mmengine',
        work_dir=str(work_dir),
        model=dict(
            type='mmkd.Seq2SeqStudent', language_model=dict(config=network), label_smoothing=0.1
        ),
        train_dataloader=dict(
            batch_size=batch,
            num_workers=0,
            dataset=dict(
                data, context_dropout=0.5, slot_weights=dict(offensiveness=3.0, intent=0.5)
            ),
            sampler=dict(type='mmkd.LengthGroupedSampler', batch_size=batch, window=2),
            collate_fn=dict(type='mmkd.seq2seq_collate'),
        ),
        val_dataloader=dict(
            batch_size=3,
            num_workers=0,
            dataset=data,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        val_evaluator=dict(type='mmkd.WrittenLengths'),
        train_cfg=dict(type='mmkd.AccumulatingEpochLoop', max_epochs=3, accumulate=accumulate),
        val_cfg=dict(type='mmkd.FrameLoop', max_new_tokens=6, subset=7),
        optim_wrapper=dict(
            optimizer=optimizer or dict(type='AdamW', lr=1e-2, weight_decay=0.1),
            clip_grad=dict(max_norm=1.0),
        ),
        param_scheduler=[
            dict(type='CosineAnnealingLR', by_epoch=True, T_max=3, convert_to_iter_based=True)
        ],
        default_hooks=dict(
            checkpoint=dict(type='mmdistill.SafeCheckpointHook', interval=1, by_epoch=False),
            logger=dict(type='LoggerHook', interval=1),
        ),
        randomness=dict(seed=3),
        visualizer=dict(type='Visualizer', vis_backends=[]),
        log_level='WARNING',
        load_from=None,
        resume=False,
    )
