"""`mitosight convert`, by its front door."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from mitosight import regions
from mitosight.cli import app
from mitosight.errors import InputError, UsageError
from mitosight.regions import Region

RUN = CliRunner()


@pytest.fixture
def source(tmp_path):
    found = [Region("a.tiff", 90, 80, np.array([[1, 2], [3, 4]]), np.array([1, 2]), ((1, 1), (2, 1))), Region("b.tiff")]
    regions.write(found, tmp_path / "in.sqlite")
    return tmp_path / "in.sqlite"


def convert(*arguments: object):
    result = RUN.invoke(app, ["convert", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_says_what_it_read_wrote_and_left_out(source, tmp_path):
    result = convert(source, tmp_path / "out.csv")
    assert result.stdout.splitlines() == [
        f"read  {source} (sqlite): 2 images, 1 mitotic figures, 1 hard negatives",
        f"wrote {tmp_path / 'out.csv'} (csv): 2 images, 1 mitotic figures, 1 hard negatives",
        "not held by csv: 2 votes of annotations, 1 sizes of images",
    ]
    assert [r.file_name for r in regions.read(tmp_path / "out.csv")] == ["a.tiff", "b.tiff"]


def test_a_data_folder_stands_for_its_annotations(drawn, tmp_path):
    result = convert(drawn, tmp_path / "out.json")
    assert result.stdout.startswith(f"read  {drawn / 'annotations.json'} (midog): 6 images, 36 mitotic figures")


def test_hard_negatives_are_dropped_only_when_asked(source, tmp_path):
    with pytest.raises(InputError, match="1 would be lost"):
        convert(source, tmp_path / "t", "--to", "tupac")
    result = convert(source, tmp_path / "t", "--to", "tupac", "--drop-hard-negatives")
    assert "(tupac): 2 images, 1 mitotic figures, 0 hard negatives" in result.stdout
    assert (tmp_path / "t" / "a.csv").read_text() == "2,1\n" and (tmp_path / "t" / "b.csv").read_text() == ""


def test_ambiguous_numbers_need_from(tmp_path):
    (tmp_path / "a.csv").write_text("1.5,2.5\n")
    with pytest.raises(InputError, match="--from"):
        convert(tmp_path / "a.csv", tmp_path / "x.json")
    convert(tmp_path / "a.csv", tmp_path / "x.json", "--from", "tupac")
    assert regions.read(tmp_path / "x.json")[0].xy.tolist() == [[2.5, 1.5]]


def test_domains_give_tumour_types(source, tmp_path):
    (tmp_path / "d.csv").write_text("file_name,tumor_type\na.tiff,canine lymphoma\n")
    convert(source, tmp_path / "x.json", "--domains", tmp_path / "d.csv")
    assert regions.read(tmp_path / "x.json")[0].domain.tumor_type == "canine lymphoma"


def test_refusals(source, tmp_path):
    with pytest.raises(UsageError, match="is the input"):
        convert(source, source)
    with pytest.raises(UsageError, match="--to"):
        convert(source, tmp_path / "out")
    with pytest.raises(InputError, match="does not exist"):
        convert(tmp_path / "nothing.json", tmp_path / "out.csv")
    assert regions.read(source)[0].votes == ((1, 1), (2, 1))


def test_exit_status_and_one_line(source, tmp_path):
    command = [sys.executable, "-c", "from mitosight.cli import main; main()", "convert", str(source)]
    done = subprocess.run([*command, str(tmp_path / "t"), "--to", "tupac"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "would be lost" in done.stderr
    done = subprocess.run([*command, str(tmp_path / "t")], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_neither_command_imports_torch(source, tmp_path):
    code = (
        "import sys; from typer.testing import CliRunner; from mitosight.cli import app; r = CliRunner();"
        f"assert r.invoke(app, ['convert', {str(source)!r}, {str(tmp_path / 'o.csv')!r}]).exit_code == 0;"
        f"assert r.invoke(app, ['info', {str(source)!r}]).exit_code == 0;"
        "print([m for m in ('torch', 'scipy', 'PIL', 'openslide', 'tifffile') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize(
    ("name", "format"), [("o.json", "midog"), ("o.csv", "csv"), ("o.sqlite", "sqlite"), ("o", "tupac")]
)
def test_a_full_disk_leaves_nothing_half_written(tmp_path, name, format):
    many = [Region("a.tiff", xy=np.arange(4000).reshape(-1, 2), label=np.ones(2000, dtype=int))]
    regions.write(many, tmp_path / "in.csv")
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from mitosight.cli import main; import sys;"
        f"sys.argv = ['mitosight', 'convert', 'in.csv', {name!r}, '--to', {format!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "cannot be written" in done.stderr and done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.csv"]
