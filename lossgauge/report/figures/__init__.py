"""The report's pictures as plotly figures, one function a picture; at home in a notebook as well.

from lossgauge.report.figures import curves, plane
curves(results, "digits").show()
"""

from lossgauge.report.figures.search_trials import trials
from lossgauge.report.figures.sensitivity import response
from lossgauge.report.figures.tradeoff import not_in_plane, plane
from lossgauge.report.figures.training_curves import PANELS, curves

__all__ = ["PANELS", "curves", "not_in_plane", "plane", "response", "trials"]
