"""Where images come from: one module per layout on disk, each of which knows its own and reads one split of it."""

from __future__ import annotations

from kdstats.data.sources.cifar_python import CifarPython
from kdstats.data.sources.class_folders import ClassFolders
from kdstats.data.sources.hub_parquet import HubParquet
from kdstats.data.sources.layout import Content, Layout, Opened, Wanted
from kdstats.data.sources.tiny_imagenet import TinyImageNet

LAYOUTS: dict[str, Layout] = {
    "cifar_python": CifarPython(),
    "class_folders": ClassFolders(),
    "hub_parquet": HubParquet(),
    "tiny_imagenet": TinyImageNet(),
}

__all__ = ["LAYOUTS", "Content", "Layout", "Opened", "Wanted"]
