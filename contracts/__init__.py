"""What must hold: contracts as pure functions over a history, what a gateway makes possible, and the verdict."""

from contracts.catalogue import CONTRACTS, Contract, UnknownContract
from contracts.document import to_json
from contracts.index import Index
from contracts.profiles import Demand, ImpossibleDemand, RetryBudget, Terms, demand, demands
from contracts.result import Result, Status, Violation
from contracts.story import story
from contracts.verdict import Judgement, Verdict, judge

__all__ = [
    "CONTRACTS",
    "Contract",
    "Demand",
    "ImpossibleDemand",
    "Index",
    "Judgement",
    "Result",
    "RetryBudget",
    "Status",
    "Terms",
    "UnknownContract",
    "Verdict",
    "Violation",
    "demand",
    "demands",
    "judge",
    "story",
    "to_json",
]
