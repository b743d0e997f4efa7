"""Where a network still knows places: its spatial layers, their layout, and the network cut at one of them."""

from salve_audit.spatial.alignment import Alignment, measure_alignment
from salve_audit.spatial.cut import CutNetwork, CutPass, TailPass
from salve_audit.spatial.layers import SpatialLayer, TracedLayers, find_spatial_layers, trace_layers
from salve_audit.spatial.layout import GridLayout
from salve_audit.spatial.proof import last_spatial_layer, middle_spatial_layer
from salve_audit.spatial.share import measure_share

__all__ = [
    "Alignment",
    "CutNetwork",
    "CutPass",
    "GridLayout",
    "SpatialLayer",
    "TailPass",
    "TracedLayers",
    "find_spatial_layers",
    "last_spatial_layer",
    "measure_alignment",
    "measure_share",
    "middle_spatial_layer",
    "trace_layers",
]
