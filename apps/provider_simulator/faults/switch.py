"""Faults that are switched on and off while the simulator runs, as an outage begins and ends."""

from apps.provider_simulator.faults.catalog import ScriptedFault, fault_of_header

_EVERY_MODEL = ""


class FaultSwitch:
    """The fault that a model has now, whatever its name says."""

    def __init__(self) -> None:
        self._faults: dict[str, ScriptedFault] = {}

    def set(self, fault: str, model: str = _EVERY_MODEL) -> None:
        """Give a model, or all models, a fault: `<fault>` or `<fault>=<number>`.

        Raises:
            UnknownFaultError: the catalog does not have the fault, or the number is invalid.
        """
        self._faults[model] = fault_of_header(fault)

    def clear(self) -> None:
        """Let the models' names select the faults again."""
        self._faults.clear()

    def fault_of(self, model: str) -> ScriptedFault | None:
        """Return the fault of the model, else that of all models; None if neither is set."""
        return self._faults.get(model) or self._faults.get(_EVERY_MODEL)
