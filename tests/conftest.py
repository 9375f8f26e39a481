"""For all tests. That this file is here puts its folder on the path: `small_world`, `fake_ports`, `inprocess` are for everybody."""

import pytest
from hypothesis import settings

from gateway import pipeline

# a machine that is busy with other tests is slow, and not wrong
settings.register_profile("gateway", deadline=None)
settings.load_profile("gateway")

COMPILED = not pipeline.__file__.endswith(".py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whether tests find bugs is asked where bugs can be planted; `make test-native` runs the same tests on what was compiled."""
    for item in items if COMPILED else ():
        if item.get_closest_marker("source_only"):
            item.add_marker(pytest.mark.skip(reason="spoils the source itself: nothing to spoil in compiled code"))
