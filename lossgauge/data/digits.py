"""1,797 handwritten digits of 8×8 pixels, shipped inside scikit-learn (UCI, Alpaydin & Kaynak 1998)."""

from __future__ import annotations

from lossgauge.data.csv_digits import CsvDigits
from lossgauge.data.dataset import Counts


class Digits(CsvDigits):
    name = "digits"
    expected = Counts(train=896, test=901, classes=10)
    package, distribution = "sklearn", "scikit-learn"
    file = "datasets/data/digits.csv.gz"
    side, brightest = 8, 16
    how_to_get = "pip install 'lossgauge[demo]'"
    license = "CC BY 4.0"


DATASET = Digits()
