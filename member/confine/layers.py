"""Makes the directories that a layer needs: empty ones for an overlay, copies where there are no overlays."""

from pathlib import Path

from member.confine.confinement import Confinement, Mode
from member.confine.files import copy_tree, remove_tree
from member.confine.sandbox import Layer


def make(confinement: Confinement, upper: Path, lowers: list[Path]) -> Layer:
    """A fresh layer over directories (the first at the bottom); blocks while it copies.

    Where layers are copies, the topmost lower directory already holds all those below it.
    """
    layer = confinement.layer(upper, lowers)
    upper.mkdir(parents=True)
    if layer.work is not None:
        layer.work.mkdir()
    elif lowers:
        copy_tree(lowers[-1], upper)
    return layer


def finish(layer: Layer) -> None:
    """What is of no use once nothing runs in the layer any more."""
    if layer.work is not None:
        remove_tree(layer.work)


def below(confinement: Confinement, lowers: list[Path]) -> list[Path]:
    """Of directories stacked on each other, those that a further layer has to name."""
    return lowers if confinement.mode is Mode.OVERLAY else lowers[-1:]
