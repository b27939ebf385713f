"""The contract of the command line: what starts up, what goes where, and the exit codes."""

import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rich.text import Text
from typer.main import get_command

from spatia.cli.main import COMMANDS, app

HEAVY = [
    "numpy",
    "pandas",
    "scipy",
    "anndata",
    "zarr",
    "dask",
    "distributed",
    "spatialdata",
    "torch",
    "matplotlib",
    "pyarrow",
    "skimage",
    "tifffile",
]


def spatia(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spatia.cli.main", *arguments], capture_output=True, text=True, check=False
    )


def with_command(body: str, *, arguments: str = "[]", **popen: object) -> subprocess.Popen[str]:
    """Start the command line with one more command, `work`, whose body is given, and run it."""
    code = "import sys\nimport spatia.cli.main as cli\n@cli.app.command()\ndef work() -> None:\n"
    code += textwrap.indent(textwrap.dedent(body), "    ")
    code += f"\nsys.argv = ['spatia', *{arguments}, 'work']\ncli.main()\n"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
    return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def outcome(body: str, arguments: str = "[]") -> tuple[int, str, str]:
    process = with_command(body, arguments=arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_help_loads_nothing_heavy() -> None:
    code = f"import sys, spatia.cli.main; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert found == "[]"


def test_help_explains_each_command_in_one_line() -> None:
    finished = spatia("--help")
    assert finished.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^│ {command} +\w", finished.stdout, re.MULTILINE), f"{command} has no line of its own"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    finished = spatia(command, "--help")
    assert finished.returncode == 0, finished.stderr
    assert "Usage: spatia" in finished.stdout


def _help_texts() -> list[str]:
    group = get_command(app)
    commands = [group, *group.commands.values()]  # type: ignore[attr-defined]
    return [one.help or "" for command in commands for one in (command, *command.params) if hasattr(one, "help")]


def test_no_help_loses_its_brackets_to_markup() -> None:
    """What stands in brackets would be taken for a colour, and left out."""
    texts = _help_texts()
    assert any("\\[" in text for text in texts)
    for text in texts:
        assert Text.from_markup(text).plain == text.replace("\\[", "[")


def test_version_is_the_result_and_goes_to_stdout() -> None:
    finished = spatia("--version")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert re.fullmatch(r"spatia \d+\.\d+\.\d+\S*\n", finished.stdout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command"),
        (["--nonsense"], "No such option"),
        (["-v", "-q", "simulate", "x"], "exclude each other"),
    ],
)
def test_wrong_use_exits_2(arguments: list[str], said: str) -> None:
    finished = spatia(*arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert said in finished.stderr


def test_refused_input_is_one_line_and_exits_2() -> None:
    code, out, err = outcome(
        "from spatia.errors import SlideError\nraise SlideError('slide/x: odd.\\n Expected even.')"
    )
    assert (code, out) == (2, "")
    assert err == "spatia: error: slide/x: odd. Expected even.\n"


def test_terminal_escapes_from_a_slide_are_not_passed_on() -> None:
    _, _, err = outcome("from spatia.errors import SlideError\nraise SlideError('gene \\x1b[2J[red]')")
    assert err == "spatia: error: gene ?[2J[red]\n"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, out, err = outcome(f"open({str(tmp_path / 'file' / 'below')!r}, 'w')")
    assert (code, out) == (1, "")
    assert err == f"spatia: error: {tmp_path / 'file' / 'below'}: cannot be read or written (Not a directory).\n"


def test_a_bug_keeps_its_traceback_and_exits_1() -> None:
    code, out, err = outcome("raise KeyError('a bug')")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback")
    assert err.rstrip().endswith("KeyError: 'a bug'")


def test_a_command_may_choose_its_exit_code() -> None:
    assert outcome("import typer\nraise typer.Exit(1)")[0] == 1


def test_ctrl_c_is_one_line_and_exits_130() -> None:
    process = with_command("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "spatia: interrupted\n")


def test_a_closed_pipe_is_quiet() -> None:
    process = with_command("for number in range(100_000):\n    print(number)")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "levels"),
    [("[]", ["INFO", "WARNING"]), ("['-v']", ["DEBUG", "INFO", "WARNING"]), ("['-q']", ["WARNING"])],
)
def test_verbosity(arguments: str, levels: list[str]) -> None:
    body = "from spatia.log import logger\nlogger.debug('x')\nlogger.info('x')\nlogger.warning('x')\nprint('result')"
    code, out, err = outcome(body, arguments)
    assert (code, out) == (0, "result\n")
    assert [line.split()[1] for line in err.splitlines()] == levels


def test_the_script_is_installed() -> None:
    script = Path(sys.executable).with_name("spatia")
    assert subprocess.run([script, "--version"], capture_output=True, check=False).returncode == 0
