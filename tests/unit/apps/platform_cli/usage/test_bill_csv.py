"""Providers' bills as CSV: what is read, and where it is wrong (issue 11, `usage reconcile`)."""

import contextlib
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.platform_cli.usage.bill_csv import FORMATS, BillError, Columns, Sums, family, read_bill

DAY = date(2026, 11, 25)
OPENAI = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,model,input_tokens,output_tokens,"
    "input_cached_tokens\n"
)
ROW = "1764028800,1764115200,2026-11-25T00:00:00+00:00,2026-11-26T00:00:00+00:00,proj,{},{},{},{},{}\n"
CUSTOM = Columns("day", "model", ("in",), (), ("out",), None, "usd")
HEADER = "day,model,in,out,usd\n"


def written(directory: Path, text: str | bytes) -> Path:
    path = directory / "bill.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_openai_usage_export_is_read(tmp_path: Path) -> None:
    rows = ROW.format(2, "gpt-4o-mini-2024-07-18", 100, 20, 40) + ROW.format(1, "gpt-4o-mini", 5, 1, "")
    bill = read_bill(written(tmp_path, OPENAI + rows + "\n"))
    assert bill.groups == {(DAY, "gpt-4o-mini"): Sums(105, 40, 21, 3)}
    assert bill.by_model


def test_openai_cost_export_is_read(tmp_path: Path) -> None:
    text = "start_time,start_time_iso,amount_value,amount_currency,line_item\n"
    text += '1764028800,2026-11-25T00:00:00+00:00,0.8958740000000000,usd,"gpt-4o-2024-11-20, input"\n'
    text += '1764028800,2026-11-25T00:00:00+00:00,1.2E-5,usd,"gpt-4o-2024-11-20, output"\n'
    bill = read_bill(written(tmp_path, text))
    assert bill.groups == {(DAY, "gpt-4o"): Sums(cost=Decimal("0.895886"))}
    days = "start_time_iso\tamount_value\tline_item\n2026-11-25T00:00:00+00:00\t0.5\t\n"
    assert not read_bill(written(tmp_path, days)).by_model


def test_anthropic_exports_are_read(tmp_path: Path) -> None:
    """Its input has four columns, of which cached input is one."""
    text = (
        "usage_date_utc,model_version,api_key,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,"
        "usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,web_search_count\n"
        "2026-11-25,claude-sonnet-4-5-20250929,k,1,10,100,1000,7,0\n"
    )
    assert read_bill(written(tmp_path, text)).groups == {(DAY, "claude-sonnet-4-5"): Sums(1111, 1000, 7)}
    cost = "usage_date_utc,model,workspace,cost_usd\n2026-11-25,claude-sonnet-4-5,w,$1.50\n"
    assert read_bill(written(tmp_path, cost)).groups == {(DAY, "claude-sonnet-4-5"): Sums(cost=Decimal("1.50"))}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_and_marks_are_seen(tmp_path: Path, delimiter: str) -> None:
    text = "\ufeff" + (HEADER + '2026-11-25,m,"1234",2.0,-0.5\r\n').replace(",", delimiter)
    assert read_bill(written(tmp_path, text), CUSTOM).groups == {(DAY, "m"): Sums(1234, 0, 2, 0, Decimal("-0.5"))}


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-11-25", DAY),
        ("2026-11-25T23:59:59", DAY),
        ("2026-11-26T00:30:00+01:00", DAY),
        ("2026-11-25 12:00:00", DAY),
        ("2026-11-25T12:00:00Z", DAY),
        ("1795564800", DAY),
    ],
)
def test_days_are_utc(tmp_path: Path, text: str, day: date) -> None:
    bill = read_bill(written(tmp_path, f"{HEADER}{text},m,1,1,1\n"), CUSTOM)
    assert [day for day, _ in bill.groups] == [day]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: the file is empty"),
        ("\n\n", "line 1: the file is empty"),
        ("a,b\n1,2\n", "line 1: there is no column 'day', 'model'"),
        ("day,model,in,out,usd,in\n", "line 1: duplicate columns: 'in'"),
        (f"{HEADER}2026-11-25,m,1,1\n", "line 2: 4 fields, and the header has 5"),
        (f"{HEADER}2026-11-25,m,1,1,1\n2026-11-25,m,1,1,1,1\n", "line 3: 6 fields"),
        (f"{HEADER}2026-11-25,m,12x,1,1\n", "line 2, column 'in': '12x' is not a number"),
        (f"{HEADER}2026-11-25,m,1.5,1,1\n", "line 2, column 'in': '1.5' is not a whole number; expected 0 or more"),
        (f"{HEADER}2026-11-25,m,1,-1,1\n", "line 2, column 'out': '-1' is not a whole number"),
        (f"{HEADER}2026-11-25,m,1,1,nan\n", "line 2, column 'usd': 'nan' is not a number"),
        (f"{HEADER}2026-11-25,m,1,1,Infinity\n", "line 2, column 'usd'"),
        (f"{HEADER}2026-11-25,m,1,1,1e99\n", "line 2, column 'usd': '1e99' is not an amount"),
        (f"{HEADER}2026-11-25,m,1e9999999,1,1\n", "line 2, column 'in'"),
        (f"{HEADER}25.11.2026,m,1,1,1\n", "line 2, column 'day': '25.11.2026' is not a day"),
        (f"{HEADER}2026-02-30,m,1,1,1\n", "line 2, column 'day'"),
        (f"{HEADER}0001-01-01,m,1,1,1\n", "line 2, column 'day'"),
        (f"{HEADER},m,1,1,1\n", "line 2, column 'day': '' is not a day"),
        (f'{HEADER}2026-11-25,"m"x,1,1,1\n', "line 2: not CSV"),
        (f'{HEADER}2026-11-25,"m,1,1,1\n', "not CSV"),
        (f"{HEADER}2026-11-25,{'m' * 200_000},1,1,1\n", "not CSV"),
        (b"day,model,in,out,usd\n2026-11-25,m\xff,1,1,1\n", "not UTF-8 text"),
        (f"{HEADER}2026-11-25,m,1\x00,1,1\n", "line 2, column 'in'"),
    ],
)
def test_bill_error_names_line_and_column(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(BillError) as caught:
        read_bill(written(tmp_path, text), CUSTOM)
    assert says in str(caught.value)
    assert str(caught.value).startswith("bill.csv")
    assert len(str(caught.value)) < 1500


def test_unknown_header_names_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(BillError, match="not a known export") as caught:
        read_bill(written(tmp_path, "a,b\n1,2\n"))
    assert all(form in str(caught.value) for form in FORMATS)


def test_bill_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BillError, match="cannot be read: No such file"):
        read_bill(tmp_path / "gone.csv")
    with pytest.raises(BillError, match="cannot be read"):
        read_bill(tmp_path)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4"),
        ("mistral-small-latest", "mistral-small"),
        (" GPT-4o ", "gpt-4o"),
        ("gpt-4-0613", "gpt-4-0613"),
    ],
)
def test_dates_of_models_make_no_difference(name: str, found: str) -> None:
    assert family(name) == found


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.sampled_from('day,model";\n\r\t2026-11-25.x\x00é'), max_size=80))
def test_any_text_is_a_bill_or_a_bill_error(tmp_path: Path, text: str) -> None:
    with contextlib.suppress(BillError):
        read_bill(written(tmp_path, HEADER + text), CUSTOM)
