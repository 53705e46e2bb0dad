"""The activation that follows each batch normalisation of a live model, whatever its code."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode

from regdyn.errors import InvalidParameter

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
"""The layers that are followed, and what derives from them, such as psBN."""

Look = Callable[[str, Tensor], None]
"""Called with the name of a batch normalisation and the activation that follows it."""

ACTIVATIONS = frozenset(
    "celu clamp clamp_min clip elu gelu hardsigmoid hardswish hardtanh leaky_relu log_sigmoid mish "
    "prelu relu relu6 rrelu selu sigmoid silu softplus softsign tanh threshold".split()
)
"""Names of torch's functions that are activations, each also in place (relu_) and as a method."""

_COPIES = frozenset(
    "bfloat16 clone contiguous cpu cuda double flatten float half reshape squeeze to type type_as "
    "unflatten unsqueeze view".split()
)


def batch_norms(model: nn.Module) -> dict[str, BatchNorm]:
    """The batch normalisations of a model by name, in the order in which it has them.

    Names are those of the state dict of the bare model: without the "module." of DataParallel,
    DistributedDataParallel and averaged models, and without the "_orig_mod." of compiled ones.

    Raises
    ------
    InvalidParameter
        For anything but a torch.nn.Module.
    """
    return {
        name: module for name, module in _named_modules(model).items() if isinstance(module, BatchNorm)
    }


def bare(model: nn.Module) -> nn.Module:
    """The model inside of what torch wraps around whole models."""
    while isinstance(model, _WRAPPERS) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, _WRAPPERS) else model._orig_mod  # type: ignore
    return model


def check_followed(model: nn.Module) -> None:
    """Raise InvalidParameter for a model that is or contains a compiled one."""
    for module in model.modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            wanted = "a model that is not compiled where activations are to be followed"
            raise InvalidParameter("model", wanted, type(module).__name__)


@contextmanager
def watch_activations(model: nn.Module, look: Look) -> Iterator[Mapping[str, str | None]]:
    """Within the block, show every forward pass's activations after batch normalisation to `look`.

    The activation of a batch normalisation is the output of the first of `ACTIVATIONS` that gets the
    normalisation's output: as it is, or pooled, under dropout, cast, copied or reshaped with samples
    and units still the first two axes. It makes no difference whether the activation is a module, one
    module for several layers, a function, a method, in place, or part of the normalisation itself.
    What else reads the output (a convolution, a mean) is no activation, and neither is what follows a
    sum: a normalisation whose output goes into a residual sum has no activation of its own. A product
    written by hand such as x * sigmoid(x) counts as its sigmoid.

    `look` is called at once, without gradients, once for each call of the normalisation, in training
    and in evaluation mode. It may read the tensor but must copy what it keeps, since the model may
    change it in place later. What it raises, the model's forward pass raises. The training is the same
    bit for bit: nothing is put into the graph. In the threads of DataParallel calls take turns.

    Not followed are TorchScript, activations that are no function of torch (custom autograd
    functions), and normalisations called outside the forward pass of every module that contains them.

    Parameters
    ----------
    model
        Any model; its forward pass may be entered at any submodule.
    look
        Gets the name, as in `batch_norms`, and the activation of shape (samples, units, …).

    Yields
    ------
    For each batch normalisation that has run so far the name of its activation's function, such as
    "relu", None where it has none.

    Raises
    ------
    InvalidParameter
        For a model that is or contains a compiled one, in which nothing can be followed.
    """
    modules = _named_modules(model)
    check_followed(model)
    following = _Following(look)
    handles = []
    for path, module in modules.items():
        own = path if isinstance(module, BatchNorm) else None
        if own is None and not any(isinstance(each, BatchNorm) for each in module.modules()):
            continue
        handles += [
            module.register_forward_pre_hook(_Begin(following, own)),
            module.register_forward_hook(_Finish(following), always_call=True),
        ]
    try:
        yield following.found
    finally:
        for handle in handles:
            handle.remove()
        following.end()


