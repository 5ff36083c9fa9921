"""Kernels: the loops that neither torch nor NumPy can fuse, in numba and Triton, with their gradients. They know no loss and no method."""
