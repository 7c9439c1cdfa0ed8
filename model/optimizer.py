"""Adam and AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019) on torch's fused kernel.

torch.optim's classes give the same numbers, but the first of them in a process imports the compiler, which takes longer
than an epoch of a small network; and a list of tensors is all that a checkpoint wants.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

from depth_loss_sweep.model.settings import TrainSettings

EPSILON = 1e-8
STATE = ("step", "exp_avg", "exp_avg_sq")


class Adam:
    """Steps the parameters it was given, with moments in their memory format."""

    def __init__(self, parameters: Iterable[Tensor], settings: TrainSettings) -> None:
        self.parameters = list(parameters)
        self.settings = settings
        self.state = {
            "step": [torch.zeros((), device=parameter.device) for parameter in self.parameters],
            "exp_avg": [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters],
            "exp_avg_sq": [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters],
        }

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @property
    def gradients(self) -> list[Tensor]:
        """What `backward` left, in its parameter's memory format each, as the fused kernel needs it."""
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update by the gradients; nothing where there are no parameters."""
        if not self.parameters:
            return
        adam(
            self.parameters,
            self.gradients,
            self.state["exp_avg"],
            self.state["exp_avg_sq"],
            [],
            self.state["step"],
            fused=True,  # 1.6 to 4 times faster than the other two forms, on one CPU thread too
            decoupled_weight_decay=self.settings.optimizer == "adamw",
            amsgrad=False,
            beta1=self.settings.beta1,
            beta2=self.settings.beta2,
            lr=learning_rate,
            weight_decay=self.settings.weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Tensor]:
        """The state as "<parameter number>/<state name>"."""
        return {f"{i}/{name}": tensor for name, tensors in self.state.items() for i, tensor in enumerate(tensors)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up the state of `state_dict`, each tensor in its parameter's memory format. KeyError if one is missing."""
        for place, tensor in self.state_dict().items():
            tensor.copy_(state[place])
