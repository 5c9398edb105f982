from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn import functional as F


def gathered(tensor: Tensor) -> Tensor:
    """Concatenate the tensors of all processes, (B, …) each, in the order of their ranks: (sum of B, …).

    The gradient comes back to each process's own rows, summed over the processes; DDP divides it by their number. Where
    one process trains alone, it is the tensor itself.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return tensor
    from torch.distributed.nn.functional import all_reduce  # which not every build of PyTorch has

    sizes = torch.zeros(distributed.get_world_size(), dtype=torch.int64, device=tensor.device)
    sizes[distributed.get_rank()] = len(tensor)
    distributed.all_reduce(sizes)  # an epoch's last batch needn't part evenly
    before, after = int(sizes[: distributed.get_rank()].sum()), int(sizes[distributed.get_rank() + 1 :].sum())
    return all_reduce(F.pad(tensor, (0, 0) * (tensor.dim() - 1) + (before, after)))
