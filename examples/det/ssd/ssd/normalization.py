"""Normalization of images, which the ImageNet weights of the backbones require."""

# Mean and standard deviation of ImageNet's RGB values, 0..255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
