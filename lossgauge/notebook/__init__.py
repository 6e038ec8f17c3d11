"""Studies in Python and in notebooks: run one, load one, and read its tables, findings, claims and figures."""

from lossgauge.notebook.run import advise, forecast, load_features, load_study, run_study
from lossgauge.notebook.study import Study

__all__ = ["Study", "advise", "forecast", "load_features", "load_study", "run_study"]
