"""Series out of CSV files: what is read, what is left out and named, how it is cut, what is refused."""

from pathlib import Path

import numpy as np
import pytest

from services.runtime.errors import InvalidInput
from training.data import files, labelled_csv, series, series_csv
from training.data.numbers import years
from training.data.table import read_table


def write(folder: Path, content: str | bytes, name: str = "own.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_series_is_read_in_order_and_every_row_left_out_is_named(tmp_path: Path) -> None:
    rows = "1,5\n2,6\n2,7\n3,n/a\n,8\n4,\n5,inf\n8,9\n9, 10\n"
    found = series_csv.load(write(tmp_path, "day,load\n" + rows))
    assert found.times.tolist() == [1, 2, 8, 9]
    assert found.values.tolist() == [[5], [6], [9], [10]]
    assert found.columns == ("load",)
    assert found.left_out == {
        "without a finite number": ["line 5: load is 'n/a'", "line 7: load is ''", "line 8: load is 'inf'"],
        "without a time": ["line 6: ''"],
        "of the same time as the row before": ["line 4: 2"],
    }
    assert found.gaps == ["2 to 8"]


def test_columns_are_chosen_and_groups_are_none_of_them(tmp_path: Path) -> None:
    path = write(tmp_path, "high,when,low,slice_shift,note\n5,2024-01-01,1,day,a\n6,2024-01-02,2,,b\n")
    found = series_csv.load(path, "when", "low, high")
    assert found.values.tolist() == [[1, 5], [2, 6]]
    assert found.groups == {"shift": ["day", "unknown"]}
    assert found.times[1] - found.times[0] == pytest.approx(1 / 366)
    named = series_csv.load(path, "when", "", ["note"])
    assert named.columns == ("high", "low") and named.groups["note"] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "own.csv is empty"),
        ("t,x\n", "a header but no rows"),
        ("1,2\n3,4\n", "no header: line 1 holds numbers"),
        ("t,x\n1,2,3\n", "line 2 has 3 cells, the header 2"),
        ("t,x\n1,2\n3\n", "line 3 has 1 cells"),
        ("t,x,x\n1,2,3\n", "a name of its own"),
        ("t;x\n1;2\n", "not parted by commas"),
        ('t,x\n1,"2\n', "line 2 is no CSV"),
        ("t\n1\n", "no column of values beside t"),
        ("t,x\n3,1\n2,1\n", "line 3: 2 comes after 3; sort the rows"),
        ("t,x\n1,1_2\n", r"no row of use \(without a finite number: line 2: x is '1_2'"),
        ("t,x\n1,2e38\n", r"no row of use \(without a finite number: line 2: x is '2e38'"),
        ("t,x\n1,a\n2,b\n", r"no row of use \(without a finite number: line 2: x is 'a'"),
        (b"t,x\n1,2\n2,\xff\n", "line 3 is not UTF-8 text"),
    ],
)
def test_a_series_that_cannot_be_used_is_named(tmp_path: Path, content: str | bytes, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        series_csv.load(write(tmp_path, content))


def test_columns_that_are_not_there_are_named_by_their_setting(tmp_path: Path) -> None:
    path = write(tmp_path, "t,x\n1,2\n")
    with pytest.raises(InvalidInput, match=r"time: own\.csv has no column 'year'; it has t, x"):
        series_csv.load(path, time="year")
    with pytest.raises(InvalidInput, match=r"column: own\.csv has no column 'y'"):
        series_csv.load(path, column="x,y")


def test_files_that_are_absent_or_too_large_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"own\.csv cannot be read: No such file"):
        read_table(tmp_path / "own.csv")
    with pytest.raises(InvalidInput, match="cannot be read: Is a directory"):
        read_table(tmp_path)
    with pytest.raises(InvalidInput, match="has 11 bytes; at most 10"):
        files.read(write(tmp_path, "t,x\n1,2\n3,4"), most_bytes=10)


def test_the_hash_is_the_file_s(tmp_path: Path) -> None:
    plain = files.read(write(tmp_path, "a\r\nb"))
    marked = files.read(write(tmp_path, b"\xef\xbb\xbfa\nb"))
    assert plain.text == marked.text == "a\nb"
    assert plain.sha256 != marked.sha256


def test_time_cuts_a_series(tmp_path: Path) -> None:
    path = write(tmp_path, "t,x\n" + "".join(f"{t},{t % 5}\n" for t in range(100)))
    cut = series_csv.split(series_csv.load(path), window=10, horizon=5, season=0)
    assert (cut.validation_from, cut.test_from, cut.season) == (70, 80, 1)
    assert [part["rows"] for part in cut.parts().values()] == [70, 10, 20]
    assert cut.parts()["test"]["from"] == 80
    assert cut.told().startswith("fitted to 0 to 69 (70 steps), chosen by 70 to 79 (10 steps), tested on 80 to 99")
    for window, horizon in ((61, 5), (10, 21)):
        with pytest.raises(InvalidInput, match="100 rows are too few for a window of"):
            series_csv.split(series_csv.load(path), window, horizon, 0)


