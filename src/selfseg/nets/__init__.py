"""Networks: ``[B C *S] -> [B K *S]``."""

from selfseg.nets.pixel_cnn import PixelCNN

__all__ = ["PixelCNN"]
