import os

import pytest

from lossgauge.integrations.environ import variable


@pytest.mark.parametrize("before", [None, "", "as it was"])
def test_a_variable_is_afterwards_what_it_was_before(monkeypatch, before):
    monkeypatch.delenv("LOSSGAUGE_TRIED", raising=False)
    if before is not None:
        monkeypatch.setenv("LOSSGAUGE_TRIED", before)
    with variable("LOSSGAUGE_TRIED", "other"):
        assert os.environ["LOSSGAUGE_TRIED"] == "other"
    assert os.environ.get("LOSSGAUGE_TRIED") == before
    with pytest.raises(ZeroDivisionError), variable("LOSSGAUGE_TRIED", "other"):
        raise ZeroDivisionError
    assert os.environ.get("LOSSGAUGE_TRIED") == before