def test_periods_are_round_spans_of_the_test() -> None:
    assert list(dict.fromkeys(series.periods(np.arange(1950.0, 1972)))) == [
        "1950 to 1959",
        "1960 to 1969",
        "1970 to 1979",
    ]
    months = np.array([years(f"{year}-{month:02}") or 0 for year in (2015, 2016, 2017) for month in range(1, 13)])
    assert series.periods(months).count("2016") == 12
    assert series.periods(np.array([3.0])) == ["all"]
    assert set(series.periods(np.linspace(0, 1, 11))) == {f"{n / 10:.1f} to {(n + 1) / 10:.1f}" for n in range(11)}


HEADER = "series,step,label,slice_person,x,y\n"


def rows_of(name: str, label: str, person: str, values: list[tuple[float, float]]) -> str:
    return "".join(f"{name},{step},{label},{person},{x},{y}\n" for step, (x, y) in enumerate(values))


def test_labelled_series_are_gathered_by_name_and_step(tmp_path: Path) -> None:
    content = HEADER + "b,2,up,ann,3,4\na,0,down,bob,9,9\nb,1,up,ann,1,2\nb,3,up,ann,x,0\nb,1,up,ann,5,5\n"
    content += "c,0,up,bob,9,9\nd,0,down,bob,9,9\ne,0,up,ann,,\n"
    found = labelled_csv.load(write(tmp_path, content))
    assert [row.tolist() for row in found.every.rows] == [[[1, 2], [3, 4]], [[9, 9]]]
    assert found.class_names == ("down", "up") and found.every.labels.tolist() == [1, 0]
    assert found.features == ("x", "y") and found.every.groups == {"person": ["ann", "bob"]}
    assert found.left_out == {
        "steps without a finite number": ["line 5: x is 'x'", "line 9: x is ''"],
        "steps that were there before": ["line 6: b 1"],
        "series that copy one of another class": ["c = a"],
        "series that copy another": ["d = a"],
        "series without a step": ["e"],
    }


def many(count: int) -> str:
    draw = np.random.default_rng(0)
    lines = [
        rows_of(f"{label}{i}", label, "ann", draw.normal(size=(4, 2)).tolist())
        for label in ("down", "up")
        for i in range(count)
    ]
    return HEADER + "".join(lines)


def test_the_cut_of_labelled_series_knows_no_order_and_no_names(tmp_path: Path) -> None:
    plain = many(10)
    head, *lines = plain.splitlines(keepends=True)
    turned = head + "".join(
        line.replace("up", "up-", 1) if line.startswith("up") else line for line in lines[::-1]
    )
    one, two = (labelled_csv.split(labelled_csv.load(write(tmp_path, text))) for text in (plain, turned))
    assert [len(part) for part in (one.train, one.validation, one.test)] == [14, 2, 4]
    for a, b in ((one.train, two.train), (one.test, two.test)):
        assert {row.tobytes() for row in a.rows} == {row.tobytes() for row in b.rows}
    parts = [{row.tobytes() for row in part.rows} for part in (one.train, one.validation, one.test)]
    assert len(set.union(*parts)) == 20
    assert one.told() == "14 training, 2 validation, 4 test rows; left out: none"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("series,step,x\na,0,1\n", "no column 'label'; it has series, step, x"),
        ("series,step,label,slice_p\na,0,up,b\n", "no column of features"),
        ("series,step,label,x\na,0,,1\n", "line 2 has no label"),
        ("series,step,label,x\n,0,up,1\n", "line 2 has no series"),
        ("series,step,label,x\na,0,up,1\na,1,down,1\n", "line 3: series a is down here and up before"),
        ("series,step,label,slice_p,x\na,0,up,b,1\na,1,up,c,1\n", "line 3: series a is of"),
        ("series,step,label,x\na,0,up,one\n", "no series of use"),
        ("series,step,label,x\na,0,up,1,2\n", "line 2 has 5 cells, the header 4"),
        ("series,step,label,x\na,0,up,1\nb,0,up,2\n", r"1 class \(up\); two are needed"),
        (
            many(10).replace("down", "up") + rows_of("flat", "level", "ann", [(0, 9e99)]),
            r"two are needed; left out: .*, 1 steps without a finite number \(line 82: y is '9e\+99'\), 1 series",
        ),
        (many(10) + rows_of("flat", "level", "ann", [(0, 0)]), "class level has 1 series of use; at least 5"),
    ],
)
def test_labelled_series_that_cannot_be_used_are_named(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        labelled_csv.split(labelled_csv.load(write(tmp_path, content)))
