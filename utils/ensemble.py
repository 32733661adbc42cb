"""Networks of one shape, trained side by side as one tensor computation.

Ten small networks cost hardly more than three so: most of a small step's time goes into calling an operation, not into
its arithmetic. Nothing about any one of them changes but its last digit: no value of one network meets one of another.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from utils.networks import Dropout, Residual, SecondHalf, Twice, preserve_state
from utils.norms import DyT, LpNorm, Noise, Noises, PartialNorm, SkipInit

Step = Callable[[Tensor], Tensor]  # one module of all networks: (S, N, C) -> (S, N, C)
NORMS = (nn.modules.batchnorm._BatchNorm, LpNorm, PartialNorm)
BY_EXAMPLE = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, DyT, SkipInit)  # parameters, but no memory
SIMPLE = (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.Identity, Twice, SecondHalf)  # the same for one network and for many
KNOWN = (*NORMS, *BY_EXAMPLE, *SIMPLE, nn.Linear, Noise, Dropout, nn.Sequential, Residual)


class Ensemble:
    """S networks of one shape, their weights slices of common tensors.

    `nets` are the networks themselves. Their parameters, gradients and running statistics become views of what is
    trained, so that you can look into each as if it were alone. `together` tells whether they run as one computation;
    convolutional networks run one after another.

    >>> from utils.networks import mlp
    >>> nets = [mlp([4, 8, 3], norm="bn") for _ in range(5)]
    >>> x = torch.rand(5, 6, 4)                                  # a batch for each, (S, N, inputs)
    >>> alone = torch.stack([net(batch) for net, batch in zip(nets, x)])
    >>> both = Ensemble(nets).forward(x)                         # (S, N, outputs)
    >>> torch.allclose(both, alone, atol=1e-6)
    True

    Raises ValueError where the networks differ in their modules or shapes.
    """

    def __init__(self, nets: Sequence[nn.Sequential]):
        self.nets = list(nets)
        shapes = [[(type(m), *(p.shape for p in m.parameters())) for m in net] for net in self.nets]
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"nets: expected networks of one shape, got {len({str(s) for s in shapes})} shapes")
        self.together = all(isinstance(m, KNOWN) for m in self.nets[0].modules())
        self._wide: list[nn.Module] = []  # the norms' layers of S * C units
        self._share_parameters()
        self._run = self._step(self.nets) if self.together else None

    def _share_parameters(self) -> None:
        """Put all parameters into one vector, each network's own part of it, and all gradients into another."""
        each = [list(net.parameters()) for net in self.nets]
        many = sum(p.numel() for parameters in each for p in parameters)
        self.flat, self.gradient = torch.empty(many), torch.zeros(many)
        self.leaves, start = {}, 0
        for parameters in zip(*each, strict=True):
            shape, size = (len(parameters), *parameters[0].shape), parameters[0].numel()
            part = slice(start, start := start + len(parameters) * size)
            values, gradients = self.flat[part].view(shape), self.gradient[part].view(shape)
            for i, parameter in enumerate(parameters):
                values[i] = parameter.data
                parameter.data, parameter.grad = values[i], gradients[i]
            leaf = values.detach().requires_grad_()
            leaf.grad = gradients
            self.leaves[parameters[0]] = leaf

    def _step(self, modules: Sequence[nn.Module]) -> Step:
        """One step for the modules that stand at one place of every network."""
        module = modules[0]
        if isinstance(module, nn.Sequential):
            return self._in_turn(modules)
        if isinstance(module, Residual):
            body = self._in_turn([each.body for each in modules])
            return lambda x: x + body(x)
        if isinstance(module, nn.Linear):
            weight = self.leaves[module.weight].transpose(1, 2)
            if module.bias is None:
                return lambda x: torch.bmm(x, weight)
            bias = self.leaves[module.bias].unsqueeze(1)
            return lambda x: torch.baddbmm(bias, x, weight)
        if isinstance(module, NORMS):
            return self._norm(modules)
        if isinstance(module, BY_EXAMPLE):
            leaves = {name: self.leaves[parameter] for name, parameter in module.named_parameters()}
            each = torch.vmap(lambda own, x: functional_call(module, own, x))
            return lambda x: each(leaves, x)
        if isinstance(module, Noise):
            self._wide.append(noises := Noises(modules))
            return noises
        if isinstance(module, Dropout):
            return lambda x: torch.stack([each(part) for each, part in zip(modules, x, strict=True)])
        return module

    def _in_turn(self, sequences: Sequence[nn.Sequential]) -> Step:
        steps = [self._step(modules) for modules in zip(*sequences, strict=True)]

        def run(x: Tensor) -> Tensor:
            for step in steps:
                x = step(x)
            return x

        return run

    def _norm(self, norms: Sequence[nn.Module]) -> Step:
        """One layer for the S * C units of all networks, which the networks' own layers share."""
        wide, units = deepcopy(norms[0]), norms[0].running_mean.numel()
        wide.num_features = len(norms) * units
        for name, parameter in norms[0].named_parameters(recurse=False):
            leaf = self.leaves[parameter]
            own = nn.Parameter(leaf.detach().flatten())
            own.grad = leaf.grad.flatten()
            setattr(wide, name, own)
        for name, buffer in norms[0].named_buffers(recurse=False):
            values = torch.stack([getattr(norm, name) for norm in norms])
            common = values.flatten() if buffer.dim() else buffer
            setattr(wide, name, common)
            for norm, view in zip(
                norms, common.view_as(values) if buffer.dim() else [buffer] * len(norms), strict=True
            ):
                setattr(norm, name, view)
        self._wide.append(wide)
        if hasattr(wide, "noise"):
            wide.noise = Noises([norm.noise for norm in norms])

        def step(x: Tensor) -> Tensor:
            s, n, c = x.shape
            return wide(x.transpose(0, 1).reshape(n, s * c)).view(n, s, c).transpose(0, 1)

        return step

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of every network for its own batch: (S, N, ...) -> (S, N, outputs)."""
        if not self.together:
            return torch.stack([net(batch) for net, batch in zip(self.nets, x, strict=True)])
        return self._run(x)

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Tensor:
        """Return the scores in evaluation mode, which noise and dropout leave alone: as :meth:`forward`."""
        modules = [*self._wide, *self.nets]
        try:
            for module in modules:
                module.eval()
            return self.forward(x)
        finally:
            for module in modules:
                module.train()


class Alone:
    """Networks of which nothing is shared, asked one after another, as an :class:`Ensemble` is asked.

    >>> Alone([nn.Sequential(nn.Linear(4, 3))]).evaluate(torch.rand(1, 6, 4)).shape
    torch.Size([1, 6, 3])
    """

    def __init__(self, nets: Sequence[nn.Sequential]):
        self.nets = list(nets)

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Tensor:
        """Return the scores in evaluation mode: (S, N, ...) -> (S, N, outputs)."""
        scores = []
        for net, batch in zip(self.nets, x, strict=True):
            with preserve_state(net, training=False):
                scores.append(net(batch))
        return torch.stack(scores)
