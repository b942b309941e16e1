"""How model names and headers select faults."""

import pytest

from apps.provider_simulator.faults.catalog import FAULTS, MODELS, UnknownFaultError, fault_of_header, fault_of_model


@pytest.mark.parametrize(
    ("model", "fault", "value"),
    [
        ("whatever", "ok", 0),
        ("sim-ok", "ok", 0),
        ("sim-delay", "delay", 2000),
        ("sim-delay-15", "delay", 15),
        ("sim-slow-first-token", "slow-first-token", 2000),
        ("sim-slow-first-token-0.5", "slow-first-token", 0.5),
        ("sim-flaky-3@one-test", "flaky", 3),
        ("sim-hang@another-9", "hang", 0),
    ],
)
def test_model_names_select(model: str, fault: str, value: float) -> None:
    scripted = fault_of_model(model)
    assert (scripted.fault.name, scripted.value) == (fault, value)


def test_headers_select() -> None:
    assert (fault_of_header("huge-body=0.5").value, fault_of_header(" rate-limited ").value) == (0.5, 1)


@pytest.mark.parametrize("header", ["nothing", "", "delay=", "delay=x", "delay=-1", "delay=nan", "delay=1e9"])
def test_unknown_headers_raise(header: str) -> None:
    with pytest.raises(UnknownFaultError):
        fault_of_header(header)


@pytest.mark.parametrize("model", ["sim-", "sim-nothing", "sim-delay-", "sim-delay-x", "sim-1"])
def test_unknown_model_names_raise(model: str) -> None:
    with pytest.raises(UnknownFaultError):
        fault_of_model(model)


def test_every_offered_model_selects_its_own_fault() -> None:
    simulated = [model for model in MODELS if model.startswith("sim-")]
    assert sorted(fault_of_model(model).fault.name for model in simulated) == sorted(FAULTS)
    assert len(set(MODELS)) == len(MODELS)
