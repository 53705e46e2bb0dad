"""yaguchi2018, figure 6: activation rate and norm of filters of the first layer under Adam and momentum SGD.

The filters are those whose weights Adam takes to 0 (norm below 1e-3), and the same filters, from the same
start, under SGD. The activation rate is the share of the images and positions where a filter is active.
VGG-16 with the settings of table V (yaguchi_tables.py); in small BasicNet stands for it and lambda is greater.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray
from _cnn import Preset, Settings, tenth_at_the_end
from _trained import ALIVE, DEAD, Array, Found, per_run, redraw
from matplotlib.axes import Axes
from matplotlib.figure import Figure
