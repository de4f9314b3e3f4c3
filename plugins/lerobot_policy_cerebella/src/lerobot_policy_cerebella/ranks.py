"""Which of several training processes this is."""

import torch


def rank() -> int:
    """0 for the main process, and where there is only one."""
    is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if is_distributed else 0
