"""Which test shows which acceptance fact of HSSDA, and the facts that need the whole method.

The facts, in the words of the method's specification, shortened. Files are those of this
folder, or of ``test_core`` where marked ``core/``; parameters and further tests of the same
law stand beside the named ones.

Shuffle
 1 unshuffle undoes every permutation bit-exactly: test_shuffle_aug::test_unshuffle_undoes_every_permutation_bit_exactly
 1 the identity changes nothing: test_shuffle_aug::test_only_the_identity_changes_nothing
 2 patch numbers: test_shuffle_aug::test_patch_numbers_of_the_official_table
 2 half-open partition: test_shuffle_aug::test_patches_are_half_open_and_partition_the_range
 3 voxelising commutes: test_shuffle_aug::test_shuffling_voxels_equals_voxelising_shuffled_points
 3 with mmcv's layer: test_shuffle_aug::test_host_voxelisation_commutes_with_the_shuffle
 4 points return: test_shuffle_aug::test_points_return_within_four_micrometres
 5 sparse equals dense: test_shuffle_aug::test_sparse_unshuffle_equals_dense_unshuffle
 5 spconv tensors: test_shuffle_aug::test_sparse_tensor_of_spconv
 6 labelled scenes still, permutations equally likely: test_semi_detector::test_labelled_scenes_are_not_shuffled
 6 24 000 draws: test_shuffle_aug::test_all_permutations_are_equally_likely
 7 odd maps are errors: test_shuffle_aug::test_odd_maps_are_an_error_that_names_the_sizes
 7 in training: test_semi_detector::test_odd_maps_are_refused_with_the_place_before_training
 8 pointwise networks: test_shuffle_aug::test_pointwise_networks_do_not_notice_the_shuffle
 8 receptive field, dense: test_shuffle_aug::test_only_cells_near_a_seam_notice_the_shuffle
 8 receptive field, sparse: test_semi_detector::test_sparse_backbone_notices_the_shuffle_only_near_seams
 8 hook equals hand: test_semi_detector::test_pillar_hook_equals_unshuffling_by_hand
 9 boxes stay: test_semi_detector::test_labelled_scenes_are_not_shuffled

Views
10 round trip: test_views::test_boxes_return_to_where_they_were
10 all combinations: test_views::test_each_step_alone_and_together_can_be_undone
10 equal to the host's chain: test_views::test_equals_the_chain_of_host_transforms
11 one similarity per view: test_views::test_a_view_is_one_similarity
11 nothing moves before mining: test_mining::test_pipelines_that_move_points_are_refused
12 perfect teacher: test_hssda::test_a_perfect_teacher_agrees_with_itself
12 a teacher half a metre off: test_hssda::test_a_teacher_that_errs_by_half_a_metre_does_not

Thresholds
13 exact two-means: core/test_two_means::test_optimal_among_all_assignments
13 of trusted scores: test_hssda::test_thresholds_are_the_two_means_of_trusted_scores
13 any order of records: test_hssda::test_refresh_does_not_depend_on_the_order_of_records
13 any order of classes: test_hssda::test_thresholds_do_not_depend_on_the_order_of_classes
13 any number of ranks: test_mining::test_two_ranks_have_the_thresholds_store_and_bank_of_one
14 small pools: test_hssda::test_small_pools_keep_the_defaults
15 untrusted predictions: test_hssda::test_untrusted_predictions_and_bare_frames_change_nothing
16 truncation: test_hssda::test_truncation_cuts_off
17 shift: test_hssda::test_thresholds_shift_with_the_scores

Levels
18 disjoint levels: test_hssda::test_laws_of_the_levels
18 mined boxes: test_hssda::test_mined_boxes_pass_the_low_thresholds_too
19 labelled frames: test_hssda::test_labelled_frames_are_left_alone
20 soft weights: test_hssda::test_laws_of_the_levels
20 by hand: test_hssda::test_levels_of_a_step_by_hand
21 removal: test_hssda::test_removal_empties_low_boxes_and_spares_kept_ones
21 one point is left: test_hssda::test_a_scene_emptied_by_removal_keeps_one_point
22 stored once: test_pseudo_store::test_a_box_is_stored_once
22 kept or evicted: test_hssda::test_stored_boxes_are_kept_or_evicted
23 thresholds of 1: test_hssda::test_thresholds_of_one_leave_the_supervised_loss

Soft weights
24 weight 1 is the stock head: test_soft_heads::test_weight_one_is_the_stock_head_bit_exactly
25 only its own anchors (B1): test_soft_heads::test_a_weight_touches_the_anchors_of_its_box_and_no_other
25 doubling: test_soft_heads::test_doubling_a_weight_doubles_the_terms_of_its_box
25 out of range (B2): test_semi_detector::test_boxes_leaving_the_range_take_their_weight_along
25 no hard box (B3): test_soft_heads::test_background_keeps_its_weight_without_any_hard_box

Teacher
26 ramp: core/test_momentum::test_hssda_ramp
26 one update, parameters and statistics: test_semi_detector::test_ema_moves_parameters_and_bn_statistics
26 a function of the step, so resumable: core/test_momentum::test_keep_is_a_function_of_the_step
27 plain checkpoints: test_semi_detector::test_a_plain_checkpoint_fills_both_branches
27 sparse kernels: test_semi_detector::test_second_loads_a_plain_checkpoint_with_every_sparse_kernel
28 gradients and optimizer: test_semi_detector::test_only_the_student_gets_gradients_and_an_optimizer
28 eval mode: test_semi_detector::test_teacher_is_in_eval_mode_without_gradient_whatever_the_loop_does

Data
29 published splits: test_datasets::test_published_splits_if_there_are_any
29 leak test of the bank: test_bank_feed::test_no_object_of_an_unlabelled_frame_gets_in
29 nothing hidden is read: test_datasets::test_annotations_of_unlabelled_frames_reach_no_pipeline
29 nor trained on: test_hssda::test_hidden_truth_changes_the_statistics_and_nothing_else
30 natural mixing: test_datasets::test_natural_mixing_shows_every_frame_once_per_epoch
30 ratios: test_datasets::test_ratio_mode_gives_exact_counts_and_ends
31 collate: test_datasets::test_batches_of_any_order_collate
32 empty class: test_object_bank::test_an_empty_class_or_bank_pastes_nothing_of_it
32 in files: test_bank_feed::test_a_class_without_objects_is_said_and_survived

Machine
33 no GPU, no spconv: test_acceptance::test_trains_without_cuda_and_without_spconv
34 BEV overlap: test_boxes::test_ious_equal_polygon_clipping
34 collinear edges, half turns: test_boxes::test_degenerate_pairs_have_their_textbook_iou
35 twenty iterations: test_acceptance::test_twenty_iterations_mine_and_learn

CenterPoint
 7 levels that cannot be cut: test_centerpoint_hssda::test_a_level_of_voxels_that_cannot_be_cut_is_refused_before_training
 8 hook: test_centerpoint_hssda::test_pillars_are_unshuffled_at_every_place
10 velocities: test_boxes_with_velocity::test_an_object_arrives_where_its_moved_velocity_says
12 both views: test_boxes_with_velocity::test_both_views_agree_on_the_velocity
19 labelled frames: test_centerpoint_hssda::test_levels_of_a_mixed_batch
21 one point is left: test_centerpoint_hssda::test_a_scene_without_points_still_counts
23 thresholds of 1: test_centerpoint_hssda::test_thresholds_of_one_leave_the_supervised_loss
24 weight 1: test_center_head::test_weight_one_is_the_stock_head_bit_exactly
25 its own cells: test_center_head::test_a_weight_touches_the_cells_of_its_box_and_no_other
25 doubling: test_center_head::test_doubling_a_weight_doubles_the_terms_of_its_box
25 out of range (B2): test_center_head::test_boxes_out_of_range_take_their_weight_along
25 background (B3): test_center_head::test_background_keeps_its_weight_without_any_hard_box
27 plain checkpoints: test_centerpoint_hssda::test_a_plain_checkpoint_fills_both_branches
28 gradients: test_centerpoint_hssda::test_only_the_student_gets_gradients_and_the_teacher_follows
35 twenty iterations: test_centerpoint_hssda::test_twenty_iterations_mine_and_learn

PV-RCNN
 5 all levels: test_unshuffle_levels::test_every_level_and_the_map_equal_their_dense_unshuffle
 7 broken cells: test_unshuffle_levels::test_patches_of_broken_cells_are_refused
 8 receptive field: test_unshuffle_levels::test_only_cells_near_a_seam_notice_the_shuffle
18 levels: test_pv_rcnn_hssda::test_laws_of_the_levels
20 three scores: test_objectness::test_three_scores_judge_a_box
21 before the last suppression: test_objectness::test_boxes_before_nms_reach_the_low_level
23 thresholds of 1: test_pv_rcnn_hssda::test_thresholds_of_one_leave_the_supervised_loss
24 weight 1: test_soft_roi_head::test_weight_one_is_the_stock_head_bit_exactly
24 weight 1, first stage: test_soft_roi_head::test_first_stage_at_weight_one_is_the_stock_head_bit_exactly
25 its own RoIs: test_soft_roi_head::test_a_weight_touches_the_rois_of_its_box_and_no_other
25 doubling: test_soft_roi_head::test_doubling_a_weight_doubles_the_terms_of_its_box
25 background (B3): test_soft_roi_head::test_background_keeps_its_weight_without_any_hard_box
27 plain checkpoints: test_pv_rcnn_hssda::test_a_burn_in_checkpoint_fills_both_branches
35 twenty iterations: test_pv_rcnn_hssda::test_twenty_iterations_of_the_smoke_config_learn
"""  # noqa: E501

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from det3d_scenes import LABELLED
from mining_ranks import train, training
from mmengine.hooks import Hook

