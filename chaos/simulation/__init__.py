"""The simulation: the same fakes, faults and history as on the wire, in one thread and in virtual time."""

from chaos.simulation.errors import BadCoordinator, SimulationError
from chaos.simulation.settings import Settings
from chaos.simulation.simulation import Simulation, jsonl, simulate

__all__ = ["BadCoordinator", "Settings", "Simulation", "SimulationError", "jsonl", "simulate"]
