"""Laws of drawing: what a saved figure shows lies inside it."""

import numpy as np
import pytest
from matplotlib.image import imread

from relearn_jax.report.draw import Key, Panel, Plot, save


@pytest.mark.parametrize("keys", [1, 5, 9])
def test_a_legend_of_any_length_stays_inside_the_figure(tmp_path, keys):
    """Labels are black bars, and no pixel at the border is black: nothing was cut off."""
    legend = tuple(Key("█ " * (10 + i), "concept", "o") for i in range(keys))
    panels = (Panel(lambda ax: ax.plot([0, 1], [0, 1]), "a line"),) * 2
    save(Plot("lines", panels, legend), tmp_path)

    image = imread(tmp_path / "lines.png")[..., :3]

    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    assert (border == 1).all()
    assert (image[-60:] < 1).any(), "no legend at the lower border"
