"""Checkpoints that survive a kill at any instant and resume exactly."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import CheckpointHook

from mmdistill.core.checkpoint_content import checkpoint_content
from mmdistill.core.checkpoint_folder import clean_temporaries, next_run, write_pointer
from mmdistill.core.checkpoint_io import save_checkpoint, seam
from mmdistill.core.compat import allow_mmengine_globals
from mmdistill.core.errors import UserError, did_you_mean
from mmdistill.core.rank_state import gather_rank_states
from mmdistill.core.rank_vote import RankVote
from mmdistill.core.resume import choose_checkpoint, data_identity, restore_place
from mmdistill.core.rng import rng_state, set_rng_state
from mmdistill.registry import HOOKS

KEY = 'mmdistill'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` without its gaps; takes its place in ``default_hooks``.

    * A save writes a temporary, syncs it, renames it, then moves the pointer
      ``last_checkpoint``, then prunes: at any instant a whole checkpoint exists.
    * Each file holds its sha256. ``resume=True`` takes the newest whole one, sets damaged ones
      aside and says so; a named file that is damaged is refused.
    * The generators of every rank, differing buffers, accumulated gradients, the place in
      the data and a validation that is due are saved and restored.
    * ``touch WORK_DIR/save_now`` saves at the next iteration.
    * Validation leaves the training's generators as they were.

    Args:
        interval: Epochs or iterations between saves; -1 for none.
        by_epoch: Count epochs instead of iterations.
        save_optimizer: Save the optimizer; without it a resume is not exact.
        save_param_scheduler: Save the schedulers; without them a resume is not exact.
        out_dir: Root folder; the checkpoints go to ``out_dir/<name of the work dir>``.
            None takes the work dir. Must be a local (mounted) folder.
        max_keep_ckpts: Checkpoints to keep beside the best; -1 keeps all.
        save_last: Save at the end whatever the interval.
        save_best: Metric key(s) as the validation returns them, such as
            ``student/Kitti/mAP40_3D_moderate``, or ``auto`` for the first.
        rule: ``greater`` or ``less`` for each key, None to infer it from the key.
        greater_keys: Parts of keys that mean greater is better.
        less_keys: Parts of keys that mean less is better.
        filename_tmpl: File name with one ``{}``; ``iter_{}.pth`` or ``epoch_{}.pth``.
        published_keys: See mmengine.
        save_begin: First epoch or iteration that may be saved.
        save_now: Name of the file in the work dir that asks for a save.
        vote_interval: Iterations between looks at ``save_now`` and at signals; the ranks
            exchange three bytes each time.
    """

    _default_greater_keys = [*CheckpointHook._default_greater_keys, 'AP', 'IoU', 'PCK', 'Dice']

    def __init__(
        self,
        interval: int = -1,
        by_epoch: bool = True,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        out_dir: str | Path | None = None,
        max_keep_ckpts: int = -1,
        save_last: bool = True,
        save_best: str | list[str] | None = None,
        rule: str | list[str] | None = None,
        greater_keys: Sequence[str] | None = None,
        less_keys: Sequence[str] | None = None,
        filename_tmpl: str | None = None,
        published_keys: str | list[str] | None = None,
        save_begin: int = 0,
        save_now: str = 'save_now',
        vote_interval: int = 1,
    ) -> None:
        super().__init__(
            interval=interval,
            by_epoch=by_epoch,
            save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler,
            out_dir=out_dir,
            max_keep_ckpts=max_keep_ckpts,
            save_last=save_last,
            save_best=save_best,
            rule=rule,
            greater_keys=greater_keys,
            less_keys=less_keys,
            filename_tmpl=filename_tmpl,
            published_keys=published_keys,
            save_begin=save_begin,
        )
        if self.filename_tmpl.count('{}') != 1:
            raise UserError(f'filename_tmpl={filename_tmpl!r} must hold exactly one {{}}')
        if vote_interval < 1:
            raise UserError(f'vote_interval must be at least 1, got {vote_interval}')
        self.save_now, self.vote_interval = save_now, vote_interval
        self.stop_requested: Callable[[], bool] = lambda: False
        self._folder: Path | None = None
        self._run = 0
        self.saved_iter = -1
        self._training = False
        self._metrics_known = False
        self._resumed: dict[str, Any] | None = None
        self._pause: dict[str, Any] | None = None
        self._vote: RankVote | None = None

    # ---------------------------------------------------------------- resume
    def before_run(self, runner) -> None:
        """Decides which file the run goes on from, before the runner does.

        ``resume=True`` without ``load_from`` takes the newest valid checkpoint and ``True`` with
        ``load_from`` that file, as in mmengine. ``resume='auto'`` takes the newest valid one, and
        in its absence starts anew from the weights in ``load_from``.
        """
        allow_mmengine_globals()
        self._folder = self._checkpoint_folder(runner)
        # the runner offers no public way to choose the file between its two steps
        if runner._resume:
            found = choose_checkpoint(runner, self._folder, self.filename_tmpl)
            runner._resume = found is not None
            runner._load_from = found or runner._load_from

    def _checkpoint_folder(self, runner) -> Path:
        """Work dir, or ``out_dir/<name of the work dir>``."""
        if self.out_dir is None:
            return Path(runner.work_dir)
        if '://' in str(self.out_dir):
            raise UserError(
                f'SafeCheckpointHook: out_dir={self.out_dir!r} is no local folder; mount it, or '
                'use CheckpointHook'
            )
        return Path(self.out_dir) / Path(runner.work_dir).name

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Takes our part of a checkpoint that is resumed."""
        if runner._resume:
            self._resumed = checkpoint.get(KEY)
            if self._resumed is None:
                runner.logger.warning(
                    'The checkpoint was not written by SafeCheckpointHook: no exact resume'
                )

    def before_train(self, runner) -> None:
        """Cleans up after dead writers, and restores what the runner did not."""
        self.out_dir = str(self._folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._training, self._vote = True, RankVote()
        if runner.rank == 0:
            for name in clean_temporaries(self._folder):
                runner.logger.info(f'Removed {name}, left by a save that was cut off')
            self._run = next_run(self._folder, self.filename_tmpl)
        runner.logger.info(f'Checkpoints will be saved to {self.out_dir}.')
        info = runner.message_hub.runtime_info
        if self.save_best is not None:
            if len(self.key_indicators) == 1:
                self.best_ckpt_path = info.get('best_ckpt')
            else:
                self.best_ckpt_path_dict = {
                    key: info.get(f'best_ckpt_{key}') for key in self.key_indicators
                }
        self._prune(runner)
        if self._resumed is None:
            return
        if Path(runner._load_from).parent.resolve() == self._folder.resolve():
            self.last_ckpt, self.saved_iter = runner._load_from, runner.iter
        restore_place(runner, self._resumed)
        if not hasattr(runner.train_loop, 'val_pending'):
            self.restore_generators(runner)

    def restore_generators(self, runner) -> None:
        """Restores the random number generators; our train loops call it at the right place."""
        if self._resumed is not None and len(self._resumed['ranks']) == runner.world_size:
            set_rng_state(self._resumed['ranks'][runner.rank]['rng'])
        self._resumed = None

    # ------------------------------------------------------------------ save
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Saves when it is time, when asked to by the file, or before stopping."""
        done = runner.iter + 1
        due = not self.by_epoch and (
            self.every_n_train_iters(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_iter(runner))
        )
        stop = asked = False
        if done % self.vote_interval == 0:
            stop, asked = self._ask(runner)
        if due or stop or asked:
            self._save(runner, self._name(done), done, runner.epoch)
        if asked and runner.rank == 0:
            Path(runner.work_dir, self.save_now).unlink(missing_ok=True)
        if stop:
            runner.call_hook('after_stop_save')

    def _name(self, iter: int) -> str:
        """File name of a save within an epoch, or of any save when iterations count."""
        return ('iter_{}.pth' if self.by_epoch else self.filename_tmpl).format(iter)

    def _ask(self, runner) -> tuple[bool, ...]:
        """Asks all ranks: is a signal here, is the file ``save_now`` there."""
        wanted = runner.rank == 0 and os.path.exists(Path(runner.work_dir, self.save_now))
        return self._vote.any(self.stop_requested(), wanted)

    def wait(self) -> None:
        """Returns when every rank has come here."""
        self._vote.wait()

    def after_train_epoch(self, runner) -> None:
        """Saves at the end of an epoch."""
        if self.by_epoch and (
            self.every_n_epochs(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_epoch(runner))
        ):
            done = runner.epoch + 1
            self._save(runner, self.filename_tmpl.format(done), runner.iter, done)

    def _save(self, runner, name: str, iter: int, epoch: int) -> None:
        """Publishes a checkpoint to resume from; every rank has to come here."""
        path = Path(self.out_dir, name)
        runner.logger.info(f'Saving checkpoint {name} at {iter} iterations')
        loop, hub = runner.train_loop, runner.message_hub
        ranks = gather_rank_states(runner, generators=self._pause)
        kept = [other for other in hub.runtime_info.get('kept_ckpts', []) if other != name]
        hub.update_info('kept_ckpts', [*kept, name])
        self.last_ckpt, self.saved_iter = str(path), iter
        hub.update_info('last_ckpt', self.last_ckpt)
        if runner.rank == 0:
            ours = dict(
                version=1,
                ranks=ranks,
                data=dict(data_identity(runner), batches=iter),
                val_due=bool(getattr(loop, 'val_pending', False)) and not self._metrics_known,
            )
            self._publish(runner, path, iter, epoch, {KEY: ours})
            write_pointer(runner.work_dir, path)
        self._prune(runner)

    def _publish(
        self, runner, path: Path, iter: int, epoch: int, extra: dict[str, Any] | None
    ) -> None:
        """Writes a checkpoint on rank 0; without ``extra`` the weights only."""
        full = extra is not None
        content = checkpoint_content(
            runner,
            iter,
            epoch,
            with_optimizer=full and self.save_optimizer,
            with_schedulers=full and self.save_param_scheduler,
            extra=extra,
        )
        save_checkpoint(content, path, self._run, iter, epoch, resumable=full)

    def _prune(self, runner) -> None:
        """Removes the oldest checkpoints of this training beyond ``max_keep_ckpts``."""
        hub = runner.message_hub
        kept = hub.runtime_info.get('kept_ckpts', [])
        if self.max_keep_ckpts <= 0 or len(kept) <= self.max_keep_ckpts:
            return
        if runner.rank == 0:
            for name in kept[: -self.max_keep_ckpts]:
                path = Path(self.out_dir, name)
                seam.observer('prune', path, 0)
                path.unlink(missing_ok=True)
        hub.update_info('kept_ckpts', kept[-self.max_keep_ckpts :])

    # ------------------------------------------------------------ validation
    def before_val(self, runner) -> None:
        """Remembers the training's generators."""
        if self._training:
            self._pause = rng_state()
            length = len(runner.val_loop.dataloader)
            self._lockstep = self._vote.smallest(length)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        """Stops within a validation, at a batch that every rank has."""
        if not self._training or batch_idx >= self._lockstep or batch_idx % self.vote_interval:
            return
        (stop,) = self._vote.any(self.stop_requested())
        if stop:
            if self.saved_iter != runner.iter:
                self._save(runner, self._name(runner.iter), runner.iter, runner.epoch)
            runner.call_hook('after_stop_save')

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        """Saves the best checkpoint."""
        self._metrics_known = True
        if metrics:
            self._save_best_checkpoint(runner, metrics)

    def after_val(self, runner) -> None:
        """Puts the training's generators back."""
        self._metrics_known = False
        if self._pause is not None:
            set_rng_state(self._pause)
            self._pause = None

    def after_train(self, runner) -> None:
        """Publishes, see mmengine."""
        self._training = False
        super().after_train(runner)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        """Saves new bests first and removes the ones they replace afterwards."""
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        single, outdated = len(self.key_indicators) == 1, []
        hub, stem = runner.message_hub, self.filename_tmpl
        stem = stem.format(runner.epoch if self.by_epoch else runner.iter)
        for key, rule in zip(self.key_indicators, self.rules, strict=True):
            if key not in metrics:
                raise UserError(
                    f'save_best={key!r} is not among the metrics{did_you_mean(key, metrics)}: '
                    + ', '.join(sorted(metrics))
                )
            suffix = '' if single else f'_{key}'
            best = hub.runtime_info.get(f'best_score{suffix}', self.init_value_map[rule])
            if metrics[key] is None or not self.is_better_than[key](metrics[key], best):
                continue
            name = f'best_{key}_{stem}'.replace('/', '_')
            outdated.append((hub.runtime_info.get(f'best_ckpt{suffix}'), name))
            path = str(Path(self.out_dir, name))
            hub.update_info(f'best_score{suffix}', float(metrics[key]))
            hub.update_info(f'best_ckpt{suffix}', path)
            if single:
                self.best_ckpt_path = path
            else:
                self.best_ckpt_path_dict[key] = path
            if runner.rank == 0:
                self._publish(runner, Path(path), runner.iter, runner.epoch, None)
            runner.logger.info(f'Best so far: {key} = {metrics[key]:0.4f}, saved as {name}')
        if not outdated:
            return
        if self.saved_iter == runner.iter and self._training:  # now knows its own metrics
            self._save(runner, Path(self.last_ckpt).name, runner.iter, runner.epoch)
        if runner.rank == 0:
            for old, name in outdated:
                if old is not None and Path(old).name != name:
                    Path(old).unlink(missing_ok=True)
