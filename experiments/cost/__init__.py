"""The cost of a training step: time and memory, predicted from shapes and measured on a device."""
