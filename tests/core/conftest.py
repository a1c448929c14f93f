"""What the tests of the core share."""

import pytest


@pytest.fixture(params=["policy", "text", "image"])
def kind(request):
    return request.param
