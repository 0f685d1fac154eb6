"""Everything is kept with passes and without."""

from typing import Any

import pytest


@pytest.fixture(autouse=True, params=[(), None], ids=["no passes", "default passes"])
def passes(request: pytest.FixtureRequest) -> Any:
    return request.param
