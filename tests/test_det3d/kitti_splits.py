"""Info files with boxes all around a LiDAR, and model outputs for them."""

import pickle

import numpy as np
import torch
from mmdet3d.structures import Box3DMode, Det3DDataSample, LiDARInstance3DBoxes
from mmengine.structures import InstanceData

from mmdistill.det3d.kitti_predictions import prediction_anno

NUM = 40
CLASSES = ('Pedestrian', 'Cyclist', 'Car')
CATEGORIES = {'Pedestrian': 0, 'Cyclist': 1, 'Car': 2, 'Van': 3, 'DontCare': -1}
# Axes of KITTI's rig: the camera looks along the LiDAR's x, with its x to the right.
LIDAR2CAM = np.array([[0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1.0]])
CAM2IMG = np.array(
    [[721.5, 0, 609.6, 44.9], [0, 721.5, 172.9, 0.2], [0, 0, 1, 0.003], [0, 0, 0, 1]]
)
SIZES = np.array([[0.8, 0.6, 1.7], [1.8, 0.6, 1.7], [3.9, 1.6, 1.5]])


def lidar_boxes(rng, num, spread=1.0):
    """Boxes on the ground ahead (``spread`` 1) or all around (2), with labels."""
    labels = rng.integers(0, 3, num)
    boxes = np.zeros((num, 7))
    boxes[:, 0] = rng.uniform(6 if spread == 1 else -40, 45, num)
    boxes[:, 1] = rng.uniform(-0.6, 0.6, num) * np.abs(boxes[:, 0]) * spread
    boxes[:, 2] = -1.7
    boxes[:, 3:6] = SIZES[labels] * rng.uniform(0.9, 1.1, (num, 1))
    boxes[:, 6] = rng.uniform(-8, 8, num)
    return torch.tensor(boxes, dtype=torch.float32), torch.tensor(labels)


def view():
    """The images entry of an info."""
    return {
        'CAM2': {
            'height': 375,
            'width': 1242,
            'lidar2cam': LIDAR2CAM.tolist(),
            'cam2img': CAM2IMG.tolist(),
        }
    }


def info_of(number, boxes, labels):
    """A frame of an info file whose labels are these LiDAR boxes, where the image shows them."""
    info = {
        'sample_idx': number,
        'images': view(),
        'lidar_points': {'lidar_path': f'{number:06d}.bin'},
        'instances': [],
    }
    camera = LiDARInstance3DBoxes(boxes).convert_to(Box3DMode.CAM, LIDAR2CAM.astype(np.float32))
    prediction = {
        'bboxes_3d': LiDARInstance3DBoxes(boxes),
        'scores_3d': torch.arange(len(boxes)),
        'labels_3d': labels,
    }
    anno = prediction_anno(prediction, info, CLASSES)
    for n, i in enumerate(anno['score'].astype(int)):
        info['instances'].append(
            {
                'bbox_label': int(labels[i]),
                'bbox_label_3d': int(labels[i]),
                'bbox': anno['bbox'][n].tolist(),
                'bbox_3d': camera.tensor[i].tolist(),
                'alpha': float(anno['alpha'][n]),
                'truncated': 0.0,
                'occluded': 0,
                'score': 0.0,
            }
        )
    return info


def sample_of(index, boxes, labels, scores, number=None, boxes_2d=None):
    """A model's output for a frame, as the evaluator hands it to metrics."""
    sample = Det3DDataSample(metainfo={'sample_idx': index})
    if number is not None:
        sample.set_metainfo({'lidar_path': f'/data/velodyne_reduced/{number:06d}.bin'})
    sample.pred_instances_3d = InstanceData(
        bboxes_3d=LiDARInstance3DBoxes(boxes), labels_3d=labels, scores_3d=scores
    )
    sample.pred_instances = InstanceData()
    if boxes_2d is not None:
        sample.pred_instances = InstanceData(bboxes=boxes_2d, labels=labels, scores=scores)
    return sample


def write_infos(path, infos):
    """Writes an info file."""
    content = {'metainfo': {'categories': CATEGORIES}, 'data_list': infos}
    path.write_bytes(pickle.dumps(content))
    return str(path)


def draw_split(seed=0):
    """Infos of NUM frames (ids 10, 13, ..) and the LiDAR boxes and labels in each."""
    rng = np.random.default_rng(seed)
    boxes = [lidar_boxes(rng, 12) for _ in range(NUM)]
    return [info_of(10 + 3 * i, *pair) for i, pair in enumerate(boxes)], boxes
