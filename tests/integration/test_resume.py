"""A build that is killed at any moment continues and ends byte for byte like an unbroken one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.integration.conftest import SMALL

from spatia.corpus import build_images, build_section
from spatia.corpus.build import build
from spatia.corpus.verify import verify
from spatia.io.source import Source

pytestmark = pytest.mark.slow

BUILD = """
import sys
from pathlib import Path
from spatia.corpus.build import build
from spatia.io.source import Source
from tests.integration.conftest import SMALL
build([Source("s1", Path(sys.argv[1]), donor="d1", tissue="breast")], Path(sys.argv[2]), SMALL, n_workers=1)
"""


def files(corpus: Path) -> dict[str, bytes]:
    return {path.relative_to(corpus).as_posix(): path.read_bytes() for path in corpus.rglob("*") if path.is_file()}


def source_of(slide: Path) -> Source:
    return Source("s1", slide, donor="d1", tissue="breast")


# what must be there before the kill: after tiles, in the middle of the tables, after some blocks
@pytest.mark.parametrize("after", ["canvas/tile-*.npy", "counts/bucket-*", "tables.json", "features/block-000001.npy"])
def test_kill_and_resume(after: str, slide: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    process = subprocess.Popen([sys.executable, "-c", BUILD, str(slide), str(out)], cwd=Path(__file__).parents[2])
    scratch = out / "sections" / ".s1.building" / "scratch"
    while process.poll() is None and not list(scratch.glob(after)):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = not (out / "corpus.json").exists()
    result = build([source_of(slide)], out, SMALL)
    assert result.exit_code == 0
    assert files(out) == files(corpus)
    assert verify(out).n_cells == 600
    assert killed or result.sections[0].status == "unchanged"


def test_what_was_finished_is_not_done_again(
    slide: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Break off after the second block of cells; the resumed build measures the other blocks only."""
    measured: list[int] = []
    measure = build_images._measure_batch

    def count(plan: object, start: int, *rest: object) -> object:
        if len(measured) == 2 and os.environ.get("BREAK_OFF"):
            raise KeyboardInterrupt
        measured.append(start)
        return measure(plan, start, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(build_images, "_measure_batch", count)
    monkeypatch.setenv("BREAK_OFF", "1")
    with pytest.raises(KeyboardInterrupt):
        build([source_of(slide)], tmp_path, SMALL, n_workers=1)
    monkeypatch.delenv("BREAK_OFF")
    first = list(measured)
    assert build([source_of(slide)], tmp_path, SMALL, n_workers=1).exit_code == 0
    assert len(first) == 2
    assert sorted(measured) == [0, 128, 256, 384, 512]
    assert files(tmp_path) == files(corpus)


def test_another_input_begins_again(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = tmp_path / "sections" / ".s1.building" / "scratch"
    begun.mkdir(parents=True)
    (begun / "fingerprint.json").write_text(json.dumps({"input": "of another slide"}))
    (begun / "tables.json").write_text("damaged")
    assert build([source_of(slide)], tmp_path, SMALL).exit_code == 0
    assert verify(tmp_path).n_cells == 600


def test_a_section_is_never_half_in_place(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(build_section, "_finish", fail)
    result = build([source_of(slide)], tmp_path, SMALL)
    assert result.exit_code == 1
    assert "No space left" in result.sections[0].message
    assert not (tmp_path / "sections" / "s1").exists()
    assert not (tmp_path / "corpus.json").exists()
