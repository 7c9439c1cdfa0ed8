"""Images and depth in, tensors out: sources, the memory-mapped cache, splits, augmentation. Imports nothing of ours.

Importing this package, `data.settings` or `data.errors` imports neither torch nor OpenCV.
"""
