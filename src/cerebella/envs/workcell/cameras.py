"""Pictures of a cell, drawn without a display: EGL, or what the variable MUJOCO_GL says (`egl`, `osmesa` or `glfw`)."""
# pyright: reportAttributeAccessIssue=false
# (the compiled modules of MuJoCo come without types)

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from cerebella.types import ImageArray

BACKENDS: dict[str, str] = {"egl": "mujoco.egl", "osmesa": "mujoco.osmesa", "glfw": "mujoco.glfw"}


class NoGraphics(OSError):
    """Pictures cannot be drawn on this machine; says what to install or set."""


class Cameras:
    """Draws the views of one model; not for several threads.

    Args:
        model: whose cameras. views: view -> name of a camera. size_px: (height, width) of every picture.

    Raises:
        ValueError: a size outside 16..1024 pixels, or MUJOCO_GL names no known backend.
        NoGraphics: OpenGL does not work on this machine.
    """

    def __init__(self, model: mujoco.MjModel, views: Mapping[str, str], size_px: tuple[int, int]) -> None:
        """See the class."""
        height, width = size_px
        limit = min(model.vis.global_.offheight, model.vis.global_.offwidth)
        if not (16 <= height <= limit and 16 <= width <= limit):
            raise ValueError(f"size_px must be (height, width) in 16..{limit} pixels; got {size_px}")
        self._model = model
        self._cameras = {view: model.camera(name).id for view, name in views.items()}
        self._window: Any = _gl_context(height, width)
        self._window.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(model=model, maxgeom=2000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._size_px = (height, width)

    def draw(self, data: mujoco.MjData) -> dict[str, ImageArray]:
        """Every view, uint8[height, width, 3] RGB."""
        self._window.make_current()
        return {view: self._picture(data, camera) for view, camera in self._cameras.items()}

    def close(self) -> None:
        """Give the graphics memory back. May be called twice."""
        if self._window is not None:
            self._window.make_current()
            self._context.free()
            self._window.free()
            self._window = None

    def _picture(self, data: mujoco.MjData, camera: int) -> ImageArray:
        self._camera.fixedcamid = camera
        categories = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, categories, self._scene)
        mujoco.mjr_render(self._rectangle, self._scene, self._context)
        picture = np.empty((*self._size_px, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(picture, None, self._rectangle, self._context)
        return np.ascontiguousarray(picture[::-1])


def _gl_context(height: int, width: int) -> Any:
    backend = os.environ.get("MUJOCO_GL", "").lower() or ("egl" if sys.platform == "linux" else "glfw")
    if backend not in BACKENDS:
        raise ValueError(f"MUJOCO_GL is {backend!r}; known: {', '.join(BACKENDS)}")
    try:
        return importlib.import_module(BACKENDS[backend]).GLContext(width, height)
    except (ImportError, AttributeError, RuntimeError) as error:
        raise NoGraphics(
            f"pictures need OpenGL, and {backend!r} does not work here ({error}). Set MUJOCO_GL to one of "
            f"{', '.join(BACKENDS)}, or install libegl1 with libegl-mesa0, or libosmesa6"
        ) from error
