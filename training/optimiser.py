"""Optimisers and the schedules of their step size. Knows parameters, not what they belong to."""

import math

import torch
from torch import nn

from training.plan import Plan


def optimizer_of(model: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015): m ← β₁m+(1−β₁)g, v ← β₂v+(1−β₂)g², θ ← θ − η·m̂/(√v̂+ε); AdamW decouples the decay
    (Loshchilov & Hutter 2019); SGD with momentum (Polyak 1964): u ← μu+g, θ ← θ − ηu."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(weights, plan.learning_rate, plan.momentum, weight_decay=plan.weight_decay)
    kind = torch.optim.AdamW if plan.optimizer == "adamw" else torch.optim.Adam
    return kind(weights, plan.learning_rate, weight_decay=plan.weight_decay)


def schedule_of(optimizer: torch.optim.Optimizer, plan: Plan, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then constant, linear to 0, or half a cosine to 0 (Loshchilov & Hutter 2017)."""

    def factor(step: int) -> float:
        if step < plan.warmup_steps:
            return (step + 1) / plan.warmup_steps
        done = (step - plan.warmup_steps) / max(1, steps - plan.warmup_steps)
        if plan.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return max(0.0, 1 - done) if plan.schedule == "linear" else 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
