import pytest

from lossgauge.errors import InputError
from lossgauge.losses.settings import Configurable, above_zero, count, declared, setting


class Base(Configurable):
    size: int = setting(check=count, from_data=True)
    scale: float = setting(default=2.0, check=above_zero)


class Own(Base):
    power: float = setting(default=1.0, check=above_zero)
    scale: float = setting(default=3.0, check=above_zero)

    def prepare(self):
        self.area = self.size**2


class Signed(Own):
    def __init__(self, *, bias: float = 0.5):
        super().__init__(size=1)
        self.bias = bias


def test_settings_come_from_the_class_and_its_bases_its_own_first():
    assert list(Own.settings) == ["power", "scale", "size"]
    own = Own(size=3, power="1e-1")
    assert (own.size, own.scale, own.power, own.area) == (3, 3.0, 0.1, 9)
    assert Base(size=1).scale == 2.0
    assert declared(Own) is Own.settings


def test_a_constructor_that_is_written_out_is_asked_by_its_signature():
    assert list(declared(Signed)) == ["bias"]
    assert Signed(bias=1.0).scale == 3.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Own needs the setting 'size', as in size=..."),
        ({"size": 1, "powr": 2}, r"Own has no setting 'powr' \(did you mean 'power'"),
        ({"size": 0}, "size of Own must be at least 1, got 0"),
        ({"size": 1.5}, "size of Own must be a whole number, got 1.5"),
        ({"size": 1, "power": 0}, "power of Own must be positive and finite, got 0"),
        ({"size": 1, "power": True}, "power of Own must be a number, got True"),
        ({"size": 1, "power": "much"}, "power of Own must be a number, got 'much'"),
        ({"size": 1, "power": float("nan")}, "power of Own must be positive and finite, got nan"),
    ],
)
def test_a_wrong_setting_is_refused_in_words(given, message):
    with pytest.raises(InputError, match=message):
        Own(**given)
