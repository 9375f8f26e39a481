"""Stand-ins for the providers, shipped with the gateway: for the demo, for work on a policy, and for tests.

Each simulator speaks one provider's wire over a real socket, as recorded answers show it (tests compare them with
fixtures that name their source), fails as a script says, and keeps a journal of what it received. They know nothing
of the gateway and import nothing of it. A real model, without a GPU or a network, is in `gateway.simulators.engine`.
"""

from gateway.simulators.command import run
from gateway.simulators.dialects import DIALECTS
from gateway.simulators.foreign import ForeignListener
from gateway.simulators.journal import Entry, Journal
from gateway.simulators.script import ScriptError
from gateway.simulators.simulator import Simulator

__all__ = ["DIALECTS", "Entry", "ForeignListener", "Journal", "ScriptError", "Simulator", "run"]