from mmdistill.det3d.boxes import bev_iou
from mmdistill.testing import run_gloo, state_differences

HERE = Path(__file__).parent
ENTRY = re.compile(r'^ ?(\d+) .*: (core/)?(test_\w+)::(test_\w+)$')


def test_index_is_complete_and_names_tests_that_exist():
    facts = set()
    for line in __doc__.splitlines():
        if not re.match(r'^ ?\d', line):
            continue
        number, core, file, name = ENTRY.match(line).groups()
        folder = HERE.parent / 'test_core' if core else HERE
        tree = ast.parse((folder / f'{file}.py').read_text())
        known = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in known, line
        facts.add(int(number))
    assert facts == set(range(1, 36))


WITHOUT = """
import sys
sys.modules['spconv'] = sys.modules['spconv.pytorch'] = None
sys.path[:0] = [{folder!r}, {root!r}]
import torch
assert not torch.cuda.is_available()
from det3d_scenes import batch_of, hssda_cfg, initialised
from mmdet3d.utils import register_all_modules
register_all_modules(init_default_scope=True)
from mmdistill.det3d import HSSDA
from mmdistill.det3d.compat import prepare
prepare()
cfg = hssda_cfg()
cfg.pop('type')
model = initialised(HSSDA(**cfg))
losses = model.loss(*batch_of((0, [(9, 2)], True), (1, [(8, -3, 0)], False)))
total = sum(sum(value) for value in losses.values())
total.backward()
assert total.isfinite()
print('trained without', [name for name in ('spconv',) if sys.modules[name] is None])
"""


