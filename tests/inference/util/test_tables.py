"""What an object shows of itself: its tables, as text and as html, of anybody's words."""

from xml.etree import ElementTree

from inference.util import tables


class Shown(tables.ShownAsTables):
    def tables(self):
        found = []
        for title in ("one", "two"):
            table = tables.new_table(title, ("name", "figure"), "a < b\nand more")
            table.add_row("<script>[red]\x1b[31m" + "x" * 90, "1.5")
            found.append(table)
        return found


def test_as_text_nothing_is_cut_nor_coloured():
    shown = str(Shown())
    assert shown == repr(Shown())
    assert "<script>[red]\\x1b[31m" + "x" * 90 in shown
    assert "\x1b" not in shown
    assert shown.count("a < b") == 2
    assert shown.index("one") < shown.index("two")


def test_as_html_a_cell_is_text():
    shown = ElementTree.fromstring(f"<div>{Shown()._repr_html_()}</div>".replace("<br>", "<br/>"))
    assert [caption.text for caption in shown.iter("caption")] == ["one", "two"]
    assert [cell.text for cell in shown.iter("th")] == ["name", "figure"] * 2
    assert next(shown.iter("td")).text == "<script>[red]\\x1b[31m" + "x" * 90
    assert "".join(next(shown.iter("small")).itertext()) == "a < band more"
