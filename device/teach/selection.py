"""The most different of many pictures, chosen as they come."""

import numpy as np

from device.teach.head import normalized
from device.teach.learner import POWER
from device.teach.lessons import Picture
from device.teach.report import NEAR


class Selection:
    """Keeps at most so many pictures, none nearly like another.

    Once it is full, a picture that is farther from all others than the two nearest are from
    each other takes the place of one of these: farthest-point sampling over a stream.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pictures: list[Picture] = []
        self._z = np.zeros((0, 0), np.float32)

    @property
    def pictures(self) -> list[Picture]:
        """What is kept."""
        return self._pictures

    @property
    def is_full(self) -> bool:
        """Whether there are as many as are wanted."""
        return len(self._pictures) >= self._most

    def offer(self, picture: Picture) -> bool:
        """Keep the picture if it is different enough; returns whether it is kept."""
        z = normalized(picture.features[:1], POWER)
        if not self._pictures:
            self._pictures, self._z = [picture], z
            return True
        near = self._z @ z[0]
        if near.max() > NEAR:
            return False
        if not self.is_full:
            self._pictures.append(picture)
            self._z = np.concatenate([self._z, z])
            return True
        among = self._z @ self._z.T - 2 * np.eye(len(self._z), dtype=np.float32)
        row, column = divmod(int(among.argmax()), len(among))
        if near.max() >= among[row, column]:
            return False
        out = row if near[row] >= near[column] else column
        self._pictures[out], self._z[out] = picture, z[0]
        return True