def test_trains_without_cuda_and_without_spconv():
    """Fact 33; a fresh process, since this one has spconv already."""
    script = WITHOUT.format(folder=str(HERE), root=str(HERE.parents[1]))
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', script],
        env=dict(os.environ, CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1'),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "trained without ['spconv']" in done.stdout


class Watch(Hook):
    """Keeps the losses and the number of labels of each step."""

    def __init__(self):
        self.losses, self.kept = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name: float(value) for name, value in outputs.items()})
        stats = runner.model.pseudo_stats
        self.kept.append(None if stats is None else int(stats.kept.sum()))


@pytest.fixture
def trained(host, marked_kitti, tmp_path):
    """Twenty iterations of HSSDA on the tiny tree, two mining rounds, a perfect teacher."""
    runner = training(marked_kitti, tmp_path, 20, experiment_name='twenty')
    watch = Watch()
    runner.register_hook(watch, priority='VERY_HIGH')
    before = {name: p.clone() for name, p in runner.model.student.named_parameters()}
    runner.train()
    return runner, watch, before


def test_twenty_iterations_mine_and_learn(trained, truth, tmp_path):
    """Fact 35: finite loss, populated thresholds, true high boxes, a teacher that follows."""
    runner, watch, before = trained
    model = runner.model
    assert len(watch.losses) == 20
    assert all(torch.tensor(list(each.values())).isfinite().all() for each in watch.losses)
    first, last = (
        sum(each['loss'] for each in part) for part in (watch.losses[:5], watch.losses[-5:])
    )
    assert last < first
    # thresholds of both scores left their defaults for the class with many objects
    assert float(model.filter.high[0, 2]) < 0.9 and float(model.filter.low[0, 2]) == 0.5
    assert 0 < float(model.filter.low[1, 2]) <= float(model.filter.high[1, 2]) != 0.93
    # high boxes: at least one, all true, all of unlabelled frames; two rounds, on disk too
    assert len(model.store) >= 1 and int(model.store.version) == 2
    assert not set(model.store.frame_ids()) & set(LABELLED)
    for frame in model.store.frame_ids():
        overlap = bev_iou(model.store.frame(frame)[0], truth[frame][0])
        assert float(overlap.amax(1).min()) > 0.99
    assert len(list((tmp_path / 'pseudo_labels').glob('*.npz'))) == 2
    assert model.bank.mined.any() and set(model.bank.frames[~model.bank.mined].tolist()) <= set(
        LABELLED
    )
    # ambiguous and high boxes reached the student
    assert sum(kept for kept in watch.kept if kept is not None) > 20
    # the student moved, the teacher followed the student in every step and stayed frozen
    assert int(model.teacher_steps) == 20 and int(model.skipped_steps) == 0
    moved = [not torch.equal(p, before[n]) for n, p in model.student.named_parameters()]
    followed = [not torch.equal(p, before[n]) for n, p in model.teacher.named_parameters()]
    assert all(moved) and all(followed)
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_two_ranks_train_one_model(marked_kitti, tmp_path):
    """Equal teachers, students, thresholds and stores on both; no frame twice in a round."""
    first, second = run_gloo(train, 2, str(marked_kitti), str(tmp_path), timeout=300)
    differences = state_differences(first['state'], second['state'])
    # running statistics of the student belong to its rank; those of the teacher do not
    running = ('running_mean', 'running_var')
    own = [
        each
        for each in differences
        if each.startswith('student.') and each.split('[')[0].split(':')[0].endswith(running)
    ]
    assert differences == own
    assert first['state']['teacher_steps'] == 4 and first['state']['store.version'] == 2
    assert first['state']['store.frames']
    frames = [a + b for a, b in zip(first['frames'], second['frames'], strict=True)]
    assert all(len(set(each)) == 8 for each in frames[:1])
    # 32 samples of 12 frames: the first 12 and the second 12 hold every frame once
    order = [
        f
        for a, b in zip(first['frames'], second['frames'], strict=True)
        for pair in zip(a, b, strict=True)
        for f in pair
    ]
    assert sorted(order[:12]) == sorted(order[12:24]) == list(range(12))
