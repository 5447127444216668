"""CSV files as people write them."""

import numpy as np
import pandas as pd
import pytest

from keras_interp.data.tables import read_csv, read_rows

NAMES = ("age", "income", "sea=near", "sea=far")
EXPECTED = [[30, 1.5, 1, 0], [40, 2.5, 0, 1]]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("age,income,sea\n30,1.5,near\n40,2.5,far\n", "utf-8"),
        ("sea,income,age\nnear,1.5,30\nfar,2.5,40\n", "utf-8"),
        ("income;sea;age\n1,5;near;30\n2,5;far;40\n", "utf-8"),
        ('"age"\t"income"\t"sea"\n"30"\t"1.5"\t"near"\n"40"\t"2.5"\t"far"\n', "utf-8"),
        ('age, income, sea\n30, 1.5, "near"\n40, 2.5, far\n', "utf-8-sig"),
        ("age,income,sea\r\n30,1.5,near\r\n40,2.5,far\r\n", "utf-16"),
        (",age,income,sea\n0,30,1.5,near\n1,40,2.5,far\n", "utf-8"),
        ('"age","income","sea"\n"1",30,1.5,"near"\n"2",40,2.5,"far"\n', "utf-8"),
        ("age,income,sea=near,sea=far\n30,1.5,TRUE,False\n40,2.5,0,1\n\n", "utf-8"),
        ('note,age,income,sea\n"a, b",30,1.5,near\n"c\nd",40,2.5,far\n', "utf-8"),
    ],
)
def test_ways_to_write_the_same_table(tmp_path, text, encoding):
    table = read_rows(write(tmp_path / "table.csv", text, encoding), NAMES, 4)
    np.testing.assert_array_equal(table.rows, EXPECTED)
    assert not table.faults and table.unused in ((), ("note",))


def test_what_pandas_writes(tmp_path):
    frame = pd.DataFrame({"age": [30, 40], "income": [1.5, 2.5], "sea": ["near", "far"]})
    for options in ({}, {"index": False}, {"sep": ";"}, {"encoding": "utf-16"}):
        frame.to_csv(tmp_path / "table.csv", **options)
        np.testing.assert_array_equal(read_rows(tmp_path / "table.csv", NAMES, 4).rows, EXPECTED)
    numbers = pd.DataFrame(np.arange(6.0).reshape(2, 3))
    for options in ({}, {"header": False, "index": False}):
        numbers.to_csv(tmp_path / "numbers.csv", **options)
        np.testing.assert_array_equal(read_rows(tmp_path / "numbers.csv", ("a", "b", "c"), 3).rows, numbers.to_numpy())
        np.testing.assert_array_equal(read_rows(tmp_path / "numbers.csv", (), 3).rows, numbers.to_numpy())


def test_a_first_line_that_may_be_both_is_refused(tmp_path):
    for text in ("0,1\n1,0\n1,1\n", "0,1,2\n1,0,5\n"):
        with pytest.raises(ValueError, match=r"t\.csv begins with the line 0,1.*header that counts or a row"):
            read_rows(write(tmp_path / "t.csv", text))


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("3,2,1\n30,20,10\n", ("1", "2", "3"), [[10, 20, 30]]),
        ("2019,2020,2021\n30,20,10\n", ("2020", "2019", "2021"), [[20, 30, 10]]),
        ("a,b,c\n1,2,3,\n4,5,6,\n", ("a", "b"), [[1, 2], [4, 5]]),
        ("a;b;c\n1,5;2,5;3,5\n", ("a", "b", "c"), [[1.5, 2.5, 3.5]]),
        ("a;b\n1,5;2\n", ("a", "b"), [[1.5, 2]]),
        ("sep=;\na;b\n1;2\n", ("a", "b"), [[1, 2]]),
        ("a,b\r1,2\r3,4\r", ("a", "b"), [[1, 2], [3, 4]]),
    ],
)
def test_ordinary_oddities(tmp_path, text, names, expected):
    table = read_rows(write(tmp_path / "t.csv", text), names, len(names))
    assert not table.faults
    np.testing.assert_array_equal(table.rows, expected)


def test_what_is_no_number_is_a_fault_and_not_a_guess(tmp_path):
    table = read_rows(write(tmp_path / "t.csv", "-,2,3\n4,5,6\n"), (), 3)
    assert list(table.faults) == [0] and table.rows[1].tolist() == [4, 5, 6]
    assert set(read_rows(write(tmp_path / "t.csv", "price\n3,5\n4,5\n"), ("price",), 1).faults) == {0, 1}
    # Points are the decimals here, so the comma is none.
    faults = read_rows(write(tmp_path / "t.csv", "a\tb\tc\n1,234\t2.5\t3\n"), ("a", "b", "c"), 3).faults
    assert faults == {0: "'a' must be a number. Received: '1,234'"}


def test_a_file_without_a_header_keeps_its_first_row(tmp_path):
    table = read_rows(write(tmp_path / "bare.csv", "1,2,3,4\n5,6,7,8\n"), NAMES, 4)
    np.testing.assert_array_equal(table.rows, [[1, 2, 3, 4], [5, 6, 7, 8]])
    np.testing.assert_array_equal(read_rows(write(tmp_path / "one.csv", "1\n2\n3\n"), (), 1).rows, [[1], [2], [3]])


def test_rows_that_cannot_be_used_are_named_and_the_others_stay(tmp_path):
    text = "age,income,sea\n30,1.5,near\n,1.5,near\nold,1,far\n40,2.5,far\n1,2\n5,6,beach\n7,NA,far\n8,1e39,far\n9,1,\n"
    table = read_rows(write(tmp_path / "table.csv", text), NAMES, 4)
    assert sorted(table.faults) == [1, 2, 4, 5, 6, 7, 8]
    assert table.faults[1] == "'age' is empty" and table.faults[2] == "'age' must be a number. Received: 'old'"
    assert table.faults[4] == "has 2 fields instead of 3" and "'near', 'far'" in table.faults[5]
    assert table.faults[6] == "'income' is empty" and "infinite" in table.faults[7] and table.faults[8] == "'sea' is empty"
    np.testing.assert_array_equal(table.rows[[0, 3]], EXPECTED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"\n\n", "empty file"),
        (b"age,income,sea\n", "rows below its header"),
        (b"age,income,sea\n\xff\xfe\xfd,2,3\n", "UTF-8"),
        (b"a\0g\0e\0,\0b\0\n\0", "zero bytes"),
        (b"age,age,sea\n1,2,near\n", r"several columns \['age'\]"),
        (b"age,incme,sea\n1,2,near\n", r"missing: \['income'\]. Received: unknown columns \['incme'\]"),
        (b"1,2,3\n4,5,6\n", "must be 4 columns"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path, content, message):
    path = tmp_path / "broken.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"broken\.csv.*{message}"):
        read_rows(path, NAMES, 4)


def test_another_number_of_columns_than_a_model_without_names_takes(tmp_path):
    with pytest.raises(ValueError, match=r"must have 5 columns. Received: 3"):
        read_rows(write(tmp_path / "table.csv", "a,b,c\n1,2,3\n"), (), 5)
    columns, faults = read_csv(tmp_path / "table.csv")
    assert list(columns) == ["a", "b", "c"] and not faults
