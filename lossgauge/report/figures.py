"""The report's pictures as plotly figures, one function a picture; at home in a notebook as well.

from lossgauge.report.figures import curves, plane
curves(results, "digits").show()
"""

from lossgauge.report.curves import PANELS, curves
from lossgauge.report.plane import not_in_plane, plane
from lossgauge.report.response import response
from lossgauge.report.trials import trials

__all__ = ["PANELS", "curves", "not_in_plane", "plane", "response", "trials"]
