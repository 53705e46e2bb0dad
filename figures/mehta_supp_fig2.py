"""mehta2019, supplement, figure 2: universality of the filters of each layer on CIFAR-10.

The drawing and its settings are those of mehta_fig3.py, which is on CIFAR-100 in the paper.
"""

from __future__ import annotations

import mehta_fig3


def main() -> None:
    mehta_fig3.main(__file__, __doc__, "mehta2019, supplement, figure 2")


if __name__ == "__main__":
    main()
