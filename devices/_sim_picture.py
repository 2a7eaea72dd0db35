"""One picture of the simulated world, ready for the encoder: what the camera sees, what stands before it, and the stamp."""

from __future__ import annotations

__all__ = ["Picture"]

from collections.abc import Mapping
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from edgeagent.drivers import stamp
from edgeagent_devices._sim_dash import Dash, Instruments
from edgeagent_devices._sim_map import Ground
from edgeagent_devices._sim_view import Sight, View


class Picture:
    """A picture of one size and one ground, drawn again and again.

    Args:
        ground: What is seen.
        width: Pixels, even.
        height: Pixels, even.
        show_map: Whether a small map stands in the corner.

    Attributes:
        frame: The `av.VideoFrame`, YUV 4:2:0, BT.709.
    """

    def __init__(self, ground: Ground, width: int, height: int, show_map: bool = True) -> None:
        self.ground = ground
        self.frame = av.VideoFrame(width, height, "yuv420p")
        self._luma, *chroma = (self._plane(index) for index in range(3))
        self._chroma = (chroma[0], chroma[1])
        self._view = View(ground, width, height)
        self._dash = Dash(ground, width, height, self._view.focal, show_map)
        self._shown: tuple[Sight, Instruments] | None = None
        cell = stamp.cell_size(width)
        top = height - stamp.ROWS * cell
        self._cells = self._luma[top:, : stamp.COLUMNS * cell].reshape(stamp.ROWS, cell, stamp.COLUMNS, cell)  # a view
        self._behind = [plane[top // 2 :, : stamp.COLUMNS * cell // 2] for plane in chroma]

    def draw(self, state: Mapping[str, Any], nod: float, stamp_bits: bytes) -> None:
        """Draw what is seen in a state of the world.

        Args:
            state: As `_sim_world` tells it.
            nod: Degrees by which the mast looks further up.
            stamp_bits: 10 bytes of `stamp.pack`.
        """
        lit, beam = tuple(state["reached"]), state["colour"] if state["lights"] else ""
        place = state["x"], state["y"], state["heading"]
        sight = Sight(*place, state["pan"], state["tilt"] + nod, lit)
        instruments = Instruments(*place, state["pan"], lit, beam, state["horn"])
        if (sight, instruments) != self._shown:  # a rover that stands still costs next to nothing
            self._shown = sight, instruments
            horizon = self._view.draw(sight, self._luma, self._chroma)
            self._dash.draw(instruments, horizon, self._luma, self._chroma)
        bits = np.unpackbits(np.frombuffer(stamp_bits, np.uint8)).reshape(stamp.ROWS, 1, stamp.COLUMNS, 1)
        self._cells[...] = stamp.BLACK + bits * (stamp.WHITE - stamp.BLACK)  # last: nothing may cover it
        for plane in self._behind:
            plane[...] = 128

    def _plane(self, index: int) -> NDArray[np.uint8]:
        """A plane of the frame itself; what is written there will be encoded."""
        plane = self.frame.planes[index]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        return rows[:, : plane.width]
