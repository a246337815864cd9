"""What a terminal shows of a search: bars by hand, and nothing where there is no terminal."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from mitosight.cli.progress import Bars


def test_bars_of_slides_and_tiles() -> None:
    """Two slides; the first is searched twice, as with a first look: 40 tiles after 500."""
    path = Path("a.tiff")
    with Bars(2, Console(file=StringIO(), force_terminal=True)) as bars:
        show = bars(path)
        show(250, 500, 1.0)
        [slides, tiles] = bars._shown.tasks
        assert (slides.description, slides.completed, slides.total) == ("slides", 0, 2)
        assert (tiles.description, tiles.completed, tiles.total) == ("a.tiff", 250, 500)
        assert tiles.fields["rate"].endswith(" mm²/s")
        show(500, 500, 1.0)
        bars(path)(10, 40, 0.1)
        [slides, tiles] = bars._shown.tasks
        assert (tiles.description, tiles.completed, tiles.total) == ("a.tiff", 10, 40)
        bars.done(path)
        [slides] = bars._shown.tasks
        assert slides.completed == 1


def test_nothing_is_written_where_there_is_no_terminal() -> None:
    said = StringIO()
    with Bars(2, Console(file=said)) as bars:
        bars(Path("a.tiff"))(1, 2, 0.1)
        bars.done(Path("a.tiff"))
    assert said.getvalue() == ""
