"""Semi-supervised and domain-adaptive semantic segmentation on mmsegmentation."""

__all__: list[str] = []
