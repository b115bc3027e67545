"""Networks for small images as the literature on knowledge distillation defines them."""
