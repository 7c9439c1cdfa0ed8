"""The network and how it is judged: U-Net, losses, metrics, training. May import `data`; never `sweep` or `reports`.

Importing this package, `model.names` or `model.settings` does not import torch.
"""
