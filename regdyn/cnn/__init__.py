"""The torch backend: the papers' convolutional networks under the simulator's configuration.

Needs the extra `torch`. Reading and drawing images (`images`, `data`, `objects`) does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regdyn.lazy import lazy_names

# Names load on first use: what reads images alone starts without torch.
_HOME = {
    "CnnConfig": "regdyn.cnn.config",
    "CnnResult": "regdyn.cnn.result",
    "Images": "regdyn.cnn.images",
    "MODELS": "regdyn.cnn.models",
    "Network": "regdyn.cnn.models",
    "Setting": "regdyn.cnn.models",
    "from_psbn": "regdyn.cnn.psbn",
    "make_images": "regdyn.cnn.data",
    "make_model": "regdyn.cnn.models",
    "rendered_objects": "regdyn.cnn.objects",
    "to_psbn": "regdyn.cnn.psbn",
    "train": "regdyn.cnn.training",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from regdyn.cnn.config import CnnConfig
    from regdyn.cnn.data import make_images
    from regdyn.cnn.images import Images
    from regdyn.cnn.models import MODELS, Network, Setting, make_model
    from regdyn.cnn.objects import rendered_objects
    from regdyn.cnn.psbn import from_psbn, to_psbn
    from regdyn.cnn.result import CnnResult
    from regdyn.cnn.training import train


__getattr__, __dir__ = lazy_names(__name__, _HOME)