def _named_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules of the bare model by name."""
    if not isinstance(model, nn.Module):
        raise InvalidParameter("model", "a torch.nn.Module", type(model).__name__)
    return {
        ".".join(part for part in path.split(".") if part != "_orig_mod"): module
        for path, module in bare(model).named_modules()
        if not hasattr(module, "_orig_mod")
    }


_WRAPPERS = (
    nn.DataParallel,
    nn.parallel.DistributedDataParallel,
    torch.optim.swa_utils.AveragedModel,
)


class _Call:
    """A call of a module; what else is here matters where it is a batch normalisation."""

    def __init__(self, module: nn.Module, name: str | None) -> None:
        self.module = module
        self.name = name
        self.shape: torch.Size | None = None
        self.over = False


class _Following:
    """What the hooks of a model share: a mode in each thread, and what was found."""

    def __init__(self, look: Look) -> None:
        self.found: dict[str, str | None] = {}
        self._look = look
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    def _mode(self) -> _Mode:
        if not hasattr(self._of_thread, "mode"):
            self._of_thread.mode = _Mode(self._show)
        mode: _Mode = self._of_thread.mode
        return mode

    def begin(self, module: nn.Module, name: str | None) -> None:
        if name is not None:
            with self._lock:
                self.found.setdefault(name, None)
        self._mode().begin(_Call(module, name))

    def finish(self, module: nn.Module, output: Any) -> None:
        self._mode().finish(module, output)

    def end(self) -> None:
        """An interruption passes by the hooks: the mode of this thread still stands then."""
        mode = self._mode()
        if mode.running and _get_current_function_mode() is mode:  # type: ignore[no-untyped-call]
            mode.close()

    def _show(self, name: str, function: str, activation: Tensor) -> None:
        with self._lock, torch.no_grad():
            self.found[name] = function
            self._look(name, activation.detach())


class _Hook:
    """A hook that a copy of the model, or one that is saved as a whole, does not have."""

    def __call__(self, *given: Any) -> None:
        """Nothing, in such a copy."""

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


class _Begin(_Hook):
    def __init__(self, following: _Following, name: str | None) -> None:
        self._following, self._name = following, name

    def __call__(self, module: nn.Module, inputs: Any) -> None:
        self._following.begin(module, self._name)


class _Finish(_Hook):
    def __init__(self, following: _Following) -> None:
        self._following = following

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._following.finish(module, output)


class _Mode(TorchFunctionMode):
    """Follows the outputs of batch normalisations while a model runs.

    Only the outermost call of a function of torch comes by here: what it calls itself does not.
    """

    def __init__(self, show: Callable[[str, str, Tensor], None]) -> None:
        super().__init__()
        self.running: list[_Call] = []
        self._show = show
        # By identity, as equality of tensors is elementwise. Weak: a mark must not keep memory.
        self._marks: dict[int, tuple[weakref.ref[Tensor], _Call]] = {}

    def begin(self, call: _Call) -> None:
        if not self.running:
            self.__enter__()  # type: ignore[no-untyped-call]
        self.running.append(call)

    def finish(self, module: nn.Module, output: Any) -> None:
        """The module gave `output`, None where it raised an error."""
        # Another hook may have raised one before the call began here.
        if not self.running or self.running[-1].module is not module:
            return
        call = self.running[-1]
        if call.name is not None and not call.over and self._call_of(output) is None:
            self._mark(output, call)
        if len(self.running) == 1:
            self.close()
        else:
            self.running.pop()

    def close(self) -> None:
        self.running.clear()
        self._marks.clear()
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "").strip("_")
        if name == "batch_norm" and self.running and self.running[-1].name is not None:
            # Marked already here, as the layer's own forward pass may have the activation.
            self._mark(result, self.running[-1])
        elif self._marks:
            self._follow(name, args[0] if args else kwargs.get("input"), result)
        return result

    def _follow(self, name: str, given: Any, result: Any) -> None:
        call = self._call_of(given)
        if call is not None and name in ACTIVATIONS and isinstance(result, Tensor):
            self._drop(result)
            if not call.over and call.name is not None:
                call.over = True
                self._show(call.name, name, result)
        elif call is not None and (name in _COPIES or "pool" in name or "dropout" in name):
            copy = result[0] if isinstance(result, tuple) else result
            if isinstance(copy, Tensor) and copy.shape[:2] == call.shape:
                self._mark(copy, call)
        elif name == "setitem":
            self._drop(given)
        else:
            # What is given back as it came was changed in place, such as by a residual sum.
            self._drop(result)

    def _mark(self, tensor: Any, call: _Call) -> None:
        if isinstance(tensor, Tensor):
            call.shape = tensor.shape[:2]
            self._marks[id(tensor)] = weakref.ref(tensor), call

    def _call_of(self, tensor: Any) -> _Call | None:
        """Whose output this is, if it is one."""
        reference, call = self._marks.get(id(tensor), (None, None))
        return call if reference is not None and reference() is tensor else None

    def _drop(self, tensor: Any) -> None:
        if self._call_of(tensor) is not None:
            del self._marks[id(tensor)]
