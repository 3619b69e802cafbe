"""A training step on meta tensors, told as a CUDA card's allocator would hear it: the source of the memory tables."""
