"""How a recipe is trained: the settings every recipe shares. Plain data; knows no model and no data."""

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.runtime.errors import InvalidInput

P = TypeVar("P", bound="Plan")

MOST_NOISE = 1e4
PRIVATE = ("cnn-mnist", "lenet-rgb", "mlp-mnist")


class Plan(BaseModel):
    """Frozen; an unknown key is an error. Recipes subclass it with their own defaults and knobs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(0, ge=0, lt=2**32, description="decides initial weights, order of the data and dropout")
    epochs: int = Field(10, ge=1, description="most passes over the training rows")
    batch_size: int = Field(64, ge=1, description="rows a step, over all processes")
    learning_rate: float = Field(1e-3, gt=0, description="peak step size of the optimiser")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="adam, adamw or sgd with momentum")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(0.0, ge=0, description="decoupled for adamw, L2 otherwise")
    clip_norm: float = Field(0.0, ge=0, description="largest gradient norm; 0 = unlimited")
    schedule: Literal["constant", "cosine", "linear"] = Field(
        "constant", description="of the step size after warm-up"
    )
    warmup_steps: int = Field(0, ge=0, description="steps over which the step size grows from 0")
    patience: int = Field(
        0, ge=0, description="epochs without a better validation score before stopping; 0 = never"
    )
    max_seconds: float = Field(0, ge=0, description="stop after this much training time; 0 = no limit")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="bf16 = mixed precision by autocast; pays on CUDA and for wide layers on CPUs that multiply "
        "in bf16 (AMX, AVX512-BF16), is slower elsewhere; weights and validation stay fp32",
    )
    checkpoint_s: float = Field(30, gt=0, description="seconds between checkpoints")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="torch device: cpu, cuda, cuda:1 …")
    threads: int = Field(
        0, ge=0, le=256, description="torch threads; 0 = one a core, under torchrun what it gives each"
    )


class PrivatePlan(Plan):
    """A recipe that can be trained with differential privacy (DP-SGD) subclasses it."""

    dp_noise: float = Field(0.0, ge=0, le=MOST_NOISE, description="DP-SGD: noise multiplier; 0 = not private")
    dp_epsilon: float = Field(
        0.0, ge=0, le=1e6, description="DP-SGD: largest ε at the end, instead of dp_noise; 0 = off"
    )
    dp_delta: float = Field(1e-5, gt=0, lt=1, description="DP-SGD: δ; less than one of the rows")
    dp_clip: float = Field(1.0, gt=0, description="DP-SGD: largest gradient norm of one row")

    @property
    def is_private(self) -> bool:
        """Whether it is asked for."""
        return self.dp_noise > 0 or self.dp_epsilon > 0


def plan_of(cls: type[P], chosen: dict[str, Any]) -> P:
    """The recipe's plan with `chosen` keys set. InvalidInput names the key, the wanted type and what exists."""
    try:
        made = cls(**chosen)
        _check_inherited(made)
        return made
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden" and key in PrivatePlan.model_fields:
            raise InvalidInput(key, f"private training is for {', '.join(PRIVATE)}") from None
        if first["type"] == "extra_forbidden":
            raise InvalidInput(key, f"unknown setting; known: {', '.join(cls.model_fields)}") from None
        raise InvalidInput(key, f"{first['input']!r}: {first['msg']}") from None


def _check_inherited(made: Plan) -> None:
    """A recipe that gives a setting another default drops the limits it inherits: each base checks its own."""
    for base in type(made).__mro__[1:]:
        if issubclass(base, Plan):
            base(**{key: getattr(made, key) for key in base.model_fields})
