"""t5panel: a control panel for training T5 models on one box with a few GPUs."""

__version__ = "0.1.0"
