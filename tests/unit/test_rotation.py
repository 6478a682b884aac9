"""A log of bounded size: its beginning, its end, and what is missing in between."""

import tracemalloc
from pathlib import Path

from kiket_worker.telemetry.rotation import Cut, RotatedLog


def _log(path: Path, most_bytes: int) -> RotatedLog:
    return RotatedLog(path, most_bytes, lambda cut: f"{cut.lines} lines, {cut.bytes} bytes\n".encode())


def test_a_log_within_its_room_is_whole(tmp_path: Path) -> None:
    path, lines = tmp_path / "log", [b"line %03d\n" % number for number in range(100)]
    log = _log(path, 2 * sum(map(len, lines)))
    for line in lines:
        log.write(line)
    assert log.close() is None
    assert path.read_bytes() == b"".join(lines)
    assert list(tmp_path.iterdir()) == [path]


def test_of_a_longer_one_the_middle_is_left_out_and_counted(tmp_path: Path) -> None:
    path, lines = tmp_path / "log", [b"line %06d\n" % number for number in range(20_000)]
    log = _log(path, 8_000)
    for line in lines:
        log.write(line)
    cut = log.close()
    assert cut is not None
    left = path.read_bytes().splitlines(keepends=True)
    told = left.index(b"%d lines, %d bytes\n" % (cut.lines, cut.bytes))
    assert left[:told] == lines[:told]
    assert left[told + 1 :] == lines[told + cut.lines :]
    assert cut == Cut(len(lines) - len(left) + 1, sum(map(len, lines)) - sum(map(len, left)) + len(left[told]))
    assert told * 12 <= 4_000
    assert 2_000 <= path.stat().st_size <= 8_000 + len(left[told])
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_that_is_a_little_too_long_for_the_beginning_loses_nothing(tmp_path: Path) -> None:
    path, lines = tmp_path / "log", [b"line %03d\n" % number for number in range(100)]
    log = _log(path, 1_400)
    for line in lines:
        log.write(line)
    assert log.close() is None
    assert path.read_bytes() == b"".join(lines)


def test_closing_again_changes_nothing(tmp_path: Path) -> None:
    log = _log(tmp_path / "log", 100)
    for _ in range(100):
        log.write(b"a line\n")
    assert log.close() == log.close()
    assert (tmp_path / "log").read_bytes().count(b"lines, ") == 1


def test_memory_stays_the_same_however_many_lines(tmp_path: Path) -> None:
    log, line = _log(tmp_path / "log", 1_000_000), b"a line of a log, as long as lines are, and then a little longer\n"
    log.write(line)
    tracemalloc.start()
    try:
        for _ in range(200_000):
            log.write(line)
        cut = log.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cut is not None
    assert cut.lines > 180_000
    assert peak < 500_000
