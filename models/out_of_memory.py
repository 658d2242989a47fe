"""Is memory what failed, in whatever words torch and the libraries below it say so?"""

from __future__ import annotations

import torch

FULL = (  # what torch says where it has no class for it
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    # cuDNN and cuBLAS that find no room for their own buffers; of convolutions torch swallows what was really wrong
    "unable to find an engine",
    "_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the computer had no memory left; some devices of torch have no class for that."""
    # By the name that the class has in torch 2.4 too.
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or any(words in str(error) for words in FULL)
