"""For all tests. That this file is here puts its folder on the path: `small_world`, `fake_ports`, `inprocess` are for everybody."""

from hypothesis import settings

# a machine that is busy with other tests is slow, and not wrong
settings.register_profile("gateway", deadline=None)
settings.load_profile("gateway")
